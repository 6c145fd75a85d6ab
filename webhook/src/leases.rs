//! The view of leases and bindings that the webhook and the provisioner decide from.
//!
//! [`LeaseIndex`] is fed with the broker's stream and answers look-ups from memory. It promises that a reader never sees
//! half of a snapshot: while one is being rebuilt the former view stays, grows older, and says so ([`LeaseIndex::age`]).
//! [`follow()`] keeps it fed. Whether a view is young enough to decide is the caller's business.

mod entry;
mod follow;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use leasehold_broker_wire::machines::{self, watch_leases_response::Change};
use tokio::sync::watch;

pub use entry::{Binding, Home, InvalidEntry, Lease, LeaseId, LeaseState, Mount, ServiceAccount};
pub use follow::{follow, follow_stream};

/// Leases and bindings as the broker told them last. Cheap to read from many threads.
#[derive(Debug)]
pub struct LeaseIndex {
    view: RwLock<View>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct View {
    tables: Tables,
    /// A snapshot in the making; readers don't see it before its bookmark.
    building: Option<Tables>,
    heard: Option<Heard>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    broker_ms: i64,
}

#[derive(Debug, Default)]
struct Tables {
    leases: HashMap<LeaseId, Arc<Lease>>,
    by_subject: HashMap<Box<str>, Vec<Arc<Lease>>>,
    by_notebook: HashMap<Box<str>, Arc<Binding>>,
    revision: u64,
}

impl Default for LeaseIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl LeaseIndex {
    /// An index that has heard nothing yet: not synced, infinitely old.
    #[must_use]
    pub fn new() -> Self {
        Self {
            view: RwLock::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// A new connection begins: what follows up to the bookmark is a snapshot that replaces everything.
    pub fn begin_snapshot(&self) {
        self.write().building = Some(Tables::default());
    }

    /// Takes one message of the stream that arrived at `received`.
    ///
    /// # Errors
    /// The message carries a lease or binding that no correct broker sends. It is left out of the view, which makes it
    /// unmountable; the rest of the view is as good as before.
    pub fn apply(
        &self,
        message: machines::WatchLeasesResponse,
        received: Instant,
    ) -> Result<(), InvalidEntry> {
        let mut view = self.write();
        let View {
            tables,
            building,
            heard,
        } = &mut *view;
        let mut applied = Ok(());
        let mut published = false;
        // The broker sends a heartbeat when nothing waits to be told; behind a change there may be more.
        let mut vouched = false;
        match message.change {
            Some(Change::Bookmark(_)) => {
                if let Some(snapshot) = building.take() {
                    *tables = snapshot;
                    published = true;
                    vouched = true;
                }
            }
            Some(Change::Heartbeat(_)) => vouched = true,
            None => {}
            Some(change) => {
                published = building.is_none();
                let target = building.as_mut().unwrap_or(&mut *tables);
                applied = target.apply(change);
            }
        }
        if building.is_none() {
            tables.revision = tables.revision.max(message.revision);
            if vouched {
                *heard = Some(Heard {
                    at: received,
                    broker_ms: message.now_ms,
                });
            }
        }
        let revision = tables.revision;
        drop(view);
        if published {
            self.changed.send_replace(revision);
        }
        applied
    }

    /// True once one whole snapshot has arrived. Says nothing about how old it is.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.read().heard.is_some()
    }

    /// Time since the broker last vouched for this view; [`Duration::MAX`] before the first snapshot.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        self.read()
            .heard
            .map_or(Duration::MAX, |heard| now.saturating_duration_since(heard.at))
    }

    /// The broker's clock at `now`: its last word plus the time since. `None` before the first snapshot.
    #[must_use]
    pub fn broker_now_ms(&self, now: Instant) -> Option<i64> {
        self.read().heard.map(|heard| {
            let since = now.saturating_duration_since(heard.at).as_millis();
            heard
                .broker_ms
                .saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
        })
    }

    /// The person whose notebook ServiceAccount has this uid.
    #[must_use]
    pub fn binding(&self, notebook_uid: &str) -> Option<Arc<Binding>> {
        self.read().tables.by_notebook.get(notebook_uid).cloned()
    }

    /// All bindings, in no order.
    #[must_use]
    pub fn bindings(&self) -> Vec<Arc<Binding>> {
        self.read().tables.by_notebook.values().cloned().collect()
    }

    /// Leases of a subject that have not ended, the ending ones included, in order of dataset name and fencing token.
    #[must_use]
    pub fn leases_of(&self, subject: &str) -> Vec<Arc<Lease>> {
        self.read()
            .tables
            .by_subject
            .get(subject)
            .cloned()
            .unwrap_or_default()
    }

    /// Binding and leases from one state of the view.
    #[must_use]
    pub fn person(&self, notebook_uid: &str) -> Option<(Arc<Binding>, Vec<Arc<Lease>>)> {
        let view = self.read();
        let binding = view.tables.by_notebook.get(notebook_uid)?;
        let leases = view
            .tables
            .by_subject
            .get(&*binding.subject)
            .cloned()
            .unwrap_or_default();
        Some((Arc::clone(binding), leases))
    }

    /// One lease that has not ended.
    #[must_use]
    pub fn lease(&self, id: LeaseId) -> Option<Arc<Lease>> {
        self.read().tables.leases.get(&id).cloned()
    }

    /// All leases that have not ended, in no order.
    #[must_use]
    pub fn leases(&self) -> Vec<Arc<Lease>> {
        self.read().tables.leases.values().cloned().collect()
    }

    /// How many leases the view holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().tables.leases.len()
    }

    /// True if the view holds no lease.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Wakes whenever the visible view has changed; the value is the stream's revision.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    // A writer that panicked left a view that still ages; readers may go on with it.
    fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn apply(&mut self, change: Change) -> Result<(), InvalidEntry> {
        match change {
            Change::Lease(lease) => {
                // Whatever was known of this lease is no longer true, even if the news can't be understood.
                let id = LeaseId::parse(&lease.lease_id)?;
                self.forget(id);
                if lease.state != i32::from(machines::LeaseState::Ended) {
                    self.remember(Lease::try_from(lease)?);
                }
            }
            Change::Binding(binding) => {
                if let Some(account) = &binding.notebook {
                    self.by_notebook.remove(account.uid.as_str());
                }
                let binding = Binding::try_from(binding)?;
                self.by_notebook
                    .insert(binding.notebook.uid.clone(), Arc::new(binding));
            }
            Change::BindingRemoved(removed) => {
                self.by_notebook.remove(removed.notebook_uid.as_str());
            }
            Change::Bookmark(_) | Change::Heartbeat(_) => {}
        }
        Ok(())
    }

    fn remember(&mut self, lease: Lease) {
        let lease = Arc::new(lease);
        let theirs = self.by_subject.entry(lease.subject.clone()).or_default();
        let key = |l: &Lease| (l.dataset_name.clone(), l.fencing_token);
        let place = theirs.partition_point(|other| key(other) < key(&lease));
        theirs.insert(place, Arc::clone(&lease));
        self.leases.insert(lease.id, lease);
    }

    fn forget(&mut self, id: LeaseId) {
        let Some(former) = self.leases.remove(&id) else {
            return;
        };
        if let Some(theirs) = self.by_subject.get_mut(&former.subject) {
            theirs.retain(|lease| lease.id != id);
            if theirs.is_empty() {
                self.by_subject.remove(&former.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests;

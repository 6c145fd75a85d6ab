//! The lease view: what the machines of this broker's cluster need to know of the ledger and of the bindings, in memory, with
//! everybody who watches it.
//!
//! A watcher gets the whole view and every change after it, in order, none left out. Its queue is bounded: one that does not read
//! is cut, and comes back for a new view. The lock is held for memory only, never across an await.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leasehold_chaincode::{ClusterName, Lease, LeaseState, Msp, PageRequest};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::changes::Changes;
use crate::ledger::ReadError;
use crate::ledgers::{BrokerLedger, Reading, is_served_by};
use crate::metrics::Metrics;
use crate::store::people::Binding;
use crate::store::{Store, StoreError};

/// Changes that may wait for one watcher.
pub const WATCHER_QUEUE: usize = 4096;

/// How long the leases are read anew until all of them are of one state.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const REST: Duration = Duration::from_millis(50);

/// When to look again whether a view that is behind the ledger has caught up.
pub const CATCH_UP: Duration = Duration::from_millis(20);

/// What changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A lease is new or another; an ended one leaves the view.
    Lease(Arc<Lease>),
    /// A binding is new or another.
    Binding(Arc<Binding>),
    /// A notebook account acts for nobody any longer.
    BindingRemoved(Arc<str>),
}

/// A change with the view's revision after it.
pub type Revised = (u64, Change);

/// The view as a watcher finds it, and its queue of what comes after.
#[derive(Debug)]
pub struct Watch {
    /// Revision of the snapshot.
    pub revision: u64,
    /// All there is.
    pub snapshot: Vec<Change>,
    /// What comes; closed when the watcher was too slow or the broker stops.
    pub changes: mpsc::Receiver<Revised>,
}

/// Why the view could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] ReadError),
    /// The leases could not be read from one state.
    #[error(
        "the leases could not be read from one state of the ledger: {tries} times in {PATIENCE:?} it changed meanwhile, or the peer failed or was behind another; start the broker again when fewer blocks come and a peer has them all"
    )]
    Unsettled {
        /// How often it was tried.
        tries: u32,
    },
    /// The key store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, Default)]
struct Inner {
    revision: u64,
    /// The last block that is in the view.
    height: u64,
    leases: BTreeMap<String, Arc<Lease>>,
    bindings: BTreeMap<String, Arc<Binding>>,
    watchers: Vec<mpsc::Sender<Revised>>,
}

/// The view.
#[derive(Debug)]
pub struct View {
    /// All that the ledger commits, as the view is told it.
    pub changes: Changes,
    organisation: Msp,
    cluster: ClusterName,
    inner: Mutex<Inner>,
    metrics: Arc<Metrics>,
}

impl View {
    /// Builds the view from ledger and key store. Yields the ledger's height from which [`View::follow`] goes on.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn load(
        organisation: Msp,
        cluster: ClusterName,
        ledger: &BrokerLedger,
        store: &Store,
        metrics: Arc<Metrics>,
    ) -> Result<(Arc<Self>, u64), ViewError> {
        let mut inner = Inner::default();
        (inner.leases, inner.height) = settled_leases(ledger, &organisation, &cluster).await?;
        let height = inner.height;
        for binding in store.bindings().await? {
            inner
                .bindings
                .insert(binding.notebook.uid.clone(), Arc::new(binding));
        }
        Ok((
            Arc::new(Self {
                changes: Changes::after(height, matches!(ledger, BrokerLedger::Embedded(_))),
                organisation,
                cluster,
                inner: Mutex::new(inner),
                metrics,
            }),
            height,
        ))
    }

    /// Takes over what the ledger commits after `height`, until shutdown. Where the ledger is not what it was it stops and stays as it
    /// is: a broker that was started anew would know nothing of what it was.
    ///
    /// # Errors
    /// [`ReadError`] when the ledger cannot be read: the view would miss changes, so that the broker must end.
    pub async fn follow(
        self: Arc<Self>,
        ledger: BrokerLedger,
        height: u64,
        shutdown: CancellationToken,
    ) -> Result<(), ReadError> {
        let mut changes = ledger.follow(height);
        loop {
            let change = tokio::select! {
                change = changes.next() => match change {
                    Err(ReadError::Distrust(error)) => {
                        tracing::error!(%error, "the lease view stops");
                        // Of what comes now nobody is told.
                        self.changes.close();
                        shutdown.cancelled().await;
                        None
                    }
                    change => change?,
                },
                () = shutdown.cancelled() => None,
            };
            let Some(change) = change else { break };
            for lease in change.events.iter().filter_map(|event| event.lease.as_deref()) {
                self.lease_changed(lease);
            }
            self.lock().height = change.height;
            let cut = self.changes.tell(change);
            self.metrics.streams_cut.fetch_add(cut, Ordering::Relaxed);
        }
        // Streams end with their queues.
        self.lock().watchers.clear();
        self.changes.close();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing below can panic half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, inner: &mut Inner, change: &Change) {
        inner.revision += 1;
        let revision = inner.revision;
        inner
            .watchers
            .retain(|watcher| match watcher.try_send((revision, change.clone())) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    self.metrics.watchers_cut.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        "a lease stream does not keep up and is cut; its client will connect again"
                    );
                    false
                }
            });
    }

    fn lease_changed(&self, lease: &Lease) {
        // What was never granted is nothing to a cluster.
        if !is_served_by(lease, &self.organisation, &self.cluster) || lease.grant.is_none() {
            return;
        }
        let lease = Arc::new(lease.clone());
        let mut inner = self.lock();
        if lease.state == LeaseState::Ended {
            inner.leases.remove(lease.id.as_str());
        } else {
            inner.leases.insert(lease.id.to_string(), Arc::clone(&lease));
        }
        self.tell(&mut inner, &Change::Lease(lease));
    }

    /// Takes over a binding that was written to the key store, and the notebook uids that it replaced.
    pub fn bound(&self, binding: Binding, replaced: &[String]) {
        let mut inner = self.lock();
        for uid in replaced {
            if inner.bindings.remove(uid).is_some() {
                self.tell(&mut inner, &Change::BindingRemoved(uid.as_str().into()));
            }
        }
        let binding = Arc::new(binding);
        let before = inner
            .bindings
            .insert(binding.notebook.uid.clone(), Arc::clone(&binding));
        if before.as_ref() != Some(&binding) {
            self.tell(&mut inner, &Change::Binding(binding));
        }
    }

    /// Takes over all bindings as the key store has them.
    pub fn rebound(&self, bindings: Vec<Binding>) {
        let all: BTreeMap<_, _> = bindings
            .into_iter()
            .map(|binding| (binding.notebook.uid.clone(), Arc::new(binding)))
            .collect();
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.bindings, all.clone());
        for uid in before.keys().filter(|uid| !all.contains_key(*uid)) {
            self.tell(&mut inner, &Change::BindingRemoved(uid.as_str().into()));
        }
        for (uid, binding) in all {
            if before.get(&uid) != Some(&binding) {
                self.tell(&mut inner, &Change::Binding(binding));
            }
        }
    }

    /// The binding of a notebook account and its person's leases that are active at a time.
    #[must_use]
    pub fn mounts_of(&self, notebook_uid: &str, now_ms: i64) -> Option<(Arc<Binding>, Vec<Arc<Lease>>)> {
        let inner = self.lock();
        let binding = inner.bindings.get(notebook_uid)?;
        let leases = inner
            .leases
            .values()
            .filter(|lease| {
                lease.subject.as_str() == binding.pseudonym
                    && lease.state == LeaseState::Active
                    && lease.due_at_ms() > now_ms
            })
            .cloned()
            .collect();
        Some((Arc::clone(binding), leases))
    }

    /// The last block whose changes watchers have been told.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.lock().height
    }

    /// Whether the view has what the ledger committed before this call, at the latest after `patience`.
    pub async fn catches_up(&self, heights: &watch::Receiver<u64>, patience: Duration) -> bool {
        let committed = *heights.borrow();
        let deadline = Instant::now() + patience;
        while self.height() < committed {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(CATCH_UP).await;
        }
        true
    }

    /// Starts to watch.
    #[must_use]
    pub fn watch(&self) -> Watch {
        let (sender, changes) = mpsc::channel(WATCHER_QUEUE);
        let mut inner = self.lock();
        inner.watchers.retain(|watcher| !watcher.is_closed());
        inner.watchers.push(sender);
        let leases = inner
            .leases
            .values()
            .map(|lease| Change::Lease(Arc::clone(lease)));
        let bindings = inner
            .bindings
            .values()
            .map(|binding| Change::Binding(Arc::clone(binding)));
        let snapshot = bindings.chain(leases).collect();
        Watch {
            revision: inner.revision,
            snapshot,
            changes,
        }
    }
}

/// The leases of this broker's cluster from one state, and that state's height. Answers of several states may lack a lease that passed from one page to another
/// meanwhile, or show one that has ended: they are not taken.
async fn settled_leases(
    ledger: &BrokerLedger,
    organisation: &Msp,
    cluster: &ClusterName,
) -> Result<(Leases, u64), ViewError> {
    let begun = Instant::now();
    for tries in 1.. {
        let (mut reading, height) = ledger.one_state().await?;
        let is_behind = height < *ledger.heights().borrow() && matches!(ledger, BrokerLedger::Fabric(_));
        let read = async {
            if is_behind {
                let why = "no own peer has the blocks that one had before; wait until one has";
                return Err(ReadError::Storage(why.to_owned()));
            }
            let leases = own_leases(&mut reading, organisation, cluster).await?;
            Ok(reading.is_settled().await?.then_some(leases))
        };
        match read.await {
            Ok(Some(leases)) => return Ok((leases, height)),
            Ok(None) => tracing::debug!(
                tries,
                "the ledger changed while the leases were read; reading them anew"
            ),
            Err(ReadError::Storage(reason)) if matches!(ledger, BrokerLedger::Fabric(_)) => {
                tracing::warn!(tries, %reason, "a peer failed while the leases were read; reading them anew");
            }
            Err(error) => return Err(error.into()),
        }
        if begun.elapsed() >= PATIENCE {
            return Err(ViewError::Unsettled { tries });
        }
        tokio::time::sleep(REST).await;
    }
    Err(ViewError::Unsettled { tries: u32::MAX })
}

type Leases = BTreeMap<String, Arc<Lease>>;

/// The leases of this broker's cluster that may be mounted somewhere.
async fn own_leases(
    reading: &mut Reading,
    organisation: &Msp,
    cluster: &ClusterName,
) -> Result<Leases, ReadError> {
    let mut leases = BTreeMap::new();
    for state in [LeaseState::Active, LeaseState::Ending] {
        let mut page = PageRequest::default();
        loop {
            let found = reading.leases_in(state, &page).await?;
            let own = found
                .items
                .into_iter()
                .filter(|lease| is_served_by(lease, organisation, cluster));
            leases.extend(own.map(|lease| (lease.id.to_string(), Arc::new(lease))));
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
    }
    Ok(leases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ledger, LedgerOptions};
    use crate::store::people::{Account, Home};

    fn binding(uid: &str) -> Binding {
        Binding {
            pseudonym: "p".to_owned(),
            namespace: "hub".to_owned(),
            notebook: Account {
                name: "nb".to_owned(),
                uid: uid.to_owned(),
            },
            executor: Account {
                name: "wf".to_owned(),
                uid: format!("{uid}-executor"),
            },
            home: Home {
                claim: "home".to_owned(),
                sub_path: String::new(),
                mount_path: "/home".to_owned(),
            },
        }
    }

    async fn empty_view(directory: &std::path::Path) -> Arc<View> {
        view_of_a_ledger(directory).await.0
    }

    async fn view_of_a_ledger(directory: &std::path::Path) -> (Arc<View>, BrokerLedger, u64) {
        let organisation = Msp::new("UiSMSP").unwrap();
        let store = Store::open(&directory.join("broker.db")).await.unwrap();
        let options = LedgerOptions::new(directory.join("ledger.db"), organisation.clone());
        let ledger = Ledger::open(options).await.unwrap();
        let ledger = BrokerLedger::Embedded(ledger);
        let cluster = ClusterName::new("main").unwrap();
        let view = View::load(organisation, cluster, &ledger, &store, Arc::default()).await;
        let (view, height) = view.unwrap();
        (view, ledger, height)
    }

    #[tokio::test]
    async fn a_view_that_lacks_what_was_committed_is_behind_until_it_has_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (view, ledger, height) = view_of_a_ledger(directory.path()).await;
        let heights = ledger.heights();
        assert!(view.catches_up(&heights, Duration::ZERO).await);
        let command = leasehold_chaincode::Command::JoinConsortium {
            broker: "https://broker.example.org".to_owned(),
            keys: Vec::new(),
        };
        let tx_id = leasehold_chaincode::TxId::new("join").unwrap();
        let submission = crate::ledger::Submission { tx_id, command };
        ledger.submit(submission).await.unwrap();
        assert!(!view.catches_up(&heights, CATCH_UP).await, "nobody follows");
        let shutdown = CancellationToken::new();
        let following = Arc::clone(&view).follow(ledger.clone(), height, shutdown.clone());
        let following = tokio::spawn(following);
        assert!(view.catches_up(&heights, Duration::from_secs(20)).await);
        shutdown.cancel();
        following.await.unwrap().unwrap();
        ledger.close().await;
    }

    #[tokio::test]
    async fn a_watcher_that_does_not_read_is_cut_and_others_miss_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let view = empty_view(directory.path()).await;
        let (mut slow, mut fast) = (view.watch(), view.watch());
        for i in 0..=WATCHER_QUEUE {
            view.bound(binding(&i.to_string()), &[]);
            let (revision, _) = fast.changes.recv().await.unwrap();
            assert_eq!(revision, i as u64 + 1);
        }
        let mut read = 0;
        while slow.changes.recv().await.is_some() {
            read += 1;
        }
        assert_eq!(read, WATCHER_QUEUE, "it ends after what fitted in its queue");
        assert_eq!(
            view.metrics
                .watchers_cut
                .load(std::sync::atomic::Ordering::Relaxed),
            1
        );
    }

    #[tokio::test]
    async fn the_same_binding_again_is_no_change_and_a_replaced_one_is_removed_first() {
        let directory = tempfile::tempdir().unwrap();
        let view = empty_view(directory.path()).await;
        view.bound(binding("a"), &[]);
        let mut watch = view.watch();
        assert_eq!(watch.snapshot, [Change::Binding(Arc::new(binding("a")))]);
        view.bound(binding("a"), &[]);
        view.bound(binding("b"), &["a".to_owned()]);
        assert_eq!(
            watch.changes.recv().await.unwrap().1,
            Change::BindingRemoved("a".into())
        );
        assert_eq!(
            watch.changes.recv().await.unwrap().1,
            Change::Binding(Arc::new(binding("b")))
        );
        assert!(view.mounts_of("a", 0).is_none() && view.mounts_of("b", 0).is_some());
    }
}

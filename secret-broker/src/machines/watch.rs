//! The lease stream: the whole view, a bookmark, then changes, with a heartbeat whenever nothing else was said for a while and the
//! view is not behind the ledger.
//!
//! A stream ends when the broker stops or when its client does not keep up; the client then connects again for a new view.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::Stream;
use leasehold_broker_wire::machines as wire;
use tokio::time::Instant;
use tonic::Status;

use super::{convert, now_ms};
use crate::broker::Broker;
use crate::metrics::Metrics;
use crate::view::{CATCH_UP, Change, Watch};

/// The promise is 500 ms.
const HEARTBEAT: Duration = Duration::from_millis(400);

pub(super) type LeaseStream = Pin<Box<dyn Stream<Item = Result<wire::WatchLeasesResponse, Status>> + Send>>;

type Said = wire::watch_leases_response::Change;

/// Counts an open stream for as long as it lives.
struct Open(Arc<Metrics>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Stage {
    watch: Watch,
    snapshot: VecDeque<Change>,
    bookmark_due: bool,
    heartbeat_at: Instant,
    broker: Arc<Broker>,
    ended: bool,
    _open: Open,
}

pub(super) fn stream(broker: &Arc<Broker>) -> LeaseStream {
    broker.metrics.watchers.fetch_add(1, Ordering::Relaxed);
    let mut watch = broker.view.watch();
    let stage = Stage {
        snapshot: std::mem::take(&mut watch.snapshot).into(),
        watch,
        bookmark_due: true,
        heartbeat_at: Instant::now() + HEARTBEAT,
        broker: Arc::clone(broker),
        ended: false,
        _open: Open(Arc::clone(&broker.metrics)),
    };
    Box::pin(futures::stream::unfold(stage, |mut stage| async move {
        let item = stage.next().await?;
        Some((item, stage))
    }))
}

impl Stage {
    async fn next(&mut self) -> Option<Result<wire::WatchLeasesResponse, Status>> {
        if self.ended {
            return None;
        }
        if let Some(change) = self.snapshot.pop_front() {
            return Some(Ok(self.say(said(&change))));
        }
        if std::mem::take(&mut self.bookmark_due) {
            return Some(Ok(self.say(Said::Bookmark(wire::Bookmark {}))));
        }
        loop {
            if let Some(said) = self.await_next().await {
                return Some(said);
            }
        }
    }

    /// The next thing to say; none where it was time for a heartbeat that the view does not allow.
    async fn await_next(&mut self) -> Option<Result<wire::WatchLeasesResponse, Status>> {
        tokio::select! {
            // A heartbeat vouches for the view as it is now, so that what is known goes out before it.
            biased;
            () = self.broker.shutdown.cancelled() => {
                self.ended = true;
                Some(Err(Status::unavailable("the broker is stopping; connect again")))
            }
            change = self.watch.changes.recv() => match change {
                Some((revision, change)) => {
                    self.watch.revision = revision;
                    Some(Ok(self.say(said(&change))))
                }
                None => {
                    self.ended = true;
                    Some(Err(Status::resource_exhausted("the stream did not keep up; connect again for a new view")))
                }
            },
            () = tokio::time::sleep_until(self.heartbeat_at) => {
                let committed = *self.broker.ledger.heights().borrow();
                // In this order: what was told up to that height is in the queue by now, or was said.
                let is_behind = self.broker.view.height() < committed
                    || !self.broker.ledger.is_current()
                    || !self.broker.knows_bindings();
                if is_behind || !self.watch.changes.is_empty() {
                    self.heartbeat_at = Instant::now() + CATCH_UP;
                    return None;
                }
                self.heartbeat_at = Instant::now() + HEARTBEAT;
                Some(Ok(self.say(Said::Heartbeat(wire::Heartbeat {}))))
            }
        }
    }

    fn say(&self, change: Said) -> wire::WatchLeasesResponse {
        wire::WatchLeasesResponse {
            revision: self.watch.revision,
            now_ms: now_ms(),
            change: Some(change),
        }
    }
}

fn said(change: &Change) -> Said {
    match change {
        Change::Lease(lease) => Said::Lease(convert::lease(lease)),
        Change::Binding(binding) => Said::Binding(convert::binding(binding)),
        Change::BindingRemoved(uid) => Said::BindingRemoved(wire::BindingRemoved {
            notebook_uid: uid.to_string(),
        }),
    }
}

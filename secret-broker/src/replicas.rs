//! What other brokers of the same key store did, as far as it is in this one's memory: bindings, and who is told of operations that ended.
//!
//! It is looked at twice a second. Where that cannot be done the lease streams give no heartbeat after two seconds, and the broker is not ready.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::broker::Broker;
use crate::private_file;
use crate::store::{StoreError, now, now_ms};

const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// So old may be what is known of others.
const FRESH_MS: i64 = 2_000;
/// Clocks of replicas differ; what ended so much earlier, seconds, is looked through again.
const SLACK: i64 = 5;

/// When others were last looked at.
#[derive(Debug, Default)]
pub struct Looked(AtomicI64);

impl Looked {
    /// Whether that was just now.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        now_ms().saturating_sub(self.0.load(Ordering::Relaxed)) <= FRESH_MS
    }
}

/// The name that this broker goes by among others: made at its first start, and kept in its data directory.
///
/// # Errors
/// What the operating system says.
pub fn own_name(data_dir: &Path) -> std::io::Result<String> {
    let path = data_dir.join("replica");
    match std::fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => Ok(name.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => {
            let name = uuid::Uuid::new_v4().to_string();
            private_file::replace(&path, name.as_bytes())?;
            Ok(name)
        }
    }
}

/// Looks until shutdown.
pub async fn follow(broker: Arc<Broker>) {
    if !broker.store.is_shared() {
        return broker.shutdown.cancelled().await;
    }
    let mut mark = None;
    let (mut since, mut told) = (now(), HashSet::new());
    let mut failed = false;
    loop {
        match look(&broker, &mut mark, &mut since, &mut told).await {
            Ok(()) => {
                broker.replicas.0.store(now_ms(), Ordering::Relaxed);
                failed = false;
            }
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(%error, "could not look what other replicas did; trying again");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = broker.shutdown.cancelled() => return,
        }
    }
}

async fn look(
    broker: &Broker,
    mark: &mut Option<i64>,
    since: &mut i64,
    told: &mut HashSet<String>,
) -> Result<(), StoreError> {
    if *mark != Some(broker.store.bindings_mark().await?) {
        let _in_order = broker.binding.lock().await;
        // Before the bindings: what comes in between is read again.
        let found = broker.store.bindings_mark().await?;
        broker.view.rebound(broker.store.bindings().await?);
        *mark = Some(found);
    }
    let begun = now();
    if broker.news.receiver_count() > 0 {
        let ended = broker.store.ended_by_others(since.saturating_sub(SLACK)).await?;
        for (operation, submitter) in &ended {
            if !told.contains(operation) {
                broker.tell(submitter, operation);
            }
        }
        *told = ended.into_iter().map(|(operation, _)| operation).collect();
    }
    *since = begun;
    Ok(())
}

//! Keeps keys as they should be while the broker runs: takes over a key ring that changed, wraps data keys anew, destroys what waited for
//! that, and leaves nothing of it in the files.
//!
//! Nothing here holds up anybody's request, and whatever fails is tried again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::audit::Event;
use crate::broker::Broker;
use crate::keys::KeyRingError;
use crate::keys::rewrap::rewrap;
use crate::shredding::{
    self,
    waiting::{self, Watch},
};
use crate::store::StoreError;

/// How often the ring's file is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often keys in a hardware module are tried, and what failed is done again.
const TRY_AGAIN: Duration = Duration::from_secs(30);
/// Longest time after which the files are scrubbed again, where a reader was in the way.
const SCRUB_AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Ring(#[from] KeyRingError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    rewrap: bool,
    scrub: bool,
    compare: bool,
    name: bool,
}

/// Works until shutdown. Where `compare` says so, not all keys could be held against the ledger yet.
pub async fn run(broker: Arc<Broker>, mut watch: Watch, compare: bool) {
    let mut left = Left {
        rewrap: true,
        scrub: true,
        compare,
        name: true,
    };
    let mut tried: Option<Instant> = None;
    while !broker.shutdown.is_cancelled() {
        let is_refused = match reloaded(&broker).await {
            Ok(true) => {
                let current = broker.ring.current();
                let event = Event::own("take_over_ring", current.to_string(), "changed");
                broker.audit.tell(event).await;
                tracing::info!(current, "took over a changed key ring");
                left.rewrap = true;
                tried = None;
                false
            }
            Ok(false) => false,
            Err(error) => {
                broker.metrics.keys_usable.store(false, Ordering::Relaxed);
                tracing::error!(%error, "the changed key ring is not taken over; the one before stays in use");
                true
            }
        };
        if tried.is_none_or(|at| at.elapsed() >= TRY_AGAIN) {
            tried = Some(Instant::now());
            left = work(&broker, left, is_refused).await;
        }
        match waiting::carry_out(&broker, &mut watch).await {
            Ok(0) => {}
            Ok(_) => left.scrub = true,
            Err(error) => {
                tracing::warn!(%error, "could not look after data keys that are to be destroyed; trying again");
            }
        }
        if left.scrub {
            left.scrub = !scrubbed(&broker).await;
        }
        let wait = if left.scrub { SCRUB_AGAIN } else { LOOK_AGAIN };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = broker.key_work.notified() => left.scrub = true,
            () = broker.shutdown.cancelled() => {}
        }
    }
}

async fn reloaded(broker: &Broker) -> Result<bool, ReloadError> {
    // The key store is not asked for each look at a file that hardly ever changes.
    if !broker.ring.has_changed()? {
        return Ok(false);
    }
    let held = broker.store.some_of_each_version().await?;
    let known = broker.store.known_keks().await?;
    let organisation = broker.config.organisation.as_str();
    let Some(new) = broker.ring.reload(organisation, &held, &known).await? else {
        return Ok(false);
    };
    broker.store.know_keks(&new).await?;
    Ok(true)
}

async fn work(broker: &Broker, mut left: Left, is_refused: bool) -> Left {
    let usable = broker.ring.check().await;
    if let Err(error) = &usable {
        tracing::error!(%error, "a key-encryption key cannot be used");
    }
    broker
        .metrics
        .keys_usable
        .store(usable.is_ok() && !is_refused, Ordering::Relaxed);
    if left.rewrap {
        let organisation = broker.config.organisation.as_str();
        match rewrap(&broker.store, &broker.ring, organisation, &broker.shutdown).await {
            Ok(came) => {
                left.rewrap = false;
                if came.done > 0 {
                    left.scrub = true;
                    let version = broker.ring.current();
                    let event = Event::own(
                        "wrap_data_keys",
                        version.to_string(),
                        "key_encryption_key_rotated",
                    );
                    broker.audit.tell(event).await;
                    tracing::info!(
                        keys = came.done,
                        stuck = came.stuck,
                        version,
                        "wrapped data keys anew"
                    );
                }
            }
            Err(error) => {
                // Some may have been.
                left.scrub = true;
                tracing::warn!(%error, "could not wrap all data keys anew; trying again");
            }
        }
    }
    if left.compare {
        left.scrub = true;
        match shredding::compare(broker).await {
            Ok(unread) => left.compare = unread > 0,
            Err(error) => {
                tracing::warn!(%error, "could not hold the key store against the ledger; trying again");
            }
        }
    }
    if left.name {
        match shredding::name_missing(broker).await {
            Ok(missing) => {
                left.name = false;
                let missing = u64::try_from(missing).unwrap_or(u64::MAX);
                broker
                    .metrics
                    .datasets_without_key
                    .store(missing, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(%error, "could not hold the key store against the ledger; trying again")
            }
        }
    }
    left
}

async fn scrubbed(broker: &Broker) -> bool {
    broker.store.scrub().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "could not empty the key store's log of deleted keys; trying again");
        false
    })
}

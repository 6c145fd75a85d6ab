//! Holds the key store against the ledger: data keys that the ledger says nobody needs are destroyed, and datasets whose key is missing are
//! named.
//!
//! A ledger can be the wrong one: swapped, rolled back, forked, another channel. So the keys of a dataset that it says is retired
//! [wait](waiting), and so does what it says was superseded by a key that is not here. What was superseded by a key that opens what an
//! embedded ledger has goes at once: nobody but this organisation could have made that. On a channel a peer may say so of what was only proposed. Keys of datasets that the ledger does not know stay: either
//! their registration is still to be submitted, or the ledger is not the one that they belong to, and then they must not be lost.

pub mod waiting;

use leasehold_chaincode::{DatasetId, DatasetRef, EventKind, PageRequest, TxId};

use crate::audit::{AuditError, Event};
use crate::broker::Broker;
use crate::ledger::ReadError;
use crate::ledgers::Reading;
use crate::sealing::{self, UnsealError};
use crate::store::StoreError;
use crate::store::data_keys::{Destroy, HeldKeys, Versions};
use crate::store::doomed::{Doomed, Seen};
use crate::store::receipts::{Grounds, Reason};

/// So many datasets without a key are named in the log; all are counted.
const MOST_NAMED: usize = 100;
/// So many pages of a history are read; a peer could go on for ever.
const MOST_PAGES: usize = 10_000;

/// Ledger or key store could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] ReadError),
    /// The key store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It goes on and on.
    #[error("the history of dataset {0} does not end: look at the peer that answers for this organisation")]
    Endless(String),
    /// It cannot be recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// What the ledger says of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needless {
    versions: Versions,
    reason: Reason,
    /// Whether a key that is here has taken over, which nobody else can have made.
    is_replaced: bool,
}

/// Finds the data keys of retired datasets, and those that another one took over from: what may not go at once waits. Yields of how many
/// datasets that could not be said; their keys stay.
///
/// # Errors
/// [`CompareError`] where the key store or the ledger as a whole cannot be read.
pub async fn compare(broker: &Broker) -> Result<usize, CompareError> {
    let (mut reading, height) = broker.ledger.one_state().await?;
    let mut unread = 0;
    for held in broker.store.held_keys().await? {
        if let Err(error) = compare_one(broker, &mut reading, height, &held).await {
            tracing::error!(dataset = %held.dataset_id, %error, "could not hold data keys against the ledger; they stay, and it is tried again");
            broker.ledger.ready().await?;
            unread += 1;
        }
    }
    Ok(unread)
}

async fn compare_one(
    broker: &Broker,
    reading: &mut Reading,
    height: u64,
    held: &HeldKeys,
) -> Result<(), CompareError> {
    let Some(needless) = needless(broker, reading, held).await? else {
        return Ok(());
    };
    // Who has seen a ciphertext that was proposed could say that it is on the channel.
    if needless.is_replaced && reading.is_embedded() {
        return destroy_replaced(broker, held.dataset_id.clone(), needless, height).await;
    }
    let seen = seen(reading, height, &held.dataset_id, needless.reason).await?;
    let doomed = Doomed::now(held.dataset_id.clone(), needless.versions, needless.reason, seen);
    if broker.store.doom(&doomed).await? {
        tracing::warn!(
            dataset = %doomed.dataset_id, reason = doomed.reason.name(),
            "found data keys that the ledger says nobody needs: the key store is from before they went, or the broker was ended meanwhile"
        );
    }
    Ok(())
}

async fn destroy_replaced(
    broker: &Broker,
    dataset_id: String,
    needless: Needless,
    height: u64,
) -> Result<(), CompareError> {
    let destroy = Destroy {
        dataset_id,
        versions: needless.versions,
        grounds: Grounds {
            reason: needless.reason,
            height: Some(height),
            transaction: None,
        },
    };
    // On disk before anything is gone.
    let event = Event::own("shred", destroy.dataset_id.as_str(), needless.reason.name());
    broker.audit.keep(event).await?;
    let destroyed = broker.store.destroy(&destroy).await?;
    if destroyed > 0 {
        tracing::warn!(
            dataset = %destroy.dataset_id, keys = destroyed,
            "destroyed data keys that another one took over from: the key store is from before they went, or the broker was ended meanwhile"
        );
    }
    Ok(())
}

async fn needless(
    broker: &Broker,
    reading: &mut Reading,
    held: &HeldKeys,
) -> Result<Option<Needless>, CompareError> {
    let Ok(id) = DatasetId::new(held.dataset_id.as_str()) else {
        return Ok(None);
    };
    let entry = reading.dataset(&DatasetRef::Id(id.clone())).await?;
    // A peer writes the answer: one about another dataset than was asked for is none. Another owner counts versions of its own.
    let Some(entry) = entry.filter(|e| e.dataset.id == id && e.dataset.owner == broker.config.organisation)
    else {
        return Ok(None);
    };
    if entry.dataset.retired_at_ms.is_some() {
        return Ok(Some(Needless {
            versions: Versions::All,
            reason: Reason::Retired,
            is_replaced: false,
        }));
    }
    let Some(volume) = reading.volume(&id).await? else {
        return Ok(None);
    };
    if held.oldest >= volume.key_version {
        return Ok(None);
    }
    // One answer is not enough to destroy a key by: what takes its place has to open what the ledger has.
    let is_replaced = match sealing::open(broker, &id, &volume).await {
        Ok(_) => true,
        // A copy of the key store from before the rotation has the old key alone. A peer could say so of any.
        Err(UnsealError::NoKey) if reading.is_embedded() => false,
        Err(error) => {
            tracing::error!(
                dataset = %id, version = volume.key_version, %error,
                "the volume on the ledger does not open with the data key that it names; the others are kept"
            );
            return Ok(None);
        }
    };
    Ok(Some(Needless {
        versions: Versions::Before(volume.key_version),
        reason: Reason::Superseded,
        is_replaced,
    }))
}

/// What the ledger shows for it now: the block as far as which it was read, or on a channel the transaction.
async fn seen(
    reading: &mut Reading,
    height: u64,
    dataset_id: &str,
    reason: Reason,
) -> Result<Seen, CompareError> {
    let block_hash = reading.block_hash(height).await?;
    let transaction = match reading.is_embedded() {
        true => None,
        false => said_in(reading, dataset_id, reason).await?,
    };
    Ok(Seen {
        height,
        block_hash,
        transaction: transaction.map(|id| id.to_string()),
    })
}

/// The last transaction in a dataset's history that lets keys go.
async fn said_in(
    reading: &mut Reading,
    dataset_id: &str,
    reason: Reason,
) -> Result<Option<TxId>, CompareError> {
    let Ok(id) = DatasetId::new(dataset_id) else {
        return Ok(None);
    };
    let mut page = PageRequest::default();
    let mut last = None;
    for _ in 0..MOST_PAGES {
        let found = reading.history(&id, &page).await?;
        for entry in found.items {
            let says = match reason {
                Reason::Retired => entry.kind == EventKind::DatasetRetired {},
                Reason::Superseded => entry.kind == EventKind::VolumeReplaced {},
                Reason::Unused => false,
            };
            if says {
                last = Some(entry.tx_id);
            }
        }
        match found.next {
            None => return Ok(last),
            Some(next) if page.after.as_ref() == Some(&next) => break,
            Some(next) => page.after = Some(next),
        }
    }
    Err(CompareError::Endless(dataset_id.to_owned()))
}

/// Names the organisation's datasets whose data key the key store lacks: it is older than the ledger, or another one's. Yields how many there
/// are; all others go on.
///
/// # Errors
/// [`CompareError`].
pub async fn name_missing(broker: &Broker) -> Result<usize, CompareError> {
    let mut page = PageRequest::default();
    let mut count = 0;
    loop {
        let found = broker.ledger.datasets(&page).await?;
        let own = found.items.into_iter().map(|entry| entry.dataset);
        for dataset in own.filter(|dataset| dataset.owner == broker.config.organisation) {
            let Some(volume) = broker.ledger.volume(&dataset.id).await? else {
                continue;
            };
            let key = broker
                .store
                .data_key(dataset.id.as_str(), volume.key_version)
                .await?;
            if key.is_some() {
                continue;
            }
            count += 1;
            if count <= MOST_NAMED {
                tracing::error!(
                    dataset = %dataset.id, name = %dataset.name, version = volume.key_version,
                    "the key store lacks the data key of this dataset, which cannot be opened: restore a key store that has it, or remove the dataset and register it anew"
                );
            }
        }
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(count),
        }
    }
}

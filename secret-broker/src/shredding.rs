//! Holds the key store against the ledger: data keys that the ledger says nobody needs are destroyed, and datasets whose key is missing are
//! named.
//!
//! Operations destroy keys as they end ([`crate::operations`]). What is found here was left by a kill, or came back with a key store from a
//! backup: a key that the ledger lets go goes again. Keys of datasets that the ledger does not know stay: either their registration is still to
//! be submitted, or the ledger is not the one that they belong to, and then they must not be lost.

use leasehold_chaincode::{DatasetId, DatasetRef, PageRequest};

use crate::audit::{AuditError, Event};
use crate::broker::Broker;
use crate::ledger::ReadError;
use crate::ledgers::Reading;
use crate::sealing;
use crate::store::StoreError;
use crate::store::data_keys::{Destroy, HeldKeys, Versions};
use crate::store::receipts::{Grounds, Reason};

/// So many datasets without a key are named in the log; all are counted.
const MOST_NAMED: usize = 100;

/// Ledger or key store could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] ReadError),
    /// The key store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Destroys the data keys of retired datasets, and those that another one took over from. Yields how many.
///
/// # Errors
/// [`CompareError`].
pub async fn destroy_needless(broker: &Broker) -> Result<usize, CompareError> {
    let (mut reading, height) = broker.ledger.one_state().await?;
    let mut count = 0;
    for held in broker.store.held_keys().await? {
        let Some((versions, reason)) = needless(broker, &mut reading, &held).await? else {
            continue;
        };
        let destroy = Destroy {
            dataset_id: held.dataset_id,
            versions,
            grounds: Grounds {
                reason,
                height: Some(height),
                transaction: None,
            },
        };
        // On disk before anything is gone.
        let event = Event::own("shred", destroy.dataset_id.as_str(), reason.name());
        broker.audit.keep(event).await?;
        let destroyed = broker.store.destroy(&destroy).await?;
        if destroyed > 0 {
            tracing::warn!(
                dataset = %destroy.dataset_id, reason = reason.name(), keys = destroyed,
                "destroyed data keys that the ledger says nobody needs: the key store is from before they went, or the broker was ended meanwhile"
            );
        }
        count += destroyed;
    }
    Ok(count)
}

async fn needless(
    broker: &Broker,
    reading: &mut Reading,
    held: &HeldKeys,
) -> Result<Option<(Versions, Reason)>, CompareError> {
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
        return Ok(Some((Versions::All, Reason::Retired)));
    }
    if held.count < 2 {
        return Ok(None);
    }
    let Some(volume) = reading.volume(&id).await? else {
        return Ok(None);
    };
    // One answer is not enough to destroy a key by: what takes its place has to open what the ledger has.
    if let Err(error) = sealing::open(broker, &id, &volume).await {
        tracing::error!(
            dataset = %id, version = volume.key_version, %error,
            "the volume on the ledger does not open with the data key that it names; the others are kept"
        );
        return Ok(None);
    }
    Ok(Some((Versions::Before(volume.key_version), Reason::Superseded)))
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

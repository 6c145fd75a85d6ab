//! Wraps data keys anew with the newest key-encryption key, page by page.
//!
//! There is nothing to resume: what is not wrapped by the newest version is what is left to do, however often this is cut off. Each data key
//! is replaced only if it is still the one that was read, so that nothing that goes on meanwhile is undone.

use tokio_util::sync::CancellationToken;

use super::service::KeyError;
use super::{DataKeyOf, KeyRing};
use crate::store::data_keys::DataKey;
use crate::store::{Store, StoreError};

const PAGE: u32 = 64;

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// So many data keys are wrapped by the newest version now that were not.
    pub done: u64,
    /// So many cannot be opened and stay as they are; the log names them.
    pub stuck: u64,
}

/// Why it ended early. What was done stays done.
#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    /// The key store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key service failed.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Wraps all data keys anew that another version than the newest wraps, until shutdown.
///
/// # Errors
/// [`RewrapError`].
pub async fn rewrap(
    store: &Store,
    ring: &KeyRing,
    organisation: &str,
    shutdown: &CancellationToken,
) -> Result<Rewrapped, RewrapError> {
    let mut came = Rewrapped::default();
    let mut after = (String::new(), 0);
    loop {
        let page = store.not_wrapped_by(ring.current(), &after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(came) };
        after = (last.dataset_id.clone(), last.version);
        for before in &page {
            if shutdown.is_cancelled() {
                return Ok(came);
            }
            match again(ring, organisation, before).await {
                Ok(key) => came.done += u64::from(store.rewrapped(before, &key).await?),
                Err(error) if error.may_pass() => return Err(error.into()),
                Err(error) => {
                    came.stuck += 1;
                    tracing::error!(
                        dataset = %before.dataset_id, version = before.version, kek_version = before.kek_version, %error,
                        "a data key cannot be wrapped anew"
                    );
                }
            }
        }
    }
}

async fn again(ring: &KeyRing, organisation: &str, before: &DataKey) -> Result<DataKey, KeyError> {
    let of = DataKeyOf {
        organisation,
        dataset: &before.dataset_id,
        version: before.version,
    };
    let key = ring.unwrap(of, &before.wrapped).await?;
    let (kek_version, wrapped) = ring.wrap(of, &key).await?;
    Ok(DataKey {
        kek_version,
        wrapped,
        ..before.clone()
    })
}

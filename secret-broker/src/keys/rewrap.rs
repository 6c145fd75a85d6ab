//! Wraps data keys anew with the newest key-encryption key, page by page.
//!
//! There is nothing to resume: what is not wrapped by the newest version is what is left to do, however often this is cut off. Each data key
//! is replaced only if it is still the one that was read, so that nothing that goes on meanwhile is undone.

use tokio_util::sync::CancellationToken;

use super::pkcs11::Pkcs11Error;
use super::service::KeyError;
use super::{DataKeyOf, KeyRing};
use crate::crypto::CryptoError;
use crate::store::data_keys::DataKey;
use crate::store::{Store, StoreError};

const PAGE: u32 = 64;

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// So many data keys are wrapped by the newest version now that were not.
    pub done: u64,
    /// So many are damaged, or their version is not in the ring, and stay as they are; the log names them.
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
    // Of one version's key perhaps: those of the others are done meanwhile.
    let mut failed = None;
    let mut after = (String::new(), 0);
    loop {
        let page = store.not_wrapped_by(ring.current(), &after, PAGE).await?;
        let Some(last) = page.last() else {
            return failed.map_or(Ok(came), Err);
        };
        after = (last.dataset_id.clone(), last.version);
        for before in &page {
            if shutdown.is_cancelled() {
                return Ok(came);
            }
            match again(ring, organisation, before).await {
                Ok(Some(key)) => came.done += u64::from(store.rewrapped(before, &key).await?),
                Ok(None) => came.stuck += 1,
                Err(error) if error.may_pass() => return Err(error.into()),
                Err(error) => failed = failed.or(Some(error.into())),
            }
        }
    }
}

/// Whether no later try opens it: every other error may be of the key service, its PIN or its configuration.
const fn is_stuck(error: &KeyError) -> bool {
    match error {
        KeyError::NoSuchVersion(_) => true,
        KeyError::Crypto(error) | KeyError::Pkcs11(Pkcs11Error::Crypto(error)) => {
            matches!(error, CryptoError::Malformed | CryptoError::NotAuthentic)
        }
        KeyError::NoModule | KeyError::Pkcs11(_) => false,
    }
}

/// None where it is stuck.
async fn again(ring: &KeyRing, organisation: &str, before: &DataKey) -> Result<Option<DataKey>, KeyError> {
    let of = DataKeyOf {
        organisation,
        dataset: &before.dataset_id,
        version: before.version,
    };
    let key = match ring.unwrap(of, &before.wrapped).await {
        Ok(key) => key,
        Err(error) if is_stuck(&error) => {
            tracing::error!(
                dataset = %before.dataset_id, version = before.version, kek_version = before.kek_version, %error,
                "a data key cannot be wrapped anew"
            );
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (kek_version, wrapped) = ring.wrap(of, &key).await?;
    Ok(Some(DataKey {
        kek_version,
        wrapped,
        ..before.clone()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn only_a_damaged_key_or_a_missing_version_is_stuck() {
        let pin = || Pkcs11Error::PinFile {
            path: PathBuf::from("pin"),
            source: std::io::ErrorKind::NotFound.into(),
        };
        for (error, stuck) in [
            (KeyError::NoSuchVersion(1), true),
            (CryptoError::NotAuthentic.into(), true),
            (Pkcs11Error::Crypto(CryptoError::NotAuthentic).into(), true),
            (CryptoError::NoRandomness.into(), false),
            (KeyError::NoModule, false),
            (pin().into(), false),
            (Pkcs11Error::WrongPin("t".to_owned()).into(), false),
            (Pkcs11Error::NoKey("k".to_owned()).into(), false),
            (Pkcs11Error::Deadline.into(), false),
        ] {
            assert_eq!(is_stuck(&error), stuck, "{error}");
        }
    }
}

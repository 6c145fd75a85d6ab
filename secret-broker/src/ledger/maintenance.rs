//! Work on a stopped ledger: another key, and deriving the state anew.

use super::block::KeyCause;
use super::bytes::KeyId;
use super::founding::{self, Sealer};
use super::key::{LedgerKey, LedgerKeyError};
use super::storage::{self, StorageError, blocks};
use super::verify::{self, Depth, Verified, VerifyError};
use super::{LedgerOptions, OpenError};
use sqlx::{Connection, SqliteConnection};
use std::fs::File;
use std::path::Path;

/// Another key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyChanged {
    /// In which block the key before handed over.
    pub height: u64,
    /// Who signs from the next block on.
    pub key_id: KeyId,
}

/// Why work on a stopped ledger was not done.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The key in use, or the one to come, cannot be used.
    #[error(transparent)]
    Key(#[from] LedgerKeyError),
    /// The key in use is not there.
    #[error(
        "{0}; if the key is lost for good, say --lost: the new key signs for itself then, and verifying says so"
    )]
    KeyBefore(OpenError),
    /// The key to come is the one in use.
    #[error("key {0} signs the ledger already; name a file for another one")]
    SameKey(KeyId),
    /// The ledger is damaged.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// The file, for writing, with nobody else.
async fn open(path: &Path) -> Result<(SqliteConnection, File), OpenError> {
    if let Err(source) = std::fs::metadata(path) {
        let path = path.to_owned();
        return Err(OpenError::Missing { path, source });
    }
    let lock = storage::lock(path)?;
    let failed = |error: StorageError| OpenError::Storage {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let mut connection = storage::connect(path).await.map_err(failed)?;
    storage::schema::migrate(&mut connection).await.map_err(failed)?;
    Ok((connection, lock))
}

/// Hands a stopped ledger over to the key in `to`, which is made where it is missing. The key before signs that, unless it is lost.
///
/// # Errors
/// [`MaintenanceError`]; the ledger is then as it was.
pub async fn rotate(options: &LedgerOptions, to: &Path, lost: bool) -> Result<KeyChanged, MaintenanceError> {
    let (mut connection, _lock) = open(&options.path).await?;
    let failed = |error: StorageError| options.failed(error);
    let (sealer, cause) = if lost {
        let ledger = blocks::from(&mut connection, 0, 1).await.map_err(failed)?.pop();
        let ledger = ledger.ok_or_else(|| failed(StorageError::NoBlocks))?.hash;
        let last = blocks::last(&mut connection).await.map_err(failed)?;
        let signer = last.and_then(|last| last.next_signer().ok().flatten());
        if signer.is_none() {
            return Err(OpenError::NotSigned(options.path.clone()).into());
        }
        // What a key that nobody vouches for signs is at least whole.
        verify::verify(&mut connection, Depth::Chain, &[]).await?;
        let key = LedgerKey::load_or_create(to)?;
        (Sealer { ledger, key }, KeyCause::Lost)
    } else {
        let found = founding::found(&mut connection, options).await;
        let (sealer, _) = found.map_err(|error| match error {
            OpenError::Key(_) | OpenError::OtherKey { .. } => MaintenanceError::KeyBefore(error),
            error => error.into(),
        })?;
        (sealer, KeyCause::Rotated)
    };
    let to = LedgerKey::load_or_create(to)?;
    let last = blocks::last(&mut connection).await.map_err(failed)?;
    if last.and_then(|last| last.next_signer().ok().flatten()) == Some(to.id()) {
        return Err(MaintenanceError::SameKey(to.id()));
    }
    let block = founding::change_key(&mut connection, &sealer, cause, &to, (options.clock)())
        .await
        .map_err(failed)?;
    connection.close().await.map_err(|error| failed(error.into()))?;
    Ok(KeyChanged {
        height: block.height,
        key_id: to.id(),
    })
}

/// Derives state, history and indexes of a stopped ledger from its blocks anew.
///
/// # Errors
/// [`MaintenanceError`]; the ledger is then as it was.
pub async fn rebuild(path: &Path) -> Result<Verified, MaintenanceError> {
    let (mut connection, _lock) = open(path).await?;
    let verified = verify::rebuild(&mut connection).await?;
    connection.close().await.map_err(VerifyError::from)?;
    Ok(verified)
}

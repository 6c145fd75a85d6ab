//! Work on a ledger that is stopped, or in a database that brokers share: another key, and deriving the state anew.

use super::block::KeyCause;
use super::bytes::KeyId;
use super::founding::{self, Sealer};
use super::key::{LedgerKey, LedgerKeyError};
use super::storage::{self, Connection, Session, StorageError, blocks};
use super::verify::{self, Depth, Verified, VerifyError};
use super::{LedgerAddress, LedgerOptions, OpenError, meant, seen};
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

/// The ledger, for writing; a file with nobody else.
async fn open(address: &LedgerAddress) -> Result<(Connection, Option<storage::sqlite::Lock>), OpenError> {
    if let LedgerAddress::Sqlite(path) = address
        && let Err(source) = std::fs::metadata(path)
    {
        let path = address.clone();
        return Err(OpenError::Missing { path, source });
    }
    let lock = storage::lock(address)?;
    let failed = |error: StorageError| OpenError::Storage {
        path: address.clone(),
        reason: error.to_string(),
    };
    let mut connection = Connection::open(address).await.map_err(failed)?;
    storage::schema::migrate(&mut connection).await.map_err(failed)?;
    Ok((connection, lock))
}

/// Hands a ledger over to the key in `to`, which is made where it is missing. The key before signs that, unless it is lost.
///
/// # Errors
/// [`MaintenanceError`]; the ledger is then as it was.
pub async fn rotate(options: &LedgerOptions, to: &Path, lost: bool) -> Result<KeyChanged, MaintenanceError> {
    let (mut connection, _lock) = open(&options.address).await?;
    let failed = |error: StorageError| options.failed(error);
    let mut session = connection.write().await.map_err(failed)?;
    let changed = hand_over(&mut session, options, to, lost).await?;
    session.commit().await.map_err(failed)?;
    connection.close().await.map_err(failed)?;
    Ok(changed)
}

async fn hand_over(
    session: &mut Session<'_>,
    options: &LedgerOptions,
    to: &Path,
    lost: bool,
) -> Result<KeyChanged, MaintenanceError> {
    let failed = |error: StorageError| options.failed(error);
    let (sealer, cause) = if lost {
        let ledger = blocks::from(session, 0, 1).await.map_err(failed)?.pop();
        let ledger = ledger.ok_or_else(|| failed(StorageError::NoBlocks))?.hash;
        meant::check(options, Some(ledger))?;
        let (_, signer) = blocks::tip(session).await.map_err(failed)?;
        if signer.is_none() {
            return Err(OpenError::NotSigned(options.address.clone()).into());
        }
        // What a key that nobody vouches for signs is at least whole.
        verify::verify(session, Depth::Chain, &[]).await?;
        let key = LedgerKey::load_or_create(to)?;
        (Sealer { ledger, key }, KeyCause::Lost)
    } else {
        let found = founding::found(session, options).await;
        let (sealer, _) = found.map_err(|error| match error {
            OpenError::Key(_) | OpenError::OtherKey { .. } => MaintenanceError::KeyBefore(error),
            error => error.into(),
        })?;
        (sealer, KeyCause::Rotated)
    };
    seen::hold(session, options).await?;
    let to = LedgerKey::load_or_create(to)?;
    let (_, signer) = blocks::tip(session).await.map_err(failed)?;
    if signer == Some(to.id()) {
        return Err(MaintenanceError::SameKey(to.id()));
    }
    let block = founding::change_key(session, &sealer, cause, &to, (options.clock)())
        .await
        .map_err(failed)?;
    Ok(KeyChanged {
        height: block.height,
        key_id: to.id(),
    })
}

/// Derives state, history and indexes of a ledger from its blocks anew.
///
/// # Errors
/// [`MaintenanceError`]; the ledger is then as it was.
pub async fn rebuild(address: impl Into<LedgerAddress>) -> Result<Verified, MaintenanceError> {
    let (mut connection, _lock) = open(&address.into()).await?;
    let verified = verify::rebuild(&mut connection).await?;
    connection.close().await.map_err(VerifyError::from)?;
    Ok(verified)
}

/// Makes a database's tables, or brings them to this version; a broker may then write with fewer rights.
///
/// # Errors
/// [`OpenError`].
pub async fn prepare(address: &LedgerAddress) -> Result<(), OpenError> {
    let (connection, _lock) = open(address).await?;
    connection.close().await.map_err(|error| OpenError::Storage {
        path: address.clone(),
        reason: error.to_string(),
    })
}

//! A ledger's file that is only looked at: verified, receipted, exported. Nothing is written, so that a copy on a read-only disk
//! will do; a ledger that a broker has open is read beside it.

use super::block::Body;
use super::receipt::Receipt;
use super::storage::{self, StorageError, blocks, schema};
use super::verify::{self, Depth, Verified, VerifyError};
use super::{LedgerOptions, OpenError, ReadError};
use crate::sqlite;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// A ledger's file.
pub struct LedgerFile {
    path: PathBuf,
    /// In which way it may be read.
    options: SqliteConnectOptions,
    /// Keeps writers out where none is there.
    _lock: Option<File>,
}

impl LedgerFile {
    /// Looks whether there is a ledger.
    ///
    /// # Errors
    /// [`OpenError`] when it is missing or unreadable, or was never opened by a version that signs.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Lock {
            path: path.to_owned(),
            source,
        };
        let found = std::fs::metadata(path).map_err(|source| OpenError::Missing {
            path: path.to_owned(),
            source,
        })?;
        if !found.is_file() {
            return Err(failed(std::io::Error::other("it is not a file")));
        }
        let (lock, written) = match File::open(storage::lock_path(path)) {
            Ok(lock) => match lock.try_lock_shared() {
                Ok(()) => (Some(lock), false),
                Err(TryLockError::WouldBlock) => (None, true),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            },
            Err(_) => (None, false),
        };
        let log = PathBuf::from(format!("{}-wal", path.display()));
        let log = std::fs::metadata(log).is_ok_and(|log| log.len() > 0);
        let options = sqlite::without_temporary_files(SqliteConnectOptions::new())
            .filename(path)
            .read_only(true)
            // Of a ledger that was killed the last blocks are still in the log beside it, and reading that takes an index.
            .immutable(!(written || log))
            .pragma("query_only", "on");
        let file = Self {
            path: path.to_owned(),
            options,
            _lock: lock,
        };
        let mut connection = file.connect().await.map_err(|error| file.failed(&error, log))?;
        let current = schema::is_current(&mut connection).await;
        let current = current.map_err(|error| file.failed(&error, log))?;
        connection
            .close()
            .await
            .map_err(|error| file.failed(&error.into(), log))?;
        if !current {
            return Err(OpenError::NotSigned(path.to_owned()));
        }
        Ok(file)
    }

    fn failed(&self, error: &StorageError, log: bool) -> OpenError {
        let hint = if log {
            "; the broker was killed, so that its directory must be writable, or the log be copied along"
        } else {
            ""
        };
        OpenError::Storage {
            path: self.path.clone(),
            reason: format!("{error}{hint}"),
        }
    }

    pub(super) async fn connect(&self) -> Result<SqliteConnection, StorageError> {
        Ok(SqliteConnection::connect_with(&self.options).await?)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How to open it for writing: as its first block says.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn options(&self, key: &Path) -> Result<LedgerOptions, ReadError> {
        let mut connection = self.connect().await?;
        let first = blocks::from(&mut connection, 0, 1).await?.pop();
        connection.close().await?;
        let body = first.ok_or(StorageError::NoBlocks)?.body;
        match serde_json::from_str(&body).map_err(StorageError::from)? {
            Body::Genesis(genesis) => {
                let mut options = LedgerOptions::new(&self.path, genesis.organisation);
                options.contract.end_margin_ms = genesis.end_margin_ms;
                key.clone_into(&mut options.key);
                Ok(options)
            }
            _ => Err(ReadError::Storage(
                "block 0 is not the genesis; verify the ledger".to_owned(),
            )),
        }
    }

    /// Checks it, and against receipts of it that were kept elsewhere.
    ///
    /// # Errors
    /// [`VerifyError`] with what is not as it was written.
    pub async fn verify(&self, depth: Depth, receipts: &[Receipt]) -> Result<Verified, VerifyError> {
        let mut connection = self.connect().await?;
        let mut snapshot = connection.begin().await?;
        let outcome = verify::verify(&mut snapshot, depth, receipts).await;
        snapshot.rollback().await?;
        connection.close().await?;
        outcome
    }

    /// Its signed head.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn receipt(&self) -> Result<Receipt, ReadError> {
        let mut connection = self.connect().await?;
        let first = blocks::from(&mut connection, 0, 1).await?.pop();
        let head = blocks::head(&mut connection).await?;
        connection.close().await?;
        let receipt = first.and_then(|first| Receipt::of(&first.hash, &head));
        let receipt = receipt.filter(|receipt| receipt.check().is_ok());
        receipt
            .ok_or_else(|| ReadError::Storage("the last block is not signed; verify the ledger".to_owned()))
    }
}

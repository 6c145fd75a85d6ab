//! A ledger that is only looked at: verified, receipted, exported. Nothing is written, so that a copy of a file on a read-only disk
//! will do; a ledger that brokers have open is read beside them.

use super::block::{Body, StoredBlock};
use super::bytes::KeyId;
use super::receipt::Receipt;
use super::storage::{self, Connection, StorageError, blocks, schema};
use super::verify::{self, Depth, Verified, VerifyError};
use super::{LedgerAddress, LedgerOptions, OpenError, ReadError};
use crate::sqlite;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// A ledger that is only looked at.
pub struct LedgerFile {
    address: LedgerAddress,
    /// In which way a file may be read.
    options: Option<SqliteConnectOptions>,
    /// Keeps writers out where none is there.
    _lock: Option<storage::sqlite::Lock>,
}

impl LedgerFile {
    /// Looks whether there is a ledger.
    ///
    /// # Errors
    /// [`OpenError`] when it is missing or unreadable, or was never opened by a version that signs.
    pub async fn open(address: impl Into<LedgerAddress>) -> Result<Self, OpenError> {
        let address = address.into();
        let (file, hint) = match &address {
            LedgerAddress::Sqlite(path) => Self::of_file(path)?,
            LedgerAddress::Postgres(_) | LedgerAddress::Fabric(_) => (Self::of_database(&address), ""),
        };
        match file.is_current().await {
            Ok(Some(true)) => Ok(file),
            Ok(Some(false)) => Err(OpenError::NotSigned(address)),
            Ok(None) => Err(OpenError::Missing {
                path: address,
                source: std::io::Error::other("the database has no ledger of this version in it"),
            }),
            Err(error) => Err(OpenError::Storage {
                path: address,
                reason: format!("{error}{hint}"),
            }),
        }
    }

    fn of_database(address: &LedgerAddress) -> Self {
        Self {
            address: address.clone(),
            options: None,
            _lock: None,
        }
    }

    /// And what to add when it cannot be read.
    fn of_file(path: &Path) -> Result<(Self, &'static str), OpenError> {
        let failed = |source| OpenError::Lock {
            path: path.to_owned(),
            source,
        };
        let found = std::fs::metadata(path).map_err(|source| OpenError::Missing {
            path: path.into(),
            source,
        })?;
        if !found.is_file() {
            return Err(failed(std::io::Error::other("it is not a file")));
        }
        let (lock, written) = match File::open(storage::sqlite::lock_path(path)) {
            Ok(lock) => match lock.try_lock_shared() {
                Ok(()) => (Some(storage::sqlite::Lock::of(lock)), false),
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
            address: path.into(),
            options: Some(options),
            _lock: lock,
        };
        let hint = match log {
            true => {
                "; the broker was killed, so that its directory must be writable, or the log be copied along"
            }
            false => "",
        };
        Ok((file, hint))
    }

    async fn is_current(&self) -> Result<Option<bool>, StorageError> {
        let mut connection = self.connect().await?;
        let mut session = connection.read().await?;
        let current = schema::is_current(&mut session).await?;
        session.rollback().await?;
        connection.close().await?;
        Ok(current)
    }

    pub(super) async fn connect(&self) -> Result<Connection, StorageError> {
        match &self.options {
            Some(options) => Ok(Connection::Sqlite(SqliteConnection::connect_with(options).await?)),
            None => Connection::open(&self.address).await,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &LedgerAddress {
        &self.address
    }

    /// How to open it for writing: as its first block says.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    pub async fn options(&self, key: &Path) -> Result<LedgerOptions, ReadError> {
        let first = self.first().await?;
        let body = first.ok_or(StorageError::NoBlocks)?.body;
        match serde_json::from_str(&body).map_err(StorageError::from)? {
            Body::Genesis(genesis) => {
                let mut options = LedgerOptions::new(self.address.clone(), genesis.organisation);
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
        match self.verify_even_unsigned(depth, receipts).await? {
            Verified { key_id: None, .. } => Err(VerifyError::Unsigned),
            verified => Ok(verified),
        }
    }

    /// The same, but nobody need have signed it: whoever can write it can also have made it.
    ///
    /// # Errors
    /// [`VerifyError`] with what is not as it was written.
    pub async fn verify_even_unsigned(
        &self,
        depth: Depth,
        receipts: &[Receipt],
    ) -> Result<Verified, VerifyError> {
        let mut connection = self.connect().await?;
        let mut session = connection.read().await?;
        let outcome = match (&self.address, depth) {
            (LedgerAddress::Sqlite(_), Depth::Whole) => {
                let mut other = self.connect().await?;
                let mut beside = other.read().await?;
                let outcome =
                    verify::verify_even_unsigned(&mut session, Some(&mut beside), depth, receipts).await;
                beside.rollback().await?;
                other.close().await?;
                outcome
            }
            _ => verify::verify_even_unsigned(&mut session, None, depth, receipts).await,
        };
        session.rollback().await?;
        connection.close().await?;
        outcome
    }

    /// Its signed head, once every block leads to it and somebody vouches for every key, as in [`Verified::vouched_for`].
    ///
    /// # Errors
    /// [`VerifyError`]: a receipt would say more of the ledger than is known.
    pub async fn receipt(&self, trusted: &[KeyId], receipts: &[Receipt]) -> Result<Receipt, VerifyError> {
        let mut connection = self.connect().await?;
        let mut session = connection.read().await?;
        let verified = verify::verify(&mut session, Depth::Chain, receipts).await;
        let head = blocks::head(&mut session).await;
        session.rollback().await?;
        connection.close().await?;
        let verified = verified?.vouched_for(trusted, receipts)?;
        let head = head?;
        let receipt = Receipt::of(&verified.ledger_id.0, &head).ok_or(VerifyError::Unsigned)?;
        receipt.check()?;
        Ok(receipt)
    }

    async fn first(&self) -> Result<Option<StoredBlock>, StorageError> {
        let mut connection = self.connect().await?;
        let mut session = connection.read().await?;
        let first = blocks::from(&mut session, 0, 1).await?.pop();
        session.rollback().await?;
        connection.close().await?;
        Ok(first)
    }
}

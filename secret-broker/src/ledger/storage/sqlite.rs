//! The ledger's SQLite file: how it is locked and opened.

use super::StorageError;
use crate::ledger::{LedgerAddress, OpenError};
use crate::sqlite;
use sqlx::{Connection, SqliteConnection, SqlitePool};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Readers at once.
const READERS: u32 = 4;

/// The lock's file beside the ledger.
pub(in crate::ledger) fn lock_path(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.lock", path.display()))
}

/// Keeps other processes out for as long as the file is open.
pub(in crate::ledger) fn lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = lock_path(path);
    let failed = |source| OpenError::Lock {
        path: path.to_owned(),
        source,
    };
    // The database itself is made here too, so that nobody else on the machine may read it.
    for file in [path, lock_path.as_path()] {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(file)
            .map_err(failed)?;
    }
    let lock = File::open(&lock_path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(LedgerAddress::from(path))),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The writer's connection.
pub(in crate::ledger) async fn connect(path: &Path) -> Result<SqliteConnection, StorageError> {
    // A block changes pages all over the state's tree. These are kept at hand, and written back to the file once for many blocks.
    let options = sqlite::options(path)
        .pragma("cache_size", "-65536") // KiB
        .pragma("wal_autocheckpoint", "16384"); // pages of 4 KiB
    Ok(SqliteConnection::connect_with(&options).await?)
}

/// The readers' connections.
pub(in crate::ledger) async fn read_pool(path: &Path) -> Result<SqlitePool, StorageError> {
    let options = sqlite::options(path)
        .create_if_missing(false)
        .pragma("query_only", "on");
    Ok(sqlite::pool(READERS).connect_with(options).await?)
}

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

/// The lock of a ledger, until it is dropped.
#[derive(Debug)]
pub(in crate::ledger) struct Lock(File);

impl Lock {
    /// Of a file that the caller has locked.
    pub(in crate::ledger) fn of(locked: File) -> Self {
        Self(locked)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file alone would not do: a process that is being started has a copy of it until it runs its own program.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "a ledger's lock is not given back before its file is closed everywhere");
        }
    }
}

/// Keeps other processes out for as long as the lock is held.
pub(in crate::ledger) fn lock(path: &Path) -> Result<Lock, OpenError> {
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
        Ok(()) => Ok(Lock(lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(LedgerAddress::from(path))),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The writer's connection.
pub(in crate::ledger) async fn connect(path: &Path) -> Result<SqliteConnection, StorageError> {
    // A block changes pages all over the state's tree. These are kept at hand, and written back to the file once for many blocks. Each
    // costs as much in calls of the system as in bytes; a dataset's rows often lie in one of this size. A file keeps the size it began with.
    let options = sqlite::options(path)
        .page_size(8_192)
        .pragma("cache_size", "-65536") // KiB
        .pragma("wal_autocheckpoint", "8192"); // pages
    Ok(SqliteConnection::connect_with(&options).await?)
}

/// The readers' connections.
pub(in crate::ledger) async fn read_pool(path: &Path) -> Result<SqlitePool, StorageError> {
    let options = sqlite::options(path)
        .create_if_missing(false)
        .pragma("query_only", "on");
    Ok(sqlite::pool(READERS).connect_with(options).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a process that is being started has one.
    #[test]
    fn a_lock_is_given_back_although_somebody_has_a_copy_of_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let first = lock(&path).unwrap();
        let copy = first.0.try_clone().unwrap();
        assert!(matches!(lock(&path), Err(OpenError::InUse(_))));
        drop(first);
        drop(lock(&path).unwrap());
        drop(copy);
    }
}

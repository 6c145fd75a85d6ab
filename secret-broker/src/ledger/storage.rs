//! The ledger's SQLite file: how it is locked and opened. The statements are in the modules below.

pub(super) mod blocks;
pub(super) mod derived;
pub(super) mod schema;

use super::OpenError;
use crate::sqlite;
use sqlx::{Connection, SqliteConnection, SqlitePool};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Readers at once.
const READERS: u32 = 4;

#[derive(Debug, thiserror::Error)]
pub(super) enum StorageError {
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    #[error("{0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("a block's body is not what this version writes: {0}")]
    Body(#[from] serde_json::Error),
    #[error("the ledger has no blocks")]
    NoBlocks,
    #[error("block {height}: {field} is not of its form")]
    Form { height: i64, field: &'static str },
}

/// Whether the file itself is at fault, not a block in it.
pub(super) fn is_damage(error: &StorageError) -> bool {
    let StorageError::Database(sqlx::Error::Database(error)) = error else {
        return matches!(
            error,
            StorageError::Database(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))
        );
    };
    let code = error.code().and_then(|code| code.parse::<u32>().ok());
    // SQLITE_CORRUPT, SQLITE_NOTADB, and SQLITE_ERROR, which a malformed schema gives.
    matches!(code.map(|code| code & 0xff), Some(1 | 11 | 26))
}

fn to_height(height: i64) -> Result<u64, StorageError> {
    u64::try_from(height).map_err(|_| StorageError::Form {
        height,
        field: "height",
    })
}

/// The lock's file beside the ledger.
pub(super) fn lock_path(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.lock", path.display()))
}

/// Keeps other processes out for as long as the file is open.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
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
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The writer's connection.
pub(super) async fn connect(path: &Path) -> Result<SqliteConnection, StorageError> {
    // A block changes pages all over the state's tree. These are kept at hand, and written back to the file once for many blocks.
    let options = sqlite::options(path)
        .pragma("cache_size", "-65536") // KiB
        .pragma("wal_autocheckpoint", "16384"); // pages of 4 KiB
    Ok(SqliteConnection::connect_with(&options).await?)
}

/// The readers' connections.
pub(super) async fn read_pool(path: &Path) -> Result<SqlitePool, StorageError> {
    let options = sqlite::options(path)
        .create_if_missing(false)
        .pragma("query_only", "on");
    Ok(sqlite::pool(READERS).connect_with(options).await?)
}

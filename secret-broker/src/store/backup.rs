//! Copies of the key store. A copy opens nothing by itself: data keys in it are wrapped, and the key ring is not in it.
//!
//! One that is restored may be older than the ledger. The broker finds that out when it starts ([`crate::shredding`]).

use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::{Store, StoreError};
use crate::{private_file, sqlite};

/// Why a copy was not made, or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file is there, or its directory is not.
    #[error("could not make {path}: {source}; name a file that does not exist yet")]
    Create {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file cannot be read.
    #[error("could not read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is no key store, or a damaged one.
    #[error("{path} is no key store that can be used: {reason}; take another copy")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Copies the database as it is now into a new file, readable by its owner alone, while others go on writing. Nothing that was deleted is
    /// in the copy.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn backup(&self, to: &Path) -> Result<(), BackupError> {
        let created = |source| BackupError::Create {
            path: to.to_owned(),
            source,
        };
        let name = to
            .to_str()
            .ok_or_else(|| created(std::io::ErrorKind::InvalidInput.into()))?;
        // SQLite takes an empty file for a new database, and leaves its mode.
        private_file::create(to, b"").map_err(created)?;
        let copied = async {
            let mut connection = self.pool.acquire().await?;
            sqlx::query("VACUUM INTO ?")
                .bind(name)
                .execute(&mut *connection)
                .await?;
            std::fs::File::open(to)?.sync_all()?;
            Ok(())
        };
        let copied: Result<(), sqlx::Error> = copied.await;
        if copied.is_err() {
            let _half_made = std::fs::remove_file(to);
        }
        copied.map_err(|error| StoreError::from(error).into())
    }
}

/// Makes a key store from a copy. Never overwrites one. Yields how many data keys it has.
///
/// # Errors
/// [`BackupError`]; there is no new key store then.
pub async fn restore(from: &Path, to: &Path) -> Result<i64, BackupError> {
    // A journal without its database would be taken for the new one's.
    for tail in ["", "-wal", "-shm"] {
        let mut path = to.as_os_str().to_owned();
        path.push(tail);
        if Path::new(&path).exists() {
            return Err(BackupError::Create {
                path: path.into(),
                source: std::io::ErrorKind::AlreadyExists.into(),
            });
        }
    }
    let keys = check(from).await.map_err(|error| BackupError::Unusable {
        path: from.to_owned(),
        reason: error.to_string(),
    })?;
    let content = std::fs::read(from).map_err(|source| BackupError::Read {
        path: from.to_owned(),
        source,
    })?;
    private_file::create(to, &content).map_err(|source| BackupError::Create {
        path: to.to_owned(),
        source,
    })?;
    Ok(keys)
}

async fn check(path: &Path) -> Result<i64, sqlx::Error> {
    let options = sqlite::options(path)
        .create_if_missing(false)
        .read_only(true)
        .immutable(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let found: String = sqlx::query_scalar(AssertSqlSafe("PRAGMA integrity_check(1)".to_owned()))
        .fetch_one(&mut connection)
        .await?;
    if found != "ok" {
        return Err(sqlx::Error::Protocol(found));
    }
    let keys = sqlx::query_scalar("SELECT count(*) FROM data_keys")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(keys)
}

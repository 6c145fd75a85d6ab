//! How the broker opens its SQLite files: durably, without a directory for temporary files, and never with a connection whose last
//! transaction ended badly.

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};
use std::path::Path;
use std::time::Duration;

/// How long a statement waits for another connection, and a caller for a connection of the pool.
const BUSY: Duration = Duration::from_secs(5);

/// Options of a file that is written: what was committed is on the disk, not in a cache.
pub(crate) fn options(path: &Path) -> SqliteConnectOptions {
    without_temporary_files(SqliteConnectOptions::new())
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
}

/// Statements that change many rows keep their journals in memory: in a container nothing but the file's own directory may be
/// writable, and SQLite would fail such a statement (`SQLITE_IOERR_GETTEMPPATH`) once the file has grown enough to want one.
pub(crate) fn without_temporary_files(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options.pragma("temp_store", "MEMORY")
}

/// A pool of so many connections that gives none out that is still in a transaction.
///
/// On a full disk or a failed write SQLite rolls back by itself. `sqlx` then fails to roll back once more and counts the
/// transaction as open for ever, so that such a connection can begin no other one.
pub(crate) fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY)
        .before_acquire(|connection: &mut SqliteConnection, _| {
            let fit = !connection.is_in_transaction();
            Box::pin(async move { Ok(fit) })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_whose_transaction_failed_is_not_given_out_again() {
        let directory = tempfile::TempDir::new().unwrap();
        let options = options(&directory.path().join("small.db")).pragma("max_page_count", "8");
        let pool = pool(1).connect_with(options).await.unwrap();
        sqlx::query("CREATE TABLE things (thing BLOB)")
            .execute(&pool)
            .await
            .unwrap();
        for _ in 0..2 {
            let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let full = sqlx::query("INSERT INTO things VALUES (zeroblob(1000000))")
                .execute(&mut *transaction)
                .await
                .unwrap_err();
            assert!(full.to_string().contains("full"), "{full}");
        }
        sqlx::query("INSERT INTO things VALUES (1)")
            .execute(&pool)
            .await
            .unwrap();
        pool.close().await;
    }
}

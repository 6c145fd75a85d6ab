//! The ledger's SQLite file: how it is opened, and every statement that touches it.

use super::block::{BLOCK_SCHEMA, Body, Genesis, Hash, Head, StoredBlock, Transaction};
use super::{LedgerOptions, OpenError};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Connection, Row, SqlSafeStr, SqliteConnection, SqlitePool};
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Readers at once.
const READERS: u32 = 4;
/// How long a statement waits for another connection.
const BUSY: Duration = Duration::from_secs(5);

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

/// Keeps other processes out for as long as the file is open.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = PathBuf::from(format!("{}.lock", path.display()));
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

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
}

/// The writer's connection.
pub(super) async fn connect(path: &Path) -> Result<SqliteConnection, StorageError> {
    Ok(SqliteConnection::connect_with(&options(path)).await?)
}

/// The readers' connections.
pub(super) async fn read_pool(path: &Path) -> Result<SqlitePool, StorageError> {
    let pool = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(BUSY);
    Ok(pool
        .connect_with(options(path).create_if_missing(false).pragma("query_only", "on"))
        .await?)
}

/// Brings the file to this version's schema.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), StorageError> {
    let migrations = vec![Migration::new(
        1,
        "blocks and what they derive".into(),
        MigrationType::Simple,
        include_str!("../../migrations/ledger/0001_blocks_and_what_they_derive.sql").into_sql_str(),
        false,
    )];
    Ok(Migrator::with_migrations(migrations)
        .run_direct(None, connection, false)
        .await?)
}

/// The head of a ledger that is as the options say, after making its first block if there is none.
pub(super) async fn found(
    connection: &mut SqliteConnection,
    options: &LedgerOptions,
) -> Result<Head, OpenError> {
    let path = || options.path.clone();
    let failed = |error: StorageError| OpenError::Storage {
        path: path(),
        reason: error.to_string(),
    };
    let first = blocks_from(connection, 0, 1).await.map_err(failed)?;
    let Some(first) = first.first() else {
        let created_at_ms = (options.clock)().max(0);
        let genesis = Genesis {
            schema: BLOCK_SCHEMA,
            organisation: options.organisation.clone(),
            end_margin_ms: options.contract.end_margin_ms,
            created_at_ms,
        };
        let block = StoredBlock::new(0, [0; 32], created_at_ms, &Body::Genesis(genesis));
        let block = block.map_err(|error| failed(error.into()))?;
        append(connection, &block)
            .await
            .map_err(|error| failed(error.into()))?;
        return Ok(block.head());
    };
    match serde_json::from_str(&first.body).map_err(|error| failed(error.into()))? {
        Body::Genesis(genesis) if genesis.organisation != options.organisation => {
            let (found, expected) = (genesis.organisation, options.organisation.clone());
            Err(OpenError::OtherOrganisation {
                path: path(),
                found,
                expected,
            })
        }
        Body::Genesis(genesis) if genesis.end_margin_ms != options.contract.end_margin_ms => {
            let (found_ms, expected_ms) = (genesis.end_margin_ms, options.contract.end_margin_ms);
            Err(OpenError::OtherParameters {
                path: path(),
                found_ms,
                expected_ms,
            })
        }
        Body::Genesis(_) => head(connection).await.map_err(failed),
        Body::Transactions(_) => Err(failed(StorageError::Form {
            height: 0,
            field: "body",
        })),
    }
}

/// The last block.
pub(super) async fn head(connection: &mut SqliteConnection) -> Result<Head, StorageError> {
    let row = sqlx::query("SELECT height, timestamp_ms, hash FROM blocks ORDER BY height DESC LIMIT 1")
        .fetch_optional(connection)
        .await?
        .ok_or(StorageError::NoBlocks)?;
    let height = row.try_get(0)?;
    Ok(Head {
        height: to_height(height)?,
        timestamp_ms: row.try_get(1)?,
        hash: to_hash(&row, 2, height, "hash")?,
    })
}

pub(super) async fn append(
    connection: &mut SqliteConnection,
    block: &StoredBlock,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO blocks (height, previous_hash, timestamp_ms, body, body_hash, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(i64::try_from(block.height).unwrap_or(i64::MAX))
    .bind(&block.previous_hash[..])
    .bind(block.timestamp_ms)
    .bind(&block.body)
    .bind(&block.body_hash[..])
    .bind(&block.hash[..])
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn blocks_after(
    connection: &mut SqliteConnection,
    height: u64,
    limit: usize,
) -> Result<Vec<StoredBlock>, StorageError> {
    blocks_from(connection, height.saturating_add(1), limit).await
}

pub(super) async fn blocks_from(
    connection: &mut SqliteConnection,
    height: u64,
    limit: usize,
) -> Result<Vec<StoredBlock>, StorageError> {
    let rows = sqlx::query(
        "SELECT height, previous_hash, timestamp_ms, body, body_hash, hash FROM blocks \
         WHERE height >= ?1 ORDER BY height LIMIT ?2",
    )
    .bind(i64::try_from(height).unwrap_or(i64::MAX))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(to_block).collect()
}

fn to_block(row: &SqliteRow) -> Result<StoredBlock, StorageError> {
    let height = row.try_get(0)?;
    Ok(StoredBlock {
        height: to_height(height)?,
        previous_hash: to_hash(row, 1, height, "previous_hash")?,
        timestamp_ms: row.try_get(2)?,
        body: row.try_get(3).map_err(|_| StorageError::Form {
            height,
            field: "body",
        })?,
        body_hash: to_hash(row, 4, height, "body_hash")?,
        hash: to_hash(row, 5, height, "hash")?,
    })
}

fn to_height(height: i64) -> Result<u64, StorageError> {
    u64::try_from(height).map_err(|_| StorageError::Form {
        height,
        field: "height",
    })
}

fn to_hash(row: &SqliteRow, column: usize, height: i64, field: &'static str) -> Result<Hash, StorageError> {
    let bytes: Vec<u8> = row.try_get(column)?;
    bytes.try_into().map_err(|_| StorageError::Form { height, field })
}

/// Values of those keys that have one.
pub(super) async fn values(
    connection: &mut SqliteConnection,
    keys: &[String],
) -> Result<HashMap<String, Vec<u8>>, StorageError> {
    let rows = sqlx::query("SELECT key, value FROM state WHERE key IN (SELECT value FROM json_each(?1))")
        .bind(serde_json::to_string(keys)?)
        .fetch_all(connection)
        .await?;
    rows.iter().map(to_pair).collect()
}

/// Up to `limit` pairs with `start <= key < end`, by key.
pub(super) async fn range(
    connection: &mut SqliteConnection,
    start: &str,
    end: &str,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
    let rows = sqlx::query("SELECT key, value FROM state WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3")
        .bind(start)
        .bind(end)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    rows.iter().map(to_pair).collect()
}

/// Up to `limit` pairs after a key, or the first ones.
pub(super) async fn pairs_after(
    connection: &mut SqliteConnection,
    key: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
    // No key is empty.
    let rows = sqlx::query("SELECT key, value FROM state WHERE key > ?1 ORDER BY key LIMIT ?2")
        .bind(key.unwrap_or_default())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    rows.iter().map(to_pair).collect()
}

fn to_pair(row: &SqliteRow) -> Result<(String, Vec<u8>), StorageError> {
    let value: String = row.try_get(1)?;
    Ok((row.try_get(0)?, value.into_bytes()))
}

/// Sets and removes keys: two statements, however many there are.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    puts: &[(&str, &str)],
    deletes: &[&str],
) -> Result<(), StorageError> {
    if !deletes.is_empty() {
        sqlx::query("DELETE FROM state WHERE key IN (SELECT value FROM json_each(?1))")
            .bind(serde_json::to_string(deletes)?)
            .execute(&mut *connection)
            .await?;
    }
    if !puts.is_empty() {
        sqlx::query(
            "INSERT OR REPLACE INTO state (key, value) SELECT value ->> 0, value ->> 1 FROM json_each(?1)",
        )
        .bind(serde_json::to_string(puts)?)
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Notes where transactions are.
pub(super) async fn write_places(
    connection: &mut SqliteConnection,
    places: &[(&str, u64, usize)],
) -> Result<(), StorageError> {
    sqlx::query(
        "INSERT INTO transactions (tx_id, height, position) \
         SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1)",
    )
    .bind(serde_json::to_string(places)?)
    .execute(connection)
    .await?;
    Ok(())
}

/// Those of the transactions that are on the ledger, with the height of their block, by id.
pub(super) async fn transactions(
    connection: &mut SqliteConnection,
    tx_ids: &[&str],
) -> Result<HashMap<String, (Transaction, u64)>, StorageError> {
    let mut found = HashMap::new();
    for (tx_id, height, position) in places(connection, tx_ids).await? {
        let form = || StorageError::Form {
            height: i64::try_from(height).unwrap_or(i64::MAX),
            field: "body",
        };
        let block = blocks_from(connection, height, 1)
            .await?
            .into_iter()
            .next()
            .ok_or_else(form)?
            .parse()?;
        let transaction = block.transactions.into_iter().nth(position).ok_or_else(form)?;
        found.insert(tx_id, (transaction, height));
    }
    Ok(found)
}

async fn places(
    connection: &mut SqliteConnection,
    tx_ids: &[&str],
) -> Result<Vec<(String, u64, usize)>, StorageError> {
    let rows = sqlx::query(
        "SELECT tx_id, height, position FROM transactions WHERE tx_id IN (SELECT value FROM json_each(?1))",
    )
    .bind(serde_json::to_string(tx_ids)?)
    .fetch_all(connection)
    .await?;
    rows.iter().map(to_place).collect()
}

/// Up to `limit` transactions' places after an id, or the first ones.
pub(super) async fn places_after(
    connection: &mut SqliteConnection,
    tx_id: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, u64, usize)>, StorageError> {
    let rows = sqlx::query(
        "SELECT tx_id, height, position FROM transactions WHERE tx_id > ?1 ORDER BY tx_id LIMIT ?2",
    )
    .bind(tx_id.unwrap_or_default())
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(to_place).collect()
}

fn to_place(row: &SqliteRow) -> Result<(String, u64, usize), StorageError> {
    let height: i64 = row.try_get(1)?;
    let position: i64 = row.try_get(2)?;
    let position = usize::try_from(position).map_err(|_| StorageError::Form {
        height,
        field: "position",
    })?;
    Ok((row.try_get(0)?, to_height(height)?, position))
}

/// Removes everything that is derived.
pub(super) async fn clear_derived(connection: &mut SqliteConnection) -> Result<(), StorageError> {
    sqlx::query("DELETE FROM state").execute(&mut *connection).await?;
    sqlx::query("DELETE FROM transactions")
        .execute(connection)
        .await?;
    Ok(())
}

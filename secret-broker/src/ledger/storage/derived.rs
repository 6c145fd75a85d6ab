//! What is derived from the blocks: the contract's state, and where each transaction is.

use super::{StorageError, blocks};
use crate::ledger::block::Transaction;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};
use std::collections::HashMap;

/// Values of those keys that have one.
pub(in crate::ledger) async fn values(
    connection: &mut SqliteConnection,
    keys: &[String],
) -> Result<HashMap<String, Vec<u8>>, StorageError> {
    let rows = sqlx::query("SELECT state.key, state.value FROM json_each(?1) AS wanted CROSS JOIN state ON state.key = wanted.value")
        .bind(serde_json::to_string(keys)?)
        .fetch_all(connection)
        .await?;
    rows.iter().map(to_pair).collect()
}

/// Up to `limit` pairs with `start <= key < end`, by key.
pub(in crate::ledger) async fn range(
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
pub(in crate::ledger) async fn pairs_after(
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
pub(in crate::ledger) async fn write(
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
pub(in crate::ledger) async fn write_places(
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
pub(in crate::ledger) async fn transactions(
    connection: &mut SqliteConnection,
    tx_ids: &[&str],
) -> Result<HashMap<String, (Transaction, u64)>, StorageError> {
    let mut found = HashMap::new();
    for (tx_id, height, position) in places(connection, tx_ids).await? {
        let form = || StorageError::Form {
            height: i64::try_from(height).unwrap_or(i64::MAX),
            field: "body",
        };
        let block = blocks::from(connection, height, 1)
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
pub(in crate::ledger) async fn places_after(
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
    Ok((row.try_get(0)?, super::to_height(height)?, position))
}

/// Removes everything that is derived.
pub(in crate::ledger) async fn clear(connection: &mut SqliteConnection) -> Result<(), StorageError> {
    sqlx::query("DELETE FROM state").execute(&mut *connection).await?;
    sqlx::query("DELETE FROM transactions")
        .execute(connection)
        .await?;
    Ok(())
}

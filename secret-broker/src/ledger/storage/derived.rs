//! What is derived from the blocks: the contract's state, and where each transaction is.

use super::session::{Row, Session, Sql, Value};
use super::{StorageError, blocks, to_height};
use crate::ledger::block::Transaction;
use std::collections::HashMap;

/// Values of those keys that have one.
pub(in crate::ledger) async fn values(
    session: &mut Session<'_>,
    keys: &[String],
) -> Result<HashMap<String, Vec<u8>>, StorageError> {
    let statement = Sql {
        sqlite: "SELECT state.key, state.value FROM json_each($1) AS wanted \
                 CROSS JOIN state ON state.key = wanted.value",
        postgres: "SELECT key, value FROM state WHERE key = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)))",
    };
    let keys = serde_json::to_string(keys)?;
    let rows = session.rows(statement, &[Value::Text(&keys)]).await?;
    rows.iter().map(to_pair).collect()
}

/// Up to `limit` pairs with `start <= key < end`, by key.
pub(in crate::ledger) async fn range(
    session: &mut Session<'_>,
    start: &str,
    end: &str,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
    let rows = session
        .rows(
            "SELECT key, value FROM state WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3",
            &[Value::Text(start), Value::Text(end), Value::count(limit)],
        )
        .await?;
    rows.iter().map(to_pair).collect()
}

/// Up to `limit` pairs after a key, or the first ones.
pub(in crate::ledger) async fn pairs_after(
    session: &mut Session<'_>,
    key: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
    // No key is empty.
    let rows = session
        .rows(
            "SELECT key, value FROM state WHERE key > $1 ORDER BY key LIMIT $2",
            &[Value::Text(key.unwrap_or_default()), Value::count(limit)],
        )
        .await?;
    rows.iter().map(to_pair).collect()
}

fn to_pair(row: &Row) -> Result<(String, Vec<u8>), StorageError> {
    Ok((row.text(0)?, row.text(1)?.into_bytes()))
}

/// Sets and removes keys: two statements, however many there are.
pub(in crate::ledger) async fn write(
    session: &mut Session<'_>,
    puts: &[(&str, &str)],
    deletes: &[&str],
) -> Result<(), StorageError> {
    if !deletes.is_empty() {
        let statement = Sql {
            sqlite: "DELETE FROM state WHERE key IN (SELECT value FROM json_each($1))",
            postgres: "DELETE FROM state WHERE key = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)))",
        };
        let deletes = serde_json::to_string(deletes)?;
        session.run(statement, &[Value::Text(&deletes)]).await?;
    }
    if !puts.is_empty() {
        let statement = Sql {
            sqlite: "INSERT OR REPLACE INTO state (key, value) SELECT value ->> 0, value ->> 1 FROM json_each($1)",
            postgres: "INSERT INTO state (key, value) SELECT value ->> 0, value ->> 1 \
                       FROM json_array_elements($1::text::json) \
                       ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        };
        let puts = serde_json::to_string(puts)?;
        session.run(statement, &[Value::Text(&puts)]).await?;
    }
    Ok(())
}

/// Notes where transactions are.
pub(in crate::ledger) async fn write_places(
    session: &mut Session<'_>,
    places: &[(&str, u64, usize)],
) -> Result<(), StorageError> {
    let statement = Sql {
        sqlite: "INSERT INTO transactions (tx_id, height, position) \
                 SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1)",
        postgres: "INSERT INTO transactions (tx_id, height, position) \
                   SELECT value ->> 0, (value ->> 1)::bigint, (value ->> 2)::bigint \
                   FROM json_array_elements($1::text::json)",
    };
    let places = serde_json::to_string(places)?;
    session.run(statement, &[Value::Text(&places)]).await
}

/// Those of the transactions that are on the ledger, with the height of their block, by id.
pub(in crate::ledger) async fn transactions(
    session: &mut Session<'_>,
    tx_ids: &[&str],
) -> Result<HashMap<String, (Transaction, u64)>, StorageError> {
    let mut found = HashMap::new();
    for (tx_id, height, position) in places(session, tx_ids).await? {
        let form = || StorageError::Form {
            height: i64::try_from(height).unwrap_or(i64::MAX),
            field: "body",
        };
        let block = blocks::from(session, height, 1)
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
    session: &mut Session<'_>,
    tx_ids: &[&str],
) -> Result<Vec<(String, u64, usize)>, StorageError> {
    let statement = Sql {
        sqlite: "SELECT tx_id, height, position FROM transactions \
                 WHERE tx_id IN (SELECT value FROM json_each($1))",
        postgres: "SELECT tx_id, height, position FROM transactions \
                   WHERE tx_id = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)))",
    };
    let tx_ids = serde_json::to_string(tx_ids)?;
    let rows = session.rows(statement, &[Value::Text(&tx_ids)]).await?;
    rows.iter().map(to_place).collect()
}

/// Up to `limit` transactions' places after an id, or the first ones.
pub(in crate::ledger) async fn places_after(
    session: &mut Session<'_>,
    tx_id: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, u64, usize)>, StorageError> {
    let rows = session
        .rows(
            "SELECT tx_id, height, position FROM transactions WHERE tx_id > $1 ORDER BY tx_id LIMIT $2",
            &[Value::Text(tx_id.unwrap_or_default()), Value::count(limit)],
        )
        .await?;
    rows.iter().map(to_place).collect()
}

fn to_place(row: &Row) -> Result<(String, u64, usize), StorageError> {
    let height = row.integer(1)?;
    let position = usize::try_from(row.integer(2)?).map_err(|_| StorageError::Form {
        height,
        field: "position",
    })?;
    Ok((row.text(0)?, to_height(height)?, position))
}

/// Removes everything that is derived.
pub(in crate::ledger) async fn clear(session: &mut Session<'_>) -> Result<(), StorageError> {
    session.run("DELETE FROM state", &[]).await?;
    session.run("DELETE FROM transactions", &[]).await
}

//! What is derived from the blocks: the contract's state, and where each transaction is. A file's tables may be some blocks behind;
//! what is asked for here is found all the same, except in what says that it reads a table.

use super::pending::PlacedRow;
use super::rows::{self, NewRow, Statements};
use super::session::{Row, Session, Sql, Value};
use super::{StorageError, blocks, is_damage, packed, place, to_height};
use crate::ledger::block::Transaction;
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

/// Up to which block the tables are derived.
pub(in crate::ledger) async fn height(session: &mut Session<'_>) -> Result<u64, StorageError> {
    if let Session::Postgres(_) = session {
        return Ok(blocks::head(session).await?.height);
    }
    let rows = match session.rows("SELECT height FROM derived", &[]).await {
        Err(error) if is_damage(&error) => {
            let table = "SELECT 1 FROM sqlite_schema WHERE name = 'derived'";
            if session.rows(table, &[]).await?.is_empty() {
                // An earlier version, which is looked at, derived every block at once.
                return Ok(blocks::head(session).await?.height);
            }
            return Err(error);
        }
        rows => rows?,
    };
    match rows.as_slice() {
        [row] => to_height(row.integer(0)?),
        rows => {
            let reason = format!("the table `derived` has {} rows, not one", rows.len());
            Err(StorageError::Database(sqlx::Error::Decode(reason.into())))
        }
    }
}

/// Says up to which block the tables are derived.
pub(in crate::ledger) async fn set_height(
    session: &mut Session<'_>,
    height: u64,
) -> Result<(), StorageError> {
    if let Session::Postgres(_) = session {
        return Ok(());
    }
    session.run("DELETE FROM derived", &[]).await?;
    let value = [Value::count(height)];
    session
        .run("INSERT INTO derived (height) VALUES ($1)", &value)
        .await
}

/// Values of those keys that have one.
pub(in crate::ledger) async fn values(
    session: &mut Session<'_>,
    keys: &[String],
) -> Result<HashMap<String, Vec<u8>>, StorageError> {
    let mut found = HashMap::with_capacity(keys.len());
    let mut wanted = Vec::with_capacity(keys.len());
    for key in keys {
        match session.view().and_then(|view| view.value(key)) {
            Some(Some(value)) => {
                found.insert(key.clone(), value.as_bytes().to_vec());
            }
            Some(None) => {}
            None => wanted.push(key.as_str()),
        }
    }
    if wanted.is_empty() {
        return Ok(found);
    }
    let statement = Sql {
        sqlite: packed::VALUES,
        postgres: "SELECT key, value FROM state WHERE key = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)))",
    };
    let wanted_here = match session {
        Session::Sqlite(..) => {
            let places = wanted.iter().map(|key| hex::encode(place::of(key)));
            serde_json::to_string(&places.collect::<Vec<_>>())?
        }
        Session::Postgres(_) => serde_json::to_string(&wanted)?,
    };
    let rows = session.rows(statement, &[Value::Text(&wanted_here)]).await?;
    match session {
        Session::Sqlite(..) => {
            for (at, value) in packed::values(&rows)? {
                let key = wanted.get(at).ok_or_else(packed::other_form)?;
                found.insert((*key).to_owned(), value);
            }
        }
        Session::Postgres(_) => {
            for row in &rows {
                let (key, value) = to_pair(row)?;
                found.insert(key, value);
            }
        }
    }
    Ok(found)
}

/// Up to `limit` pairs with `start <= key < end`, by key.
pub(in crate::ledger) async fn range(
    session: &mut Session<'_>,
    start: &str,
    end: &str,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
    let newer = session
        .view()
        .map(|view| view.range(start, end))
        .unwrap_or_default();
    // As many more as may not count.
    let rows = limit.saturating_add(newer.len());
    let by_place = match session {
        Session::Sqlite(..) => Some(place::range(start, end).ok_or(StorageError::LiesApart)?),
        Session::Postgres(_) => None,
    };
    let statement = Sql {
        sqlite: "SELECT place, CASE typeof(value) \
                 WHEN 'integer' THEN (SELECT lines.value FROM lines WHERE lines.id = state.value) ELSE value END \
                 FROM state WHERE place >= $1 AND place < $2 ORDER BY place LIMIT $3",
        postgres: "SELECT key, value FROM state WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3",
    };
    let (from, to) = match &by_place {
        Some((from, to)) => (Value::Bytes(from), Value::Bytes(to)),
        None => (Value::Text(start), Value::Text(end)),
    };
    let rows = session.rows(statement, &[from, to, Value::count(rows)]).await?;
    let pairs = rows.iter().map(|row| match by_place {
        Some(_) => {
            let key = place::key(&row.bytes(0)?).ok_or_else(packed::other_form)?;
            Ok((key, row.text(1)?.into_bytes()))
        }
        None => to_pair(row),
    });
    let pairs: Result<Vec<_>, StorageError> = pairs.collect();
    if newer.is_empty() {
        return pairs;
    }
    let mut pairs: BTreeMap<_, _> = pairs?.into_iter().collect();
    for (key, value) in newer {
        match value {
            Some(value) => pairs.insert(key, value.as_bytes().to_vec()),
            None => pairs.remove(&key),
        };
    }
    Ok(pairs.into_iter().take(limit).collect())
}

fn to_pair(row: &Row) -> Result<(String, Vec<u8>), StorageError> {
    Ok((row.text(0)?, row.text(1)?.into_bytes()))
}

/// Sorts pairs as the table is sorted.
pub(in crate::ledger) fn sort(session: &Session<'_>, pairs: &mut [(&str, &str)]) {
    match session {
        Session::Sqlite(..) => pairs.sort_by_cached_key(|(key, _)| place::of(key)),
        Session::Postgres(_) => pairs.sort_unstable(),
    }
}

/// Sets and removes keys. A line of history is set once.
pub(in crate::ledger) async fn write(
    session: &mut Session<'_>,
    puts: &[(&str, &str)],
    deletes: &[&str],
) -> Result<(), StorageError> {
    if let Session::Sqlite(..) = session {
        let there = puts.iter().map(|(key, value)| (*key, Some(*value)));
        let changes = there.chain(deletes.iter().map(|key| (*key, None)));
        let mut placed: Vec<_> = changes
            .map(|(key, value)| (place::of(key), value, place::is_line(key)))
            .collect();
        // As the table is sorted, so that a page is changed once.
        placed.sort_unstable();
        let rows = placed.iter().map(|(place, value, is_line)| NewRow {
            place,
            value: value.map(Value::Text),
            is_line: *is_line,
        });
        return rows::write(session, &rows.collect::<Vec<_>>()).await;
    }
    if !deletes.is_empty() {
        let statement =
            "DELETE FROM state WHERE key = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)))";
        let deletes = serde_json::to_string(deletes)?;
        session.run(statement, &[Value::Text(&deletes)]).await?;
    }
    if !puts.is_empty() {
        let statement = "INSERT INTO state (key, value) SELECT value ->> 0, value ->> 1 \
                         FROM json_array_elements($1::text::json) \
                         ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        let puts = serde_json::to_string(puts)?;
        session.run(statement, &[Value::Text(&puts)]).await?;
    }
    Ok(())
}

/// Sets and removes the rows of a file's table, which come as it is sorted.
pub(in crate::ledger) async fn write_rows(
    session: &mut Session<'_>,
    rows: &[PlacedRow],
) -> Result<(), StorageError> {
    let rows = rows.iter().map(|row| NewRow {
        place: &row.place,
        value: row.value.as_ref().map(Value::Shared),
        is_line: row.is_line,
    });
    rows::write(session, &rows.collect::<Vec<_>>()).await
}

static PLACE_ROWS: LazyLock<Statements> = LazyLock::new(|| {
    rows::statements(
        "INSERT OR REPLACE INTO transactions (tx_id, height, position) VALUES ",
        "(?, ?, ?)",
    )
});

/// Notes where transactions are; a row that is there and was never derived gives way.
pub(in crate::ledger) async fn write_places(
    session: &mut Session<'_>,
    places: &[(&str, u64, usize)],
) -> Result<(), StorageError> {
    if let Session::Sqlite(..) = session {
        let rows = places
            .iter()
            .map(|(tx_id, height, at)| [Value::Text(tx_id), Value::count(*height), Value::count(*at)]);
        return rows::inserted(session, &PLACE_ROWS, rows).await;
    }
    let statement = "INSERT INTO transactions (tx_id, height, position) \
                     SELECT value ->> 0, (value ->> 1)::bigint, (value ->> 2)::bigint \
                     FROM json_array_elements($1::text::json) \
                     ON CONFLICT (tx_id) DO UPDATE SET height = excluded.height, position = excluded.position";
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
    let mut found = Vec::new();
    let mut wanted = Vec::with_capacity(tx_ids.len());
    for tx_id in tx_ids {
        match session.view().and_then(|view| view.place(tx_id)) {
            Some((height, position)) => found.push(((*tx_id).to_owned(), height, position)),
            None => wanted.push(*tx_id),
        }
    }
    if wanted.is_empty() {
        return Ok(found);
    }
    let statement = Sql {
        sqlite: "SELECT tx_id, height, position FROM transactions \
                 WHERE tx_id IN (SELECT value FROM json_each($1))",
        postgres: "SELECT tx_id, height, position FROM transactions \
                   WHERE tx_id = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)))",
    };
    let tx_ids = serde_json::to_string(&wanted)?;
    let rows = session.rows(statement, &[Value::Text(&tx_ids)]).await?;
    for row in &rows {
        found.push(to_place(row)?);
    }
    Ok(found)
}

/// Up to `limit` transactions' places of the table after an id, or the first ones.
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
    if let Session::Sqlite(..) = session {
        session.run("DELETE FROM lines", &[]).await?;
    }
    session.run("DELETE FROM transactions", &[]).await
}

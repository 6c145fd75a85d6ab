//! What is derived from the blocks: the contract's state, and where each transaction is. A file's tables may be some blocks behind;
//! what is asked for here is found all the same, except in what says that it reads a table.

use super::pending::PlacedRow;
use super::session::{Row, Session, Sql, Value};
use super::{StorageError, blocks, is_damage, packed, place, to_height};
use crate::ledger::block::Transaction;
use std::borrow::Cow;
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
            let places: Vec<_> = wanted.iter().map(|key| place::of(key)).collect();
            serde_json::to_string(&places)?
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
    let by_place = matches!(session, Session::Sqlite(..));
    let (from, to) = if by_place {
        place::range(start, end).ok_or(StorageError::LiesApart)?
    } else {
        (start.to_owned(), end.to_owned())
    };
    let statement = Sql {
        sqlite: "SELECT place, value FROM state WHERE place >= $1 AND place < $2 ORDER BY place LIMIT $3",
        postgres: "SELECT key, value FROM state WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3",
    };
    let values = [Value::Text(&from), Value::Text(&to), Value::count(rows)];
    let rows = session.rows(statement, &values).await?;
    let pairs = rows.iter().map(|row| {
        let (found, value) = to_pair(row)?;
        match by_place {
            true => Ok((place::key(&found).ok_or_else(packed::other_form)?, value)),
            false => Ok((found, value)),
        }
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

/// How the state's table is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ledger) enum Order {
    /// By key: in PostgreSQL, and in files that an earlier version wrote.
    Key,
    /// By the place of the key.
    Place,
}

impl Order {
    /// The key of what a row is found by; none where no key is.
    pub(in crate::ledger) fn key(self, found: &str) -> Option<Cow<'_, str>> {
        match self {
            Self::Key => Some(Cow::Borrowed(found)),
            Self::Place => place::key(found).map(Cow::Owned),
        }
    }
}

/// How the table is sorted that a session sees.
pub(in crate::ledger) async fn order(session: &mut Session<'_>) -> Result<Order, StorageError> {
    if let Session::Postgres(_) = session {
        return Ok(Order::Key);
    }
    let keyed = "SELECT 1 FROM pragma_table_info('state') WHERE name = 'key'";
    Ok(match session.rows(keyed, &[]).await?.is_empty() {
        true => Order::Place,
        false => Order::Key,
    })
}

/// Up to `limit` rows of the table after one, or the first ones: what each is found by, and its value.
pub(in crate::ledger) async fn rows_after(
    session: &mut Session<'_>,
    order: Order,
    last: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
    // No key is empty.
    let statement = Sql {
        sqlite: match order {
            Order::Key => packed::PAIRS_BY_KEY,
            Order::Place => packed::PAIRS,
        },
        postgres: "SELECT key, value FROM state WHERE key > $1 ORDER BY key LIMIT $2",
    };
    let values = [Value::Text(last.unwrap_or_default()), Value::count(limit)];
    let rows = session.rows(statement, &values).await?;
    match session {
        Session::Sqlite(..) => packed::pairs(&rows),
        Session::Postgres(_) => rows.iter().map(to_pair).collect(),
    }
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

/// Sets and removes keys.
pub(in crate::ledger) async fn write(
    session: &mut Session<'_>,
    puts: &[(&str, &str)],
    deletes: &[&str],
) -> Result<(), StorageError> {
    if !deletes.is_empty() {
        let statement = Sql {
            sqlite: "DELETE FROM state WHERE place IN (SELECT value FROM json_each($1))",
            postgres: "DELETE FROM state WHERE key = ANY (ARRAY(SELECT json_array_elements_text($1::text::json)))",
        };
        let deletes = match session {
            Session::Sqlite(..) => {
                let places: Vec<_> = deletes.iter().map(|key| place::of(key)).collect();
                serde_json::to_string(&places)?
            }
            Session::Postgres(_) => serde_json::to_string(deletes)?,
        };
        session.run(statement, &[Value::Text(&deletes)]).await?;
    }
    if let Session::Sqlite(..) = session {
        let mut placed: Vec<_> = puts.iter().map(|(key, value)| (place::of(key), *value)).collect();
        // As the table is sorted, so that a page is changed once.
        placed.sort_unstable();
        let rows = placed
            .iter()
            .map(|(place, value)| [Value::Text(place), Value::Text(value)]);
        return inserted(session, &STATE_ROWS, rows).await;
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
    let gone: Vec<&str> = rows
        .iter()
        .filter(|(_, value)| value.is_none())
        .map(|(place, _)| &**place)
        .collect();
    if !gone.is_empty() {
        let gone = serde_json::to_string(&gone)?;
        let statement = "DELETE FROM state WHERE place IN (SELECT value FROM json_each($1))";
        session.run(statement, &[Value::Text(&gone)]).await?;
    }
    let there = rows
        .iter()
        .filter_map(|(place, value)| Some([Value::Shared(place), Value::Shared(value.as_ref()?)]));
    inserted(session, &STATE_ROWS, there).await
}

/// How many rows a statement inserts, and the statement. Bound one by one they cost SQLite a third of what they cost it in an array.
type Rows = [(usize, String); 3];

static STATE_ROWS: LazyLock<Rows> =
    LazyLock::new(|| rows_of("INSERT OR REPLACE INTO state (place, value) VALUES ", "(?, ?)"));
static PLACE_ROWS: LazyLock<Rows> = LazyLock::new(|| {
    rows_of(
        "INSERT OR REPLACE INTO transactions (tx_id, height, position) VALUES ",
        "(?, ?, ?)",
    )
});

fn rows_of(insert: &str, row: &str) -> Rows {
    [256, 16, 1].map(|count| (count, [insert, &vec![row; count].join(", ")].concat()))
}

/// Inserts rows, as few statements as they take.
async fn inserted<const COLUMNS: usize>(
    session: &mut Session<'_>,
    statements: &'static Rows,
    rows: impl Iterator<Item = [Value<'_>; COLUMNS]>,
) -> Result<(), StorageError> {
    let values: Vec<_> = rows.flatten().collect();
    let mut rest = values.as_slice();
    for (rows, statement) in statements {
        while let Some((values, after)) = rest.split_at_checked(rows.saturating_mul(COLUMNS))
            && !values.is_empty()
        {
            session.run(statement.as_str(), values).await?;
            rest = after;
        }
    }
    Ok(())
}

/// Notes where transactions are; a row that is there and was never derived gives way.
pub(in crate::ledger) async fn write_places(
    session: &mut Session<'_>,
    places: &[(&str, u64, usize)],
) -> Result<(), StorageError> {
    if let Session::Sqlite(..) = session {
        let rows = places
            .iter()
            .map(|(tx_id, height, at)| [Value::Text(tx_id), Value::count(*height), Value::count(*at)]);
        return inserted(session, &PLACE_ROWS, rows).await;
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
    session.run("DELETE FROM transactions", &[]).await
}

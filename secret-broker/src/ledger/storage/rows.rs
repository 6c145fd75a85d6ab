//! The rows of the state's table as they lie there: written many at once, and read one after the other.
//!
//! In a file the values of history are not among them. They are long and never change, and so few rows would fit a page that each
//! lease changed pages of its own: they are lines of a table that only grows, and their rows have the lines' ids. A line is written
//! once, with the row that points to it; to write its key again fails.

pub(in crate::ledger) use super::packed::{Rest, Rows};
use super::session::{Session, Sql, Value};
use super::{StorageError, packed, place};
use std::borrow::Cow;
use std::sync::LazyLock;

/// Rows of which those that are lines are written together: more than a statement has of these, few enough to lie in pages at hand.
const TOGETHER: usize = 2_048;

/// How the state's table is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ledger) enum Order {
    /// By key: in PostgreSQL, and in files that an earlier version wrote.
    Key,
    /// By the place of the key, which is not packed: in files that an earlier version wrote.
    Text,
    /// By the place of the key.
    Place,
}

impl Order {
    /// The key of what a row is found by; none where no key is.
    pub(in crate::ledger) fn key(self, found: &[u8]) -> Option<Cow<'_, str>> {
        match self {
            Self::Key => std::str::from_utf8(found).ok().map(Cow::Borrowed),
            Self::Text => place::key_of_text(std::str::from_utf8(found).ok()?).map(Cow::Owned),
            Self::Place => place::key(found).map(Cow::Owned),
        }
    }

    /// Whether the row of a key has a line's id.
    pub(in crate::ledger) fn has_line(self, key: &str) -> bool {
        self == Self::Place && place::is_line(key)
    }
}

/// How the table is sorted that a session sees.
pub(in crate::ledger) async fn order(session: &mut Session<'_>) -> Result<Order, StorageError> {
    if let Session::Postgres(_) = session {
        return Ok(Order::Key);
    }
    let sorted_by =
        "SELECT name || ' ' || type FROM pragma_table_info('state') WHERE name IN ('key', 'place')";
    let columns = session.rows(sorted_by, &[]).await?;
    let column = columns.first().map(|row| row.text(0)).transpose()?;
    Ok(match column.as_deref() {
        Some("key TEXT") => Order::Key,
        Some("place TEXT") => Order::Text,
        _ => Order::Place,
    })
}

/// Up to `limit` rows of the table after one, or the first ones: what each is found by, and what it has.
pub(in crate::ledger) async fn after(
    session: &mut Session<'_>,
    order: Order,
    last: Option<&[u8]>,
    limit: usize,
) -> Result<Rows, StorageError> {
    let statement = Sql {
        sqlite: match order {
            Order::Key => packed::ROWS_BY_KEY,
            Order::Text | Order::Place => packed::ROWS,
        },
        postgres: "SELECT key, value FROM state WHERE key > $1 ORDER BY key LIMIT $2",
    };
    // No key is empty.
    let last = last.unwrap_or_default();
    let last = match order {
        Order::Key | Order::Text => Value::Text(std::str::from_utf8(last).map_err(|_| packed::other_form())?),
        Order::Place => Value::Bytes(last),
    };
    let rows = session.rows(statement, &[last, Value::count(limit)]).await?;
    match session {
        Session::Sqlite(..) => packed::rows(&rows, order != Order::Place),
        Session::Postgres(_) => {
            let mut found = Rows::default();
            for row in &rows {
                found.push(row.text(0)?.as_bytes(), row.text(1)?.as_bytes());
            }
            Ok(found)
        }
    }
}

/// Up to `limit` lines from an id on.
pub(in crate::ledger) async fn lines(
    session: &mut Session<'_>,
    first: i64,
    limit: usize,
) -> Result<Vec<(i64, Vec<u8>)>, StorageError> {
    let values = [Value::Integer(first), Value::count(limit)];
    packed::lines(&session.rows(packed::LINES, &values).await?)
}

/// A row to be set, or removed where it has no value.
pub(super) struct NewRow<'r> {
    pub(super) place: &'r [u8],
    pub(super) value: Option<Value<'r>>,
    /// Whether its value is a line.
    pub(super) is_line: bool,
}

/// Sets and removes rows of a file's table, which come as it is sorted.
pub(super) async fn write(session: &mut Session<'_>, rows: &[NewRow<'_>]) -> Result<(), StorageError> {
    remove(session, rows).await?;
    let mut next = next_line(session).await?;
    for rows in rows.chunks(TOGETHER) {
        let (mut lines, mut pointers, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            let Some(value) = row.value else { continue };
            if row.is_line {
                lines.push([Value::Integer(next), value]);
                pointers.push([Value::Bytes(row.place), Value::Integer(next)]);
                next = next.saturating_add(1);
            } else {
                others.push([Value::Bytes(row.place), value]);
            }
        }
        inserted(session, &LINES, lines.into_iter()).await?;
        inserted(session, &POINTERS, pointers.into_iter()).await?;
        inserted(session, &OTHERS, others.into_iter()).await?;
    }
    Ok(())
}

async fn remove(session: &mut Session<'_>, rows: &[NewRow<'_>]) -> Result<(), StorageError> {
    let gone = |row: &&NewRow<'_>| row.value.is_none();
    let places: Vec<_> = rows
        .iter()
        .filter(gone)
        .map(|row| hex::encode(row.place))
        .collect();
    if places.is_empty() {
        return Ok(());
    }
    let places = serde_json::to_string(&places)?;
    if rows.iter().filter(gone).any(|row| row.is_line) {
        let statement = "DELETE FROM lines WHERE id IN (SELECT state.value FROM json_each($1) AS gone \
                         CROSS JOIN state ON state.place = unhex(gone.value) WHERE typeof(state.value) = 'integer')";
        session.run(statement, &[Value::Text(&places)]).await?;
    }
    let statement = "DELETE FROM state WHERE place IN (SELECT unhex(value) FROM json_each($1))";
    session.run(statement, &[Value::Text(&places)]).await
}

async fn next_line(session: &mut Session<'_>) -> Result<i64, StorageError> {
    let rows = session
        .rows("SELECT coalesce(max(id), 0) + 1 FROM lines", &[])
        .await?;
    let row = rows.first().ok_or_else(packed::other_form)?;
    Ok(row.integer(0)?)
}

/// How many rows a statement inserts, and the statement. Bound one by one they cost SQLite a third of what they cost it in an array.
pub(super) type Statements = [(usize, String); 3];

static LINES: LazyLock<Statements> =
    LazyLock::new(|| statements("INSERT INTO lines (id, value) VALUES ", "(?, ?)"));
/// What a line's key points to stays: another one would be lost without a word.
static POINTERS: LazyLock<Statements> =
    LazyLock::new(|| statements("INSERT INTO state (place, value) VALUES ", "(?, ?)"));
static OTHERS: LazyLock<Statements> =
    LazyLock::new(|| statements("INSERT OR REPLACE INTO state (place, value) VALUES ", "(?, ?)"));

pub(super) fn statements(insert: &str, row: &str) -> Statements {
    [256, 16, 1].map(|count| (count, [insert, &vec![row; count].join(", ")].concat()))
}

/// Inserts rows, as few statements as they take.
pub(super) async fn inserted<const COLUMNS: usize>(
    session: &mut Session<'_>,
    statements: &'static Statements,
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

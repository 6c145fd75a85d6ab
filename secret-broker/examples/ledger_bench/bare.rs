//! The least that the same work can cost: SQLite tables into which what a ledger wrote is inserted.

use crate::Failure;
use crate::spent::{Spent, Stopwatch};
use leasehold_chaincode::key;
use leasehold_secret_broker::ledger::{Ledger, place_of};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use std::path::Path;

/// What a block wrote: its transactions, the places where they are found, the rows of the state, and lines of history.
pub(crate) struct Written {
    transactions: Vec<String>,
    places: Vec<(String, u64, usize)>,
    pub(crate) rows: Vec<(Vec<u8>, Cell)>,
    lines: Vec<String>,
}

/// What is in a row of the state: a text, or which line has it.
pub(crate) enum Cell {
    Text(String),
    Line(i64),
}

/// What the blocks after a height wrote.
pub(crate) async fn written(path: &Path, ledger: &Ledger, height: u64) -> Result<Vec<Written>, Failure> {
    let mut follower = ledger.follow(height);
    // What is read below is in the file's tables only then.
    ledger.settle().await;
    let mut groups = Vec::new();
    let head = *ledger.heights().borrow();
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    while u64::try_from(groups.len())? < head.saturating_sub(height) {
        let Some(block) = follower.next().await? else {
            break;
        };
        let mut group = Written {
            transactions: Vec::new(),
            places: Vec::new(),
            rows: Vec::new(),
            lines: Vec::new(),
        };
        let (mut places, mut told) = (Vec::new(), Vec::new());
        let place = |key: &str| hex::encode(place_of(key));
        for (at, transaction) in block.transactions.iter().enumerate() {
            group.transactions.push(serde_json::to_string(transaction)?);
            group
                .places
                .push((transaction.tx_id.to_string(), block.height, at));
            for lease in transaction
                .events
                .iter()
                .filter_map(|event| event.lease.as_deref())
            {
                let keys = [
                    key::lease(&lease.id),
                    key::lease_of_dataset(lease),
                    key::lease_of_holder(&lease.dataset, &lease.cluster_msp, &lease.subject),
                    key::lease_in_state(lease),
                    key::lease_of_subject(lease),
                    key::dataset_status(&lease.dataset),
                ];
                places.extend(keys.map(|key| place(&key)));
                let [first, last] = [0, u64::MAX].map(|line| place(&key::lease_history(&lease.id, line)));
                told.push([first, last]);
            }
        }
        // And its line of history, and where that is found.
        let lines = sqlx::query(
            "SELECT hex(state.place), state.value FROM json_each(?1) AS told, state \
             WHERE state.place BETWEEN unhex(told.value ->> 0) AND unhex(told.value ->> 1)",
        )
        .bind(serde_json::to_string(&told)?)
        .fetch_all(&mut connection)
        .await?;
        for line in lines {
            places.push(line.try_get(0)?);
            places.push(place(&line.try_get::<String, _>(1)?));
        }
        let rows = sqlx::query(
            "SELECT state.place, iif(lines.id IS NULL, state.value, lines.value), lines.id FROM state \
             LEFT JOIN lines ON typeof(state.value) = 'integer' AND lines.id = state.value \
             WHERE state.place IN (SELECT unhex(value) FROM json_each(?1)) ORDER BY state.place",
        )
        .bind(serde_json::to_string(&places)?)
        .fetch_all(&mut connection)
        .await?;
        for row in rows {
            let cell = match row.try_get(2)? {
                Some(line) => {
                    group.lines.push(row.try_get(1)?);
                    Cell::Line(line)
                }
                None => Cell::Text(row.try_get(1)?),
            };
            group.rows.push((row.try_get(0)?, cell));
        }
        groups.push(group);
    }
    connection.close().await?;
    Ok(groups)
}

/// Tables that hold bytes and nothing else, opened as the ledger is.
pub(crate) async fn bare(path: &Path) -> Result<SqliteConnection, Failure> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .page_size(8_192)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-65536")
        .pragma("wal_autocheckpoint", "8192");
    let mut connection = SqliteConnection::connect_with(&options).await?;
    for table in [
        "CREATE TABLE transactions (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT",
        "CREATE TABLE places (tx_id TEXT NOT NULL PRIMARY KEY, height INTEGER NOT NULL, position INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE TABLE state (place BLOB NOT NULL PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE TABLE lines (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT",
    ] {
        sqlx::query(table).execute(&mut connection).await?;
    }
    Ok(connection)
}

/// The same groups of the same bytes, with one flush each: as many rows in a statement as the ledger has in one, which is the fastest
/// of the ways that were tried (a JSON array of rows costs SQLite three times as much).
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    written: &[Written],
    everything: bool,
) -> Result<Spent, Failure> {
    let statements = [
        ("INSERT INTO transactions (body) VALUES ", "(?)"),
        (
            "INSERT OR REPLACE INTO places (tx_id, height, position) VALUES ",
            "(?, ?, ?)",
        ),
        ("INSERT OR REPLACE INTO state (place, value) VALUES ", "(?, ?)"),
        ("INSERT INTO lines (value) VALUES ", "(?)"),
    ];
    let [transactions, places, rows, lines] = statements.map(|(insert, row)| {
        [256, 16, 1].map(|count: usize| (count, [insert, &vec![row; count].join(", ")].concat()))
    });
    let start = Stopwatch::start()?;
    for block in written {
        let mut group = connection.begin_with("BEGIN IMMEDIATE").await?;
        for (chunk, statement) in chunks(&block.transactions, &transactions) {
            let query = sqlx::query(AssertSqlSafe(statement));
            let query = chunk.iter().fold(query, |query, body| query.bind(body));
            query.execute(&mut *group).await?;
        }
        if everything {
            for (chunk, statement) in chunks(&block.places, &places) {
                let query = sqlx::query(AssertSqlSafe(statement));
                let query = chunk.iter().fold(query, |query, (tx_id, height, at)| {
                    query
                        .bind(tx_id)
                        .bind(i64::try_from(*height).unwrap_or(i64::MAX))
                        .bind(i64::try_from(*at).unwrap_or(i64::MAX))
                });
                query.execute(&mut *group).await?;
            }
            for (chunk, statement) in chunks(&block.rows, &rows) {
                let query = sqlx::query(AssertSqlSafe(statement));
                let query = chunk.iter().fold(query, |query, (place, cell)| match cell {
                    Cell::Text(value) => query.bind(place.as_slice()).bind(value),
                    Cell::Line(line) => query.bind(place.as_slice()).bind(*line),
                });
                query.execute(&mut *group).await?;
            }
            for (chunk, statement) in chunks(&block.lines, &lines) {
                let query = sqlx::query(AssertSqlSafe(statement));
                let query = chunk.iter().fold(query, |query, line| query.bind(line));
                query.execute(&mut *group).await?;
            }
        }
        group.commit().await?;
    }
    start.stop()
}

/// Rows as few statements take, each with its statement.
fn chunks<'r, T>(mut rest: &'r [T], statements: &'r [(usize, String); 3]) -> Vec<(&'r [T], &'r str)> {
    let mut chunks = Vec::new();
    for (count, statement) in statements {
        while let Some((chunk, after)) = rest.split_at_checked(*count) {
            chunks.push((chunk, statement.as_str()));
            rest = after;
        }
    }
    chunks
}

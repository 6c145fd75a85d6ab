//! One byte of the file after the other is changed: where that changes what is read from it, verifying fails.

use super::*;
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use std::path::Path;

/// What can be read: every row by scanning, every record by its key, and how the tables are made.
const QUERIES: [&str; 9] = [
    "SELECT quote(type) || quote(name) || quote(tbl_name) || quote(sql) FROM sqlite_schema",
    "SELECT quote(version) || quote(success) || quote(checksum) FROM _sqlx_migrations",
    "SELECT quote(height) || quote(previous_hash) || quote(timestamp_ms) || quote(body) || quote(body_hash) || \
     quote(hash) || quote(signer) || quote(signature) FROM blocks",
    "SELECT quote(tx_id) || quote(height) || quote(position) FROM transactions",
    "SELECT quote(place) || quote(value) FROM state",
    "SELECT quote(id) || quote(value) FROM lines",
    "SELECT quote(height) FROM derived",
    "SELECT quote(b.hash) || length(b.body) FROM json_each(?1 -> 'blocks') k LEFT JOIN blocks b ON b.height = k.value",
    "SELECT quote(s.value) || quote(l.value) || quote(t.height) FROM json_each(?1 -> 'keys') k \
     LEFT JOIN state s ON s.place = unhex(k.value) LEFT JOIN lines l ON l.id = s.value \
     LEFT JOIN transactions t ON t.tx_id = k.value",
];

/// The file's content; none where it cannot be read.
async fn content(path: &Path, keys: &str) -> Option<Vec<Vec<Option<String>>>> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(true);
    let mut connection = SqliteConnection::connect_with(&options).await.ok()?;
    let mut content = Vec::new();
    for query in QUERIES {
        let takes_keys = query.contains("?1");
        let query = sqlx::query(AssertSqlSafe(query));
        let query = if takes_keys { query.bind(keys) } else { query };
        let rows = query.fetch_all(&mut connection).await.ok()?;
        let texts: Result<_, _> = rows.iter().map(|row| row.try_get(0)).collect();
        content.push(texts.ok()?);
    }
    connection.close().await.ok()?;
    Some(content)
}

/// 150 in `make test`; more by `LEASEHOLD_SOAK_FLIPS`.
fn flips() -> usize {
    let text = std::env::var("LEASEHOLD_SOAK_FLIPS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(150)
}

#[tokio::test]
async fn any_byte_of_the_file_that_changes_what_is_read_is_reported() {
    let bench = Bench::new().await;
    for number in 0..20 {
        let name = format!("d{number}");
        bench.accepted(&name, register(&name)).await;
        bench
            .accepted(&format!("lease-{number}"), take(&name, &person("a1")))
            .await;
    }
    bench.ledger.close().await;
    let path = bench.path();
    let mut connection = storage::sqlite::connect(&path).await.unwrap();
    let keys = sqlx::query(
        "SELECT json_object('blocks', (SELECT json_group_array(height) FROM blocks), 'keys', \
         (SELECT json_group_array(k) FROM (SELECT hex(place) AS k FROM state UNION ALL SELECT tx_id FROM transactions)))",
    );
    let keys: String = keys.fetch_one(&mut connection).await.unwrap().get(0);
    connection.close().await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    let original = content(&path, &keys).await.unwrap();
    // Always the same places, so that a failure can be looked at again.
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, b"every byte that counts is found!");
    let copy = bench.directory.path().join("copy.db");
    let (mut reported, mut without_effect) = (0, 0);
    while reported < flips() {
        let at = usize::try_from(random.next_u64()).unwrap() % whole.len();
        let flip = u8::try_from(random.next_u32() % 255).unwrap() + 1;
        let mut changed = whole.clone();
        changed[at] ^= flip;
        std::fs::write(&copy, changed).unwrap();
        if content(&copy, &keys).await.as_ref() == Some(&original) {
            // Unused space, counters and hints of the database.
            without_effect += 1;
            continue;
        }
        let found = match LedgerFile::open(&copy).await {
            Ok(file) => file
                .verify(Depth::Whole, &[])
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        assert!(found.is_err(), "byte {at} ^ {flip:#04x} is not reported");
        reported += 1;
    }
    assert!(
        reported > without_effect,
        "{reported} of {} changed anything",
        reported + without_effect
    );
}

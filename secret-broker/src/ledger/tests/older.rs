//! A ledger from before organisations joined, as the contract's version 1 wrote it: it verifies, is rebuilt to the same bytes, and goes on.
//! So do blocks with what later versions decided.
//!
//! `data/contract-1.sql` is such a file: twenty blocks that have most of the commands of that version, with one lease active.

use super::*;
use crate::ledger::storage::blocks;
use sqlx::AssertSqlSafe;
use std::collections::BTreeMap;

async fn older() -> (TempDir, LedgerOptions) {
    let directory = TempDir::new().unwrap();
    let now_ms = Arc::new(AtomicI64::new(START_MS + 60_000));
    let mut options = options_at(&directory, &now_ms);
    options.adopt_unsigned = true;
    let path = directory.path().join("ledger.db");
    let mut connection = storage::sqlite::connect(&path).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(include_str!("data/contract-1.sql").to_owned()))
        .execute(&mut connection)
        .await
        .unwrap();
    (directory, options)
}

#[tokio::test]
async fn a_ledger_of_an_older_contract_verifies_and_is_rebuilt_to_the_same_bytes() {
    let (_directory, options) = older().await;
    let ledger = Ledger::open(options).await.unwrap();
    let verified = ledger.verify().await.unwrap();
    assert_eq!(
        (verified.height, verified.transactions),
        (21, Some(20)),
        "one block signs the others"
    );
    assert_eq!(ledger.rebuild().await.unwrap(), verified);
    assert_eq!(ledger.verify().await.unwrap(), verified);
    ledger.close().await;
}

#[tokio::test]
async fn a_ledger_of_an_older_contract_goes_on_once_its_organisation_has_joined() {
    let (_directory, options) = older().await;
    let ledger = Ledger::open(options.clone()).await.unwrap();
    let active = ledger
        .leases_in(LeaseState::Active, &PageRequest::default())
        .await
        .unwrap()
        .items;
    let held = active.iter().find(|lease| lease.dataset_name.as_str() == "texts");
    let lease = held.unwrap();
    assert_eq!(lease.cluster, None, "nobody had named a cluster");
    let release = release(lease.id.as_str(), lease.subject.as_str());
    match ledger.submit(submission("early", release.clone())).await {
        Err(SubmitError::Refused(refusal)) => assert_eq!(refusal.code(), "organisation_not_joined"),
        other => panic!("not refused: {other:?}"),
    }
    enrol(&ledger).await;
    ledger.submit(submission("release", release)).await.unwrap();
    let confirm = Command::ConfirmEnd {
        lease: lease.id.to_string(),
    };
    ledger.submit(submission("confirm", confirm)).await.unwrap();
    let again = ledger
        .submit(submission("again", take("texts", lease.subject.as_str())))
        .await
        .unwrap();
    let again = again.events[0].lease.as_deref().unwrap();
    assert_eq!(
        again.cluster.as_ref().map(ToString::to_string).as_deref(),
        Some("main")
    );
    assert_eq!(again.fencing_token(), lease.fencing_token() + 1);
    let verified = ledger.verify().await.unwrap();
    assert_eq!(ledger.rebuild().await.unwrap(), verified);
    ledger.close().await;
    let ledger = Ledger::open(options).await.unwrap();
    assert_eq!(ledger.verify().await.unwrap(), verified);
    ledger.close().await;
}

/// A transaction as an earlier version of the contract recorded it (`chaincode/examples/recorded.rs`).
#[derive(serde::Deserialize)]
struct Recorded {
    contract: u32,
    tx_id: TxId,
    timestamp_ms: i64,
    caller: Msp,
    role: leasehold_chaincode::Role,
    command: Command,
    events: String,
    result: String,
    writes: Vec<(String, Option<String>)>,
}

/// Blocks with the transactions of an earlier version, one in each, signed by the ledger's key; and what they led to then.
async fn recorded(text: &str) -> (TempDir, LedgerOptions, BTreeMap<String, String>) {
    let directory = TempDir::new().unwrap();
    let now_ms = Arc::new(AtomicI64::new(START_MS));
    let options = options_at(&directory, &now_ms);
    Ledger::open(options.clone()).await.unwrap().close().await;
    let key = LedgerKey::load(&options.key).unwrap();
    let path = directory.path().join("ledger.db");
    let mut connection = storage::sqlite::connect(&path).await.unwrap();
    let mut session = session(&mut connection).await;
    let ledger = blocks::from(&mut session, 0, 1).await.unwrap()[0].hash;
    let mut head = blocks::last(&mut session).await.unwrap().unwrap().head();
    let mut state = BTreeMap::new();
    for line in text.lines() {
        let recorded: Recorded = serde_json::from_str(line).unwrap();
        let transaction = Transaction {
            tx_id: recorded.tx_id,
            caller: recorded.caller,
            role: recorded.role,
            timestamp_ms: recorded.timestamp_ms,
            contract: recorded.contract,
            command: recorded.command,
            events: serde_json::from_str(&recorded.events).unwrap(),
            result: serde_json::from_str(&recorded.result).unwrap(),
        };
        let body = block::Body::Transactions(vec![transaction]);
        let block = block::StoredBlock::after(&head, &ledger, recorded.timestamp_ms, &body, &key).unwrap();
        blocks::append(&mut session, &block).await.unwrap();
        head = block.head();
        for (key, value) in recorded.writes {
            match value {
                Some(value) => drop(state.insert(key, value)),
                None => drop(state.remove(&key)),
            }
        }
    }
    session.commit().await.unwrap();
    now_ms.store(head.timestamp_ms, Ordering::SeqCst);
    (directory, options, state)
}

#[tokio::test]
async fn blocks_of_versions_2_3_and_4_of_the_contract_lead_to_the_bytes_that_they_led_to_then() {
    for (version, text) in [
        (
            2,
            include_str!("../../../../chaincode/tests/data/contract-2.jsonl"),
        ),
        (
            3,
            include_str!("../../../../chaincode/tests/data/contract-3.jsonl"),
        ),
        (
            4,
            include_str!("../../../../chaincode/tests/data/contract-4.jsonl"),
        ),
    ] {
        let (_directory, options, expected) = recorded(text).await;
        let ledger = Ledger::open(options).await.unwrap();
        let verified = ledger.verify().await.unwrap();
        assert_eq!(verified.transactions, u64::try_from(text.lines().count()).ok());
        for _ in 0..2 {
            let keys: Vec<_> = expected.keys().cloned().collect();
            let mut session = ledger.reads.read().await.unwrap();
            let found = derived::values(&mut session, &keys).await.unwrap();
            let found: BTreeMap<_, _> = found
                .into_iter()
                .map(|(key, value)| (key, String::from_utf8(value).unwrap()))
                .collect();
            assert_eq!(found, expected, "{version}");
            drop(session);
            assert_eq!(ledger.rebuild().await.unwrap(), verified);
        }
        // And it goes on by the rules of today.
        let more = submission("more", register("more"));
        assert_eq!(ledger.submit(more).await.unwrap().height, verified.height + 1);
        ledger.verify().await.unwrap();
        ledger.close().await;
    }
}

#[tokio::test]
async fn a_block_of_a_newer_contract_is_reported_not_guessed() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let mut connection = storage::sqlite::connect(&bench.path()).await.unwrap();
    let mut session = session(&mut connection).await;
    let newer = blocks::last(&mut session).await.unwrap().unwrap();
    let head = newer.head();
    let newer = newer.body.replace("\"contract\":4", "\"contract\":5");
    let body: block::Body = serde_json::from_str(&newer).unwrap();
    let key = LedgerKey::load(&bench.options().key).unwrap();
    let ledger = blocks::from(&mut session, 0, 1).await.unwrap()[0].hash;
    let block = block::StoredBlock::after(&head, &ledger, head.timestamp_ms, &body, &key).unwrap();
    blocks::append(&mut session, &block).await.unwrap();
    let found = verify::verify(&mut session, Depth::Whole, &[]).await;
    let found = found.unwrap_err().to_string();
    assert!(
        found.contains("version 5 of the contract is not known"),
        "{found}"
    );
}

/// Makes a file what an earlier version wrote, as its last migration says: its rows lie by their keys, or by places that are not
/// packed, and lines of history are among them.
async fn as_written_by(version: i64, path: &Path) -> sqlx::SqliteConnection {
    let mut connection = storage::sqlite::connect(path).await.unwrap();
    let rows: Vec<(Vec<u8>, String)> = sqlx::query_as(
        "SELECT place, coalesce(lines.value, state.value) FROM state LEFT JOIN lines ON lines.id = state.value",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(!rows.is_empty());
    let table = match version {
        4 => {
            "CREATE TABLE state (\n    place TEXT NOT NULL PRIMARY KEY, -- what the key is made into, one to one\n    \
             value TEXT NOT NULL\n) STRICT, WITHOUT ROWID"
        }
        _ => {
            "CREATE TABLE state (\n    key   TEXT NOT NULL PRIMARY KEY,\n    value TEXT NOT NULL\n) STRICT, WITHOUT ROWID"
        }
    };
    let mut statements = vec!["DROP TABLE state", "DROP TABLE lines", table];
    if version < 3 {
        statements.push("DROP TABLE derived");
    }
    for statement in statements {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version > $1")
        .bind(version)
        .execute(&mut connection)
        .await
        .unwrap();
    for (place, value) in rows {
        let key = storage::place::key(&place).unwrap();
        let found_by = match version {
            4 => storage::place::text(&key),
            _ => key,
        };
        sqlx::query("INSERT INTO state VALUES ($1, $2)")
            .bind(found_by)
            .bind(value)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    connection
}

#[tokio::test]
async fn a_file_of_an_earlier_version_is_verified_as_it_is_and_derived_again_when_it_is_opened() {
    for version in [2, 3, 4] {
        let mut bench = Bench::new().await;
        bench.accepted("one", register("texts")).await;
        bench.accepted("two", take("texts", &person("a1"))).await;
        let before = bench.ledger.verify().await.unwrap();
        bench.ledger.close().await;
        let path = bench.path();
        let connection = as_written_by(version, &path).await;
        sqlx::Connection::close(connection).await.unwrap();
        let file = LedgerFile::open(&path).await.unwrap();
        assert_eq!(file.verify(Depth::Whole, &[]).await.unwrap(), before, "{version}");
        drop(file);
        bench.reopen().await;
        assert_eq!(bench.ledger.verify().await.unwrap(), before, "{version}");
        bench.accepted("three", register("scans")).await;
        bench.ledger.verify().await.unwrap();
    }
}

#[tokio::test]
async fn a_changed_row_of_a_file_of_an_earlier_version_is_found() {
    for (version, statement, said) in [
        (
            3,
            "UPDATE state SET value = replace(value, 'texts', 'other') WHERE key LIKE 'dataset/%'",
            "state: dataset/",
        ),
        (
            4,
            "UPDATE state SET value = replace(value, 'texts', 'other') WHERE place LIKE '@%e'",
            "state: dataset/",
        ),
        (
            4,
            "UPDATE state SET value = value || ' ' WHERE place LIKE '@%d/%'",
            "state: history/",
        ),
        (4, "DELETE FROM state WHERE place LIKE '@%d/%'", "history/"),
    ] {
        let bench = Bench::new().await;
        bench.accepted("one", register("texts")).await;
        bench.ledger.close().await;
        let path = bench.path();
        let mut connection = as_written_by(version, &path).await;
        let changed = sqlx::query(statement).execute(&mut connection).await.unwrap();
        assert_eq!(changed.rows_affected(), 1, "{statement}");
        sqlx::Connection::close(connection).await.unwrap();
        let file = LedgerFile::open(&path).await.unwrap();
        let found = file.verify(Depth::Whole, &[]).await.unwrap_err().to_string();
        assert!(found.contains(said), "{statement}: {found}");
    }
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_neither_opened_nor_called_damaged() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let mut connection = storage::sqlite::connect(&bench.path()).await.unwrap();
    sqlx::query("INSERT INTO _sqlx_migrations SELECT 6, 'later', installed_on, true, checksum, 0 FROM _sqlx_migrations LIMIT 1")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let opened = Ledger::open(bench.options())
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    let looked_at = LedgerFile::open(bench.path())
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    let rebuilt = rebuild(bench.path()).await.unwrap_err().to_string();
    for refused in [opened, looked_at, rebuilt] {
        assert!(
            refused.contains("a newer version of this program wrote it"),
            "{refused}"
        );
    }
}

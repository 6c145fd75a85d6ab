//! A ledger from before organisations joined, as the contract's version 1 wrote it: it verifies, is rebuilt to the same bytes, and goes on.
//!
//! `data/contract-1.sql` is such a file: twenty blocks that have most of the commands of that version, with one lease active.

use super::*;
use crate::ledger::storage::blocks;
use sqlx::AssertSqlSafe;

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

#[tokio::test]
async fn a_block_of_a_newer_contract_is_reported_not_guessed() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let mut connection = storage::sqlite::connect(&bench.path()).await.unwrap();
    let mut session = session(&mut connection).await;
    let newer = blocks::last(&mut session).await.unwrap().unwrap();
    let head = newer.head();
    let newer = newer.body.replace("\"contract\":3", "\"contract\":4");
    let body: block::Body = serde_json::from_str(&newer).unwrap();
    let key = LedgerKey::load(&bench.options().key).unwrap();
    let ledger = blocks::from(&mut session, 0, 1).await.unwrap()[0].hash;
    let block = block::StoredBlock::after(&head, &ledger, head.timestamp_ms, &body, &key).unwrap();
    blocks::append(&mut session, &block).await.unwrap();
    let found = verify::verify(&mut session, Depth::Whole, &[]).await;
    let found = found.unwrap_err().to_string();
    assert!(
        found.contains("version 4 of the contract is not known"),
        "{found}"
    );
}

#[tokio::test]
async fn a_file_from_before_its_tables_could_lag_is_verified_as_it_is_and_goes_on_when_opened() {
    let mut bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let before = bench.ledger.verify().await.unwrap();
    bench.ledger.close().await;
    let path = bench.path();
    let mut connection = storage::sqlite::connect(&path).await.unwrap();
    sqlx::raw_sql("DROP TABLE derived; DELETE FROM _sqlx_migrations WHERE version = 3")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let file = LedgerFile::open(&path).await.unwrap();
    assert_eq!(file.verify(Depth::Whole, &[]).await.unwrap(), before);
    drop(file);
    bench.reopen().await;
    assert_eq!(bench.ledger.verify().await.unwrap(), before);
    bench.accepted("two", take("texts", &person("a1"))).await;
    bench.ledger.verify().await.unwrap();
}

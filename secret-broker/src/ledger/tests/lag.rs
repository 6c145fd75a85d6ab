//! The file's tables may be some blocks behind: nobody who asks the ledger notices, whatever happens to the broker.

use super::*;
use sqlx::{Connection, Row};

/// Up to which block a file's tables are, and its last block.
async fn heights(path: &Path) -> (u64, u64) {
    let mut connection = storage::sqlite::connect(path).await.unwrap();
    let row = sqlx::query("SELECT derived.height, max(blocks.height) FROM derived, blocks")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let [derived, last] = [0, 1].map(|at| u64::try_from(row.get::<i64, _>(at)).unwrap());
    connection.close().await.unwrap();
    (derived, last)
}

/// A copy of the file as it is now, with its log and key, as a kill leaves them.
fn copied(bench: &Bench) -> (TempDir, LedgerOptions) {
    let directory = TempDir::new().unwrap();
    for name in ["ledger.db", "ledger.db-wal"] {
        std::fs::copy(bench.directory.path().join(name), directory.path().join(name)).unwrap();
    }
    let mut options = options_at(&directory, &bench.now_ms);
    options.key = bench.options().key;
    (directory, options)
}

async fn answers(ledger: &Ledger, tx_id: &str) -> String {
    let page = PageRequest::default();
    let dataset = &ledger.datasets(&page).await.unwrap().items[0].dataset.id;
    format!(
        "{:?} {:?} {:?} {:?}",
        ledger.history(dataset, &page).await.unwrap(),
        ledger.leases_on(dataset, &page).await.unwrap(),
        ledger.leases_in(LeaseState::Active, &page).await.unwrap(),
        ledger.transaction(&tx_id.parse().unwrap()).await.unwrap(),
    )
}

#[tokio::test]
async fn what_the_tables_lack_after_a_kill_is_derived_again_and_answered_alike() {
    let bench = Bench::new().await;
    bench.accepted("register", register("texts")).await;
    for attempt in 0.. {
        assert!(attempt < 20, "the tables never lag");
        let holder = person(&format!("{attempt:02}"));
        let tx_id = format!("take-{attempt}");
        let lease = lease_id(&bench.accepted(&tx_id, take("texts", &holder)).await);
        let (directory, options) = copied(&bench);
        let path = directory.path().join("ledger.db");
        let (derived, last) = heights(&path).await;
        let expected = answers(&bench.ledger, &tx_id).await;
        bench
            .accepted(&format!("release-{attempt}"), release(&lease, &holder))
            .await;
        bench
            .accepted(
                &format!("confirm-{attempt}"),
                Command::ConfirmEnd { lease: lease.clone() },
            )
            .await;
        if derived == last {
            continue;
        }
        let file = LedgerFile::open(&path).await.unwrap();
        assert_eq!(file.verify(Depth::Whole, &[]).await.unwrap().height, last);
        drop(file);
        let ledger = Ledger::open(options).await.unwrap();
        assert_eq!(answers(&ledger, &tx_id).await, expected);
        let released = ledger
            .submit(submission("after", release(&lease, &holder)))
            .await
            .unwrap();
        assert_eq!(released.height, last + 1);
        ledger.verify().await.unwrap();
        ledger.close().await;
        assert_eq!(heights(&path).await, (last + 1, last + 1), "closed, it is whole");
        return;
    }
}

#[tokio::test]
async fn a_ledger_with_nothing_to_do_writes_its_tables() {
    let bench = Bench::new().await;
    let height = bench.accepted("register", register("texts")).await.height;
    soon("table of the last block", async {
        while heights(&bench.path()).await != (height, height) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    bench.ledger.verify().await.unwrap();
}

/// As if nothing had ever been derived from the blocks.
async fn underived(bench: &Bench) -> sqlx::SqliteConnection {
    bench.ledger.close().await;
    let mut connection = storage::sqlite::connect(&bench.path()).await.unwrap();
    for statement in [
        "DELETE FROM state",
        "DELETE FROM lines",
        "DELETE FROM transactions",
        "UPDATE derived SET height = 0",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    connection
}

async fn ledger_id(session: &mut storage::Session<'_>) -> block::Hash {
    storage::blocks::from(session, 0, 1).await.unwrap()[0].hash
}

#[tokio::test]
async fn what_is_derived_again_is_written_before_it_is_too_much_for_the_memory() {
    let mut bench = Bench::new().await;
    for number in 0..40 {
        let name = format!("d{number}");
        bench.accepted(&name, register(&name)).await;
    }
    let mut connection = underived(&bench).await;
    let mut session = session(&mut connection).await;
    let ledger = ledger_id(&mut session).await;
    let all = catch_up::pending(&mut session, Contract::EMBEDDED, &ledger)
        .await
        .unwrap();
    assert!(all.view().len() > 100, "{}", all.view().len());
    let rest = catch_up::settled(&mut session, Contract::EMBEDDED, &ledger)
        .await
        .unwrap();
    assert!(rest.view().len() < 80, "{}", rest.view().len());
    assert_eq!(rest.view().height, all.view().height);
    assert!(derived::height(&mut session).await.unwrap() > 20);
    session.rollback().await.unwrap();
    connection.close().await.unwrap();
    bench.reopen().await;
    bench.accepted("after", register("after")).await;
    bench.ledger.verify().await.unwrap();
}

#[tokio::test]
async fn a_block_that_was_changed_before_the_tables_had_it_is_not_replayed() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let mut connection = underived(&bench).await;
    for statement in [
        "DROP TRIGGER blocks_never_change",
        "UPDATE blocks SET body = replace(body, 'Texts', 'Tests') WHERE height = 2",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    let mut session = session(&mut connection).await;
    let ledger = ledger_id(&mut session).await;
    let found = catch_up::pending(&mut session, Contract::EMBEDDED, &ledger).await;
    let found = found.map(drop).unwrap_err().to_string();
    assert!(found.contains("block 2, body"), "{found}");
}

#[tokio::test]
async fn a_row_that_was_never_derived_does_not_keep_a_transactions_place_from_being_noted() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let mut connection = storage::sqlite::connect(&bench.path()).await.unwrap();
    sqlx::query("UPDATE transactions SET height = 1 WHERE tx_id = 'one'")
        .execute(&mut connection)
        .await
        .unwrap();
    let mut session = session(&mut connection).await;
    derived::write_places(&mut session, &[("one", 2, 0)])
        .await
        .unwrap();
    let found = derived::transactions(&mut session, &["one"]).await.unwrap();
    assert_eq!(found["one"].1, 2);
}

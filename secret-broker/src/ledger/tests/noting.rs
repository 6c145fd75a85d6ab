//! What a broker remembers of its ledger across restarts.

use super::*;

/// A ledger of which it is noted how far it was seen.
async fn noting() -> (Bench, LedgerOptions) {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let mut options = bench.options();
    options.seen = Some(bench.directory.path().join("ledger.seen"));
    (bench, options)
}

fn noted(options: &LedgerOptions) -> Receipt {
    seen::read(options.seen.as_ref().unwrap()).unwrap().seen
}

async fn refused(options: &LedgerOptions) -> String {
    let opened = Ledger::open(options.clone()).await.map(drop);
    opened.unwrap_err().to_string()
}

#[tokio::test]
async fn the_last_block_before_a_broker_ends_is_noted() {
    let (_bench, options) = noting().await;
    for name in ["two", "three", "four"] {
        let ledger = Ledger::open(options.clone()).await.unwrap();
        ledger.submit(submission(name, register(name))).await.unwrap();
        let receipt = ledger.receipt().await.unwrap();
        ledger.close().await;
        assert_eq!(noted(&options), receipt);
    }
}

#[tokio::test]
async fn the_flag_that_accepted_a_loss_of_blocks_accepts_no_later_one() {
    let (bench, mut options) = noting().await;
    let copy = std::fs::read(bench.path()).unwrap();
    let one_more = async |options: &LedgerOptions, tx_id: &str| {
        let ledger = Ledger::open(options.clone()).await.unwrap();
        ledger.submit(submission(tx_id, register(tx_id))).await.unwrap();
        let receipt = ledger.receipt().await.unwrap();
        ledger.close().await;
        BlockName::new(receipt.height, receipt.hash.0)
    };
    let lost = one_more(&options, "two").await;
    std::fs::write(bench.path(), &copy).unwrap();
    let ends = {
        let receipt = LedgerFile::open(bench.path()).await.unwrap();
        let receipt = receipt.receipt(&[], &[]).await.unwrap();
        BlockName::new(receipt.height, receipt.hash.0)
    };
    let right = format!("--accept-lost-blocks {ends}");
    // What it ends with has to be said, and the refusal prints it.
    let without = refused(&options).await;
    assert!(
        without.contains("block 3 is gone") && without.ends_with(&right),
        "{without}"
    );
    for wrong in [lost, BlockName::new(1, ends.hash.0), BlockName::new(2, [7; 32])] {
        options.accept_lost_blocks = Some(wrong);
        let said = refused(&options).await;
        assert!(
            said.contains(&wrong.to_string()) && said.ends_with(&right),
            "{said}"
        );
    }
    options.accept_lost_blocks = Some(ends);
    one_more(&options, "three").await;
    one_more(&options, "four").await;
    // The same again, with the flag still there.
    std::fs::write(bench.path(), &copy).unwrap();
    let again = refused(&options).await;
    assert!(
        again.contains("block 4 is gone") && again.contains("accepts no second loss"),
        "{again}"
    );
    options.accept_lost_blocks = None;
    let without = refused(&options).await;
    assert!(without.ends_with(&right), "{without}");
    options.accept_lost_blocks = Some(ends);
    std::fs::remove_file(options.seen.as_ref().unwrap()).unwrap();
    one_more(&options, "five").await;
}

#[tokio::test]
async fn a_flag_that_was_not_needed_when_it_was_first_given_accepts_no_later_loss() {
    let (bench, mut options) = noting().await;
    let copy = std::fs::read(bench.path()).unwrap();
    let ledger = Ledger::open(options.clone()).await.unwrap();
    let receipt = ledger.receipt().await.unwrap();
    ledger.close().await;
    options.accept_lost_blocks = Some(BlockName::new(receipt.height, receipt.hash.0));
    let ledger = Ledger::open(options.clone()).await.unwrap();
    ledger.submit(submission("two", register("scans"))).await.unwrap();
    ledger.close().await;
    std::fs::write(bench.path(), copy).unwrap();
    let said = refused(&options).await;
    assert!(said.contains("accepts no second loss"), "{said}");
}

#[tokio::test]
async fn a_start_spares_what_was_noted_and_verifying_finds_what_was_changed_there() {
    let (bench, options) = noting().await;
    let ledger = Ledger::open(options.clone()).await.unwrap();
    for name in ["two", "three"] {
        ledger.submit(submission(name, register(name))).await.unwrap();
    }
    ledger.close().await;
    let change = async |height: u64| {
        let mut connection = storage::sqlite::connect(&bench.path()).await.unwrap();
        tamper::past_the_guards(&mut connection, async |connection| {
            sqlx::query("UPDATE blocks SET body = replace(body, 'Texts', 'Tests') WHERE height = $1")
                .bind(i64::try_from(height).unwrap())
                .execute(&mut *connection)
                .await
                .unwrap();
        })
        .await;
        sqlx::Connection::close(connection).await.unwrap();
    };
    change(2).await;
    Ledger::open(options.clone()).await.unwrap().close().await;
    for depth in [Depth::Chain, Depth::Whole] {
        let file = LedgerFile::open(bench.path()).await.unwrap();
        match file.verify(depth, &[]).await {
            Err(VerifyError::Corrupt(found)) => assert_eq!((found.block, found.field), (2, "body")),
            other => panic!("{other:?}"),
        }
    }
    // So does a start to which nothing was noted, or for which what was noted is not there.
    let whole = refused(&bench.options()).await;
    assert!(whole.contains("block 2, body"), "{whole}");
    change(4).await;
    let whole = refused(&options).await;
    assert!(whole.contains("block 2, body"), "{whole}");
}

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
    serde_json::from_slice(&std::fs::read(options.seen.as_ref().unwrap()).unwrap()).unwrap()
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

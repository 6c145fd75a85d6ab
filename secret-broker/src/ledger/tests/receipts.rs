//! What a signed head that is kept elsewhere shows: truncation, forks, and nothing where all is well.

use super::*;
use std::fs;

/// A ledger of some blocks, closed, and the receipt of each but the first.
async fn receipted() -> (Bench, Vec<Receipt>) {
    let bench = Bench::new().await;
    let mut receipts = Vec::new();
    for number in 0..4 {
        let name = format!("d{number}");
        bench.accepted(&name, register(&name)).await;
        receipts.push(bench.ledger.receipt().await.unwrap());
    }
    bench.ledger.close().await;
    (bench, receipts)
}

async fn verified(bench: &Bench, receipts: &[Receipt]) -> Result<Verified, VerifyError> {
    let file = LedgerFile::open(&bench.path()).await.unwrap();
    file.verify(Depth::Chain, receipts).await
}

#[tokio::test]
async fn every_receipt_of_a_ledger_holds_and_is_the_same_as_json() {
    let (bench, receipts) = receipted().await;
    let verified = verified(&bench, &receipts).await.unwrap();
    assert_eq!(verified.height, 5);
    let last = receipts.last().unwrap();
    assert_eq!((last.height, last.hash.to_string()), (5, verified.head_hash));
    assert_eq!(
        (last.ledger_id, Some(last.key_id)),
        (verified.ledger_id, verified.key_id)
    );
    let json = serde_json::to_string(last).unwrap();
    assert_eq!(serde_json::from_str::<Receipt>(&json).unwrap(), *last);
    let file = LedgerFile::open(&bench.path()).await.unwrap();
    assert_eq!(file.receipt(&[], &[]).await.unwrap(), *last);
}

/// Whoever restores an older copy, or cuts blocks off and rebuilds the rest, has a ledger that verifies by itself.
#[tokio::test]
async fn a_receipt_shows_that_blocks_were_cut_off() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let path = bench.path();
    let copy = fs::read(&path).unwrap();
    let ledger = Ledger::open(bench.options()).await.unwrap();
    ledger.submit(submission("two", register("scans"))).await.unwrap();
    let receipt = ledger.receipt().await.unwrap();
    ledger.close().await;
    fs::write(&path, copy).unwrap();
    verified(&bench, &[]).await.unwrap();
    let found = verified(&bench, std::slice::from_ref(&receipt))
        .await
        .unwrap_err();
    assert_eq!(found, VerifyError::Truncated { ends: 2, receipt: 3 });
    // And that other blocks took their place, signed by the same key.
    let ledger = Ledger::open(bench.options()).await.unwrap();
    ledger
        .submit(submission("three", register("maps")))
        .await
        .unwrap();
    ledger.close().await;
    verified(&bench, &[]).await.unwrap();
    match verified(&bench, std::slice::from_ref(&receipt))
        .await
        .unwrap_err()
    {
        VerifyError::Forked {
            block, receipt: hash, ..
        } => assert_eq!((block, hash), (3, receipt.hash)),
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_receipt_that_was_changed_or_is_anothers_says_nothing() {
    let (bench, receipts) = receipted().await;
    let (_other, others) = receipted().await;
    let foreign = verified(&bench, &others).await.unwrap_err();
    assert!(
        matches!(foreign, VerifyError::Receipt(ReceiptError::OtherLedger { .. })),
        "{foreign}"
    );
    let genuine = &receipts[1];
    let changes: [fn(&mut Receipt); 6] = [
        |receipt| receipt.height += 1,
        |receipt| receipt.timestamp_ms += 1,
        |receipt| receipt.hash.0[0] ^= 1,
        |receipt| receipt.ledger_id.0[31] ^= 1,
        |receipt| receipt.key_id.0[5] ^= 1,
        |receipt| receipt.signature.0[63] ^= 1,
    ];
    for change in changes {
        let mut receipt = genuine.clone();
        change(&mut receipt);
        let found = verified(&bench, &[receipt]).await.unwrap_err();
        assert!(
            matches!(found, VerifyError::Receipt(ReceiptError::NotGenuine { .. })),
            "{found}"
        );
    }
}

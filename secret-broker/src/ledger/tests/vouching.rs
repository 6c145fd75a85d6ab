//! What whoever can write the ledger, and has not its key, gets a broker and its followers to believe: nothing.

use super::*;
use crate::ledger::block::{Body, KeyCause, KeyChange, StoredBlock};
use crate::ledger::storage::{Connection, blocks};

/// Adds a block as one does who can write the file.
async fn forge(path: &Path, key: &LedgerKey, body: Option<Body>) {
    let mut connection = Connection::Sqlite(storage::sqlite::connect(path).await.unwrap());
    let mut session = connection.write().await.unwrap();
    let all = blocks::from(&mut session, 0, 1_000).await.unwrap();
    let last = all.last().unwrap();
    let body = body.unwrap_or_else(|| {
        let transactions = all.iter().rev().find(|block| block.body.contains("Texts"));
        serde_json::from_str(&transactions.unwrap().body).unwrap()
    });
    let (head, ledger) = (last.head(), all[0].hash);
    let block = StoredBlock::after(&head, &ledger, head.timestamp_ms, &body, key).unwrap();
    blocks::append(&mut session, &block).await.unwrap();
    session.commit().await.unwrap();
    connection.close().await.unwrap();
}

fn key_change(to: &LedgerKey, cause: KeyCause) -> Option<Body> {
    Some(Body::Key(KeyChange {
        key_id: to.id(),
        cause,
        changed_at_ms: START_MS,
    }))
}

/// A stranger's key takes over, signs transactions, and hands over to the key that was there before. Yields the stranger's key.
async fn taken_over_and_handed_back(bench: &Bench) -> KeyId {
    let own = LedgerKey::load(&bench.options().key).unwrap();
    let stranger = LedgerKey::load_or_create(&bench.directory.path().join("stranger.key")).unwrap();
    forge(&bench.path(), &stranger, key_change(&stranger, KeyCause::Lost)).await;
    forge(&bench.path(), &stranger, None).await;
    forge(&bench.path(), &stranger, key_change(&own, KeyCause::Rotated)).await;
    stranger.id()
}

async fn refused(options: LedgerOptions) -> OpenError {
    Ledger::open(options).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn a_broker_does_not_open_a_ledger_that_a_stranger_took_over_and_handed_back() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let before = bench.ledger.receipt().await.unwrap();
    bench.ledger.close().await;
    let own = before.key_id;
    let stranger = taken_over_and_handed_back(&bench).await;
    match refused(bench.options()).await {
        OpenError::Unvouched { block, key_id, .. } => assert_eq!((block, key_id), (3, stranger)),
        error => panic!("{error}"),
    }
    // Nor does it sign a hand-over there, and the key that was handed to vouches for nothing before.
    let next = bench.directory.path().join("next.key");
    let rotated = rotate(&bench.options(), &next, false).await.unwrap_err();
    assert!(rotated.to_string().contains("--trust-key"), "{rotated}");
    let file = LedgerFile::open(&bench.path()).await.unwrap();
    let unvouched = VerifyError::Unvouched {
        block: 3,
        key_id: stranger,
    };
    for trusted in [&[][..], &[own]] {
        let receipts = std::slice::from_ref(&before);
        assert_eq!(file.receipt(trusted, receipts).await, Err(unvouched.clone()));
        let verified = file.verify(Depth::Chain, receipts).await.unwrap();
        assert_eq!(
            verified.vouched_for(trusted, receipts),
            Err(unvouched.clone()),
            "{trusted:?}"
        );
    }
    assert_eq!(file.receipt(&[stranger], &[]).await.unwrap().height, 5);
}

#[tokio::test]
async fn what_was_forged_between_the_noted_block_and_the_last_is_found_and_so_is_what_came_before_where_none_is()
 {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let receipt = bench.ledger.receipt().await.unwrap();
    bench.ledger.close().await;
    let own = LedgerKey::load(&bench.options().key).unwrap();
    let mut options = bench.options();
    options.seen = Some(bench.directory.path().join("ledger.seen"));
    let note = |receipt: &Receipt| {
        let file = options.seen.as_ref().unwrap();
        std::fs::write(file, serde_json::to_vec(receipt).unwrap()).unwrap();
    };
    note(&receipt);
    taken_over_and_handed_back(&bench).await;
    let found = refused(options.clone()).await;
    assert!(matches!(found, OpenError::Unvouched { block: 3, .. }), "{found}");
    // A note of another signature is no note of that block.
    let mut other = receipt.clone();
    other.signature.0[5] ^= 1;
    note(&other);
    let found = refused(options.clone()).await;
    assert!(matches!(found, OpenError::Unvouched { block: 3, .. }), "{found}");
    // Before a block that was noted everything was checked.
    forge(&bench.path(), &own, None).await;
    let file = LedgerFile::open(&bench.path()).await.unwrap();
    let stranger = LedgerKey::load(&bench.directory.path().join("stranger.key"));
    let receipt = file.receipt(&[stranger.unwrap().id()], &[]).await.unwrap();
    drop(file);
    note(&receipt);
    let found = refused(options.clone()).await;
    assert!(!matches!(found, OpenError::Unvouched { .. }), "{found}");
    assert!(found.to_string().contains("ledger rebuild"), "{found}");
}

#[tokio::test]
async fn a_note_of_a_block_that_a_stranger_signed_spares_nothing_before_it() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let own = LedgerKey::load(&bench.options().key).unwrap();
    let stranger = LedgerKey::load_or_create(&bench.directory.path().join("stranger.key")).unwrap();
    forge(&bench.path(), &stranger, key_change(&stranger, KeyCause::Lost)).await;
    forge(&bench.path(), &stranger, None).await;
    let file = LedgerFile::open(&bench.path()).await.unwrap();
    let receipt = file.receipt(&[stranger.id()], &[]).await.unwrap();
    drop(file);
    forge(&bench.path(), &stranger, key_change(&own, KeyCause::Rotated)).await;
    let mut options = bench.options();
    options.seen = Some(bench.directory.path().join("ledger.seen"));
    std::fs::write(
        options.seen.as_ref().unwrap(),
        serde_json::to_vec(&receipt).unwrap(),
    )
    .unwrap();
    let found = refused(options).await;
    assert!(matches!(found, OpenError::Unvouched { block: 3, .. }), "{found}");
}

/// A whole ledger of a stranger's, handed over to the operator's key.
async fn made_by_a_stranger(bench: &Bench) -> TempDir {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ledger.db");
    let mut options = bench.options();
    options.address = (&path).into();
    options.key = directory.path().join("stranger.key");
    let ledger = Ledger::open(options.clone()).await.unwrap();
    enrol(&ledger).await;
    ledger.submit(submission("one", register("traps"))).await.unwrap();
    ledger.close().await;
    rotate(&options, &bench.options().key, false).await.unwrap();
    directory
}

#[tokio::test]
async fn a_whole_ledger_that_a_stranger_made_and_handed_over_takes_nobodys_place() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let own = bench.ledger.receipt().await.unwrap();
    bench.ledger.close().await;
    let strangers = made_by_a_stranger(&bench).await;
    let mut options = bench.options();
    options.address = strangers.path().join("ledger.db").into();
    // All of its keys are vouched for.
    Ledger::open(options.clone()).await.unwrap().close().await;
    let next = bench.directory.path().join("next.key");
    let refuses = async |options: &LedgerOptions, by: &str| {
        let refused = refused(options.clone()).await;
        assert!(matches!(refused, OpenError::OtherLedger { .. }), "{refused}");
        let said = refused.to_string();
        assert!(
            said.contains(&own.ledger_id.to_string()) && said.contains(by),
            "{said}"
        );
        for lost in [false, true] {
            let rotated = rotate(options, &next, lost).await.unwrap_err().to_string();
            assert!(rotated.contains("it is another one"), "{rotated}");
        }
    };
    // Where it was never started before an operator names the one that is meant.
    options.id = Some(own.ledger_id);
    refuses(&options, "--ledger-id").await;
    // Elsewhere the first start noted it.
    options.id = None;
    options.seen = Some(bench.directory.path().join("ledger.seen"));
    let mut first = bench.options();
    first.seen.clone_from(&options.seen);
    Ledger::open(first).await.unwrap().close().await;
    refuses(&options, "ledger.seen").await;
    // Nor is that said of lost blocks.
    let file = LedgerFile::open(strangers.path().join("ledger.db"))
        .await
        .unwrap();
    let head = file.receipt(&[], &[]).await.unwrap();
    drop(file);
    options.accept_lost_blocks = Some(BlockName::new(head.height, head.hash.0));
    refuses(&options, "ledger.seen").await;
}

#[tokio::test]
async fn where_a_ledger_is_known_no_other_one_is_made() {
    let bench = Bench::new().await;
    let id = bench.ledger.receipt().await.unwrap().ledger_id;
    bench.ledger.close().await;
    let mut options = bench.options();
    options.seen = Some(bench.directory.path().join("ledger.seen"));
    Ledger::open(options.clone()).await.unwrap().close().await;
    options.address = bench.directory.path().join("empty.db").into();
    let mut told = bench.options();
    told.address.clone_from(&options.address);
    told.id = Some(id);
    for options in [options, told] {
        let refused = refused(options.clone()).await;
        assert!(matches!(refused, OpenError::NoLedger { .. }), "{refused}");
        let nothing = LedgerFile::open(&options.address).await.unwrap();
        assert!(nothing.receipt(&[], &[]).await.is_err(), "nothing was made");
    }
}

#[tokio::test]
async fn an_operator_whose_key_was_lost_goes_on_with_the_new_one_and_names_it_once_it_has_handed_over() {
    let mut bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let (key, next) = (bench.options().key, bench.directory.path().join("next.key"));
    std::fs::remove_file(&key).unwrap();
    let lost = rotate(&bench.options(), &key, true).await.unwrap();
    bench.reopen().await;
    bench.accepted("two", register("scans")).await;
    bench.ledger.close().await;
    rotate(&bench.options(), &next, false).await.unwrap();
    std::fs::rename(&next, &key).unwrap();
    match refused(bench.options()).await {
        OpenError::Unvouched { block, key_id, .. } => {
            assert_eq!((block, key_id), (lost.height, lost.key_id));
        }
        error => panic!("{error}"),
    }
    let mut options = bench.options();
    options.trusted = vec![lost.key_id];
    bench.ledger = Ledger::open(options).await.unwrap();
    bench.accepted("three", register("maps")).await;
    let mut follower = bench.ledger.follow(2);
    for height in 3..=6 {
        let block = soon("block", follower.next()).await.unwrap().unwrap();
        assert_eq!(block.height, height, "what was vouched for is told");
    }
}

#[tokio::test]
async fn a_follower_is_told_nothing_that_was_not_announced() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let own = LedgerKey::load(&bench.options().key).unwrap();
    let mut follower = bench.ledger.follow(1);
    forge(&bench.path(), &own, None).await;
    let block = soon("block", follower.next()).await.unwrap().unwrap();
    assert_eq!(block.height, 2);
    let next = futures::FutureExt::now_or_never(follower.next());
    assert!(next.is_none(), "nobody had checked it: {next:?}");
}

#[tokio::test]
async fn a_follower_believes_nobody_that_the_key_is_lost() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    taken_over_and_handed_back(&bench).await;
    let (_told, heights) = watch::channel(5);
    let (reads, witness) = (bench.ledger.reads.clone(), bench.ledger.witness.clone());
    let mut follower = Follower::new(reads, heights, witness, 2);
    match soon("refusal", follower.next()).await {
        Err(ReadError::Distrust(Distrust::Unsound(found))) => {
            assert_eq!((found.block, found.field), (3, "signer"), "{found}");
        }
        told => panic!("{told:?}"),
    }
}

#[tokio::test]
async fn a_follower_whose_blocks_are_gone_goes_on_once_they_are_back() {
    let bench = Bench::new().await;
    let (_told, heights) = watch::channel(2);
    let (reads, witness) = (bench.ledger.reads.clone(), bench.ledger.witness.clone());
    let mut follower = Follower::new(reads, heights, witness, 1);
    let mut next = Box::pin(follower.next());
    let early = tokio::time::timeout(Duration::from_millis(100), &mut next).await;
    assert!(early.is_err(), "{early:?}");
    bench.accepted("one", register("texts")).await;
    let block = soon("block", next).await.unwrap().unwrap();
    assert_eq!(block.height, 2);
}

#[tokio::test]
async fn no_key_is_handed_over_to_in_a_ledger_that_lacks_blocks_which_the_broker_has_seen() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let copy = std::fs::read(bench.path()).unwrap();
    let ledger = Ledger::open(bench.options()).await.unwrap();
    ledger.submit(submission("two", register("scans"))).await.unwrap();
    let receipt = ledger.receipt().await.unwrap();
    ledger.close().await;
    std::fs::write(bench.path(), copy).unwrap();
    let mut options = bench.options();
    let (seen, next) = ["ledger.seen", "next.key"]
        .map(|name| bench.directory.path().join(name))
        .into();
    std::fs::write(&seen, serde_json::to_vec(&receipt).unwrap()).unwrap();
    options.seen = Some(seen);
    for lost in [false, true] {
        let refused = rotate(&options, &next, lost).await.unwrap_err().to_string();
        assert!(refused.contains("block 3 is gone"), "{refused}");
    }
    let file = LedgerFile::open(&bench.path()).await.unwrap();
    assert_eq!(
        file.receipt(&[], &[]).await.unwrap().height,
        2,
        "nothing was added"
    );
}

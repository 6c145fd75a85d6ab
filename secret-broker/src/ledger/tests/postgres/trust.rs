//! What a broker makes of blocks that it did not write, and of a database that is not what it was.

use super::tamper::past_the_guards;
use super::*;
use crate::ledger::block::{Body, KeyCause, KeyChange, StoredBlock};
use crate::ledger::storage::{Connection, blocks};
use crate::ledgers::BrokerLedger;
use futures::FutureExt as _;

pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    soon(what, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Nothing is read, nothing is written, nothing is told, and the broker is not ready. Yields why.
async fn serves_nothing(bench: &Bench) -> Distrust {
    let height = bench.height();
    let read = bench.ledger.datasets(&PageRequest::default()).await;
    let Err(ReadError::Distrust(distrust)) = read else {
        panic!("it was read: {read:?}");
    };
    assert!(!bench.ledger.is_current(), "{distrust}");
    let receipt = bench.ledger.receipt().await;
    assert_eq!(receipt, Err(ReadError::Distrust(distrust.clone())));
    let name = uuid::Uuid::new_v4().to_string();
    soon("refusal", async {
        loop {
            match bench.ledger.submit(submission(&name, register(&name))).await {
                Err(SubmitError::Storage(reason)) if reason.contains(&distrust.to_string()) => break,
                // Of a server that went away.
                Err(SubmitError::Storage(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    let ready = BrokerLedger::Embedded(bench.ledger.clone()).ready().await;
    assert_eq!(ready, Err(ReadError::Distrust(distrust.clone())));
    assert_eq!(bench.height(), height, "nothing of it was told");
    distrust
}

/// Registers a dataset as soon as the database is back.
pub(super) async fn accepted_at_last(ledger: &Ledger, tx_id: &str, name: &str) -> Committed {
    soon("recovery", async {
        loop {
            match ledger.submit(submission(tx_id, register(name))).await {
                Ok(committed) => break committed,
                Err(SubmitError::Storage(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(other) => panic!("{other}"),
            }
        }
    })
    .await
}

/// A block that follows the last one, with its transactions, which a key signed.
async fn next_block(connection: &mut Connection, key: &LedgerKey, body: Option<Body>) -> StoredBlock {
    let mut session = connection.read().await.unwrap();
    let ledger = blocks::from(&mut session, 0, 1).await.unwrap()[0].hash;
    let last = blocks::last(&mut session).await.unwrap().unwrap();
    session.rollback().await.unwrap();
    let body = body.unwrap_or_else(|| serde_json::from_str(&last.body).unwrap());
    StoredBlock::after(&last.head(), &ledger, last.timestamp_ms, &body, key).unwrap()
}

async fn append(connection: &mut Connection, block: &StoredBlock) {
    let mut session = connection.write().await.unwrap();
    blocks::append(&mut session, block).await.unwrap();
    session.commit().await.unwrap();
}

#[tokio::test]
async fn on_a_block_that_does_not_verify_nothing_is_built_and_nobody_is_told_of_it() {
    let Some(server) = server::shared("blocks that do not verify").await else {
        return;
    };
    let database = server.database().await;
    let bench = Bench::on(&database).await;
    bench.accepted("one", register("texts")).await;
    let mut follower = bench.ledger.follow(bench.height());
    let mut superuser = database.connect().await;
    let mut writer = Connection::open(&database.address()).await.unwrap();
    let own = LedgerKey::load(&bench.options().key).unwrap();
    let foreign = LedgerKey::load_or_create(&bench.directory.path().join("foreign.key")).unwrap();
    let lost = Body::Key(KeyChange {
        key_id: foreign.id(),
        cause: KeyCause::Lost,
        changed_at_ms: START_MS,
    });
    type Forge = fn(&mut StoredBlock, &LedgerKey);
    let cases: [(&str, &LedgerKey, Option<Body>, Forge); 9] = [
        ("signer", &foreign, None, |_, _| {}),
        ("signer", &foreign, Some(lost), |_, _| {}),
        ("signature", &foreign, None, |block, own| {
            block.seal.as_mut().unwrap().signer = own.id();
        }),
        ("signature", &own, None, |block, _| {
            block.seal.as_mut().unwrap().signature.0[5] ^= 1;
        }),
        ("body", &own, None, |block, _| {
            block.body = block.body.replace("Texts", "Tests");
        }),
        ("previous_hash", &own, None, |block, _| {
            block.previous_hash[0] ^= 1
        }),
        ("hash", &own, None, |block, _| block.hash[0] ^= 1),
        ("height", &own, None, |block, _| block.height += 1),
        ("signer", &own, None, |block, _| block.seal = None),
    ];
    for (field, key, body, forge) in cases {
        let last = bench.height();
        let mut forged = next_block(&mut writer, key, body).await;
        forge(&mut forged, &own);
        append(&mut writer, &forged).await;
        until("distrust", || !bench.ledger.is_current()).await;
        match serves_nothing(&bench).await {
            Distrust::Unsound(found) => assert_eq!((found.block, found.field), (last + 1, field), "{found}"),
            other => panic!("{field}: {other}"),
        }
        assert!(follower.next().now_or_never().is_none(), "{field}");
        // Nor by a broker that starts.
        if field != "height" {
            let refused = Ledger::open(bench.options()).await.map(drop).unwrap_err();
            assert!(
                refused.to_string().contains(field)
                    || matches!(refused, OpenError::OtherKey { .. } | OpenError::NotSigned(_)),
                "{refused}"
            );
        }
        past_the_guards(
            &mut superuser,
            &format!("DELETE FROM blocks WHERE height > {last}"),
        )
        .await;
        until("trust", || bench.ledger.is_current()).await;
        let name = uuid::Uuid::new_v4().to_string();
        assert_eq!(bench.accepted(&name, register(&name)).await.height, last + 1);
        assert_eq!(
            soon("block", follower.next()).await.unwrap().unwrap().height,
            last + 1
        );
    }
    bench.ledger.verify().await.unwrap();
    bench.ledger.close().await;
}

#[tokio::test]
async fn a_block_that_was_changed_since_it_was_checked_stops_whoever_follows_and_the_broker_with_it() {
    let Some(server) = server::shared("a block changed before it was read").await else {
        return;
    };
    for (change, fields) in [
        ("body = replace(body, 'Texts', 'Tests')", &["body"][..]),
        // The one remembers the block, the other checks its signature.
        (
            "signature = sha256(signature) || sha256(signature)",
            &["hash", "signature"],
        ),
    ] {
        let database = server.database().await;
        let bench = Bench::on(&database).await;
        bench.accepted("one", register("texts")).await;
        bench.accepted("two", register("scans")).await;
        let (other, _) = bench.replica().await;
        // Not the last block, which each look compares.
        let change = format!("UPDATE blocks SET {change} WHERE height = 2");
        past_the_guards(&mut database.connect().await, &change).await;
        for ledger in [&bench.ledger, &other] {
            match ledger.follow(1).next().await {
                Err(ReadError::Distrust(Distrust::Unsound(found))) => {
                    assert_eq!(found.block, 2, "{found}");
                    assert!(fields.contains(&found.field), "{found}");
                }
                told => panic!("{change}: {told:?}"),
            }
            assert!(!ledger.is_current());
            assert!(ledger.datasets(&PageRequest::default()).await.is_err());
            let refused = ledger.submit(submission("three", register("maps"))).await;
            assert!(matches!(refused, Err(SubmitError::Storage(_))), "{refused:?}");
        }
        other.close().await;
        bench.ledger.close().await;
    }
}

#[tokio::test]
async fn a_database_that_lost_blocks_is_not_served_from_until_it_has_them_again() {
    let Some(server) = server::shared("lost blocks").await else {
        return;
    };
    let database = server.database().await;
    let bench = Bench::on(&database).await;
    bench.accepted("one", register("texts")).await;
    let mut follower = bench.ledger.follow(bench.height());
    // The server that takes over lacks the last block.
    let standby = server.copy(&database).await;
    assert_eq!(accepted_at_last(&bench.ledger, "two", "scans").await.height, 3);
    soon("block", follower.next()).await.unwrap().unwrap();
    server.fail_over(&database, &standby).await;
    until("distrust", || !bench.ledger.is_current()).await;
    soon("the new server", async {
        while !matches!(
            bench.ledger.datasets(&PageRequest::default()).await,
            Err(ReadError::Distrust(_))
        ) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let gone = serves_nothing(&bench).await;
    assert_eq!(gone, Distrust::Gone { ends: 2, seen: 3 });
    assert!(gone.to_string().contains("bring back the server"), "{gone}");
    // A broker that knows nothing of the lost block goes on from what is there, and past it.
    let (other, _) = bench.replica().await;
    for (name, height) in [("three", 3), ("four", 4)] {
        let committed = other.submit(submission(name, register(name))).await.unwrap();
        assert_eq!(committed.height, height);
        match serves_nothing(&bench).await {
            Distrust::Forked { block: 3, .. } => {}
            found => panic!("{found}"),
        }
    }
    other.close().await;
    assert!(follower.next().now_or_never().is_none());
    // The server that has it all comes back.
    server.fail_over(&database, &standby).await;
    until("trust", || bench.ledger.is_current()).await;
    let committed = accepted_at_last(&bench.ledger, "five", "maps").await;
    assert_eq!(committed.height, 4);
    let block = soon("block", follower.next()).await.unwrap().unwrap();
    assert_eq!(block.height, 4);
    bench.ledger.verify().await.unwrap();
    bench.ledger.close().await;
}

/// That the file says so.
async fn noted(file: &Path, height: u64) {
    let height = format!("\"height\":{height},");
    until("note", || {
        std::fs::read_to_string(file).is_ok_and(|text| text.contains(&height))
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_was_restarted_still_knows_which_blocks_there_were() {
    let Some(server) = server::shared("lost blocks and a restart").await else {
        return;
    };
    let database = server.database().await;
    let bench = Bench::on(&database).await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let file = bench.directory.path().join("ledger.seen");
    let mut options = bench.options();
    options.seen = Some(file.clone());
    let ledger = Ledger::open(options.clone()).await.unwrap();
    noted(&file, 2).await;
    ledger.submit(submission("two", register("scans"))).await.unwrap();
    noted(&file, 3).await;
    ledger.close().await;
    Ledger::open(options.clone()).await.unwrap().close().await;
    let lost = "DELETE FROM blocks WHERE height > 2";
    past_the_guards(&mut database.connect().await, lost).await;
    let refused = async |reason: &str| {
        let refused = Ledger::open(options.clone())
            .await
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains(reason) && refused.contains("--accept-lost-blocks"),
            "{refused}"
        );
    };
    refused("block 3 is gone").await;
    // One that has seen less goes on from what is there.
    rebuild(&bench.address).await.unwrap();
    let other = Ledger::open(bench.options()).await.unwrap();
    other.submit(submission("three", register("maps"))).await.unwrap();
    other.close().await;
    refused("block 3 has hash").await;
    let found = LedgerFile::open(&bench.address).await.unwrap();
    let found = found.receipt(&[], &[]).await.unwrap();
    let mut accepting = options.clone();
    accepting.accept_lost_blocks = Some(BlockName::new(found.height, found.hash.0));
    let ledger = Ledger::open(accepting).await.unwrap();
    let next = ledger
        .submit(submission("four", register("scans")))
        .await
        .unwrap();
    assert_eq!(next.height, 4);
    noted(&file, 4).await;
    ledger.close().await;
    let ledger = Ledger::open(options.clone()).await.unwrap();
    ledger.verify().await.unwrap();
    ledger.close().await;
    // Nor is an empty database taken for the ledger that was there.
    options.address = server.database().await.address();
    let refused = Ledger::open(options.clone())
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("there is no ledger at") && refused.contains("ledger.seen"),
        "{refused}"
    );
    let nothing = LedgerFile::open(&options.address).await.unwrap();
    assert!(nothing.receipt(&[], &[]).await.is_err(), "nothing was made");
}

#[tokio::test]
async fn a_broker_whose_disk_hangs_hears_of_others_blocks_as_ever() {
    let Some(server) = server::shared("a disk that hangs").await else {
        return;
    };
    let bench = Bench::on(&server.database().await).await;
    let file = bench.directory.path().join("ledger.seen");
    let hung = crate::ledger::notes::hanging::hang(&file);
    let mut options = bench.options();
    options.seen = Some(file.clone());
    let ledger = Ledger::open(options).await.unwrap();
    let mut follower = ledger.follow(bench.height());
    for name in ["one", "two", "three"] {
        let committed = bench.accepted(name, register(name)).await;
        let block = soon("block", follower.next()).await.unwrap().unwrap();
        assert_eq!(block.height, committed.height);
        until("touch", || ledger.is_current()).await;
        assert!(!file.exists());
    }
    let reader = std::fs::File::open(&hung).unwrap();
    std::fs::remove_file(&hung).unwrap();
    noted(&file, bench.height()).await;
    drop(reader);
    ledger.close().await;
}

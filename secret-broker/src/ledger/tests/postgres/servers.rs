//! What a broker makes of an address that leads to more than one server: a standby, or a primary that others have left.

use super::trust::until;
use super::*;
use crate::ledger::storage::Connection;

#[tokio::test]
async fn a_standby_is_called_one_wherever_it_answers_and_left_once_it_is_the_primary() {
    let Some(server) = Server::start("a standby").await else {
        return;
    };
    let bench = Bench::on(&server.database().await).await;
    bench.accepted("one", register("texts")).await;
    server.become_standby().await;
    until("loss of touch", || !bench.ledger.is_current()).await;
    let says = "is a standby, which is only read";
    let read = soon("answer", async {
        loop {
            match bench.ledger.datasets(&PageRequest::default()).await {
                Err(ReadError::Storage(reason)) if reason.contains(says) => break reason,
                // Of a server that went away.
                Err(ReadError::Storage(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert!(read.contains("--ledger lead to the primary"), "{read}");
    soon("refusal", async {
        loop {
            match bench.ledger.submit(submission("two", register("scans"))).await {
                Err(SubmitError::Storage(reason)) if reason.contains(says) => break,
                Err(SubmitError::Storage(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    let refused = Ledger::open(bench.options()).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains(says), "{refused}");
    assert_eq!(bench.ledger.witness.found(), None, "no block is said to be lost");
    server.promote().await;
    until("touch", || bench.ledger.is_current()).await;
    let committed = trust::accepted_at_last(&bench.ledger, "two", "scans").await;
    assert_eq!(committed.height, 3);
    bench.ledger.close().await;
}

#[tokio::test]
async fn where_one_server_lacks_blocks_nothing_is_appended_at_another_until_none_does() {
    let Some(server) = server::shared("two primaries").await else {
        return;
    };
    let database = server.database().await;
    let bench = Bench::on(&database).await;
    bench.accepted("one", register("texts")).await;
    let lacking = server.copy(&database).await;
    trust::accepted_at_last(&bench.ledger, "two", "scans").await;
    until("touch", || bench.ledger.is_current()).await;
    let height = bench.height();
    // The lookout's next connection leads to one that took over; the writer's is still to the one that was left.
    let mut other = Connection::open(&lacking.address()).await.unwrap();
    let mut session = other.read().await.unwrap();
    let found = bench.ledger.witness.look(&mut session).await.map(drop);
    assert!(!bench.ledger.is_current());
    assert!(found.unwrap_err().to_string().contains("blocks were lost"));
    let gone = Distrust::Gone { ends: 2, seen: 3 };
    match bench.ledger.submit(submission("three", register("maps"))).await {
        Err(SubmitError::Storage(reason)) => assert!(reason.contains(&gone.to_string()), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.height(), height);
    // The address leads to the right one alone for a while.
    until("trust", || bench.ledger.is_current()).await;
    let committed = trust::accepted_at_last(&bench.ledger, "three", "maps").await;
    assert_eq!(committed.height, height + 1);
    bench.ledger.close().await;
}

#[tokio::test]
async fn what_one_server_lacks_is_not_forgotten_for_the_good_answer_of_another() {
    let Some(server) = server::shared("good answers of another server").await else {
        return;
    };
    let database = server.database().await;
    let bench = Bench::on(&database).await;
    let lacking = server.copy(&database).await;
    trust::accepted_at_last(&bench.ledger, "one", "texts").await;
    let last = bench.ledger.witness.last();
    // Nobody looks on behalf of this one.
    let (witness, _heights) = Witness::new(*bench.ledger.witness.ledger(), last);
    let mut right = Connection::open(&database.address()).await.unwrap();
    let mut wrong = Connection::open(&lacking.address()).await.unwrap();
    let mut session = right.write().await.unwrap();
    assert_eq!(witness.catch_up(&mut session).await.unwrap(), last);
    session.rollback().await.unwrap();
    let mut session = wrong.read().await.unwrap();
    assert!(witness.catch_up(&mut session).await.is_err());
    session.rollback().await.unwrap();
    for _ in 0..2 {
        let mut session = right.write().await.unwrap();
        let refused = witness.catch_up(&mut session).await.unwrap_err();
        assert!(refused.to_string().contains("blocks were lost"), "{refused}");
        assert_eq!(witness.look(&mut session).await.unwrap(), last);
        session.rollback().await.unwrap();
    }
    witness.trust();
    let mut session = right.write().await.unwrap();
    assert_eq!(witness.catch_up(&mut session).await.unwrap(), last);
    session.rollback().await.unwrap();
    bench.ledger.close().await;
}

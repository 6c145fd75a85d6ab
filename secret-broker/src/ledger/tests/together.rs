//! What submissions of one block do to each other: each is decided on what those before it left, and none fails another.

use super::*;
use leasehold_chaincode::LeaseId;
use sqlx::Connection;

/// All of them wait before the writer takes the first: there is one thread.
async fn together(bench: &Bench, submissions: Vec<Submission>) -> Vec<Result<Committed, SubmitError>> {
    let waiting = submissions
        .into_iter()
        .map(|submission| bench.ledger.submit(submission));
    soon("answers", join_all(waiting)).await
}

fn granted_by(tx_id: &str) -> String {
    LeaseId::derive(&tx_id.parse().unwrap(), START_MS).to_string()
}

#[tokio::test]
async fn each_submission_of_a_block_is_decided_on_what_those_before_it_left() {
    let bench = Bench::new().await;
    let (alice, bob) = (person("a1"), person("b2"));
    let first = granted_by("alice");
    let confirm = Command::ConfirmEnd { lease: first.clone() };
    let outcomes = together(
        &bench,
        vec![
            submission("texts", register("texts")),
            submission("alice", take("texts", &alice)),
            submission("bob-too-early", take("texts", &bob)),
            submission("alice", take("texts", &alice)),
            submission("alice", take("texts", &bob)),
            submission("release", release(&first, &alice)),
            submission("confirm", confirm),
            submission("bob", take("texts", &bob)),
        ],
    )
    .await;
    let committed: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            outcome
                .as_ref()
                .ok()
                .map(|done| (done.tx_id.as_str(), done.height))
        })
        .collect();
    let at = |tx_id| Some((tx_id, 2));
    assert_eq!(
        committed,
        [
            at("texts"),
            at("alice"),
            None,
            at("alice"),
            None,
            at("release"),
            at("confirm"),
            at("bob")
        ]
    );
    assert!(matches!(
        outcomes[2],
        Err(SubmitError::Refused(Refusal::LeaseConflict { .. }))
    ));
    assert_eq!(outcomes[3], outcomes[1], "submitted twice, answered alike");
    assert!(matches!(
        outcomes[4],
        Err(SubmitError::Refused(Refusal::TransactionReused { .. }))
    ));
    let bobs = outcomes[7].as_ref().unwrap().events[0].lease.as_ref().unwrap();
    assert_eq!((bobs.state, bobs.fencing_token()), (LeaseState::Active, 2));
    assert_eq!(bench.ledger.verify().await.unwrap().transactions, Some(2 + 5));
}

#[tokio::test]
async fn a_damaged_record_fails_only_the_submissions_that_need_it() {
    let mut bench = Bench::new().await;
    for name in ["sound", "damaged"] {
        bench.accepted(name, register(name)).await;
    }
    bench.ledger.close().await;
    let mut connection = storage::sqlite::connect(&bench.path()).await.unwrap();
    let changed =
        sqlx::query("UPDATE state SET value = '{}' WHERE typeof(value) = 'text' AND value LIKE '{%\"damaged\"%\"policy\"%'")
            .execute(&mut connection)
            .await
            .unwrap();
    assert_eq!(changed.rows_affected(), 1);
    connection.close().await.unwrap();
    bench.reopen().await;
    let outcomes = together(
        &bench,
        vec![
            submission("one", take("damaged", &person("a1"))),
            submission("two", take("sound", &person("a1"))),
        ],
    )
    .await;
    match &outcomes[0] {
        Err(SubmitError::Storage(reason)) => assert!(reason.contains("damaged"), "{reason}"),
        other => panic!("not failed: {other:?}"),
    }
    assert_eq!(outcomes[1].as_ref().unwrap().events.len(), 1);
}

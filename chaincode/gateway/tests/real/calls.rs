//! Single calls: what each answer means, and that a transaction counts once.

use super::{LOOK_AGAIN, Real, evaluate, run};
use crate::served::PATIENCE;
use fabric_gateway_client::{
    Call, CommitStatusError, Deadlines, ProposalError, Retry, SubmitError, TransactionError, ValidationCode,
};
use fabric_network::{ORDERER, ORGANISATIONS};
use futures::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};

pub async fn what_is_submitted_is_seen_and_a_refusal_has_the_chaincodes_words(real: &Real) {
    let contract = real.contract(&ORGANISATIONS);
    let steps = json!([["put", "a", "1"], ["who"], ["transient", "t"]]);
    let call = run(&steps).transient("t", "secret");
    // The first commits while gossip still finds the peers.
    let committed = timeout(PATIENCE, async {
        loop {
            match contract.submit(&call).await {
                Ok(committed) => return committed,
                Err(TransactionError::Proposal(ProposalError::Rejected(_) | ProposalError::Failed(_))) => {
                    sleep(LOOK_AGAIN).await;
                }
                Err(error) => panic!("{error}: {}", real.network.logs()),
            }
        }
    })
    .await
    .expect("nothing was committed");
    let answers: Value = serde_json::from_slice(&committed.result).unwrap();
    assert_eq!(answers[1][0], "Org1MSP");
    assert_eq!(answers[2], "secret");
    let answers = evaluate(&contract, json!([["get", "a"], ["history", "a"]])).await;
    assert_eq!(answers[0], "1");
    let status = real
        .gateway(&["Org2"])
        .commit_status(real.network.channel(), &committed.transaction_id)
        .await
        .unwrap();
    assert_eq!(
        (status.block, status.code),
        (committed.block, ValidationCode::VALID)
    );

    let refused = run(&json!([["refuse", "not today, thanks"]]));
    for error in [
        contract.evaluate(&refused).await.unwrap_err(),
        contract.endorse(&refused).await.unwrap_err(),
    ] {
        match error {
            ProposalError::Refused(refusal) => {
                assert_eq!(
                    (refusal.status, refusal.message.as_str()),
                    (403, "not today, thanks")
                );
            }
            other => panic!("{other:?}"),
        }
    }
    for error in [
        contract.evaluate(&run(&json!([["panic"]]))).await.unwrap_err(),
        contract.endorse(&run(&json!([["panic"]]))).await.unwrap_err(),
    ] {
        assert!(matches!(error, ProposalError::Failed(_)), "{error:?}");
    }
    let absent = real
        .gateway(&ORGANISATIONS)
        .contract(real.network.channel(), "absent");
    let error = absent.evaluate(&refused).await.unwrap_err();
    assert!(matches!(error, ProposalError::Rejected(_)), "{error:?}");
    let elsewhere = real.gateway(&ORGANISATIONS).contract("elsewhere", "probe");
    let error = elsewhere.submit(&refused).await.unwrap_err();
    assert!(
        matches!(error, TransactionError::Proposal(ProposalError::Rejected(_))),
        "{error:?}"
    );
    let answer = contract
        .evaluate(&run(&json!([["answer_bytes", "20000000"]])))
        .await
        .unwrap();
    assert!(answer.len() > 20_000_000);
}

fn contested(number: usize) -> Call {
    run(&json!([
        ["get", "contested"],
        ["put", "contested", number.to_string()]
    ]))
}

pub async fn of_twelve_transactions_on_one_key_one_counts(real: &Real) {
    let contract = real.contract(&ORGANISATIONS);
    // All on the same state, however slow the machine is; then all at once.
    let endorsed =
        join_all((0..12).map(async |number| contract.endorse(&contested(number)).await.unwrap())).await;
    let codes = join_all(endorsed.iter().map(async |endorsed| {
        endorsed.submit().await.unwrap();
        endorsed.commit_status().await.unwrap().code
    }))
    .await;
    let count = |wanted| codes.iter().filter(|code| **code == wanted).count();
    assert_eq!(count(ValidationCode::VALID), 1, "{codes:?}");
    assert_eq!(count(ValidationCode::MVCC_READ_CONFLICT), 11, "{codes:?}");
    let done = join_all((12..24).map(async |number| contract.submit(&contested(number)).await)).await;
    assert!(done.iter().any(Result::is_ok), "{done:?}");
    let others = done.iter().filter_map(|done| done.as_ref().err());
    assert!(others.clone().all(TransactionError::is_conflict), "{done:?}");
    println!(
        "of twelve submitted in one call each, {} did not count",
        others.count()
    );
}

pub async fn conflicts_are_run_again_where_the_caller_says_so(real: &Real) {
    let contract = real.contract(&ORGANISATIONS);
    let retry = Retry {
        runs: 100,
        first: Duration::from_millis(200),
        most: Duration::from_secs(1),
    };
    let done =
        join_all((0..6).map(async |number| contract.submit_idempotent(&contested(number), &retry).await));
    for done in done.await {
        done.unwrap();
    }
}

pub async fn a_transaction_that_is_submitted_again_counts_once(real: &Real) {
    let contract = real.contract(&ORGANISATIONS);
    let endorsed = contract
        .endorse(&run(&json!([["put", "again", "1"]])))
        .await
        .unwrap();
    // In one block, perhaps, and certainly in a later one.
    let (first, second) = tokio::join!(endorsed.submit(), endorsed.submit());
    first.and(second).unwrap();
    let status = endorsed.commit_status().await.unwrap();
    assert_eq!(status.code, ValidationCode::VALID);
    endorsed.submit().await.unwrap();
    let after = contract
        .submit(&run(&json!([["put", "after", "1"]])))
        .await
        .unwrap();
    assert!(after.block > status.block);
    assert_eq!(endorsed.commit_status().await.unwrap(), status);
    let history = evaluate(&contract, json!([["history", "again"]])).await;
    assert_eq!(history[0].as_array().unwrap().len(), 1);
}

/// As after a crash between submission and block, of which the second run knows nothing but the nonce.
pub async fn a_transaction_that_is_proposed_again_counts_once(real: &Real) {
    let contract = real.contract(&ORGANISATIONS);
    let (nonce, call) = ([7; 24], run(&json!([["put", "proposed", "1"]])));
    let first = contract.endorse_under(nonce, &call).await.unwrap();
    let second = contract.endorse_under(nonce, &call).await.unwrap();
    assert_eq!(first.transaction_id(), &contract.transaction_id(&nonce));
    assert_eq!(first.transaction_id(), second.transaction_id());
    first.submit().await.unwrap();
    let status = first.commit_status().await.unwrap();
    assert_eq!(status.code, ValidationCode::VALID);
    second.submit().await.unwrap();
    let after = contract
        .submit(&run(&json!([["put", "after", "2"]])))
        .await
        .unwrap();
    assert!(after.block > status.block);
    assert_eq!(second.commit_status().await.unwrap(), status);
    let error = contract.endorse_under(nonce, &call).await.unwrap_err();
    assert!(error.is_duplicate(), "{error:?}");
    let height = real.gateway(&ORGANISATIONS).height(real.network.channel()).await;
    assert!(height.unwrap() > status.block);
    let history = evaluate(&contract, json!([["history", "proposed"]])).await;
    assert_eq!(history[0].as_array().unwrap().len(), 1);
}

pub async fn without_an_orderer_the_outcome_is_unknown_until_it_is_back(real: &mut Real) {
    let contract = real.contract_within(Deadlines {
        submit: Duration::from_secs(2),
        commit: Duration::from_secs(2),
        ..Deadlines::default()
    });
    let endorsed = contract
        .endorse(&run(&json!([["put", "patient", "1"]])))
        .await
        .unwrap();
    real.network.kill(ORDERER).await.unwrap();
    let error = endorsed.submit().await.unwrap_err();
    assert!(matches!(error, SubmitError::OutcomeUnknown { .. }), "{error:?}");
    let error = endorsed.commit_status().await.unwrap_err();
    assert!(matches!(error, CommitStatusError::Deadline { .. }), "{error:?}");
    real.network.start_again(ORDERER).await.unwrap();
    timeout(PATIENCE, async {
        while endorsed.submit().await.is_err() {
            sleep(LOOK_AGAIN).await;
        }
    })
    .await
    .expect("the orderer did not come back");
    let gateway = real.gateway(&ORGANISATIONS);
    let status = gateway.commit_status(real.network.channel(), endorsed.transaction_id());
    assert_eq!(status.await.unwrap().code, ValidationCode::VALID);
    let history = evaluate(&contract, json!([["history", "patient"]])).await;
    assert_eq!(history[0].as_array().unwrap().len(), 1);
}

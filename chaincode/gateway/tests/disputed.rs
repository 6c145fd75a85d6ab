//! Peers of a **simulated** network that say no while the chaincode does not: whose word counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/bench.rs"]
mod bench;
#[path = "../../shim/tests/support/probe.rs"]
mod probe;
#[path = "../../shim/tests/support/served.rs"]
mod served;

use bench::{Bench, put, run};
use fabric_gateway_client::{ProposalError, TransactionError};
use serde_json::json;

const NO: Option<(i32, &str)> = Some((403, "never"));

fn assert_disputed(error: &TransactionError, member: &str) {
    let TransactionError::Proposal(ProposalError::Disputed { own, refusal, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!((own.as_str(), refusal.message.as_str()), ("Org1MSP", "never"));
    assert!(
        error.to_string().contains(member),
        "it names who refused: {error}"
    );
}

#[tokio::test]
async fn one_that_refuses_is_passed_over_for_others_that_endorse() {
    let bench = Bench::start().await;
    for hostile in [1, 2] {
        bench.peers[hostile].refuse(NO);
        put(&bench.contract(), "a", "1").await.unwrap();
        bench.peers[hostile].refuse(None);
    }
}

#[tokio::test]
async fn what_others_refuse_and_the_own_member_does_not_is_not_decided() {
    let mut bench = Bench::start().await;
    let contract = bench.contract();
    bench.peers[1].refuse(NO);
    bench.peers[2].kill();
    let error = put(&contract, "a", "1").await.unwrap_err();
    assert_disputed(&error, "Org2MSP");
    assert!(!error.is_conflict() && error.unknown_outcome().is_none());
    bench.peers[2].restart().unwrap();
    put(&contract, "a", "1").await.unwrap();
}

/// The own gateway is out of reach, and another organisation's gateway asks its own peer first.
#[tokio::test]
async fn at_anothers_gateway_the_own_peer_is_asked_what_it_says() {
    let mut bench = Bench::start().await;
    let contract = bench.contract();
    bench.peers[0].close_gateway();
    for place in [1, 2] {
        bench.peers[place].refuse(NO);
    }
    let error = put(&contract, "a", "1").await.unwrap_err();
    assert_disputed(&error, "Org2MSP");
    bench.peers[1].refuse(None);
    bench.peers[0].refuse(Some((409, "taken")));
    for hostile in [None, NO] {
        bench.peers[1].refuse(hostile);
        let refused = contract.submit(&run(&json!([["put", "a", "1"]]))).await;
        match refused.unwrap_err() {
            TransactionError::Proposal(ProposalError::Refused(refusal)) => {
                assert_eq!(refusal.message, "taken", "the own member's word");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn all_that_the_caller_names_refuse_together_or_not_at_all() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let call = run(&json!([["put", "a", "1"]])).organisations(["Org2MSP", "Org3MSP"]);
    bench.peers[1].refuse(NO);
    let error = contract.submit(&call).await.unwrap_err();
    assert_disputed(&error, "Org2MSP");
    bench.peers[2].refuse(NO);
    let error = contract.submit(&call).await.unwrap_err();
    assert!(
        matches!(error, TransactionError::Proposal(ProposalError::Refused(_))),
        "{error:?}"
    );
}

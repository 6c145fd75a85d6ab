//! Calls of the client against the gateways of a **simulated** network: what each answer means.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/bench.rs"]
mod bench;
#[path = "support/keys.rs"]
mod keys;
#[path = "../../shim/tests/support/probe.rs"]
mod probe;
#[path = "../../shim/tests/support/served.rs"]
mod served;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bench::{Bench, PATIENCE, credentials, get, put, run};
use fabric_gateway_client::{
    Call, Clock, Config, Credentials, Deadlines, Gateway, P256Signer, ProposalError, Refusal, Retry,
    SignError, Signer, TransactionError, TransactionId, ValidationCode,
};
use fabric_shim::{Chaincode, Limits, Response, Server, Stub};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

fn refusal(status: i32, message: &str) -> Refusal {
    Refusal {
        status,
        message: message.to_owned(),
    }
}

#[tokio::test]
async fn what_is_submitted_is_in_its_block_and_seen_afterwards() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let committed = contract
        .submit(&run(&json!([["put", "a", "1"], ["who"]])))
        .await
        .unwrap();
    let answers: Value = serde_json::from_slice(&committed.result).unwrap();
    assert_eq!([&answers[1][0], &answers[1][1]], ["Org1MSP", "alice"]);
    assert_eq!(get(&contract, "a").await.unwrap(), "1");
    let status = bench
        .gateway()
        .commit_status("channel", &committed.transaction_id)
        .await
        .unwrap();
    assert_eq!(
        (status.block, status.code),
        (committed.block, ValidationCode::VALID)
    );
}

#[tokio::test]
async fn a_transaction_that_is_proposed_again_under_its_nonce_counts_once() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let (nonce, call) = ([7; 24], run(&json!([["put", "a", "1"]])));
    let first = contract.endorse_under(nonce, &call).await.unwrap();
    let second = contract.endorse_under(nonce, &call).await.unwrap();
    let id = contract.transaction_id(&nonce);
    assert_eq!([first.transaction_id(), second.transaction_id()], [&id, &id]);
    first.submit().await.unwrap();
    second.submit().await.unwrap();
    assert_eq!(first.commit_status().await.unwrap().code, ValidationCode::VALID);
    assert_eq!(bench.valid(id.as_str()), 1);
    let error = contract.endorse_under(nonce, &call).await.unwrap_err();
    assert!(error.is_duplicate(), "{error:?}");
    let refused = run(&json!([["refuse", "not today"]]));
    assert!(!contract.endorse(&refused).await.unwrap_err().is_duplicate());
}

#[tokio::test]
async fn a_peer_tells_how_many_blocks_it_has() {
    let bench = Bench::start().await;
    assert_eq!(bench.gateway().height("channel").await.unwrap(), 1);
    put(&bench.contract(), "a", "1").await.unwrap();
    assert_eq!(bench.gateway().height("channel").await.unwrap(), 2);
}

#[tokio::test]
async fn a_proposals_time_is_that_of_the_clock_that_was_given() {
    let bench = Bench::start().await;
    let time = std::time::UNIX_EPOCH + Duration::from_millis(1_767_225_600_250);
    let config = Config {
        clock: Clock::new(move || time),
        ..bench.config()
    };
    let gateway = Gateway::new(config, credentials("alice")).unwrap();
    put(&gateway.contract("channel", "probe"), "a", "1")
        .await
        .unwrap();
    let blocks = bench.network.blocks();
    let timestamp = blocks[0].transactions[0].0.timestamp;
    assert_eq!((timestamp.seconds, timestamp.nanos), (1_767_225_600, 250_000_000));
}

#[tokio::test]
async fn an_evaluation_writes_nothing() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    contract
        .evaluate(&run(&json!([["put", "a", "1"]])))
        .await
        .unwrap();
    assert_eq!(get(&contract, "a").await.unwrap(), Value::Null);
    assert!(bench.network.blocks().is_empty());
}

#[tokio::test]
async fn a_refusal_has_the_chaincodes_own_words() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let call = run(&json!([["refuse", "not today, thanks"]]));
    let expected = refusal(403, "not today, thanks");
    match contract.evaluate(&call).await {
        Err(ProposalError::Refused(refusal)) => assert_eq!(refusal, expected),
        other => panic!("{other:?}"),
    }
    match contract.submit(&call).await {
        Err(TransactionError::Proposal(ProposalError::Refused(refusal))) => assert_eq!(refusal, expected),
        other => panic!("{other:?}"),
    }
    match contract.evaluate(&Call::new("nothing")).await {
        Err(ProposalError::Refused(refusal)) => assert_eq!(refusal.status, 404),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_chaincode_that_panics_or_is_not_there_refuses_nothing() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let call = run(&json!([["panic"]]));
    for error in [
        contract.evaluate(&call).await.unwrap_err(),
        contract.endorse(&call).await.unwrap_err(),
    ] {
        assert!(matches!(error, ProposalError::Failed(_)), "{error:?}");
    }
    let absent = bench.gateway().contract("channel", "absent");
    let error = absent.evaluate(&call).await.unwrap_err();
    assert!(matches!(&error, ProposalError::Rejected(_)), "{error:?}");
    assert!(error.to_string().contains("no peers available"), "{error}");
}

/// Is not the same on any two peers.
struct Fickle(AtomicUsize);

#[fabric_shim::async_trait]
impl Chaincode for Fickle {
    async fn invoke(&self, stub: &Stub) -> Response {
        let number = self.0.fetch_add(1, Ordering::SeqCst).to_string();
        stub.put_state("number", number).await.map(|()| "").into()
    }
}

#[tokio::test]
async fn peers_that_endorse_different_results_are_told_from_a_refusal() {
    let bench = Bench::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stop = CancellationToken::new();
    let config = fabric_shim::Config {
        limits: Limits::default(),
        ..fabric_shim::Config::new(listener.local_addr().unwrap().to_string(), "fickle:0")
    };
    let deployment = fabric_sim::Deployment {
        name: "fickle".to_owned(),
        package_id: "fickle:0".to_owned(),
        dial: fabric_sim::Dial::plain(config.address.clone()),
        collections: Vec::new(),
    };
    let server = Server::new(Fickle(AtomicUsize::new(0)), config);
    let served = tokio::spawn(server.serve_on(listener, stop.clone()));
    bench.network.attach(&deployment).await.unwrap();
    let contract = bench.gateway().contract("channel", "fickle");
    let error = contract.submit(&Call::new("any")).await.unwrap_err();
    assert!(
        matches!(error, TransactionError::Proposal(ProposalError::Mismatch(_))),
        "{error:?}"
    );
    assert!(error.is_conflict() && error.unknown_outcome().is_none());
    stop.cancel();
    served.await.unwrap().unwrap();
}

fn contested(number: usize) -> Call {
    run(&json!([
        ["get", "contested"],
        ["put", "contested", number.to_string()]
    ]))
}

#[tokio::test]
async fn of_twelve_transactions_on_one_key_one_counts_and_eleven_are_told_why_not() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let endorsed = join_all((0..12).map(|number| {
        let contract = contract.clone();
        async move { contract.endorse(&contested(number)).await.unwrap() }
    }))
    .await;
    let codes = join_all(endorsed.iter().map(async |endorsed| {
        endorsed.submit().await.unwrap();
        endorsed.commit_status().await.unwrap().code
    }))
    .await;
    let count = |wanted| codes.iter().filter(|code| **code == wanted).count();
    assert_eq!(count(ValidationCode::VALID), 1, "{codes:?}");
    assert_eq!(count(ValidationCode::MVCC_READ_CONFLICT), 11, "{codes:?}");
}

#[tokio::test]
async fn a_conflict_is_run_again_only_where_the_caller_says_so() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let retry = Retry {
        runs: 100,
        first: Duration::from_millis(10),
        most: Duration::from_millis(40),
    };
    let done =
        join_all((0..12).map(async |number| contract.submit_idempotent(&contested(number), &retry).await))
            .await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");

    let (first, second) = (
        contract.endorse(&contested(100)).await.unwrap(),
        contract.submit(&contested(101)).await.unwrap(),
    );
    first.submit().await.unwrap();
    let status = first.commit_status().await.unwrap();
    assert_eq!(status.code, ValidationCode::MVCC_READ_CONFLICT);
    assert!(status.block > second.block);
    assert_eq!(get(&contract, "contested").await.unwrap(), "101");
}

#[tokio::test]
async fn a_refusal_is_not_run_again() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let never = Retry {
        runs: 1000,
        first: Duration::from_secs(1000),
        most: Duration::from_secs(1000),
    };
    let call = run(&json!([["refuse", "no"]]));
    let refused = timeout(PATIENCE, contract.submit_idempotent(&call, &never)).await;
    let error = refused.expect("it waits for another run").unwrap_err();
    assert!(
        matches!(error, TransactionError::Proposal(ProposalError::Refused(_))),
        "{error:?}"
    );
}

#[tokio::test]
async fn answers_and_arguments_far_beyond_four_mebibytes_pass() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let answer = contract
        .evaluate(&run(&json!([["answer_bytes", "20000000"]])))
        .await
        .unwrap();
    assert!(answer.len() > 20_000_000);
    put(&contract, "large", &"x".repeat(6_000_000)).await.unwrap();
    assert_eq!(
        get(&contract, "large").await.unwrap().as_str().unwrap().len(),
        6_000_000
    );
}

#[tokio::test]
async fn transient_data_reaches_the_chaincode() {
    let bench = Bench::start().await;
    let call = run(&json!([["transient", "t"]])).transient("t", "secret");
    let endorsed = bench.contract().endorse(&call).await.unwrap();
    assert_eq!(endorsed.result(), "[\"secret\"]");
    endorsed.submit().await.unwrap();
    assert!(endorsed.commit_status().await.unwrap().code.is_valid());
}

#[tokio::test]
async fn only_the_organisations_that_the_caller_names_endorse() {
    let bench = Bench::start().await;
    let call = run(&json!([["put", "a", "1"]])).organisations(["Org1MSP", "Org3MSP"]);
    bench.contract().submit(&call).await.unwrap();
    let call = run(&json!([["put", "a", "2"]])).organisations(["Org1MSP", "NobodyMSP"]);
    let error = bench.contract().submit(&call).await.unwrap_err();
    assert!(
        matches!(
            error,
            TransactionError::Proposal(ProposalError::Failed(_) | ProposalError::Rejected(_))
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_key_with_a_policy_is_written_with_its_endorsements_only() {
    let bench = Bench::with_blocks_every(Duration::from_millis(200)).await;
    keys::a_key_with_a_policy_is_written_with_its_endorsements_only(&bench.contract()).await;
}

#[tokio::test]
async fn a_gateway_that_returns_another_transaction_gets_no_signature() {
    let bench = Bench::start().await;
    bench.peers[0].faults().forge(1);
    let error = bench
        .contract()
        .submit(&run(&json!([["put", "a", "1"]])))
        .await
        .unwrap_err();
    match error {
        TransactionError::Proposal(ProposalError::Unintelligible { peer, reason }) => {
            assert_eq!(peer, bench.peers[0].address());
            assert_eq!(reason, "its call is not the one that was proposed");
        }
        other => panic!("{other:?}"),
    }
    assert!(bench.network.blocks().is_empty());
}

#[tokio::test]
async fn somebody_else_may_use_the_same_connections_and_a_renewed_certificate_counts_from_now_on() {
    let bench = Bench::start().await;
    let gateway = bench.gateway();
    let bob = gateway.acting_as(credentials("bob"));
    let who = async |gateway: &Gateway| {
        let contract = gateway.contract("channel", "probe");
        let answer = contract.evaluate(&run(&json!([["who"]]))).await.unwrap();
        serde_json::from_slice::<Value>(&answer).unwrap()[0][1].clone()
    };
    assert_eq!(
        (who(&gateway).await, who(&bob).await),
        (json!("alice"), json!("bob"))
    );
    gateway.renew(credentials("carol"));
    assert_eq!(
        (who(&gateway).await, who(&bob).await),
        (json!("carol"), json!("bob"))
    );
}

/// A key in hardware that does not answer.
struct Silent;

#[fabric_gateway_client::async_trait]
impl Signer for Silent {
    async fn sign_digest(&self, _: &[u8; 32]) -> Result<Vec<u8>, SignError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_signer_that_does_not_answer_holds_no_call_beyond_its_deadline() {
    let bench = Bench::start().await;
    let deadlines = Deadlines {
        evaluate: Duration::from_millis(50),
        ..Deadlines::default()
    };
    let silent = Credentials::new(credentials("alice").identity().clone(), Arc::new(Silent));
    let config = Config {
        deadlines,
        ..bench.config()
    };
    let gateway = Gateway::new(config, silent).unwrap();
    let contract = gateway.contract("channel", "probe");
    let error = contract.evaluate(&run(&json!([]))).await.unwrap_err();
    assert!(matches!(error, ProposalError::Sign(SignError::Late)), "{error:?}");
}

/// Signs with a key that is not the certificate's.
struct Borrowed(P256Signer);

#[fabric_gateway_client::async_trait]
impl Signer for Borrowed {
    async fn sign_digest(&self, digest: &[u8; 32]) -> Result<Vec<u8>, SignError> {
        self.0.sign_digest(digest).await
    }
}

#[tokio::test]
async fn a_signature_of_another_key_is_turned_away() {
    let bench = Bench::start().await;
    let mallory = fabric_sim::Client::new("Org1MSP", "mallory").unwrap();
    let borrowed = Borrowed(P256Signer::from_pem(&mallory.key).unwrap());
    let forged = Credentials::new(credentials("alice").identity().clone(), Arc::new(borrowed));
    let gateway = bench.gateway().acting_as(forged);
    let contract = gateway.contract("channel", "probe");
    for error in [
        contract.evaluate(&run(&json!([]))).await.unwrap_err(),
        contract.endorse(&run(&json!([]))).await.unwrap_err(),
    ] {
        assert!(matches!(error, ProposalError::Rejected(_)), "{error:?}");
    }
    let id = TransactionId::parse("0".repeat(64)).unwrap();
    let error = gateway.commit_status("channel", &id).await.unwrap_err();
    assert!(error.to_string().contains("was not told"), "{error}");
}

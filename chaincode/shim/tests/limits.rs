//! How much, how long and how many: what the shim does at each bound, and when it is asked to stop.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/probe.rs"]
mod probe;
#[path = "support/served.rs"]
mod served;
#[path = "support/talk.rs"]
mod talk;

use std::sync::atomic::Ordering;
use std::time::Duration;

use fabric_shim::MAX_MESSAGE_BYTES;
use fabric_sim::{Client, Deployment, EndorseError, LinkError, Network, Options, RawError, RawPeer};
use fabric_wire::protos::chaincode_message::Type;
use fabric_wire::protos::{ChaincodeInput, ChaincodeMessage};
use prost::Message as _;
use serde_json::json;
use served::{PATIENCE, Served};
use talk::{answers, limits, next, response, text, transaction, until, works};

#[tokio::test]
async fn a_handler_that_takes_too_long_is_answered_with_an_error() {
    let limits = limits(|limits| limits.transaction = Duration::from_secs(2));
    let served = Served::with("probe", limits, None).await;
    let mut peer = served.registered().await;
    peer.send(transaction("hangs", &json!([["hang"]])));
    assert_eq!(
        text(&next(&mut peer, Type::Error, "hangs").await),
        "the chaincode gave no answer in 2000 ms"
    );
    assert_eq!(served.hanging.load(Ordering::SeqCst), 0, "the handler is gone");
    // So does one whose peer does not answer; what the peer says later is for nobody.
    peer.send(transaction("unanswered", &json!([["get", "a"]])));
    next(&mut peer, Type::GetState, "unanswered").await;
    next(&mut peer, Type::Error, "unanswered").await;
    peer.send(response("unanswered", "late"));
    works(&mut peer, "unanswered").await;
}

#[tokio::test]
async fn handlers_of_a_dead_stream_do_not_outlive_it() {
    let limits = limits(|limits| limits.drain = Duration::from_millis(50));
    let served = Served::with("probe", limits, None).await;
    let peer = served.registered().await;
    peer.send(transaction("hangs", &json!([["hang"]])));
    until("the handler hangs", || served.hanging.load(Ordering::SeqCst) == 1).await;
    drop(peer);
    until("the handler is stopped", || {
        served.hanging.load(Ordering::SeqCst) == 0
    })
    .await;
}

#[tokio::test]
async fn a_message_above_the_limit_ends_the_stream_and_a_new_one_works() {
    let limits = limits(|limits| limits.message_bytes = 64 << 10);
    let served = Served::with("probe", limits, None).await;
    let mut peer = served.registered().await;
    peer.send(transaction("waits", &json!([["get", "a"]])));
    next(&mut peer, Type::GetState, "waits").await;
    peer.send(response("waits", &"x".repeat(65 << 10)));
    until("the call has failed", || {
        served.cut_off.load(Ordering::SeqCst) == 1
    })
    .await;
    let ended = peer.next(PATIENCE).await;
    assert!(matches!(&ended, Err(RawError::Broken(_))), "{ended:?}");
    works(&mut served.registered().await, "waits").await;
}

#[tokio::test]
async fn a_request_or_an_answer_above_the_limit_fails_alone() {
    let limits = limits(|limits| limits.message_bytes = 64 << 10);
    let served = Served::with("probe", limits, None).await;
    let mut peer = served.registered().await;
    peer.send(transaction("large", &json!([["try", "put_bytes", "k", "70000"]])));
    let refused = answers(&next(&mut peer, Type::Completed, "large").await);
    assert!(
        refused[0]["error"]
            .as_str()
            .is_some_and(|error| error.contains("the limit is 65536")),
        "{refused}"
    );
    peer.send(transaction("large", &json!([["answer_bytes", "70000"]])));
    assert!(text(&next(&mut peer, Type::Error, "large").await).contains("the limit is 65536"));
    works(&mut peer, "large").await;
}

/// Beside a value of so many bytes there is room in a message for its envelope.
const NEARLY_ALL: usize = MAX_MESSAGE_BYTES - 1024;

/// As [`next`], with the time that a hundred mebibytes take where much else runs.
async fn next_large(peer: &mut RawPeer, kind: Type) -> ChaincodeMessage {
    let message = peer.next(PATIENCE * 3).await.unwrap();
    assert_eq!(message.r#type(), kind, "{}", text(&message));
    message
}

#[tokio::test]
async fn arguments_and_values_of_nearly_a_hundred_mebibytes_pass_both_ways() {
    let served = Served::start("probe").await;
    let mut peer = served.registered().await;
    let steps = json!([["argument_length", "1"]]).to_string();
    let input = ChaincodeInput {
        args: vec!["run".into(), steps.into(), vec![b'x'; NEARLY_ALL].into()],
        ..ChaincodeInput::default()
    };
    peer.send(RawPeer::message(
        Type::Transaction,
        "argument",
        input.encode_to_vec(),
    ));
    drop(input);
    let completed = next_large(&mut peer, Type::Completed).await;
    assert_eq!(answers(&completed), json!([NEARLY_ALL]));

    let steps = json!([["length", "a"], ["put_bytes", "b", NEARLY_ALL.to_string()]]);
    peer.send(transaction("values", &steps));
    next(&mut peer, Type::GetState, "values").await;
    peer.send(RawPeer::message(Type::Response, "values", vec![b'x'; NEARLY_ALL]));
    assert!(next_large(&mut peer, Type::PutState).await.payload.len() > NEARLY_ALL);
    peer.send(response("values", ""));
    let completed = next_large(&mut peer, Type::Completed).await;
    assert_eq!(answers(&completed), json!([NEARLY_ALL, "done"]));
}

#[tokio::test]
async fn what_is_above_a_hundred_mebibytes_is_refused_with_the_limit() {
    let served = Served::start("probe").await;
    let mut peer = served.registered().await;
    let too_much = (MAX_MESSAGE_BYTES + 1).to_string();
    peer.send(transaction("puts", &json!([["try", "put_bytes", "k", too_much]])));
    let refused = answers(&next_large(&mut peer, Type::Completed).await);
    let said = refused[0]["error"].as_str().unwrap();
    assert!(said.contains("the limit is 104857600"), "{said}");
    peer.send(transaction("waits", &json!([["length", "a"]])));
    next(&mut peer, Type::GetState, "waits").await;
    peer.send(RawPeer::message(
        Type::Response,
        "waits",
        vec![b'x'; MAX_MESSAGE_BYTES],
    ));
    match peer.next(PATIENCE * 3).await {
        Err(RawError::Broken(status)) => {
            assert!(status.message().contains("the limit is: 104857600"), "{status}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(served.cut_off.load(Ordering::SeqCst), 1, "the call has failed");
    works(&mut served.registered().await, "waits").await;
}

#[tokio::test]
async fn a_peer_that_does_not_know_the_package_id_is_told_in_time() {
    let limits = limits(|limits| limits.registration = Duration::from_secs(3));
    let served = Served::with("probe", limits, None).await;
    let network = Network::with(Options {
        registration: PATIENCE,
        ..Options::default()
    });
    let deployment = Deployment {
        package_id: "probe:another".into(),
        ..served.deployment("probe", &[])
    };
    let refused = network.attach(&deployment).await;
    assert!(
        matches!(refused, Err(EndorseError::Link(LinkError::Ended))),
        "{refused:?}"
    );
    let mut peer = served.dial().open().await.unwrap();
    next(&mut peer, Type::Register, "").await;
    let ended = peer.next(PATIENCE).await;
    assert!(
        matches!(&ended, Err(RawError::Broken(status)) if status.message().contains("did not register")),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_transaction_too_many_is_answered_with_an_error() {
    let limits = limits(|limits| limits.transactions_per_stream = 1);
    let served = Served::with("probe", limits, None).await;
    let mut peer = served.registered().await;
    peer.send(transaction("first", &json!([["get", "a"]])));
    next(&mut peer, Type::GetState, "first").await;
    peer.send(transaction("second", &json!([["get", "a"]])));
    assert_eq!(
        text(&next(&mut peer, Type::Error, "second").await),
        "too many transactions run at once"
    );
    peer.send(response("first", "1"));
    next(&mut peer, Type::Completed, "first").await;
    works(&mut peer, "second").await;
}

#[tokio::test]
async fn a_shutdown_lets_transactions_end_and_takes_no_more() {
    let served = Served::start("probe").await;
    let mut peer = served.registered().await;
    let mut idle = served.registered().await;
    peer.send(transaction("runs", &json!([["get", "a"], ["get", "b"]])));
    next(&mut peer, Type::GetState, "runs").await;
    served.ask_to_stop();
    assert!(
        matches!(idle.next(PATIENCE).await, Err(RawError::Closed)),
        "a stream without transactions is closed"
    );
    peer.send(transaction("late", &json!([["get", "a"]])));
    assert_eq!(
        text(&next(&mut peer, Type::Error, "late").await),
        "the chaincode server shuts down"
    );
    peer.send(response("runs", "1"));
    next(&mut peer, Type::GetState, "runs").await;
    peer.send(response("runs", "2"));
    assert_eq!(
        answers(&next(&mut peer, Type::Completed, "runs").await),
        json!(["1", "2"])
    );
    assert!(matches!(peer.next(PATIENCE).await, Err(RawError::Closed)));
    served.ended().await.unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let limits = limits(|limits| limits.drain = Duration::from_millis(50));
    let served = Served::with("probe", limits, None).await;
    let mut peer = served.registered().await;
    peer.send(transaction("hangs", &json!([["hang"]])));
    until("the handler hangs", || served.hanging.load(Ordering::SeqCst) == 1).await;
    served.ask_to_stop();
    let ended = peer.next(PATIENCE).await;
    assert!(
        matches!(&ended, Err(RawError::Broken(status)) if status.message().contains("shut down")),
        "{ended:?}"
    );
    let hanging = std::sync::Arc::clone(&served.hanging);
    served.ended().await.unwrap();
    assert_eq!(hanging.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_chaincode_that_comes_back_is_taken_again() {
    let network = Network::start();
    let client = Client::new("Org1MSP", "alice").unwrap();
    let first = Served::start("probe").await;
    network.attach(&first.deployment("probe", &[])).await.unwrap();
    first.ask_to_stop();
    first.ended().await.unwrap();
    let proposal = network.propose(&client, "probe", &["run", "[]"]);
    assert!(matches!(
        network.evaluate(&proposal).await,
        Err(EndorseError::Link(LinkError::Ended))
    ));
    let second = Served::start("probe").await;
    network.attach(&second.deployment("probe", &[])).await.unwrap();
    assert_eq!(network.evaluate(&proposal).await.unwrap().status, 200);
    network.stop().await;
}

//! Speaking to the probe as a peer, message by message.
#![allow(dead_code, reason = "each test file uses its part")]

use fabric_shim::Limits;
use fabric_sim::RawPeer;
use fabric_wire::protos::chaincode_message::Type;
use fabric_wire::protos::{ChaincodeInput, ChaincodeMessage, Response};
use prost::Message as _;
use serde_json::{Value, json};

use super::served::PATIENCE;

/// A transaction of the probe.
pub fn transaction(txid: &str, steps: &Value) -> ChaincodeMessage {
    let args = vec!["run".into(), steps.to_string().into()];
    RawPeer::message(
        Type::Transaction,
        txid,
        ChaincodeInput {
            args,
            ..ChaincodeInput::default()
        }
        .encode_to_vec(),
    )
}

/// What a peer answers.
pub fn response(txid: &str, value: &str) -> ChaincodeMessage {
    RawPeer::message(Type::Response, txid, value.as_bytes().to_vec())
}

/// The next message, which must be of this type and transaction.
pub async fn next(peer: &mut RawPeer, kind: Type, txid: &str) -> ChaincodeMessage {
    let message = peer
        .next(PATIENCE)
        .await
        .unwrap_or_else(|error| panic!("{} of {txid}: {error}", kind.as_str_name()));
    let found = (message.r#type(), message.txid.as_str());
    assert_eq!(
        found,
        (kind, txid),
        "{}",
        String::from_utf8_lossy(&message.payload)
    );
    message
}

/// What the steps of a transaction that was endorsed gave.
pub fn answers(completed: &ChaincodeMessage) -> Value {
    let response = Response::decode(completed.payload.clone()).unwrap();
    assert_eq!(response.status, 200, "{}", response.message);
    serde_json::from_slice(&response.payload).unwrap()
}

/// The payload of an ERROR.
pub fn text(message: &ChaincodeMessage) -> String {
    String::from_utf8_lossy(&message.payload).into_owned()
}

/// The stream answers a whole transaction: nothing that went before has harmed it.
pub async fn works(peer: &mut RawPeer, txid: &str) {
    peer.send(transaction(txid, &json!([["get", "a"]])));
    next(peer, Type::GetState, txid).await;
    peer.send(response(txid, "value"));
    assert_eq!(
        answers(&next(peer, Type::Completed, txid).await),
        json!(["value"])
    );
}

/// Waits for a condition, with a deadline.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "still waiting until {what}"
        );
        tokio::task::yield_now().await;
    }
}

/// The default limits but for a change.
pub fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

//! What real peers said, said again: the shim answers a recorded stream as it did when it was recorded, message by message.
//!
//! `transcripts/README.md` tells where the streams come from.
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

use std::collections::BTreeSet;

use fabric_network::TranscriptLine;
use fabric_shim::Limits;
use fabric_wire::protos::ChaincodeMessage;
use prost::Message as _;
use serde::Deserialize;
use served::{PATIENCE, Served};
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct Recorded {
    fabric: String,
    package_id: String,
    lines: Vec<TranscriptLine>,
}

/// Plays the peer's part and compares the chaincode's; gives the types that were compared.
async fn replay(transcript: &str) -> BTreeSet<String> {
    let recorded: Recorded = serde_json::from_str(transcript).unwrap();
    assert!(recorded.fabric.starts_with("v3.1"), "{}", recorded.fabric);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let served = Served::on(listener, recorded.package_id, Limits::default(), None);
    let mut peer = served.dial().open().await.unwrap();
    let mut compared = BTreeSet::new();
    for (number, line) in recorded.lines.iter().enumerate() {
        let message = ChaincodeMessage::decode(hex::decode(&line.message).unwrap().as_slice()).unwrap();
        assert_eq!(message.r#type().as_str_name(), line.kind);
        if line.from == "peer" {
            peer.send(message);
            continue;
        }
        let said = peer
            .next(PATIENCE)
            .await
            .unwrap_or_else(|error| panic!("line {number}, {}: {error}", line.kind));
        assert_eq!(said, message, "line {number}, {}", line.kind);
        compared.insert(line.kind.clone());
    }
    compared
}

/// That the types were among those compared, so that a transcript that lost something is noticed.
fn has(compared: &BTreeSet<String>, kinds: &[&str]) {
    for kind in kinds.iter().chain(&["REGISTER", "COMPLETED"]) {
        assert!(
            compared.contains(*kind),
            "the transcript has no {kind}: {compared:?}"
        );
    }
}

#[tokio::test]
async fn a_peer_that_endorses_and_evaluates_is_answered_as_it_was() {
    let compared = replay(include_str!("transcripts/probe-evaluating-peer.json")).await;
    let reads = [
        "GET_STATE",
        "GET_STATE_MULTIPLE",
        "GET_STATE_METADATA",
        "GET_PRIVATE_DATA_HASH",
        "GET_QUERY_RESULT",
    ];
    let rows = [
        "GET_STATE_BY_RANGE",
        "GET_HISTORY_FOR_KEY",
        "QUERY_STATE_NEXT",
        "QUERY_STATE_CLOSE",
    ];
    has(&compared, &reads);
    has(&compared, &rows);
    has(&compared, &["INVOKE_CHAINCODE"]);
}

#[tokio::test]
async fn a_peer_that_endorses_is_answered_as_it_was() {
    let compared = replay(include_str!("transcripts/probe-endorsing-peer.json")).await;
    let writes = [
        "PUT_STATE",
        "DEL_STATE",
        "WRITE_BATCH_STATE",
        "PUT_STATE_METADATA",
        "PURGE_PRIVATE_DATA",
    ];
    has(&compared, &writes);
    has(&compared, &["INVOKE_CHAINCODE", "ERROR"]);
}

#[tokio::test]
async fn a_peer_that_runs_it_for_another_chaincode_is_answered_as_it_was() {
    let compared = replay(include_str!("transcripts/other-evaluating-peer.json")).await;
    has(&compared, &["PUT_STATE", "GET_STATE"]);
    has(
        &replay(include_str!("transcripts/other-endorsing-peer.json")).await,
        &["PUT_STATE"],
    );
}

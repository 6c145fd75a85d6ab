//! Which answer belongs to whom, and what the shim does when a peer or a handler does not behave: message by message.
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

use fabric_sim::{RawError, RawPeer};
use fabric_wire::protos::chaincode_message::Type;
use fabric_wire::protos::{ChaincodeMessage, GetState};
use prost::Message as _;
use serde_json::json;
use served::{PATIENCE, Served};
use talk::{answers, next, response, text, transaction, until, works};

#[tokio::test]
async fn answers_reach_the_transaction_they_are_for_in_whatever_order_they_come() {
    let served = Served::start("probe").await;
    let mut peer = served.registered().await;
    let txids: Vec<String> = (0..100).map(|number| format!("t{number}")).collect();
    for txid in &txids {
        peer.send(transaction(txid, &json!([["get", txid]])));
    }
    let mut asked = Vec::new();
    for _ in &txids {
        let message = peer.next(PATIENCE).await.unwrap();
        let request = GetState::decode(message.payload.clone()).unwrap();
        assert_eq!((message.r#type(), &request.key), (Type::GetState, &message.txid));
        asked.push(message.txid);
    }
    for txid in asked.iter().rev() {
        peer.send(response(txid, txid));
    }
    for _ in &txids {
        let completed = peer.next(PATIENCE).await.unwrap();
        assert_eq!(answers(&completed), json!([completed.txid]));
    }
}

#[tokio::test]
async fn the_same_transaction_id_on_two_channels_is_two_transactions() {
    let served = Served::start("probe").await;
    let mut peer = served.registered().await;
    for channel in ["one", "two"] {
        peer.send(ChaincodeMessage {
            channel_id: channel.into(),
            ..transaction("t", &json!([["get", "a"], ["where"]]))
        });
        assert_eq!(next(&mut peer, Type::GetState, "t").await.channel_id, channel);
    }
    for channel in ["two", "one"] {
        peer.send(ChaincodeMessage {
            channel_id: channel.into(),
            ..response("t", channel)
        });
        assert_eq!(
            answers(&next(&mut peer, Type::Completed, "t").await),
            json!([channel, [channel, 1]])
        );
    }
}

#[tokio::test]
async fn a_handler_that_panics_is_answered_with_an_error_and_harms_no_other() {
    let served = Served::start("probe").await;
    let mut peer = served.registered().await;
    peer.send(transaction("waits", &json!([["get", "a"]])));
    next(&mut peer, Type::GetState, "waits").await;
    peer.send(transaction("panics", &json!([["panic"]])));
    assert_eq!(
        text(&next(&mut peer, Type::Error, "panics").await),
        "the chaincode panicked"
    );
    peer.send(response("waits", "1"));
    assert_eq!(
        answers(&next(&mut peer, Type::Completed, "waits").await),
        json!(["1"])
    );
    works(&mut peer, "panics").await;
}

#[tokio::test]
async fn a_stream_that_the_peer_closes_fails_all_its_calls_and_no_others() {
    let served = Served::start("probe").await;
    let (mut dying, mut other) = (served.registered().await, served.registered().await);
    let pending = calls_are_pending(&mut dying).await;
    other.send(transaction("elsewhere", &json!([["get", "a"]])));
    next(&mut other, Type::GetState, "elsewhere").await;
    dying.hang_up();
    until("all calls have failed", || {
        served.cut_off.load(Ordering::SeqCst) == pending
    })
    .await;
    assert!(matches!(dying.next(PATIENCE).await, Err(RawError::Closed)));
    other.send(response("elsewhere", "1"));
    assert_eq!(
        answers(&next(&mut other, Type::Completed, "elsewhere").await),
        json!(["1"])
    );
    assert_eq!(served.cut_off.load(Ordering::SeqCst), pending);
}

#[tokio::test]
async fn a_stream_that_breaks_fails_all_its_calls() {
    let served = Served::start("probe").await;
    let mut dying = served.registered().await;
    let pending = calls_are_pending(&mut dying).await;
    drop(dying);
    until("all calls have failed", || {
        served.cut_off.load(Ordering::SeqCst) == pending
    })
    .await;
    works(&mut served.registered().await, "t").await;
}

/// Has calls of each kind wait for the peer's answer, of which one waits behind another of its transaction; how many transactions.
async fn calls_are_pending(peer: &mut RawPeer) -> usize {
    let calls = [
        (json!([["get", "a"]]), Type::GetState),
        (json!([["both", "a", "b"]]), Type::GetState),
        (json!([["put", "a", "1"]]), Type::PutState),
        (json!([["drop_after_first_of", "a", "b"]]), Type::GetStateByRange),
    ];
    let all: Vec<_> = calls.iter().cycle().take(40).collect();
    for (number, (steps, kind)) in all.iter().enumerate() {
        let txid = format!("t{number}");
        peer.send(transaction(&txid, steps));
        next(peer, *kind, &txid).await;
    }
    all.len()
}

#[tokio::test]
async fn keepalives_are_echoed_in_every_state_however_many_come() {
    let served = Served::start("probe").await;
    let mut peer = served.dial().open().await.unwrap();
    next(&mut peer, Type::Register, "").await;
    let keepalive = || ChaincodeMessage {
        r#type: Type::Keepalive.into(),
        ..ChaincodeMessage::default()
    };
    peer.send(keepalive());
    next(&mut peer, Type::Keepalive, "").await;
    peer.send(ChaincodeMessage {
        r#type: Type::Registered.into(),
        ..ChaincodeMessage::default()
    });
    peer.send(keepalive());
    next(&mut peer, Type::Keepalive, "").await;
    peer.send(ChaincodeMessage {
        r#type: Type::Ready.into(),
        ..ChaincodeMessage::default()
    });
    peer.send(transaction("waits", &json!([["get", "a"]])));
    next(&mut peer, Type::GetState, "waits").await;
    for _ in 0..10_000 {
        peer.send(keepalive());
    }
    peer.send(response("waits", "1"));
    let (mut echoes, mut completed) = (0, 0);
    while echoes + completed < 10_001 {
        match peer.next(PATIENCE).await.unwrap().r#type() {
            Type::Keepalive => echoes += 1,
            Type::Completed => completed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((echoes, completed), (10_000, 1));
}

#[tokio::test]
async fn messages_out_of_place_end_the_stream() {
    let served = Served::start("probe").await;
    for (kind, after_ready) in [
        (Type::Transaction, false),
        (Type::Response, false),
        (Type::Register, true),
        (Type::Completed, true),
    ] {
        let mut peer = served.dial().open().await.unwrap();
        if after_ready {
            peer.register(None, PATIENCE).await.unwrap();
        } else {
            next(&mut peer, Type::Register, "").await;
        }
        peer.send(RawPeer::message(kind, "t", Vec::new()));
        let ended = peer.next(PATIENCE).await;
        assert!(
            matches!(&ended, Err(RawError::Broken(status)) if status.message().contains("out of place")),
            "{kind:?}: {ended:?}"
        );
    }
}

#[tokio::test]
async fn answers_to_nothing_and_transactions_that_run_already_are_ignored() {
    let served = Served::start("probe").await;
    let mut peer = served.registered().await;
    peer.send(response("nobody", "1"));
    peer.send(transaction("t", &json!([["get", "a"]])));
    next(&mut peer, Type::GetState, "t").await;
    peer.send(transaction("t", &json!([["get", "b"]])));
    peer.send(response("t", "1"));
    peer.send(response("t", "2"));
    assert_eq!(
        answers(&next(&mut peer, Type::Completed, "t").await),
        json!(["1"])
    );
    works(&mut peer, "t").await;
}

#[tokio::test]
async fn an_input_that_is_none_is_answered_with_an_error() {
    let served = Served::start("probe").await;
    let mut peer = served.registered().await;
    peer.send(RawPeer::message(Type::Transaction, "t", vec![0xff]));
    assert!(text(&next(&mut peer, Type::Error, "t").await).contains("input cannot be decoded"));
    works(&mut peer, "t").await;
}

#[tokio::test]
async fn iterators_that_were_left_are_closed_before_the_next_request() {
    use fabric_wire::protos::{QueryResponse, QueryStateClose};
    let served = Served::start("probe").await;
    let mut peer = served.registered().await;
    peer.send(transaction(
        "t",
        &json!([["drop_after_first_of", "a", "b"], ["get", "a"]]),
    ));
    next(&mut peer, Type::GetStateByRange, "t").await;
    let first = QueryResponse {
        has_more: true,
        id: "it".into(),
        ..QueryResponse::default()
    };
    peer.send(RawPeer::message(Type::Response, "t", first.encode_to_vec()));
    // The first reply has no row, so the next is asked for.
    next(&mut peer, Type::QueryStateNext, "t").await;
    let row = fabric_wire::protos::Kv {
        key: "a1".into(),
        ..fabric_wire::protos::Kv::default()
    };
    let row = fabric_wire::protos::QueryResultBytes {
        result_bytes: row.encode_to_vec().into(),
    };
    let second = QueryResponse {
        results: vec![row],
        ..first
    };
    peer.send(RawPeer::message(Type::Response, "t", second.encode_to_vec()));
    let close = next(&mut peer, Type::QueryStateClose, "t").await;
    assert_eq!(QueryStateClose::decode(close.payload).unwrap().id, "it");
    peer.send(RawPeer::message(
        Type::Response,
        "t",
        QueryResponse::default().encode_to_vec(),
    ));
    next(&mut peer, Type::GetState, "t").await;
    peer.send(response("t", "1"));
    assert_eq!(
        answers(&next(&mut peer, Type::Completed, "t").await),
        json!(["a1", "1"])
    );
}

//! The shim against whatever a peer may say: messages out of place, answers that nobody asked for, payloads that are no message,
//! transactions that interleave.
//!
//! The input is a list of messages, each with its length before it, as prost writes them; or, where its first byte is odd, a script of
//! a peer that mostly keeps to the protocol. The clock stands still and jumps to the next deadline when nothing else can happen, so
//! that what would wait for a time-out ends, and a real hang is one.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use fabric_shim::{CallError, Chaincode, Limits, Paging, Response, Stub};
use fabric_wire::protos::chaincode_message::Type;
use fabric_wire::protos::{self, ChaincodeMessage};
use futures::StreamExt as _;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use std::collections::HashMap;
use std::sync::OnceLock;
use tokio::runtime::Runtime;

/// Most messages of one input.
const MOST: usize = 64;

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else {
        return;
    };
    let messages = if mode % 2 == 0 {
        recorded(rest)
    } else {
        scripted(rest)
    };
    served(messages);
});

fn recorded(data: &[u8]) -> Vec<ChaincodeMessage> {
    let mut data = Bytes::copy_from_slice(data);
    let mut messages = Vec::new();
    while !data.is_empty() && messages.len() < MOST {
        match ChaincodeMessage::decode_length_delimited(&mut data) {
            Ok(message) => messages.push(message),
            Err(_) => break,
        }
    }
    messages
}

/// What a peer says, mostly in order.
#[derive(Debug, Arbitrary)]
enum Said {
    Registered,
    Ready {
        writes: u16,
        reads: u16,
    },
    Transaction {
        number: u8,
        calls: Vec<u8>,
        proposal: Option<Vec<u8>>,
    },
    Init {
        number: u8,
        calls: Vec<u8>,
    },
    Value {
        number: u8,
        value: Vec<u8>,
    },
    Rows {
        number: u8,
        rows: Vec<(u8, Vec<u8>)>,
        more: bool,
    },
    Values {
        number: u8,
        values: Vec<Vec<u8>>,
    },
    Refused {
        number: u8,
        reason: Vec<u8>,
    },
    Keepalive,
    Any {
        number: u8,
        kind: u8,
        payload: Vec<u8>,
    },
}

fn scripted(data: &[u8]) -> Vec<ChaincodeMessage> {
    let said = Vec::<Said>::arbitrary_take_rest(Unstructured::new(data)).unwrap_or_default();
    let opening = [
        Said::Registered,
        Said::Ready {
            writes: 1000,
            reads: 1000,
        },
    ];
    opening
        .iter()
        .chain(said.iter().take(MOST))
        .map(message)
        .collect()
}

fn message(said: &Said) -> ChaincodeMessage {
    let (kind, number, payload) = match said {
        Said::Registered => (Type::Registered.into(), 0, Vec::new()),
        Said::Ready { writes, reads } => {
            let offer = protos::ChaincodeAdditionalParams {
                use_write_batch: *writes > 0,
                max_size_write_batch: u32::from(*writes),
                use_get_multiple_keys: *reads > 0,
                max_size_get_multiple_keys: u32::from(*reads),
            };
            (Type::Ready.into(), 0, offer.encode_to_vec())
        }
        Said::Transaction { number, calls, .. } => (Type::Transaction.into(), *number, input(calls)),
        Said::Init { number, calls } => (Type::Init.into(), *number, input(calls)),
        Said::Value { number, value } => (Type::Response.into(), *number, value.clone()),
        Said::Rows { number, rows, more } => {
            let row = |(key, value): &(u8, Vec<u8>)| {
                let pair = protos::Kv {
                    key: format!("k{key}"),
                    value: value.clone().into(),
                    ..protos::Kv::default()
                };
                protos::QueryResultBytes {
                    result_bytes: pair.encode_to_vec().into(),
                }
            };
            let answer = protos::QueryResponse {
                results: rows.iter().map(row).collect(),
                has_more: *more,
                id: "rows".to_owned(),
                ..protos::QueryResponse::default()
            };
            (Type::Response.into(), *number, answer.encode_to_vec())
        }
        Said::Values { number, values } => {
            let answer = protos::GetStateMultipleResult {
                values: values.iter().map(|value| value.clone().into()).collect(),
            };
            (Type::Response.into(), *number, answer.encode_to_vec())
        }
        Said::Refused { number, reason } => (Type::Error.into(), *number, reason.clone()),
        Said::Keepalive => (Type::Keepalive.into(), 0, Vec::new()),
        Said::Any {
            number,
            kind,
            payload,
        } => (i32::from(*kind), *number, payload.clone()),
    };
    let proposal = match said {
        Said::Transaction {
            proposal: Some(bytes),
            ..
        } => Some(protos::SignedProposal {
            proposal_bytes: bytes.clone().into(),
            signature: Bytes::new(),
        }),
        _ => None,
    };
    ChaincodeMessage {
        r#type: kind,
        payload: payload.into(),
        txid: format!("t{}", number % 4),
        channel_id: "channel".to_owned(),
        proposal,
        ..ChaincodeMessage::default()
    }
}

fn input(calls: &[u8]) -> Vec<u8> {
    let input = protos::ChaincodeInput {
        args: vec![Bytes::copy_from_slice(calls)],
        ..protos::ChaincodeInput::default()
    };
    input.encode_to_vec()
}

/// Makes a call for each byte of its first argument.
struct Caller;

#[fabric_shim::async_trait]
impl Chaincode for Caller {
    async fn invoke(&self, stub: &Stub) -> Response {
        let calls = stub.arguments().first().cloned().unwrap_or_default();
        for call in calls.iter().take(16) {
            if let Err(CallError::StreamEnded { .. }) = one(stub, *call).await {
                break;
            }
        }
        Response::success(Bytes::new())
    }
}

async fn one(stub: &Stub, call: u8) -> Result<(), CallError> {
    match call % 16 {
        0 => stub.get_state("a").await.map(drop),
        1 => stub.get_states(&["a", "b", "c"]).await.map(drop),
        2 => stub.put_state("a", "1").await,
        3 => stub.delete_state("a").await,
        4 => stub.get_state_metadata("a").await.map(drop),
        5 => stub.range("a", "z").await?.collect().await.map(drop),
        6 => {
            // Dropped after the first row.
            stub.range("a", "z").await?.next().await.map(drop)
        }
        7 => {
            let paging = Paging {
                rows: 3,
                bookmark: "",
            };
            stub.range_page("a", "z", &paging).await.map(drop)
        }
        8 => stub.history("a").await?.collect().await.map(drop),
        9 => stub
            .invoke_chaincode("other", None, &[Bytes::from_static(b"f")])
            .await
            .map(drop),
        10 => {
            let mut writer = stub.writer();
            writer
                .put("a", "1")?
                .delete("b")?
                .put_metadata("c", "note", "x")?;
            writer.flush().await
        }
        11 => {
            // The request is sent, and its answer not waited for.
            tokio::select! {
                biased;
                given = stub.get_state("a") => given.map(drop),
                () = tokio::task::yield_now() => Ok(()),
            }
        }
        12 => {
            let _ = stub.creator().map(|creator| creator.certificate().map(drop));
            let _ = (stub.timestamp(), stub.transient().map(|values| values.len()));
            Ok(())
        }
        13 => stub.private_data("secrets")?.get("a").await.map(drop),
        14 => stub.composite_range("type", &["a"]).await?.close().await,
        _ => {
            let _ = stub.set_event("event", Bytes::new());
            Ok(())
        }
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
    })
}

fn served(messages: Vec<ChaincodeMessage>) {
    let mut begun: HashMap<String, usize> = HashMap::new();
    for message in &messages {
        if matches!(message.r#type(), Type::Init | Type::Transaction) {
            *begun
                .entry(format!("{}/{}", message.channel_id, message.txid))
                .or_default() += 1;
        }
    }
    let inbound = futures::stream::iter(messages).then(|message| async {
        // Handlers run on between two messages.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        Ok(message)
    });
    let limits = Limits {
        message_bytes: 1 << 20,
        transactions_per_stream: 8,
        ..Limits::default()
    };
    let said = runtime().block_on(fabric_shim::fuzzing::serve(Caller, limits, Box::pin(inbound)));
    // A peer that closes the stream at once, or breaks it, may do so before REGISTER is sent.
    if let Some(Ok(first)) = said.first() {
        assert_eq!(first.r#type(), Type::Register, "a stream begins with REGISTER");
    }
    for message in said.iter().flatten() {
        if matches!(message.r#type(), Type::Completed | Type::Error) {
            let key = format!("{}/{}", message.channel_id, message.txid);
            let left = begun.get_mut(&key).expect("only what was begun is ended");
            *left = left.checked_sub(1).expect("a transaction is ended once");
        }
    }
}

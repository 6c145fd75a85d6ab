//! The contract on simulated peers: the suite, the names of the thesis, and what a client may send that is nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "support/answered.rs"]
mod answered;
#[path = "support/simulated.rs"]
mod simulated;

use answered::told;
use fabric_sim::{EndorseError, Options, ValidationCode};
use futures::future::join_all;
use leasehold_chaincode::{EventKind, Role};
use leasehold_conformance::{BenchError, cases, run, run_some};
use serde_json::{Value, json};
use simulated::{CHAINCODE, Simulated, with_certificate};

async fn network() -> Simulated {
    Simulated::start("simulated peers of Fabric", Options::default()).await
}

#[tokio::test]
async fn every_promise_holds_on_simulated_peers() {
    let bench = network().await;
    let report = run(&bench).await;
    println!("{report}");
    assert!(report.failed.is_empty() && report.skipped.is_empty(), "{report}");
    assert_eq!(
        bench.network.violations(),
        0,
        "one request of a transaction at a time"
    );
}

/// Every third case: the rest is the same but for how reads and writes travel.
#[tokio::test]
async fn promises_hold_side_by_side_on_simulated_peers_that_take_no_batches() {
    let options = Options {
        batches: None,
        ..Options::default()
    };
    let mut bench = Simulated::start("simulated peers before Fabric 3.1", options).await;
    bench.at_once = 4;
    let some: Vec<_> = cases().into_iter().step_by(3).collect();
    let report = run_some(&bench, &some).await;
    println!("{report}");
    assert!(report.failed.is_empty() && report.skipped.is_empty(), "{report}");
}

fn dataset(name: &str) -> String {
    let dataset = json!({
        "name": name, "metadata": { "title": "Texts" }, "policy": { "max_ttl_seconds": 3_600 },
        "volume_ciphertext": "AAAA", "key_version": 1,
    });
    dataset.to_string()
}

/// Commits as an organisation's administrator.
async fn committed(bench: &Simulated, msp: &str, arguments: &[&str]) -> Result<Value, BenchError> {
    let proposal = bench.propose(msp, Role::Administrator, arguments);
    let payload = bench.commit(&proposal).await?;
    Ok(serde_json::from_slice(&payload).unwrap())
}

async fn asked(bench: &Simulated, arguments: &[&str]) -> Result<Value, EndorseError> {
    let proposal = bench.propose("Org2MSP", Role::Member, arguments);
    let answer = bench.network.evaluate(&proposal).await?;
    Ok(serde_json::from_slice(&answer.payload).unwrap())
}

/// Status and code of a refusal.
async fn refused(bench: &Simulated, arguments: &[&str]) -> (i32, String) {
    match asked(bench, arguments).await {
        Err(EndorseError::Refused { status, message }) => {
            let document: Value = serde_json::from_str(&message).unwrap_or_else(|_| panic!("{message}"));
            assert!(
                document["message"].as_str().is_some_and(|text| text.len() > 10),
                "{message}"
            );
            (status, document["code"].as_str().unwrap().to_owned())
        }
        other => panic!("{arguments:?}: {other:?}"),
    }
}

#[tokio::test]
async fn the_thesis_functions_answer_under_their_own_names() {
    let bench = network().await;
    prepared(&bench).await;
    let alice = "a1".repeat(32);
    let before = bench.network.blocks().len();
    assert!(committed(&bench, "Org1MSP", &["InitLedger"]).await.unwrap()["contract"].is_u64());
    assert_eq!(
        asked(&bench, &["GetAllDataBlocks"]).await.unwrap()["items"],
        json!([]),
        "no samples"
    );
    committed(&bench, "Org1MSP", &["AddDataBlock", &dataset("texts")])
        .await
        .unwrap();
    let read = asked(&bench, &["ReadDataBlock", "texts"]).await.unwrap();
    assert_eq!(read["dataset"]["owner"], "Org1MSP");
    let changes = r#"{"metadata":{"title":"Texts, second edition"}}"#;
    let stranger = committed(&bench, "Org2MSP", &["UpdateDataBlock", "texts", changes]).await;
    assert!(stranger.unwrap_err().to_string().contains("only its owner"));
    committed(&bench, "Org1MSP", &["UpdateDataBlock", "texts", changes])
        .await
        .unwrap();
    assert_eq!(
        asked(&bench, &["DataBlockExists", "texts"]).await.unwrap(),
        json!(true)
    );
    let leased = committed(&bench, "Org2MSP", &["LeaseData", "texts", &alice])
        .await
        .unwrap();
    let lease = leased["result"]["id"].as_str().unwrap().to_owned();
    let taken = committed(&bench, "Org3MSP", &["LeaseData", "texts", &"b0".repeat(32)]).await;
    assert!(
        taken.unwrap_err().to_string().contains("leased to others"),
        "a taken dataset is not overwritten"
    );
    let early = committed(&bench, "Org1MSP", &["RemoveDataBlock", "texts"]).await;
    assert!(early.unwrap_err().to_string().contains("until its lease"));
    committed(&bench, "Org2MSP", &["ReleaseLease", &lease, &alice])
        .await
        .unwrap();
    let confirm = json!({ "command": "confirm_end", "lease": lease }).to_string();
    committed(&bench, "Org2MSP", &["submit", &confirm]).await.unwrap();
    committed(&bench, "Org1MSP", &["RemoveDataBlock", "texts"])
        .await
        .unwrap();
    assert_eq!(
        asked(&bench, &["DataBlockExists", "texts"]).await.unwrap(),
        json!(false)
    );
    assert_eq!(
        refused(&bench, &["ReadDataBlock", "texts"]).await,
        (404, "dataset_not_found".to_owned())
    );
    assert_eq!(
        bench.network.blocks().len(),
        before + 7,
        "what is refused is in no block"
    );
}

/// What every case stands on: the organisations have joined.
async fn prepared(bench: &Simulated) {
    let report = run_some(bench, &[]).await;
    assert!(report.failed.is_empty(), "{report}");
}

#[tokio::test]
async fn what_asks_for_nothing_is_refused_with_a_status_and_a_code() {
    let bench = network().await;
    let long = "x".repeat((1 << 20) + 1);
    for (arguments, status, code) in [
        (vec!["steal"], 404, "unknown_function"),
        (vec![""], 404, "unknown_function"),
        (vec!["submit"], 400, "malformed_arguments"),
        (vec!["submit", "{"], 400, "malformed_arguments"),
        (
            vec!["submit", r#"{"command":"steal"}"#],
            400,
            "malformed_arguments",
        ),
        (vec!["submit", "{}", "{}"], 400, "malformed_arguments"),
        (vec!["submit", &long], 400, "malformed_arguments"),
        (
            vec!["query", r#"{"question":"lease","lease":"../volume"}"#],
            400,
            "malformed_arguments",
        ),
        (vec!["ReadDataBlock", "no such"], 400, "malformed_arguments"),
        (
            vec!["submit", r#"{"command":"remove_dataset","dataset":"texts"}"#],
            403,
            "role_needed",
        ),
    ] {
        let shown = arguments.first().unwrap();
        assert_eq!(
            refused(&bench, &arguments).await,
            (status, code.to_owned()),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_caller_whose_certificate_says_nothing_sensible_is_refused() {
    let bench = network().await;
    let command = r#"{"command":"expire","lease":"00000000000000000000000000000000"}"#;
    let unit = "client";
    for client in [
        with_certificate("Org 1!", "space", unit, None),
        with_certificate(&"O".repeat(65), "long", unit, None),
        with_certificate(
            "Org1MSP",
            "king",
            unit,
            Some(r#"{"attrs":{"leasehold.role":"king"}}"#),
        ),
        with_certificate("Org1MSP", "list", unit, Some("[1]")),
    ] {
        let proposal = bench.network.propose(&client, CHAINCODE, &["submit", command]);
        match bench.network.evaluate(&proposal).await {
            Err(EndorseError::Refused { status: 403, message }) => {
                assert!(message.contains("\"code\":\"unknown_caller\""), "{message}");
            }
            other => panic!("{}: {other:?}", client.name),
        }
    }
}

#[tokio::test]
async fn of_those_who_lease_one_dataset_in_one_block_one_gets_it() {
    for count in [12, 100] {
        let bench = network().await;
        prepared(&bench).await;
        committed(&bench, "Org1MSP", &["AddDataBlock", &dataset("texts")])
            .await
            .unwrap();
        let endorsements = (0..count).map(async |number: usize| {
            let person = format!("{number:02x}").repeat(32);
            let msp = simulated::ORGANISATIONS[number % 3];
            bench
                .endorse(msp, &["LeaseData", "texts", &person])
                .await
                .unwrap()
        });
        let endorsed = join_all(endorsements).await;
        let codes: Vec<_> = bench
            .network
            .submit_block(endorsed)
            .iter()
            .map(|committed| committed.code)
            .collect();
        assert_eq!(codes[0], ValidationCode::Valid);
        assert_eq!(codes[1..], vec![ValidationCode::MvccReadConflict; count - 1]);
        let blocks = bench.network.blocks();
        let event = blocks.last().unwrap().transactions[0].0.event.clone().unwrap();
        assert_eq!(
            told(&event.payload).unwrap().events[0].kind,
            EventKind::LeaseGranted {}
        );
        let holders = asked(&bench, &["ReadDataBlock", "texts"]).await.unwrap()["status"]["holders"].take();
        assert_eq!(holders.as_array().unwrap().len(), 1);
        let late = committed(&bench, "Org2MSP", &["LeaseData", "texts", &"fe".repeat(32)]).await;
        assert!(late.unwrap_err().to_string().contains("leased to others"));
    }
}

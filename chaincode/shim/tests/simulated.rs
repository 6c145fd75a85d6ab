//! The shim against simulated peers: every call, many transactions at once, and several peers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/probe.rs"]
mod probe;
#[path = "support/served.rs"]
mod served;

use std::time::Duration;

use conformance::{Bench, conforms};
use fabric_sim::{Client, Network, Options, ValidationCode};
use serde_json::{Value, json};
use served::Served;

struct Simulated {
    network: Network,
    client: Client,
    _servers: Vec<Served>,
}

impl Simulated {
    async fn start(options: Options) -> Self {
        let network = Network::with(options);
        let mut servers = Vec::new();
        for name in ["probe", "other"] {
            let served = Served::start(name).await;
            network
                .attach(&served.deployment(name, &[("secrets", &["Org1MSP"])]))
                .await
                .unwrap();
            servers.push(served);
        }
        let client = Client::new("Org1MSP", "alice").unwrap();
        Self {
            network,
            client,
            _servers: servers,
        }
    }
}

impl Bench for Simulated {
    async fn submit(&self, steps: Value, transient: Option<(&str, &str)>) -> Result<Value, String> {
        let mut proposal = self
            .network
            .propose(&self.client, "probe", &["run", &steps.to_string()]);
        if let Some((name, value)) = transient {
            proposal = proposal.with_transient(name, value.to_owned());
        }
        let endorsed = self
            .network
            .endorse(&proposal)
            .await
            .map_err(|error| error.to_string())?;
        let answers =
            serde_json::from_slice(&endorsed.response.payload).map_err(|error| error.to_string())?;
        match self.network.submit(endorsed).unwrap().code {
            ValidationCode::Valid => Ok(answers),
            code => Err(format!("{code:?}")),
        }
    }

    async fn evaluate(&self, steps: Value) -> Result<Value, String> {
        let proposal = self
            .network
            .propose(&self.client, "probe", &["run", &steps.to_string()]);
        let response = self
            .network
            .evaluate(&proposal)
            .await
            .map_err(|error| error.to_string())?;
        serde_json::from_slice(&response.payload).map_err(|error| error.to_string())
    }

    async fn newest_event(&self) -> Option<(String, String)> {
        let blocks = self.network.blocks();
        let event = blocks.last()?.transactions.first()?.0.event.clone()?;
        Some((
            event.event_name,
            String::from_utf8_lossy(&event.payload).into_owned(),
        ))
    }
}

#[tokio::test]
async fn every_call_is_answered_by_peers_that_take_batches() {
    let bench = Simulated::start(Options::default()).await;
    conforms(&bench).await;
    assert_eq!(
        bench.network.violations(),
        0,
        "one request of a transaction at a time"
    );
}

#[tokio::test]
async fn every_call_is_answered_by_peers_that_take_none() {
    let bench = Simulated::start(Options {
        batches: None,
        ..Options::default()
    })
    .await;
    conforms(&bench).await;
    assert_eq!(bench.network.violations(), 0);
}

#[tokio::test]
async fn batches_are_no_greater_than_the_peer_takes() {
    let bench = Simulated::start(Options {
        batches: Some(7),
        ..Options::default()
    })
    .await;
    bench.submit(json!([["fill", "k", "100"]]), None).await.unwrap();
    let keys: Vec<String> = (0..100).map(|number| format!("k{number:05}")).collect();
    let mut step = vec!["get_many"];
    step.extend(keys.iter().map(String::as_str));
    let answers = bench.evaluate(json!([step])).await.unwrap();
    let expected: Value = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(answers[0], expected);
}

#[tokio::test]
async fn a_hundred_transactions_interleave_on_one_stream() {
    let bench = Simulated::start(Options::default()).await;
    bench.submit(json!([["fill", "k", "300"]]), None).await.unwrap();
    let all = (0..100).map(|number| {
        let key = format!("k{number:05}");
        let bench = &bench;
        async move {
            let own = format!("own{number}");
            let steps = json!([
                ["get", key],
                ["count", "k", "l"],
                ["put", own, key],
                ["get", key],
                ["where"]
            ]);
            bench.submit(steps, None).await
        }
    });
    for (number, answers) in futures::future::join_all(all).await.into_iter().enumerate() {
        let value = number.to_string();
        assert_eq!(
            answers.unwrap(),
            json!([value, 300, "done", value, ["channel", 64]])
        );
    }
    assert_eq!(bench.network.violations(), 0);
}

#[tokio::test]
async fn of_transactions_that_read_and_write_one_key_the_first_in_order_counts() {
    let bench = Simulated::start(Options::default()).await;
    bench
        .submit(json!([["put", "contested", "0"]]), None)
        .await
        .unwrap();
    let mut endorsed = Vec::new();
    for number in 1..=12 {
        let steps = json!([["get", "contested"], ["put", "contested", number.to_string()]]).to_string();
        let proposal = bench.network.propose(&bench.client, "probe", &["run", &steps]);
        endorsed.push(bench.network.endorse(&proposal).await.unwrap());
    }
    let codes: Vec<_> = bench
        .network
        .submit_block(endorsed)
        .iter()
        .map(|committed| committed.code)
        .collect();
    assert_eq!(codes[0], ValidationCode::Valid);
    assert_eq!(codes[1..], [ValidationCode::MvccReadConflict; 11]);
    assert_eq!(
        bench.evaluate(json!([["get", "contested"]])).await.unwrap(),
        json!(["1"])
    );
}

#[tokio::test]
async fn a_row_that_came_into_a_range_that_was_read_makes_the_transaction_invalid() {
    let bench = Simulated::start(Options::default()).await;
    let steps = json!([["count", "k", "l"], ["put", "seen", "none"]]).to_string();
    let proposal = bench.network.propose(&bench.client, "probe", &["run", &steps]);
    let late = bench.network.endorse(&proposal).await.unwrap();
    bench.submit(json!([["put", "k1", "1"]]), None).await.unwrap();
    assert_eq!(
        bench.network.submit(late).unwrap().code,
        ValidationCode::PhantomReadConflict
    );
}

#[tokio::test]
async fn the_client_is_who_signed_with_its_units_and_attributes() {
    let bench = Simulated::start(Options::default()).await;
    let attributes = r#"{"attrs":{"hf.Affiliation":"","role":"steward"}}"#;
    let bob = Client::with_attributes("Org2MSP", "bob", Some(attributes)).unwrap();
    let proposal = bench
        .network
        .propose(
            &bob,
            "probe",
            &["run", r#"[["who"],["when"],["transient","t"],["transient","u"]]"#],
        )
        .with_transient("t", "secret");
    let answer = bench.network.evaluate(&proposal).await.unwrap();
    let answers: Value = serde_json::from_slice(&answer.payload).unwrap();
    let who = json!(["Org2MSP", "bob", ["client"], { "hf.Affiliation": "", "role": "steward" }]);
    assert_eq!(answers, json!([who, proposal.timestamp.seconds, "secret", null]));
    let steps = r#"[["try","private_get","secrets","p"]]"#;
    let refused = bench
        .network
        .evaluate(&bench.network.propose(&bob, "probe", &["run", steps]))
        .await
        .unwrap();
    assert!(
        String::from_utf8_lossy(&refused.payload).contains("may not use collection"),
        "Org2 is no member"
    );
}

#[tokio::test]
async fn an_initialisation_reaches_the_chaincode() {
    let bench = Simulated::start(Options::default()).await;
    let proposal = bench
        .network
        .propose(
            &bench.client,
            "probe",
            &["run", r#"[["put","initialised","yes"]]"#],
        )
        .as_init();
    let endorsed = bench.network.endorse(&proposal).await.unwrap();
    assert_eq!(
        bench.network.submit(endorsed).unwrap().code,
        ValidationCode::Valid
    );
    assert_eq!(
        bench.evaluate(json!([["get", "initialised"]])).await.unwrap(),
        json!(["yes"])
    );
}

#[tokio::test]
async fn keepalives_in_between_disturb_nothing() {
    // Longer than the time between two keepalives passes before anything is looked at again, as on a machine with too much to do.
    let busy = tokio::spawn(async {
        loop {
            std::thread::sleep(Duration::from_millis(2));
            tokio::task::yield_now().await;
        }
    });
    let bench = Simulated::start(Options {
        keepalive: Duration::from_millis(1),
        ..Options::default()
    })
    .await;
    bench.submit(json!([["fill", "k", "250"]]), None).await.unwrap();
    assert_eq!(
        bench.evaluate(json!([["count", "k", "l"]])).await.unwrap(),
        json!([250])
    );
    busy.abort();
}

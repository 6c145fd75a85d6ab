//! The shim against real peers of Fabric, where `LEASEHOLD_FABRIC_BIN` names them: what only they can tell, that the simulated ones are
//! right.
//!
//! With `FABRIC_RECORD` set to a directory, the streams of this run are written there: see `transcripts/README.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "../examples/asset_transfer.rs"]
#[allow(dead_code, reason = "its main is the program's")]
mod asset_transfer;
#[path = "support/assets.rs"]
mod assets;
#[path = "support/authority.rs"]
mod authority;
#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/probe.rs"]
mod probe;
#[path = "support/served.rs"]
mod served;

use std::time::Instant;

use asset_transfer::AssetTransfer;
use assets::{Assets, assets_change_hands};
use conformance::{Bench, conforms};
use fabric_network::{Binaries, DialTls, Invocation, Network, SKIPPED, Tap, Transcript};
use fabric_shim::{Config, Limits, Server, TlsConfig};
use serde_json::{Value, json};
use served::Served;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

struct Real {
    network: Network,
}

impl Bench for Real {
    async fn submit(&self, steps: Value, transient: Option<(&str, &str)>) -> Result<Value, String> {
        let steps = steps.to_string();
        let invocation = Invocation {
            chaincode: "probe",
            arguments: &["run", &steps],
            transient,
        };
        let output = self
            .network
            .submit(&invocation)
            .await
            .map_err(|error| error.to_string())?;
        // The program prints the payload as a quoted string with escapes of its own; those of JSON are a part of them.
        let quoted = output
            .rsplit_once("payload:")
            .map(|(_, payload)| payload.trim())
            .unwrap_or_default();
        let payload: String = serde_json::from_str(quoted).map_err(|error| format!("{error}: {output}"))?;
        serde_json::from_str(&payload).map_err(|error| format!("{error}: {payload}"))
    }

    async fn evaluate(&self, steps: Value) -> Result<Value, String> {
        let steps = steps.to_string();
        let invocation = Invocation {
            chaincode: "probe",
            arguments: &["run", &steps],
            transient: None,
        };
        let payload = self
            .network
            .evaluate(&invocation)
            .await
            .map_err(|error| error.to_string())?;
        serde_json::from_slice(&payload)
            .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&payload)))
    }

    async fn newest_event(&self) -> Option<(String, String)> {
        let block = self.network.newest_block().await.unwrap();
        let events = &block["data"]["data"][0]["payload"]["data"]["actions"][0]["payload"]["action"]["proposal_response_payload"]
            ["extension"]["events"];
        let payload = base64_text(events["payload"].as_str()?);
        Some((events["event_name"].as_str()?.to_owned(), payload))
    }
}

fn base64_text(encoded: &str) -> String {
    use base64::Engine as _;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).unwrap()).unwrap()
}

/// Not a test of the usual harness: what is skipped must not be counted as passed.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    match Binaries::find().unwrap() {
        None => println!("{SKIPPED}"),
        Some(binaries) => {
            every_call_is_answered_by_real_peers(binaries).await;
            println!("test every_call_is_answered_by_real_peers ... ok");
        }
    }
}

async fn every_call_is_answered_by_real_peers(binaries: Binaries) {
    let start = Instant::now();
    let network = Network::start(binaries).await.unwrap();
    println!(
        "real Fabric {}: channel joined by every peer after {:?}",
        network.version().await.unwrap(),
        start.elapsed()
    );

    let stop = CancellationToken::new();
    let (mut servers, mut taps, mut streams) = (Vec::new(), Vec::new(), Vec::new());
    for name in ["probe", "other"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let tap = Tap::bind().await.unwrap();
        let chaincode = network.package(name, &tap.address(), None).await.unwrap();
        servers.push(Served::on(
            listener,
            chaincode.package_id.clone(),
            Limits::default(),
            None,
        ));
        streams.push(tap.streams());
        taps.push(tokio::spawn(tap.run(target, stop.clone())));
        network.deploy(&chaincode, &["secrets"]).await.unwrap();
        println!(
            "real Fabric: chaincode {name} defined after {:?}",
            start.elapsed()
        );
    }
    let bench = Real { network };
    let first = bench
        .submit(
            json!([["put", "first", "1"], ["delete", "first"], ["where"]]),
            None,
        )
        .await;
    assert_eq!(
        first.unwrap()[2],
        json!(["channel", 64]),
        "{}",
        bench.network.logs()
    );
    println!(
        "real Fabric: first transaction committed after {:?}",
        start.elapsed()
    );
    conforms(&bench).await;
    println!("real Fabric: every call answered after {:?}", start.elapsed());

    serves_real_peers_over_mutual_tls(&bench).await;
    println!("real Fabric: mutual TLS after {:?}", start.elapsed());
    serves_the_example(&bench).await;
    println!("real Fabric: the example after {:?}", start.elapsed());

    for (served, streams) in servers.iter().zip(&streams) {
        let mut recorded = streams.lock().unwrap().clone();
        assert_eq!(
            recorded.len(),
            fabric_network::ORGANISATIONS.len(),
            "a stream a peer"
        );
        recorded.sort_by_key(Vec::len);
        record(&bench.network, served, &recorded).await;
    }
    stop.cancel();
    for tap in taps {
        tap.await.unwrap().unwrap();
    }
    bench.network.stop().await.unwrap();
    for server in servers {
        server.ask_to_stop();
        server.ended().await.unwrap();
    }
}

/// A third chaincode, to which peers must show a certificate.
async fn serves_real_peers_over_mutual_tls(bench: &Real) {
    let (root, clients) = (authority::new(), authority::new());
    let (certificate, key) = authority::issued(&root, "127.0.0.1");
    let (client_certificate, client_key) = authority::issued(&clients, "peer");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dialling = DialTls {
        root: root.pem(),
        client_certificate,
        client_key,
    };
    let chaincode = bench
        .network
        .package("secured", &address, Some(&dialling))
        .await
        .unwrap();
    let tls = TlsConfig {
        certificate: certificate.into(),
        key: key.into(),
        client_ca: Some(clients.pem().into()),
    };
    let served = Served::on(
        listener,
        chaincode.package_id.clone(),
        Limits::default(),
        Some(tls),
    );
    bench.network.deploy(&chaincode, &[]).await.unwrap();
    let arguments = ["run", r#"[["put","a","1"],["who"]]"#];
    let invocation = Invocation {
        chaincode: "secured",
        arguments: &arguments,
        transient: None,
    };
    let output = bench.network.submit(&invocation).await.unwrap();
    assert!(
        output.contains("status:200") && output.contains("Org1MSP"),
        "{output}"
    );
    served.ask_to_stop();
    served.ended().await.unwrap();
}

/// The network, with the example on it.
struct Example<'a>(&'a Network);

impl Assets for Example<'_> {
    async fn submit(&self, arguments: &[&str]) -> Result<(), String> {
        let submitted = self.0.submit(&of_assets(arguments)).await;
        submitted.map(drop).map_err(|error| error.to_string())
    }

    async fn evaluate(&self, arguments: &[&str]) -> Result<String, String> {
        let answer = self.0.evaluate(&of_assets(arguments)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(answer).unwrap())
    }
}

fn of_assets<'a>(arguments: &'a [&'a str]) -> Invocation<'a> {
    Invocation {
        chaincode: "assets",
        arguments,
        transient: None,
    }
}

/// A fourth chaincode, the example.
async fn serves_the_example(bench: &Real) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let chaincode = bench.network.package("assets", &address, None).await.unwrap();
    let stop = CancellationToken::new();
    let server = Server::new(AssetTransfer, Config::new(address, chaincode.package_id.clone()));
    let server = tokio::spawn(server.serve_on(listener, stop.clone()));
    bench.network.deploy(&chaincode, &[]).await.unwrap();
    assets_change_hands(&Example(&bench.network)).await;
    stop.cancel();
    server.await.unwrap().unwrap();
}

/// Writes down the longest and the shortest of a chaincode's streams, where the environment says where.
async fn record(network: &Network, served: &Served, by_length: &[Transcript]) {
    let Some(directory) = std::env::var_os("FABRIC_RECORD") else {
        return;
    };
    let version = network.version().await.unwrap();
    let name = served.package_id.split(':').next().unwrap();
    for (which, lines) in [("endorsing", by_length.first()), ("evaluating", by_length.last())] {
        let path = std::path::Path::new(&directory).join(format!("{name}-{which}-peer.json"));
        let transcript =
            json!({ "fabric": version, "package_id": served.package_id, "lines": lines.unwrap() });
        std::fs::write(&path, format!("{transcript:#}\n")).unwrap();
    }
}

//! Leases beside transactions that do nothing, through the same shim, on the same real peers; prints a table.
//!
//!     LEASEHOLD_FABRIC_BIN=/path/to/bin cargo bench -p leasehold-chaincode-service --bench fabric
//!
//! Orderer, three peers, both chaincodes and the client share the machine. Rounds of both kinds take turns; what a lease needs before
//! (a dataset of its own) is registered outside of the rounds. Fails where the server holds more than 40 MiB.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "../tests/support/answered.rs"]
mod answered;
#[path = "../tests/support/real.rs"]
mod real;

use fabric_gateway_client::{Call, Contract};
use fabric_network::{Binaries, Network, SKIPPED};
use fabric_shim::{Chaincode, Config, Response, Server, Stub};
use futures::stream::{self, StreamExt};
use leasehold_chaincode::Role;
use real::{Real, Served, free_address};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 5;
/// Most memory of the server under leases: it is built here as it is released.
const RESIDENT_KIB: u64 = 40 * 1_024;

struct Nothing;

#[fabric_shim::async_trait]
impl Chaincode for Nothing {
    async fn invoke(&self, _: &Stub) -> Response {
        Response::success("")
    }
}

/// Submits all of them, so many at once; transactions a second. None may fail.
async fn rate(contract: &Contract, calls: Vec<Call>, at_once: usize) -> f64 {
    let (count, start) = (calls.len(), Instant::now());
    stream::iter(calls)
        .map(async |call| {
            let mut last = String::new();
            for _ in 0..100 {
                match contract.submit(&call).await {
                    Ok(_) => return,
                    // Peers that are a block behind the others endorse something else.
                    Err(error) if error.unknown_outcome().is_none() => {
                        last = error.to_string();
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            panic!("a transaction is refused for ever: {last}");
        })
        .buffer_unordered(at_once)
        .collect::<Vec<()>>()
        .await;
    f64::from(u32::try_from(count).unwrap()) / start.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn dataset(name: &str) -> Call {
    let dataset = json!({
        "name": name, "metadata": { "title": "Texts" }, "policy": { "max_ttl_seconds": 3_600 },
        "volume_ciphertext": "AAAA", "key_version": 1,
    });
    Call::new("AddDataBlock").argument(dataset.to_string())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some(binaries) = Binaries::find().unwrap() else {
        println!("{SKIPPED}");
        return;
    };
    let network = Network::start(binaries).await.unwrap();
    let served = {
        let address = free_address();
        let package = network.package("leasehold", &address, None).await.unwrap();
        let served = Served::start(&package, &address).await;
        network.deploy(&package, &[]).await.unwrap();
        served
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let package = network.package("nothing", &address, None).await.unwrap();
    let stop = CancellationToken::new();
    let config = Config::new(address, package.package_id.clone());
    let nothing = tokio::spawn(Server::new(Nothing, config).serve_on(listener, stop.clone()));
    network.deploy(&package, &[]).await.unwrap();

    let real = Real::connect(&network, "leasehold").await;
    let idle = Real::connect(&network, "nothing").await;
    let join = json!({ "command": "join_consortium", "broker": "https://broker.example.org" });
    let cluster = json!({ "command": "register_cluster", "name": "main" });
    for command in [join, cluster] {
        let call = Call::new("submit").argument(command.to_string());
        real.commit("Org1MSP", Role::Administrator, &call).await.unwrap();
    }
    idle.commit("Org1MSP", Role::Administrator, &Call::new("nothing"))
        .await
        .unwrap();
    let (leasing, idling) = (
        real.chaincode("Org1MSP", Role::Administrator),
        idle.chaincode("Org1MSP", Role::Administrator),
    );
    println!(
        "Fabric {}, three peers; {ROUNDS} rounds of each, in turns; medians",
        network.version().await.unwrap()
    );
    println!("| at once | no-op/s | leases/s | leases ÷ no-op | server's memory, KiB |");
    println!("|---|---|---|---|---|");
    for at_once in [1, 16, 64] {
        let each = 8 * at_once.max(4);
        let (mut no_ops, mut leases) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let names: Vec<_> = (0..each)
                .map(|number| format!("d-{at_once}-{round}-{number}"))
                .collect();
            rate(&leasing, names.iter().map(|name| dataset(name)).collect(), 64).await;
            let person = |number: usize| format!("{number:04x}").repeat(16);
            let calls = names.iter().enumerate().map(|(number, name)| {
                Call::new("LeaseData")
                    .argument(name.clone())
                    .argument(person(number))
            });
            let calls = calls.collect();
            no_ops.push(rate(&idling, vec![Call::new("nothing"); each], at_once).await);
            leases.push(rate(&leasing, calls, at_once).await);
        }
        let (no_ops, leases) = (median(no_ops), median(leases));
        let resident = served.resident_kib();
        println!(
            "| {at_once} | {no_ops:.1} | {leases:.1} | {:.2} | {resident} |",
            leases / no_ops
        );
        assert!(
            resident <= RESIDENT_KIB,
            "the server holds {resident} KiB, more than {RESIDENT_KIB}"
        );
    }
    for bench in [real, idle] {
        bench.stop().await;
    }
    served.stop().await;
    network.stop().await.unwrap();
    stop.cancel();
    nothing.await.unwrap().unwrap();
}

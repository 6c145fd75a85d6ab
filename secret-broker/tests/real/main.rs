//! The broker on **real** peers of Fabric, where `LEASEHOLD_FABRIC_BIN` names them: two organisations' brokers as their operators run
//! them, the contract as a service, and servers that are killed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout
)]

#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../broker/fixture.rs"]
mod fixture;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../broker/issuer.rs"]
mod issuer;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../channel/story.rs"]
mod story;

use std::time::{Duration, Instant};

use fabric_network::{Binaries, Network, ORDERER, SKIPPED};
use fabric_shim::{Config, Server};
use fixture::{Fixture, Setting, eventually, registration};
use leasehold_chaincode::Contract;
use leasehold_chaincode_service::LeaseholdChaincode;
use serde_json::json;
use story::{heartbeat, watch};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Not a test of the usual harness: what is skipped must not be counted as passed.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some(binaries) = Binaries::find().unwrap() else {
        println!("{SKIPPED}");
        return;
    };
    let start = Instant::now();
    let mut network = Network::start(binaries).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let package = network.package("leasehold", &address, None).await.unwrap();
    let stop = CancellationToken::new();
    let server = Server::new(
        LeaseholdChaincode::new(Contract::FABRIC),
        Config::new(address, package.package_id.clone()),
    );
    let served = tokio::spawn(server.serve_on(listener, stop.clone()));
    network.deploy(&package, &[]).await.unwrap();
    println!(
        "real Fabric {}: chaincode defined after {:.1?}",
        network.version().await.unwrap(),
        start.elapsed()
    );

    let profiles = tempfile::tempdir().unwrap();
    let one = broker(&network, &profiles, ["Org1", "Org2"]).await;
    let two = broker(&network, &profiles, ["Org2", "Org1"]).await;
    println!("real Fabric: two brokers ready after {:.1?}", start.elapsed());
    let begun = Instant::now();
    story::a_dataset_goes_its_way(&one, &two, "texts").await;
    println!("test a_dataset_goes_its_way ... ok, in {:.1?}", begun.elapsed());
    let begun = Instant::now();
    for round in 0..5 {
        story::of_two_who_race_one_gets_it(&one, &two, &format!("race-{round}")).await;
    }
    println!(
        "test of_two_who_race_one_gets_it, 5 rounds ... ok, in {:.1?}",
        begun.elapsed()
    );
    what_is_accepted_is_committed_many_at_once(&one).await;
    of_accepted_work_none_is_lost_or_doubled_when_the_broker_is_killed(&one).await;
    without_an_ordering_service_accepted_work_waits(&mut network, &one).await;
    while_the_own_peer_is_down_nothing_is_read(&mut network, &one).await;
    println!("real Fabric: all of it after {:.1?}", start.elapsed());
    drop((one, two));
    stop.cancel();
    served.await.unwrap().unwrap();
    network.stop().await.unwrap();
}

/// A broker of the first organisation that asks the peers of these.
async fn broker(network: &Network, profiles: &tempfile::TempDir, organisations: [&str; 2]) -> Fixture {
    let administrator = network.administrator(organisations[0]).unwrap();
    let peers = organisations.map(|name| {
        let peer = network.peer(name).unwrap();
        json!({ "address": peer.address, "roots": peer.roots })
    });
    let profile = json!({
        "channel": network.channel(),
        "msp": administrator.msp_id,
        "certificate": administrator.certificate,
        "key": administrator.key,
        "peers": peers,
        "deadlines": { "submit_seconds": 5, "commit_seconds": 10 },
    });
    let path = profiles.path().join(format!("{}.json", administrator.msp_id));
    std::fs::write(&path, profile.to_string()).unwrap();
    let setting = Setting {
        organisation: administrator.msp_id,
        arguments: vec!["--ledger".to_owned(), format!("fabric:{}", path.display())],
        ..Setting::default()
    };
    Fixture::start_with(setting).await
}

async fn registered(broker: &Fixture, names: &[String]) -> Vec<(String, fixture::Answer)> {
    let steward = broker.person("steward");
    let mut accepted = Vec::new();
    for name in names {
        let answer = broker
            .call("POST", "/v1/datasets", &steward, Some(registration(name)))
            .await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        accepted.push((name.clone(), answer));
    }
    accepted
}

async fn succeeded(broker: &Fixture, accepted: &[(String, fixture::Answer)]) {
    let steward = broker.person("steward");
    for (name, answer) in accepted {
        let operation = broker.decided(answer, &steward).await;
        assert_eq!(operation["status"], "succeeded", "{name}: {operation}");
        let history = broker
            .call("GET", &format!("/v1/datasets/{name}/history"), &steward, None)
            .await;
        let events = history.body["items"].as_array().map(Vec::len);
        assert_eq!(events, Some(1), "{name}: {}", history.body);
    }
}

async fn what_is_accepted_is_committed_many_at_once(broker: &Fixture) {
    let names: Vec<_> = (0..30).map(|i| format!("many-{i}")).collect();
    let begun = Instant::now();
    let accepted = registered(broker, &names).await;
    let took = begun.elapsed();
    succeeded(broker, &accepted).await;
    println!(
        "test what_is_accepted_is_committed_many_at_once ... ok, {} registrations accepted in {took:.1?} and committed in {:.1?}",
        names.len(),
        begun.elapsed()
    );
}

async fn of_accepted_work_none_is_lost_or_doubled_when_the_broker_is_killed(broker: &Fixture) {
    let begun = Instant::now();
    let mut all = Vec::new();
    for (round, wait_ms) in [0, 40, 90, 140, 190, 240].into_iter().enumerate() {
        let names: Vec<_> = (0..2).map(|i| format!("killed-{round}-{i}")).collect();
        all.extend(registered(broker, &names).await);
        // Where in its way the work is when the broker dies is what is tried here, not waited for.
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        broker.kill();
        broker.run().await;
    }
    succeeded(broker, &all).await;
    println!(
        "test of_accepted_work_none_is_lost_or_doubled_when_the_broker_is_killed, {} kills ... ok, in {:.1?}",
        6,
        begun.elapsed()
    );
}

async fn without_an_ordering_service_accepted_work_waits(network: &mut Network, broker: &Fixture) {
    let begun = Instant::now();
    network.kill(ORDERER).await.unwrap();
    let accepted = registered(broker, &["patient".to_owned()]).await;
    let before = broker.log().len();
    eventually("the broker to say that it cannot submit", async || {
        broker.log()[before..]
            .contains("could not decide an operation")
            .then_some(())
    })
    .await;
    network.start_again(ORDERER).await.unwrap();
    let back = Instant::now();
    succeeded(broker, &accepted).await;
    println!(
        "test without_an_ordering_service_accepted_work_waits ... ok, in {:.1?}, {:.1?} after the orderer was back",
        begun.elapsed(),
        back.elapsed()
    );
}

/// The other organisation's peer is in the profile, and answers for its own organisation only.
async fn while_the_own_peer_is_down_nothing_is_read(network: &mut Network, broker: &Fixture) {
    let begun = Instant::now();
    let mut stream = watch(broker).await;
    heartbeat(&mut stream).await;
    let alice = broker.person("alice");
    let status = async || {
        broker
            .call("GET", "/v1/datasets/patient", &alice, None)
            .await
            .status
    };
    network.kill("Org1").await.unwrap();
    eventually("questions to be refused", async || {
        (status().await == 503).then_some(())
    })
    .await;
    network.start_again("Org1").await.unwrap();
    let back = Instant::now();
    eventually("the own peer to answer", async || {
        (status().await == 200).then_some(())
    })
    .await;
    let answered = back.elapsed();
    heartbeat(&mut stream).await;
    let vouched = back.elapsed();
    let accepted = registered(broker, &["afterwards".to_owned()]).await;
    succeeded(broker, &accepted).await;
    println!(
        "test while_the_own_peer_is_down_nothing_is_read ... ok, in {:.1?}: answered {answered:.1?} after it was back, a heartbeat after {vouched:.1?}",
        begun.elapsed()
    );
}

//! The contract on three real peers of Fabric, where `LEASEHOLD_FABRIC_BIN` names them: the suite, and a race.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "../support/alone.rs"]
mod alone;
#[path = "../support/answered.rs"]
mod answered;
#[path = "../support/real.rs"]
mod real;

mod audit;
mod client;
mod fourth;
mod kills;
mod lessees;
mod race;
mod upgrade;

use alone::{Peers, no_organisation_alone_grants_or_ends_a_lease_of_anothers_dataset};
use fabric_gateway_client::{Call, Contract as Chaincode, TransactionId};
use fabric_network::{Binaries, Chaincode as Package, Chosen, Network, SKIPPED};
use fourth::a_fourth_organisation_takes_part_and_what_it_leaves_behind_can_be_ended;
use kills::no_lease_is_lost_or_doubled_while_servers_are_killed;
use leasehold_chaincode::{Contract, Role};
use leasehold_chaincode_service::LeaseholdChaincode;
use leasehold_conformance::{cases, run, run_some};
use race::of_those_who_lease_one_dataset_at_once_one_gets_it;
use real::{Real, Served, free_address};
use std::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use upgrade::leases_outlive_an_upgrade_and_the_old_service_is_asked_no_more;

/// Name of the contract on the channel.
const CHAINCODE: &str = "leasehold";
/// Name of a second one, which a peer of any organisation endorses alone, but for keys with a policy of their own.
const ANYBODY: &str = "anybody";
/// Name of a third one, in which leases end by time soon after their expiry: half an hour is more than a proposal's time can be apart.
const HASTY: &str = "hasty";
const HASTY_MARGIN_MS: i64 = 60_000;
/// Memory that the program may hold after all of it, KiB.
const RESIDENT_KIB: u64 = 40 * 1024;

/// Not a test of the usual harness: what is skipped must not be counted as passed. Arguments choose tests by a part of their name.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some(binaries) = Binaries::find().unwrap() else {
        println!("{SKIPPED}");
        return;
    };
    let chosen = Chosen::by_arguments();
    let mut network = Network::start(binaries).await.unwrap();
    let (package, mut served) = deployed(&network, CHAINCODE, None).await;
    let real = Real::connect(&network, CHAINCODE).await;
    // Peers have to hear of each other first.
    let begun = Instant::now();
    while let Err(error) = real
        .commit("Org1MSP", Role::Member, &Call::new("InitLedger"))
        .await
    {
        assert!(begun.elapsed() < real::PATIENCE, "{error}: {}", network.logs());
        tokio::time::sleep(real::LOOK_AGAIN).await;
    }
    let version = network.version().await.unwrap();
    println!(
        "real Fabric {version}: first transaction committed after {:.1?}",
        chosen.start().elapsed()
    );
    let joined = run_some(&real, &[]).await;
    assert!(joined.failed.is_empty(), "{joined}");
    macro_rules! promise {
        ($name:ident, $kept:expr) => {
            fabric_network::promise!(chosen, $name, $kept)
        };
    }
    promise!(
        every_promise_within_the_time_that_real_peers_take_holds,
        every_promise_holds(&network, &real).await
    );
    promise!(of_those_who_lease_one_dataset_at_once_one_gets_it, {
        of_those_who_lease_one_dataset_at_once_one_gets_it(&real, 12).await;
        of_those_who_lease_one_dataset_at_once_one_gets_it(&real, 100).await;
    });
    promise!(
        no_organisation_alone_grants_or_ends_a_lease_of_anothers_dataset,
        {
            let anyone = "OR('Org1MSP.peer','Org2MSP.peer','Org3MSP.peer')";
            let (_, served) = deployed(&network, ANYBODY, Some(anyone)).await;
            let anybody = Real::connect(&network, ANYBODY).await;
            let joined = run_some(&anybody, &[]).await;
            assert!(joined.failed.is_empty(), "{joined}");
            no_organisation_alone_grants_or_ends_a_lease_of_anothers_dataset(&anybody).await;
            anybody.stop().await;
            served.stop().await;
        }
    );
    promise!(
        leases_outlive_an_upgrade_and_the_old_service_is_asked_no_more,
        leases_outlive_an_upgrade_and_the_old_service_is_asked_no_more(&network).await
    );
    promise!(
        no_lease_is_lost_or_doubled_while_servers_are_killed,
        served = no_lease_is_lost_or_doubled_while_servers_are_killed(&mut network, CHAINCODE, served).await
    );
    promise!(
        a_fourth_organisation_takes_part_and_what_it_leaves_behind_can_be_ended,
        a_fourth_organisation_takes_part_and_what_it_leaves_behind_can_be_ended(&mut network, &package).await
    );

    let resident = served.resident_kib();
    println!("real Fabric: the program holds {resident} KiB after all of it");
    assert!(
        cfg!(debug_assertions) || resident <= RESIDENT_KIB,
        "{resident} KiB"
    );
    real.stop().await;
    served.stop().await;
    network.stop().await.unwrap();
}

/// The suite, and what of it needs more time than a client of real peers has, in a contract with a shorter margin.
async fn every_promise_holds(network: &Network, real: &Real) {
    let report = run(real).await;
    println!("{report}");
    assert!(report.failed.is_empty(), "{report}");
    assert!(report.passed.len() >= 120, "{report}");
    let skipped: Vec<_> = report.skipped.iter().map(|(id, _)| *id).collect();
    let rest: Vec<_> = cases()
        .into_iter()
        .filter(|case| skipped.contains(&case.id))
        .collect();
    let stop = hasty(network).await;
    let mut bench = Real::connect(network, HASTY).await;
    bench.end_margin_ms = HASTY_MARGIN_MS;
    let report = run_some(&bench, &rest).await;
    println!("with an end margin of a minute: {report}");
    assert!(report.failed.is_empty(), "{report}");
    assert!(!report.passed.is_empty(), "{report}");
    bench.stop().await;
    drop(stop);
}

impl Peers for Real {
    fn administrator(&self, msp: &str) -> Chaincode {
        self.chaincode(msp, Role::Administrator)
    }

    async fn everywhere(&self, transaction: &TransactionId) {
        Self::everywhere(self, transaction).await;
    }
}

/// The program, running for a chaincode of this name whose definition has this policy.
async fn deployed(network: &Network, name: &str, policy: Option<&str>) -> (Package, Served) {
    let address = free_address();
    let mut package = network.package(name, &address, None).await.unwrap();
    package.policy = policy.map(str::to_owned);
    let served = Served::start(&package, &address).await;
    network.deploy(&package, &[]).await.unwrap();
    (package, served)
}

/// The same chaincode with another margin, in this process. It ends with what is given back.
async fn hasty(network: &Network) -> DropGuard {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let package = network.package(HASTY, &address, None).await.unwrap();
    let contract = Contract {
        end_margin_ms: HASTY_MARGIN_MS,
    };
    let config = fabric_shim::Config::new(address, package.package_id.clone());
    let server = fabric_shim::Server::new(LeaseholdChaincode::new(contract), config);
    let stop = CancellationToken::new();
    tokio::spawn(server.serve_on(listener, stop.clone()));
    network.deploy(&package, &[]).await.unwrap();
    stop.drop_guard()
}

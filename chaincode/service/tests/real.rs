//! The contract on three real peers of Fabric, where `LEASEHOLD_FABRIC_BIN` names them: the suite, and a race.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "support/answered.rs"]
mod answered;
#[path = "support/real.rs"]
mod real;

use fabric_gateway_client::{Call, Contract as Chaincode, TransactionError, ValidationCode};
use fabric_network::{Binaries, Network, SKIPPED};
use futures::future::join_all;
use leasehold_chaincode::{CommandResult, Contract, Role};
use leasehold_chaincode_service::LeaseholdChaincode;
use leasehold_conformance::{cases, run, run_some};
use real::{LOOK_AGAIN, PATIENCE, Real, Served};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::Instant;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Name of the contract on the channel.
const CHAINCODE: &str = "leasehold";
/// Name of a second one, which a peer of any organisation endorses alone, but for keys with a policy of their own.
const ANYBODY: &str = "anybody";
/// Name of a third one, in which leases end by time soon after their expiry: half an hour is more than a proposal's time can be apart.
const HASTY: &str = "hasty";
const HASTY_MARGIN_MS: i64 = 60_000;
/// Memory that the program may hold after all of it, KiB.
const RESIDENT_KIB: u64 = 40 * 1024;

/// Not a test of the usual harness: what is skipped must not be counted as passed.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some(binaries) = Binaries::find().unwrap() else {
        println!("{SKIPPED}");
        return;
    };
    let start = Instant::now();
    let network = Network::start(binaries).await.unwrap();
    let served = deployed(&network, CHAINCODE, None).await;
    let real = Real::connect(&network, CHAINCODE).await;
    let first = real
        .commit("Org1MSP", Role::Member, &Call::new("InitLedger"))
        .await;
    first.unwrap_or_else(|error| panic!("{error}: {}", network.logs()));
    let version = network.version().await.unwrap();
    println!(
        "real Fabric {version}: first transaction committed after {:.1?}",
        start.elapsed()
    );

    let report = run(&real).await;
    println!("{report}");
    assert!(report.failed.is_empty(), "{report}");
    assert!(report.passed.len() >= 120, "{report}");
    println!("test every_promise_within_the_time_that_real_peers_take_holds ... ok");

    let skipped: Vec<_> = report.skipped.iter().map(|(id, _)| *id).collect();
    let rest: Vec<_> = cases()
        .into_iter()
        .filter(|case| skipped.contains(&case.id))
        .collect();
    let stop = hasty(&network).await;
    let mut bench = Real::connect(&network, HASTY).await;
    bench.end_margin_ms = HASTY_MARGIN_MS;
    let report = run_some(&bench, &rest).await;
    println!("with an end margin of a minute: {report}");
    assert!(report.failed.is_empty(), "{report}");
    assert!(!report.passed.is_empty(), "{report}");
    bench.stop().await;
    drop(stop);
    println!(
        "test leases_end_by_time_on_real_peers ... ok, after {:.1?}",
        start.elapsed()
    );

    of_those_who_lease_one_dataset_at_once_one_gets_it(&real, 12).await;
    of_those_who_lease_one_dataset_at_once_one_gets_it(&real, 100).await;
    println!(
        "test of_those_who_lease_one_dataset_at_once_one_gets_it ... ok, after {:.1?}",
        start.elapsed()
    );

    let another = deployed(
        &network,
        ANYBODY,
        Some("OR('Org1MSP.peer','Org2MSP.peer','Org3MSP.peer')"),
    )
    .await;
    let anybody = Real::connect(&network, ANYBODY).await;
    no_organisation_alone_grants_or_ends_a_lease_of_anothers_dataset(&anybody).await;
    println!(
        "test no_organisation_alone_grants_or_ends_a_lease_of_anothers_dataset ... ok, after {:.1?}",
        start.elapsed()
    );

    let served = nothing_is_lost_or_doubled_while_the_program_is_killed(&real, served).await;
    println!(
        "test nothing_is_lost_or_doubled_while_the_program_is_killed ... ok, after {:.1?}",
        start.elapsed()
    );

    let resident = served.resident_kib();
    println!("real Fabric: the program holds {resident} KiB after all of it");
    assert!(
        cfg!(debug_assertions) || resident <= RESIDENT_KIB,
        "{resident} KiB"
    );
    for (bench, served) in [(real, served), (anybody, another)] {
        bench.stop().await;
        served.stop().await;
    }
    network.stop().await.unwrap();
}

/// The program, running for a chaincode of this name whose definition has this policy.
async fn deployed(network: &Network, name: &str, policy: Option<&str>) -> Served {
    let address = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    let mut package = network.package(name, &address, None).await.unwrap();
    package.policy = policy.map(str::to_owned);
    let served = Served::start(&package, &address).await;
    network.deploy(&package, &[]).await.unwrap();
    served
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

fn dataset(name: &str) -> Call {
    let dataset = json!({
        "name": name, "metadata": { "title": "Texts" }, "policy": { "max_ttl_seconds": 3_600 },
        "volume_ciphertext": "AAAA", "key_version": 1,
    });
    Call::new("AddDataBlock").argument(dataset.to_string())
}

/// Every one of them ends: granted, refused by the contract, or made invalid by the one that came first.
async fn of_those_who_lease_one_dataset_at_once_one_gets_it(real: &Real, count: usize) {
    let name = format!("race-{count}");
    let add = dataset(&name);
    real.commit("Org1MSP", Role::Administrator, &add).await.unwrap();
    let start = Instant::now();
    let all = (0..count).map(|number| {
        let person = format!("{number:04x}").repeat(16);
        let lease = Call::new("LeaseData").argument(name.clone()).argument(person);
        let chaincode = real.chaincode(&format!("Org{}MSP", number % 3 + 1), Role::Member);
        async move { chaincode.submit(&lease).await }
    });
    let outcomes = timeout(PATIENCE * 2, join_all(all))
        .await
        .expect("somebody hangs");
    let (mut granted, mut refused, mut invalid, mut other) = (0, 0, 0, Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(_) => granted += 1,
            Err(error) if error.is_conflict() => invalid += 1,
            Err(TransactionError::Proposal(fabric_gateway_client::ProposalError::Refused(refusal))) => {
                assert!(
                    refusal.message.contains("\"code\":\"lease_conflict\""),
                    "{}",
                    refusal.message
                );
                refused += 1;
            }
            Err(error) => other.push(error.to_string()),
        }
    }
    println!(
        "real Fabric: {count} leases at once: {granted} granted, {refused} refused, {invalid} made invalid, {} else, in {:.1?}",
        other.len(),
        start.elapsed()
    );
    assert!(other.is_empty(), "neither granted nor refused: {other:?}");
    assert_eq!((granted, refused + invalid), (1, count - 1));
    let question = json!({ "question": "dataset", "dataset": name }).to_string();
    let call = Call::new("query").argument(question);
    let entry = real
        .chaincode("Org1MSP", Role::Member)
        .evaluate(&call)
        .await
        .unwrap();
    let entry: Value = serde_json::from_slice(&entry).unwrap();
    assert_eq!(
        entry["status"]["holders"].as_array().map(Vec::len),
        Some(1),
        "{entry}"
    );
}

/// What one client did, and what it was told.
#[derive(Default)]
struct Told {
    /// Datasets that were certainly leased, once.
    leased: Vec<String>,
    /// Datasets whose lease may have been committed.
    unknown: Vec<String>,
    failed: usize,
}

async fn lease_after_lease(chaincode: Chaincode, client: usize, stop: CancellationToken) -> Told {
    let mut told = Told::default();
    for number in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let name = format!("load-{client}-{number}");
        let person = format!("{client:04x}").repeat(16);
        if chaincode.submit(&dataset(&name)).await.is_err() {
            told.failed += 1;
            sleep(LOOK_AGAIN).await;
            continue;
        }
        let lease = Call::new("LeaseData").argument(name.clone()).argument(person);
        match chaincode.submit(&lease).await {
            Ok(_) => told.leased.push(name),
            Err(error) if error.unknown_outcome().is_some() => told.unknown.push(name),
            Err(_) => told.failed += 1,
        }
    }
    told
}

/// Blocks go on: so many leases more are committed.
async fn leases_go_on(real: &Real, what: &str) {
    let before = real.transactions();
    let more = async {
        while real.transactions() < before + 8 {
            sleep(LOOK_AGAIN).await;
        }
    };
    timeout(PATIENCE * 3, more)
        .await
        .unwrap_or_else(|_| panic!("no leases {what}"));
}

/// The peers connect to the program again by themselves, and what it was asked meanwhile fails or is run again.
async fn nothing_is_lost_or_doubled_while_the_program_is_killed(real: &Real, mut served: Served) -> Served {
    let stop = CancellationToken::new();
    let mut clients = JoinSet::new();
    for client in 0..6 {
        let organisation = format!("Org{}MSP", client % 3 + 1);
        let chaincode = real.chaincode(&organisation, Role::Administrator);
        clients.spawn(lease_after_lease(chaincode, client, stop.clone()));
    }
    for round in 0..3 {
        leases_go_on(real, "before the program is killed").await;
        served = served.restart().await;
        let again = Instant::now();
        leases_go_on(real, "after the program was started again").await;
        println!(
            "real Fabric: kill {round} of the program, eight transactions after {:.1?}",
            again.elapsed()
        );
    }
    stop.cancel();
    let mut told = Told::default();
    while let Some(client) = clients.join_next().await {
        let client = client.unwrap();
        told.leased.extend(client.leased);
        told.unknown.extend(client.unknown);
        told.failed += client.failed;
    }
    println!(
        "real Fabric: {} leased, {} unknown, {} failed while the program was killed",
        told.leased.len(),
        told.unknown.len(),
        told.failed
    );
    assert!(told.leased.len() > 10, "hardly any load");
    for (name, certain) in told
        .leased
        .iter()
        .map(|name| (name, true))
        .chain(told.unknown.iter().map(|name| (name, false)))
    {
        let question = json!({ "question": "dataset", "dataset": name }).to_string();
        let call = Call::new("query").argument(question);
        let entry = real.chaincode("Org1MSP", Role::Member).evaluate(&call).await;
        let entry: Value = serde_json::from_slice(&entry.unwrap()).unwrap();
        let holders = entry["status"]["holders"].as_array().map(Vec::len);
        let fence = entry["status"]["fencing_token"].as_u64();
        assert!(
            holders == Some(1) && fence == Some(1) || !certain && holders == Some(0),
            "{name}: {entry}"
        );
    }
    served
}

/// Where the chaincode's own policy is met by any one peer, what stands between an organisation and another's dataset is the policy
/// of its keys. T10 and T11 of docs/security/model.md.
async fn no_organisation_alone_grants_or_ends_a_lease_of_anothers_dataset(real: &Real) {
    let prepared = run_some(real, &[]).await;
    assert!(prepared.failed.is_empty(), "{prepared}");
    let alice = "a1".repeat(32);
    let add = dataset("texts");
    real.commit("Org1MSP", Role::Administrator, &add).await.unwrap();
    let lease = Call::new("LeaseData").argument("texts").argument(alice.clone());
    by_alone(real, "Org2MSP", &lease, "Org2MSP").await;
    by_alone(real, "Org3MSP", &lease, "Org3MSP").await;
    let both = lease.organisations(["Org1MSP", "Org2MSP"]);
    let (_, leased) = real.commit("Org2MSP", Role::Administrator, &both).await.unwrap();
    let id = lease_of(&leased);
    let release = Call::new("ReleaseLease").argument(id.clone()).argument(alice);
    by_alone(real, "Org2MSP", &release, "Org2MSP").await;
    by_alone(real, "Org2MSP", &release, "Org3MSP").await;
    let majority = release.organisations(["Org2MSP", "Org3MSP"]);
    real.commit("Org2MSP", Role::Administrator, &majority)
        .await
        .unwrap();
    let confirm = json!({ "command": "confirm_end", "lease": id }).to_string();
    let owner_alone = Call::new("submit").argument(confirm).organisations(["Org1MSP"]);
    real.commit("Org2MSP", Role::Administrator, &owner_alone)
        .await
        .unwrap();
}

/// A command that the contract accepts, endorsed by one organisation's peer alone, is made invalid.
async fn by_alone(real: &Real, caller: &str, call: &Call, endorser: &str) {
    let alone = call.clone().organisations([endorser]);
    match real.chaincode(caller, Role::Administrator).submit(&alone).await {
        Err(TransactionError::Invalid {
            code, transaction_id, ..
        }) => {
            assert_eq!(code, ValidationCode::ENDORSEMENT_POLICY_FAILURE, "{endorser}");
            real.everywhere(&transaction_id).await;
        }
        other => panic!("endorsed by {endorser} alone: {other:?}"),
    }
}

fn lease_of(payload: &[u8]) -> String {
    match answered::told(payload).unwrap().result {
        CommandResult::Lease { id } => id.to_string(),
        other => panic!("{other:?}"),
    }
}

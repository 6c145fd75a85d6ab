//! The contract is upgraded on a channel that has leases.

use crate::audit;
use crate::client::{administrator, asked, command, dataset, granted, settled};
use crate::lessees::Lessees;
use crate::real::{PATIENCE, Served, free_address};
use async_trait::async_trait;
use fabric_gateway_client::{Call, TransactionError, ValidationCode};
use fabric_network::{Network, ORGANISATIONS};
use fabric_shim::{Chaincode, Config, Response, Server, Stub};
use leasehold_chaincode::Contract;
use leasehold_chaincode_service::LeaseholdChaincode;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const CHAINCODE: &str = "upgraded";
const SOME: usize = 8;

/// The contract, and how often it was asked.
struct Counted {
    chaincode: LeaseholdChaincode,
    calls: Arc<AtomicUsize>,
}

#[async_trait]
impl Chaincode for Counted {
    async fn invoke(&self, stub: &Stub) -> Response {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.chaincode.invoke(stub).await
    }
}

/// Sequence 2 is another package at another address, sequence 3 the same package with another endorsement policy.
pub async fn leases_outlive_an_upgrade_and_the_old_service_is_asked_no_more(network: &Network) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let address = listener.local_addr().unwrap().to_string();
    let first = network.package(CHAINCODE, &address, None).await.unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Counted {
        chaincode: LeaseholdChaincode::new(Contract::FABRIC),
        calls: Arc::clone(&calls),
    };
    let server = Server::new(counted, Config::new(address.clone(), first.package_id.clone()));
    let stop = CancellationToken::new();
    let old = tokio::spawn(server.serve_on(listener, stop.clone()));
    network.deploy(&first, &[]).await.unwrap();

    let mut clients = Vec::new();
    for organisation in ORGANISATIONS {
        let gateway = administrator(network, organisation).await;
        let contract = gateway.contract(network.channel(), CHAINCODE);
        for join in [
            json!({ "command": "join_consortium", "broker": "https://broker.example.org:8443" }),
            json!({ "command": "register_cluster", "name": "main" }),
        ] {
            settled(&contract, &command(&join)).await;
        }
        clients.push(contract);
    }
    let [owner, holder, _] = &clients[..] else {
        panic!("there are three organisations")
    };
    let alice = "a1".repeat(32);
    settled(owner, &dataset("kept")).await;
    settled(owner, &dataset("wanted")).await;
    let lease = Call::new("LeaseData").argument("kept").argument(alice.clone());
    let lease = lease.argument(r#"{"ttl_seconds":600}"#);
    let kept = settled(holder, &lease).await;
    let kept = granted(&kept.result);
    let lessees = Lessees::start(clients.clone(), &["wanted".to_owned()]);
    lessees.go_on(SOME, "before the upgrade").await;

    let upgrading = Instant::now();
    let address = free_address();
    let mut second = network
        .package_as("upgraded-2", CHAINCODE, &address, None)
        .await
        .unwrap();
    second.sequence = 2;
    let served = Served::start(&second, &address).await;
    network.install(&second).await.unwrap();
    assert!(calls.load(Ordering::SeqCst) > 0);
    network.define(&second).await.unwrap();
    let defined = upgrading.elapsed();
    lessees.go_on(SOME, "after the upgrade").await;
    let before = calls.load(Ordering::SeqCst);
    println!(
        "real Fabric: upgraded in {defined:.1?}, no lease for {:.1?} at most; the old service was asked {before} times",
        lessees.longest_pause(upgrading)
    );
    lessees.go_on(SOME, "of the new service").await;
    assert_eq!(
        calls.load(Ordering::SeqCst),
        before,
        "the old service is asked still"
    );
    assert_eq!(
        streams_to(port),
        ORGANISATIONS.len(),
        "peers keep the stream, and do not use it"
    );
    stop.cancel();
    timeout(PATIENCE, old)
        .await
        .expect("the old service does not end")
        .unwrap()
        .unwrap();
    lessees.go_on(SOME, "without the old service").await;

    let question = json!({ "question": "lease", "lease": kept.lease });
    let record = asked(holder, &question).await.unwrap();
    assert_eq!(
        (&record["state"], &record["subject"]),
        (&json!("active"), &json!(alice))
    );
    let renew = json!({ "command": "renew", "lease": kept.lease, "subject": alice });
    settled(holder, &command(&renew)).await;
    let record = asked(holder, &question).await.unwrap();
    assert_eq!(record["grant"]["renewals"], 1, "{record}");

    let revoke = command(&json!({ "command": "revoke", "lease": kept.lease, "reason": "enough" }));
    let alone = revoke.clone().organisations(["Org1MSP"]);
    let used = json!({ "action": "use_datasets", "datasets": [record["dataset"]] });
    let traced = json!({ "command": "record_trace", "key": "one", "subject": alice, "action": used });
    let traced = command(&traced).organisations(["Org1MSP"]);
    is_not_endorsed(owner, &traced, "a majority makes history").await;
    second.sequence = 3;
    second.policy = Some("OR('Org1MSP.peer','Org2MSP.peer','Org3MSP.peer')".to_owned());
    network.define(&second).await.unwrap();
    settled(owner, &traced).await;
    is_not_endorsed(owner, &alone, "records have a policy of their own").await;
    settled(owner, &revoke).await;
    let record = asked(owner, &question).await.unwrap();
    assert_eq!(record["state"], "ending", "{record}");
    lessees.go_on(SOME, "under another endorsement policy").await;

    let mut told = lessees.stop().await;
    assert_eq!(told.unknown.len(), 0);
    println!(
        "real Fabric: {} leases acknowledged through two upgrades, {} conflicts, failed: {:?}",
        told.granted.len(),
        told.conflicts,
        told.failed
    );
    told.granted.push(kept);
    audit::held_to(
        network,
        CHAINCODE,
        &["kept".to_owned(), "wanted".to_owned()],
        &told,
    )
    .await;
    served.stop().await;
}

async fn is_not_endorsed(chaincode: &fabric_gateway_client::Contract, call: &Call, why: &str) {
    match chaincode.submit(call).await {
        Err(TransactionError::Invalid { code, .. }) => {
            assert_eq!(code, ValidationCode::ENDORSEMENT_POLICY_FAILURE, "{why}");
        }
        other => panic!("{why}: {other:?}"),
    }
}

/// Connections to a port of loopback, seen from its side.
fn streams_to(port: u16) -> usize {
    let connections = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let established = connections.lines().filter(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&format!(":{port:04X}")) && fields[3] == "01"
    });
    established.count()
}

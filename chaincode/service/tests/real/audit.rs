//! Whether every peer's ledger is what its clients were told: no acknowledged lease is lost, none is there twice, and no exclusive dataset
//! ever had two holders.

use crate::answered;
use crate::client::{administrator, asked, credentials, dataset, over, settled};
use crate::lessees::Told;
use crate::real::PATIENCE;
use fabric_gateway_client::{Contract as Chaincode, Start};
use fabric_network::{Network, ORGANISATIONS};
use futures::stream::{self, StreamExt};
use leasehold_chaincode::{DatasetId, EventKind, LeaseId, Mode};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use tokio::time::timeout;

/// That a lease was granted, by which transaction.
#[derive(Debug, PartialEq)]
struct Grant {
    transaction: String,
    dataset: String,
    lease: LeaseId,
    fencing_token: u64,
}

/// Holds each peer's ledger to what those were told who alone leased these datasets.
pub async fn held_to(network: &Network, chaincode: &str, datasets: &[String], told: &Told) {
    let end = {
        let gateway = administrator(network, "Org1").await;
        let name = format!("end-{}", told.granted.len());
        let contract = gateway.contract(network.channel(), chaincode);
        settled(&contract, &dataset(&name)).await.transaction_id
    };
    let mut first: Option<Vec<Grant>> = None;
    for organisation in ORGANISATIONS {
        let user = credentials(network, organisation).await;
        let peer = over(network, user, &[organisation]);
        let status = peer.commit_status(network.channel(), &end).await.unwrap();
        let contract = peer.contract(network.channel(), chaincode);
        let grants = grants(&contract, &end.to_string()).await;
        let mut tokens = HashMap::new();
        for Grant {
            lease, fencing_token, ..
        } in &grants
        {
            let before = tokens.insert(lease.as_str(), *fencing_token);
            assert_eq!(before, None, "{organisation}: {lease} was granted twice");
        }
        for granted in &told.granted {
            let token = tokens.get(&*granted.lease);
            assert_eq!(
                token,
                Some(&granted.fencing_token),
                "{organisation}: {}",
                granted.lease
            );
        }
        let acknowledged: HashSet<_> = told.granted.iter().map(|granted| &*granted.lease).collect();
        let others = grants.iter().filter(|grant| datasets.contains(&grant.dataset));
        let others: Vec<_> = others
            .filter(|grant| !acknowledged.contains(grant.lease.as_str()))
            .collect();
        assert!(
            others.len() <= told.unknown.len(),
            "{organisation}: nobody asked for {others:?}"
        );
        records_are_there(&contract, told).await;
        println!(
            "real Fabric: {organisation} has {} leases granted by block {}, {} of unknown outcome among them",
            acknowledged.len() + others.len(),
            status.block,
            others.len()
        );
        match &first {
            None => first = Some(grants),
            Some(first) => assert_eq!(*first, grants, "{organisation} has other grants than Org1"),
        }
    }
}

/// Every grant of a peer's blocks up to a transaction. Along the way: an exclusive lease comes after the end of the one before, with a
/// greater token.
async fn grants(contract: &Chaincode, end: &str) -> Vec<Grant> {
    let mut events = contract.events(Start::Block(0));
    let (mut grants, mut holders) = (Vec::new(), HashMap::<DatasetId, LeaseId>::new());
    let mut tokens = HashMap::<DatasetId, u64>::new();
    loop {
        let event = timeout(PATIENCE, events.next())
            .await
            .expect("no event came")
            .unwrap();
        let transaction = event.transaction_id.to_string();
        for event in answered::told(&event.payload).unwrap().events {
            let (Some(dataset), Some(lease)) = (event.dataset, event.lease) else {
                continue;
            };
            match event.kind {
                EventKind::LeaseGranted {} => {
                    let token = lease.fencing_token();
                    let before = tokens.insert(dataset.clone(), token).unwrap_or_default();
                    assert!(token > before, "{dataset:?}: token {token} after {before}");
                    if lease.mode == Mode::Exclusive {
                        let holder = holders.insert(dataset, lease.id.clone());
                        assert_eq!(holder, None, "{} was granted beside it", lease.id);
                    }
                    grants.push(Grant {
                        transaction: transaction.clone(),
                        dataset: lease.dataset_name.to_string(),
                        lease: lease.id,
                        fencing_token: token,
                    });
                }
                EventKind::LeaseEnded { .. } if holders.get(&dataset) == Some(&lease.id) => {
                    holders.remove(&dataset);
                }
                _ => {}
            }
        }
        if transaction == end {
            return grants;
        }
    }
}

/// The state has what the events tell.
async fn records_are_there(contract: &Chaincode, told: &Told) {
    let records = stream::iter(&told.granted).map(async |granted| {
        let record = asked(contract, &json!({ "question": "lease", "lease": granted.lease }))
            .await
            .unwrap();
        assert_eq!(
            record["grant"]["fencing_token"], granted.fencing_token,
            "{record}"
        );
        let ended = told.ended.contains(&granted.lease);
        assert_eq!(record["state"] == "ended", ended, "{record}");
    });
    records.buffer_unordered(8).collect::<Vec<()>>().await;
}

//! Many who lease one exclusive dataset at once.

use crate::client::dataset;
use crate::real::{PATIENCE, Real};
use fabric_gateway_client::{Call, ProposalError, TransactionError};
use futures::future::join_all;
use leasehold_chaincode::Role;
use serde_json::{Value, json};
use std::time::Instant;
use tokio::time::timeout;

/// Every one of them ends: granted, refused by the contract, or made invalid by the one that came first.
pub async fn of_those_who_lease_one_dataset_at_once_one_gets_it(real: &Real, count: usize) {
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
            Err(TransactionError::Proposal(ProposalError::Refused(refusal))) => {
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

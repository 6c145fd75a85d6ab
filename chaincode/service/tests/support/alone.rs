//! What one organisation's peer cannot do alone to the dataset of another, on whatever peers.

use super::answered::told;
use fabric_gateway_client::{
    Call, Committed, Contract as Chaincode, TransactionError, TransactionId, ValidationCode,
};
use leasehold_chaincode::CommandResult;
use serde_json::json;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Peers with a chaincode whose own policy is met by any one of them, and of which `Org1MSP`, `Org2MSP` and `Org3MSP` have joined.
pub trait Peers {
    /// An organisation's administrator.
    fn administrator(&self, msp: &str) -> Chaincode;
    /// Waits until every peer has a transaction's block.
    async fn everywhere(&self, transaction: &TransactionId);
}

/// What stands between an organisation and another's dataset is the policy of its keys. T10 and T11 of docs/security/model.md.
pub async fn no_organisation_alone_grants_or_ends_a_lease_of_anothers_dataset(peers: &impl Peers) {
    let alice = "a1".repeat(32);
    let texts = json!({
        "name": "texts", "metadata": { "title": "Texts" }, "policy": { "max_ttl_seconds": 3_600 },
        "volume_ciphertext": "AAAA", "key_version": 1,
    });
    commit(
        peers,
        "Org1MSP",
        &Call::new("AddDataBlock").argument(texts.to_string()),
    )
    .await;
    let lease = Call::new("LeaseData").argument("texts").argument(alice.clone());
    by_alone(peers, "Org2MSP", &lease, "Org2MSP").await;
    by_alone(peers, "Org3MSP", &lease, "Org3MSP").await;
    let both = lease.organisations(["Org1MSP", "Org2MSP"]);
    let leased = commit(peers, "Org2MSP", &both).await;
    let id = match told(&leased.result).unwrap().result {
        CommandResult::Lease { id } => id.to_string(),
        other => panic!("{other:?}"),
    };
    let release = Call::new("ReleaseLease").argument(id.clone()).argument(alice);
    by_alone(peers, "Org2MSP", &release, "Org2MSP").await;
    by_alone(peers, "Org2MSP", &release, "Org3MSP").await;
    let majority = release.organisations(["Org2MSP", "Org3MSP"]);
    commit(peers, "Org2MSP", &majority).await;
    let confirm = json!({ "command": "confirm_end", "lease": id }).to_string();
    let confirm = Call::new("submit").argument(confirm);
    // What its owner's peer alone suffices for its owner's chaincode could make up, and others would go on from that.
    by_alone(peers, "Org2MSP", &confirm, "Org1MSP").await;
    let majority = confirm.organisations(["Org1MSP", "Org3MSP"]);
    commit(peers, "Org2MSP", &majority).await;
    let policy = json!({ "max_ttl_seconds": 1_800 });
    let amend = json!({ "command": "amend_dataset", "dataset": "texts", "policy": policy });
    let amend = Call::new("submit").argument(amend.to_string());
    by_alone(peers, "Org1MSP", &amend, "Org1MSP").await;
}

/// Commits, and again where peers are at different blocks.
async fn commit(peers: &impl Peers, caller: &str, call: &Call) -> Committed {
    let chaincode = peers.administrator(caller);
    let mut last = String::new();
    let committed = async {
        loop {
            match chaincode.submit(call).await {
                Ok(committed) => return committed,
                Err(TransactionError::Proposal(error)) => last = error.to_string(),
                Err(error) => panic!("{error}"),
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    let committed = timeout(PATIENCE, committed).await;
    let committed = committed.unwrap_or_else(|_| panic!("{call:?} does not take effect: {last}"));
    peers.everywhere(&committed.transaction_id).await;
    committed
}

/// A command that the contract accepts, endorsed by one organisation's peer alone, is made invalid.
async fn by_alone(peers: &impl Peers, caller: &str, call: &Call, endorser: &str) {
    let alone = call.clone().organisations([endorser]);
    match peers.administrator(caller).submit(&alone).await {
        Err(TransactionError::Invalid {
            code, transaction_id, ..
        }) => {
            assert_eq!(code, ValidationCode::ENDORSEMENT_POLICY_FAILURE, "{endorser}");
            peers.everywhere(&transaction_id).await;
        }
        other => panic!("endorsed by {endorser} alone: {other:?}"),
    }
}

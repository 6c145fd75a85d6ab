//! Clients of the contract on real peers: an organisation's administrator over some peers' gateways, what they send, and how they read the
//! answer.

use crate::answered;
use crate::real::{LOOK_AGAIN, PATIENCE};
use fabric_gateway_client::{
    Call, Committed, Config, Contract as Chaincode, CredentialFiles, Credentials, Deadlines, Gateway, Peer,
    ProposalError, TransactionError,
};
use fabric_network::{Network, ORGANISATIONS};
use leasehold_chaincode::{CommandResult, EventKind};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// An orderer that is killed loses what it has not cut into a block; for so long its client waits for that.
const COMMIT: Duration = Duration::from_secs(5);

/// The administrator of an organisation, over its own peer and, while that is gone, the others'.
pub async fn administrator(network: &Network, organisation: &str) -> Gateway {
    let others = ORGANISATIONS.into_iter().filter(|name| *name != organisation);
    let peers: Vec<_> = std::iter::once(organisation).chain(others).collect();
    over(network, credentials(network, organisation).await, &peers)
}

pub async fn credentials(network: &Network, organisation: &str) -> Credentials {
    let user = network.administrator(organisation).unwrap();
    let files = CredentialFiles {
        msp_id: user.msp_id,
        certificate: user.certificate,
        key: user.key,
    };
    files.read().await.unwrap()
}

/// Over the peers of these organisations, in this order.
pub fn over(network: &Network, credentials: Credentials, organisations: &[&str]) -> Gateway {
    let peers = organisations.iter().map(|name| {
        let peer = network.peer(name).unwrap();
        Peer::tls(peer.address, std::fs::read(peer.roots).unwrap())
    });
    let config = Config {
        deadlines: Deadlines {
            commit: COMMIT,
            ..Deadlines::default()
        },
        ..Config::new(peers.collect())
    };
    Gateway::new(config, credentials).unwrap()
}

/// Submits until it takes effect: peers that are a block behind the others refuse, or endorse something else.
pub async fn settled(chaincode: &Chaincode, call: &Call) -> Committed {
    let mut last = String::new();
    let settled = async {
        loop {
            match chaincode.submit(call).await {
                Ok(committed) => return committed,
                Err(error) if error.unknown_outcome().is_none() => last = error.to_string(),
                Err(error) => panic!("{error}"),
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    let settled = timeout(PATIENCE, settled).await;
    settled.unwrap_or_else(|_| panic!("{call:?} does not take effect: {last}"))
}

/// Registers a dataset that one at a time may lease, and for which others may wait.
pub fn dataset(name: &str) -> Call {
    let dataset = json!({
        "name": name, "metadata": { "title": "Texts" }, "policy": { "max_ttl_seconds": 3_600, "most_waiting": 10 },
        "volume_ciphertext": "AAAA", "key_version": 1,
    });
    Call::new("AddDataBlock").argument(dataset.to_string())
}

pub fn command(command: &Value) -> Call {
    Call::new("submit").argument(command.to_string())
}

/// The answer to a question.
pub async fn asked(chaincode: &Chaincode, question: &Value) -> Result<Value, ProposalError> {
    let call = Call::new("query").argument(question.to_string());
    let answer = chaincode.evaluate(&call).await?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

/// Code of the contract's refusal, where it is one.
pub fn refusal(error: &TransactionError) -> Option<String> {
    let TransactionError::Proposal(ProposalError::Refused(refusal)) = error else {
        return None;
    };
    let document: Value = serde_json::from_str(&refusal.message).ok()?;
    Some(document["code"].as_str()?.to_owned())
}

/// A lease that was acknowledged to be granted.
pub struct Granted {
    pub lease: String,
    pub fencing_token: u64,
}

/// What a committed transaction answered who asked for a lease.
pub enum Answer {
    Granted(Granted),
    /// It has this id, and a place in the line.
    Waiting(String),
}

pub fn answer(payload: &[u8]) -> Answer {
    let told = answered::told(payload).unwrap();
    let CommandResult::Lease { id } = told.result else {
        panic!("{told:?}");
    };
    let granted = told
        .events
        .iter()
        .find(|event| event.kind == EventKind::LeaseGranted {});
    match granted.and_then(|event| event.lease.as_ref()) {
        Some(lease) => {
            assert_eq!(lease.id, id);
            Answer::Granted(Granted {
                lease: id.to_string(),
                fencing_token: lease.fencing_token(),
            })
        }
        None => Answer::Waiting(id.to_string()),
    }
}

/// The lease of a transaction that was committed and is no place in the line.
pub fn granted(payload: &[u8]) -> Granted {
    match answer(payload) {
        Answer::Granted(granted) => granted,
        Answer::Waiting(lease) => panic!("lease {lease} waits"),
    }
}

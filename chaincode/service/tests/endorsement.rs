//! Whose endorsement the contract's records need, on simulated peers that ask for it as real ones do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/alone.rs"]
mod alone;
#[path = "support/answered.rs"]
mod answered;
#[path = "support/simulated.rs"]
mod simulated;

use alone::{Peers, no_organisation_alone_grants_or_ends_a_lease_of_anothers_dataset};
use fabric_gateway_client::{Config, Contract as Chaincode, Credentials, Gateway, Peer, TransactionId};
use fabric_sim::{Client, GatewayPeer, Network, Options, ValidationCode};
use leasehold_chaincode::Role;
use leasehold_conformance::run_some;
use serde_json::json;
use simulated::{CHAINCODE, ORGANISATIONS, Simulated};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const BATCH: Duration = Duration::from_millis(5);

/// The organisations have joined.
async fn joined() -> Simulated {
    let bench = Simulated::start("simulated peers of Fabric", Options::default()).await;
    let report = run_some(&bench, &[]).await;
    assert!(report.failed.is_empty(), "{report}");
    bench
}

/// Each organisation's administrator at its own peer's gateway.
struct Gateways {
    network: Arc<Network>,
    chaincodes: HashMap<String, Chaincode>,
    _peers: Vec<GatewayPeer>,
}

impl Gateways {
    fn of(network: &Arc<Network>) -> Self {
        network.order(BATCH);
        let peers = (0..ORGANISATIONS.len()).map(|place| GatewayPeer::start(network, place, None).unwrap());
        let peers: Vec<_> = peers.collect();
        let role = Some(r#"{"attrs":{"leasehold.role":"administrator"}}"#);
        let chaincodes = ORGANISATIONS.iter().zip(&peers).map(|(msp, peer)| {
            let client = Client::with_attributes(msp, "administrator", role).unwrap();
            let credentials = Credentials::from_pem(client.msp_id, &client.pem, &client.key).unwrap();
            let config = Config::new(vec![Peer::plain(peer.address())]);
            let gateway = Gateway::new(config, credentials).unwrap();
            ((*msp).to_owned(), gateway.contract(network.channel(), CHAINCODE))
        });
        Self {
            network: Arc::clone(network),
            chaincodes: chaincodes.collect(),
            _peers: peers,
        }
    }
}

impl Peers for Gateways {
    fn administrator(&self, msp: &str) -> Chaincode {
        self.chaincodes[msp].clone()
    }

    /// All simulated peers see one ledger.
    async fn everywhere(&self, transaction: &TransactionId) {
        let blocks = self.network.blocks();
        let mut transactions = blocks.iter().flat_map(|block| &block.transactions);
        assert!(transactions.any(|(one, _)| one.txid == transaction.as_str()));
    }
}

#[tokio::test]
async fn no_organisation_alone_grants_or_ends_a_lease_of_anothers_dataset_on_simulated_peers() {
    let bench = joined().await;
    bench.network.require(CHAINCODE, 1);
    let gateways = Gateways::of(&bench.network);
    no_organisation_alone_grants_or_ends_a_lease_of_anothers_dataset(&gateways).await;
}

#[tokio::test]
async fn one_organisation_alone_changes_nothing_where_a_majority_has_to_endorse() {
    let bench = joined().await;
    let texts = json!({
        "name": "texts", "metadata": { "title": "Texts" }, "policy": { "max_ttl_seconds": 3_600 },
        "volume_ciphertext": "AAAA", "key_version": 1,
    });
    let proposal = bench.propose(
        "Org1MSP",
        Role::Administrator,
        &["AddDataBlock", &texts.to_string()],
    );
    for (endorsers, code) in [
        (&["Org1MSP"][..], ValidationCode::EndorsementPolicyFailure),
        (&["Org2MSP", "Org3MSP"], ValidationCode::Valid),
    ] {
        let mut proposal = proposal.clone();
        proposal.txid = "a".repeat(63 + 1 - endorsers.len()) + &"b".repeat(endorsers.len());
        let endorsed = bench.network.endorse_by(&proposal, endorsers).await.unwrap();
        assert_eq!(
            bench.network.submit(endorsed).unwrap().code,
            code,
            "{endorsers:?}"
        );
    }
}

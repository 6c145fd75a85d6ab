//! A simulated network with the gateways of its three peers and a chaincode that does what it is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fabric_gateway_client::{
    Call, Config, Contract, Credentials, Deadlines, Gateway, Peer, ProposalError, TransactionError,
};
use fabric_sim::{Client, GatewayPeer, Network, Options};
use serde_json::{Value, json};

use super::served::Served;

/// How long a test waits for what should come soon.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Until the simulated ordering service cuts a block.
const BATCH: Duration = Duration::from_millis(5);

pub struct Bench {
    pub network: Arc<Network>,
    pub peers: Vec<GatewayPeer>,
    served: Served,
}

#[allow(dead_code, reason = "each test file uses its part")]
impl Bench {
    pub async fn start() -> Self {
        Self::with_blocks_every(BATCH).await
    }

    /// So long after its first transaction a block is cut.
    pub async fn with_blocks_every(batch: Duration) -> Self {
        let network = Arc::new(Network::with(Options::default()));
        let served = Served::start("probe").await;
        network
            .attach(&served.deployment("probe", &[("secrets", &["Org1MSP"])]))
            .await
            .unwrap();
        network.order(batch);
        let peers = (0..3)
            .map(|place| GatewayPeer::start(&network, place, None).unwrap())
            .collect();
        Self {
            network,
            peers,
            served,
        }
    }

    /// The same chaincode under another name, with a state of its own.
    pub async fn deploy_as(&self, name: &str) {
        let deployment = self.served.deployment(name, &[]);
        self.network.attach(&deployment).await.unwrap();
    }

    pub fn config(&self) -> Config {
        Config::new(
            self.peers
                .iter()
                .map(|peer| Peer::plain(peer.address()))
                .collect(),
        )
    }

    pub fn gateway(&self) -> Gateway {
        Gateway::new(self.config(), credentials("alice")).unwrap()
    }

    pub fn contract(&self) -> Contract {
        self.gateway().contract("channel", "probe")
    }

    /// With these deadlines.
    pub fn hurried(&self, deadlines: Deadlines) -> Contract {
        let config = Config {
            deadlines,
            ..self.config()
        };
        let gateway = Gateway::new(config, credentials("alice")).unwrap();
        gateway.contract("channel", "probe")
    }

    /// How often transactions of this id were valid in a block.
    pub fn valid(&self, txid: &str) -> usize {
        let blocks = self.network.blocks();
        let transactions = blocks.iter().flat_map(|block| &block.transactions);
        transactions
            .filter(|(transaction, code)| {
                transaction.txid == txid && *code == fabric_sim::ValidationCode::Valid
            })
            .count()
    }
}

pub fn credentials(name: &str) -> Credentials {
    let client = Client::new("Org1MSP", name).unwrap();
    Credentials::from_pem(client.msp_id, &client.pem, &client.key).unwrap()
}

/// The probe's one function with these steps.
pub fn run(steps: &Value) -> Call {
    Call::new("run").argument(steps.to_string())
}

#[allow(dead_code, reason = "each test file uses its part")]
pub async fn get(contract: &Contract, key: &str) -> Result<Value, ProposalError> {
    let answer = contract.evaluate(&run(&json!([["get", key]]))).await?;
    let answers: Value = serde_json::from_slice(&answer).unwrap();
    Ok(answers[0].clone())
}

#[allow(dead_code, reason = "each test file uses its part")]
pub async fn put(contract: &Contract, key: &str, value: &str) -> Result<(), TransactionError> {
    contract
        .submit(&run(&json!([["put", key, value]])))
        .await
        .map(drop)
}

/// Waits until `condition` holds.
#[allow(dead_code, reason = "each test file uses its part")]
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "still waiting for {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

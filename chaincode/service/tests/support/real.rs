//! The contract on three real peers, as a bench for the suite: the program itself, and a client of each organisation.

use super::answered::{refused, told};
use async_trait::async_trait;
use fabric_gateway_client::{
    Call, Clock, Config, Contract as Chaincode, CredentialFiles, Gateway, Peer, ProposalError, Start,
    TransactionError, TransactionId,
};
use fabric_network::{Chaincode as Package, Network, ORGANISATIONS};
use leasehold_chaincode::{Contract, Event, Msp, Question, Role, TxId};
use leasehold_chaincode_service::EVENT_NAME;
use leasehold_conformance::{Abilities, Accepted, Bench, BenchError, Submission};
use serde_json::Value;
use std::collections::HashMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
pub const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often a transaction is proposed again that other peers see on an older state, or that came after another.
const RUNS: usize = 20;

/// How far before a peer's time a case begins: a proposal's time may differ by 15 minutes.
const BEFORE: Duration = Duration::from_secs(14 * 60);
/// How far apart its times may be. The rest of the 15 minutes after the peer's time is for the case to take.
const SPAN: Duration = Duration::from_secs(26 * 60);

/// Where nobody listens at this moment.
pub fn free_address() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

/// The program, killed when dropped.
pub struct Served {
    child: Child,
    package_id: String,
    address: String,
}

impl Served {
    /// Starts it for a package and waits until it listens.
    pub async fn start(package: &Package, address: &str) -> Self {
        Self::of(package.package_id.clone(), address.to_owned()).await
    }

    async fn of(package_id: String, address: String) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_leasehold-chaincode"))
            .env("CHAINCODE_SERVER_ADDRESS", &address)
            .env("CHAINCODE_ID", &package_id)
            .env("LEASEHOLD_LOG", "warn")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let listens = async {
            while tokio::net::TcpStream::connect(&address).await.is_err() {
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(PATIENCE, listens)
            .await
            .expect("the program does not listen");
        Self {
            child,
            package_id,
            address,
        }
    }

    /// Kills it (SIGKILL) and starts it again at its address.
    #[allow(dead_code, reason = "not every program that uses this kills it")]
    pub async fn restart(mut self) -> Self {
        self.child.kill().await.unwrap();
        Self::of(self.package_id, self.address).await
    }

    /// Memory that it holds at this moment, KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub async fn stop(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// What followers were told, by transaction.
type Followed = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A client of each organisation's member and administrator, through that organisation's peer.
pub struct Real {
    gateways: HashMap<(String, Role), Gateway>,
    channel: &'static str,
    name: &'static str,
    followed: Followed,
    follower: JoinHandle<()>,
    pub at_once: usize,
    pub end_margin_ms: i64,
}

impl Real {
    /// To the chaincode of this name on the network's channel.
    pub async fn connect(network: &Network, name: &'static str) -> Self {
        let mut gateways = HashMap::new();
        for name in ORGANISATIONS {
            let peer = network.peer(name).unwrap();
            let peer = Peer::tls(peer.address, std::fs::read(peer.roots).unwrap());
            let (member, administrator) = (network.user(name).unwrap(), network.administrator(name).unwrap());
            for (role, user) in [(Role::Member, member), (Role::Administrator, administrator)] {
                let files = CredentialFiles {
                    msp_id: user.msp_id.clone(),
                    certificate: user.certificate,
                    key: user.key,
                };
                let config = Config::new(vec![peer.clone()]);
                let gateway = Gateway::new(config, files.read().await.unwrap()).unwrap();
                gateways.insert((user.msp_id, role), gateway);
            }
        }
        let followed = Followed::default();
        let channel = network.channel();
        let mut events = gateways[&("Org1MSP".to_owned(), Role::Member)]
            .contract(channel, name)
            .events(Start::Block(0));
        let noted = Arc::clone(&followed);
        let follower = tokio::spawn(async move {
            while let Ok(event) = events.next().await {
                assert_eq!(event.name, EVENT_NAME);
                let id = event.transaction_id.to_string();
                noted.lock().unwrap().insert(id, event.payload.to_vec());
            }
        });
        Self {
            gateways,
            channel,
            name,
            followed,
            follower,
            at_once: 16,
            end_margin_ms: Contract::FABRIC.end_margin_ms,
        }
    }

    pub fn chaincode(&self, msp: &str, role: Role) -> Chaincode {
        self.gateways[&(msp.to_owned(), role)].contract(self.channel, self.name)
    }

    /// The same at a time of its own, milliseconds since the Unix epoch.
    fn chaincode_at(&self, msp: &str, role: Role, at_ms: i64) -> Chaincode {
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(at_ms).unwrap());
        self.gateways[&(msp.to_owned(), role)]
            .with_clock(Clock::new(move || at))
            .contract(self.channel, self.name)
    }

    /// Commits, and again where peers were at different blocks; gives the id and the answer once every peer has the block.
    pub async fn commit(
        &self,
        msp: &str,
        role: Role,
        call: &Call,
    ) -> Result<(TransactionId, Vec<u8>), BenchError> {
        self.commit_by(&self.chaincode(msp, role), call).await
    }

    async fn commit_by(
        &self,
        chaincode: &Chaincode,
        call: &Call,
    ) -> Result<(TransactionId, Vec<u8>), BenchError> {
        let mut last = String::new();
        for _ in 0..RUNS {
            match chaincode.submit(call).await {
                Ok(committed) => {
                    self.everywhere(&committed.transaction_id).await;
                    return Ok((committed.transaction_id, committed.result.to_vec()));
                }
                Err(TransactionError::Proposal(ProposalError::Refused(refusal))) => {
                    return Err(refused(&refusal.message));
                }
                Err(error) if again(&error) => last = error.to_string(),
                Err(error) => return Err(BenchError::Broken(error.to_string())),
            }
            sleep(LOOK_AGAIN).await;
        }
        Err(BenchError::Broken(last))
    }

    /// Waits until a transaction is in the block of every peer: the next question may go to any of them.
    pub async fn everywhere(&self, transaction: &TransactionId) {
        for name in ORGANISATIONS {
            let gateway = &self.gateways[&(format!("{name}MSP"), Role::Member)];
            gateway.commit_status(self.channel, transaction).await.unwrap();
        }
    }

    /// Transactions with an event so far.
    #[allow(dead_code, reason = "not every program that uses this counts them")]
    pub fn transactions(&self) -> usize {
        self.followed.lock().unwrap().len()
    }

    /// Ends the follower.
    pub async fn stop(self) {
        self.follower.abort();
        let _ = self.follower.await;
    }
}

fn again(error: &TransactionError) -> bool {
    let unsettled = matches!(
        error,
        TransactionError::Proposal(
            ProposalError::Mismatch(_) | ProposalError::Rejected(_) | ProposalError::Failed(_)
        )
    );
    unsettled || error.is_conflict()
}

pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

#[async_trait]
impl Bench for Real {
    fn abilities(&self) -> Abilities {
        Abilities {
            name: "three real peers of Fabric",
            tag: String::new(),
            organisations: ORGANISATIONS
                .map(|name| Msp::new(format!("{name}MSP")).unwrap())
                .to_vec(),
            // cryptogen writes no attributes, and only an attribute makes a steward.
            roles: vec![Role::Member, Role::Administrator],
            span_ms: Some(i64::try_from(SPAN.as_millis()).unwrap()),
            end_margin_ms: self.end_margin_ms,
            chooses_ids: false,
            at_once: self.at_once,
        }
    }

    fn now_ms(&self) -> i64 {
        now_ms() - i64::try_from(BEFORE.as_millis()).unwrap()
    }

    async fn submit(&self, submission: Submission) -> Result<Accepted, BenchError> {
        let command = serde_json::to_string(&submission.command).unwrap();
        let call = Call::new("submit").argument(command);
        let chaincode = self.chaincode_at(
            submission.organisation.as_str(),
            submission.role,
            submission.at_ms,
        );
        let (id, payload) = self.commit_by(&chaincode, &call).await?;
        Ok(Accepted {
            tx_id: TxId::new(id.to_string()).unwrap(),
            result: told(&payload)?.result,
        })
    }

    async fn events(&self, tx_id: &TxId) -> Result<Vec<Event>, BenchError> {
        let arrived = async {
            loop {
                let found = self.followed.lock().unwrap().get(tx_id.as_str()).cloned();
                if let Some(payload) = found {
                    return payload;
                }
                sleep(LOOK_AGAIN).await;
            }
        };
        let payload = timeout(PATIENCE, arrived).await;
        let payload = payload.map_err(|_| BenchError::Broken("the event did not arrive".to_owned()))?;
        Ok(told(&payload)?.events)
    }

    async fn ask(&self, question: &Question) -> Result<Value, BenchError> {
        let call = Call::new("query").argument(serde_json::to_string(question).unwrap());
        let answer = self.chaincode("Org1MSP", Role::Member).evaluate(&call).await;
        let answer = answer.map_err(|error| BenchError::Broken(error.to_string()))?;
        Ok(serde_json::from_slice(&answer).unwrap())
    }
}

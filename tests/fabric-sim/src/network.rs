//! The simulated network: one channel, a peer an organisation, and what a client does with them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fabric_wire::protos::{self, ChaincodeMessage, chaincode_message::Type};
use prost::Message as _;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::identity::Client;
use crate::ledger::{Block, Committed, Ledger, Transaction, World};
use crate::link::{Link, LinkError, LinkHandle, Run};
use crate::ordering::Ordered;
use crate::proposal::{Proposal, Proposed};
use crate::raw::{Dial, DialError};
use crate::simulation::{Effects, Simulation};

/// The name of the one channel.
pub(crate) const CHANNEL: &str = "channel";
/// From here on an answer is not endorsed.
const ERROR_THRESHOLD: i32 = 400;

/// How the simulated peers behave.
#[derive(Debug, Clone)]
pub struct Options {
    /// Ids of the members, a peer each.
    pub organisations: Vec<String>,
    /// Size of the batches that READY offers; none for a peer before Fabric 3.1.
    pub batches: Option<u32>,
    /// Between two keepalives.
    pub keepalive: Duration,
    /// How long a transaction may take, `chaincode.executetimeout`.
    pub execute: Duration,
    /// How long a chaincode may take to register.
    pub registration: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            organisations: ["Org1MSP", "Org2MSP", "Org3MSP"].map(str::to_owned).to_vec(),
            batches: Some(1000),
            keepalive: Duration::from_secs(60),
            execute: Duration::from_secs(30),
            registration: Duration::from_secs(10),
        }
    }
}

/// A chaincode as the channel knows it, and where it listens.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Name on the channel.
    pub name: String,
    /// Package id with which it must register.
    pub package_id: String,
    /// Where it listens; the same server for all peers.
    pub dial: Dial,
    /// Private collections and the members that may use them.
    pub collections: Vec<(String, Vec<String>)>,
}

/// Why a proposal was not endorsed.
#[derive(Debug, thiserror::Error)]
pub enum EndorseError {
    /// The chaincode cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The chaincode did not answer, or did not register.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The chaincode answered ERROR: the transaction failed.
    #[error("the transaction failed: {0}")]
    Failed(String),
    /// The chaincode answered with a status that is not endorsed.
    #[error("the chaincode refused with {status}: {message}")]
    Refused {
        /// 400 or more.
        status: i32,
        /// The chaincode's own words.
        message: String,
    },
    /// The chaincode's answer is not a response.
    #[error("the chaincode's answer cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// The chaincode is not the same function on every peer.
    #[error("the peers of {0} and {1} do not agree")]
    Disagreement(String, String),
}

/// A transaction that all organisations endorsed.
#[derive(Debug, Clone)]
pub struct Endorsed {
    /// To be submitted.
    pub transaction: Transaction,
    /// What the chaincode answered.
    pub response: protos::Response,
}

/// A peer: its streams to chaincodes, by their name.
pub(crate) struct Peer {
    msp_id: String,
    links: Mutex<HashMap<String, LinkHandle>>,
    execute: Duration,
    /// Whether it answers gateways; its own may have been killed.
    up: AtomicBool,
    behind: Mutex<Option<View>>,
    /// What it says instead of what the chaincode does.
    refusal: Mutex<Option<Refusal>>,
}

/// What a peer says no to of itself, and how.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// Proposals with this in an argument.
    pub(crate) what: String,
    pub(crate) status: i32,
    pub(crate) message: String,
}

/// What a peer knows of the ledger.
#[derive(Clone)]
pub(crate) struct View {
    world: Arc<World>,
    /// Number of its newest block.
    pub(crate) height: u64,
}

impl Peer {
    /// What it knows, where that is less than what there is.
    fn behind(&self) -> Option<View> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn refuse(&self, refusal: Option<Refusal>) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }

    pub(crate) fn msp_id(&self) -> &str {
        &self.msp_id
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    pub(crate) fn has(&self, chaincode: &str) -> bool {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.contains_key(chaincode)
    }

    pub(crate) async fn run(&self, chaincode: &str, run: Run) -> Result<ChaincodeMessage, LinkError> {
        let link = self
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(chaincode)
            .cloned();
        link.ok_or_else(|| LinkError::Unknown(chaincode.to_owned()))?
            .run(run, self.execute)
            .await
    }
}

/// A simulated network. Dropped, it closes its streams.
pub struct Network {
    options: Options,
    peers: Vec<Arc<Peer>>,
    ledger: Mutex<Ledger>,
    /// How many blocks there are.
    height: watch::Sender<u64>,
    pub(crate) ordering: Ordered,
    proposals: AtomicU64,
    violations: Arc<AtomicUsize>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop: DropGuard,
}

/// What a peer made of a proposal: what the peers have to agree on.
#[derive(Debug, Clone, PartialEq)]
struct Simulated {
    effects: Effects,
    response: protos::Response,
    event: Option<protos::ChaincodeEvent>,
}

impl Network {
    /// Three organisations with peers as of Fabric 3.1, and no chaincode yet.
    #[must_use]
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// The same with other options.
    #[must_use]
    pub fn with(options: Options) -> Self {
        let peer = |msp_id: &String| {
            Arc::new(Peer {
                msp_id: msp_id.clone(),
                links: Mutex::default(),
                execute: options.execute,
                up: AtomicBool::new(true),
                behind: Mutex::default(),
                refusal: Mutex::default(),
            })
        };
        let stop = CancellationToken::new();
        Self {
            peers: options.organisations.iter().map(peer).collect(),
            ledger: Mutex::default(),
            height: watch::Sender::new(0),
            ordering: Ordered::default(),
            proposals: AtomicU64::new(0),
            violations: Arc::default(),
            tasks: TaskTracker::new(),
            _stop: stop.clone().drop_guard(),
            stop,
            options,
        }
    }

    /// Name of the channel.
    #[must_use]
    pub fn channel(&self) -> &'static str {
        CHANNEL
    }

    /// Dials a chaincode from every peer and waits until it is registered. Again for one that has come back.
    ///
    /// # Errors
    /// Where it cannot be reached, or does not register with its package id in time.
    pub async fn attach(&self, deployment: &Deployment) -> Result<(), EndorseError> {
        let collections: HashMap<String, HashSet<String>> = deployment
            .collections
            .iter()
            .map(|(name, members)| (name.clone(), members.iter().cloned().collect()))
            .collect();
        let collections = Arc::new(collections);
        for peer in &self.peers {
            let link = Link {
                chaincode: deployment.name.clone(),
                package_id: deployment.package_id.clone(),
                collections: Arc::clone(&collections),
                peer: Arc::clone(peer),
                batches: self.options.batches,
                keepalive: self.options.keepalive,
                violations: Arc::clone(&self.violations),
            };
            let (handle, registered, work) = link.split(deployment.dial.open().await?, self.stop.clone());
            self.tasks.spawn(work);
            match tokio::time::timeout(self.options.registration, registered).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(LinkError::Ended.into()),
                Err(_) => return Err(LinkError::Late(self.options.registration).into()),
            }
            peer.links
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(deployment.name.clone(), handle);
        }
        Ok(())
    }

    /// A proposal of a client, with an id and a time of its own.
    pub fn propose(&self, client: &Client, chaincode: &str, arguments: &[&str]) -> Proposal {
        Proposal::new(
            self.proposals.fetch_add(1, Ordering::Relaxed),
            client,
            chaincode,
            arguments,
        )
    }

    /// Runs a proposal on the peers of all organisations, on the same state.
    ///
    /// # Errors
    /// Where a peer cannot endorse it, or they do not agree.
    pub async fn endorse(&self, proposal: &Proposal) -> Result<Endorsed, EndorseError> {
        self.endorse_on(
            &self.peers.iter().collect::<Vec<_>>(),
            &proposal.proposed(CHANNEL),
        )
        .await
    }

    /// The same on these peers.
    pub(crate) async fn endorse_on(
        &self,
        peers: &[&Arc<Peer>],
        proposal: &Proposed,
    ) -> Result<Endorsed, EndorseError> {
        let now = self.now();
        let each = peers.iter().map(|peer| async {
            let world = peer.behind().unwrap_or_else(|| now.clone()).world;
            self.simulate(peer, Simulation::new(world), proposal)
                .await
                .map(|simulated| (&peer.msp_id, simulated))
        });
        // To the end, also where one fails: as long as a peer runs a transaction it does not begin the same one again.
        let each = futures::future::join_all(each).await;
        let all: Result<Vec<_>, _> = each.into_iter().collect();
        let mut all = all?.into_iter();
        let Some((first_msp, first)) = all.next() else {
            return Err(LinkError::Unknown(proposal.chaincode.clone()).into());
        };
        if let Some((other, _)) = all.find(|(_, simulated)| *simulated != first) {
            return Err(EndorseError::Disagreement(first_msp.clone(), other.clone()));
        }
        let Simulated {
            effects,
            response,
            event,
        } = first;
        let event = event.map(|event| protos::ChaincodeEvent {
            chaincode_id: proposal.chaincode.clone(),
            tx_id: proposal.txid.clone(),
            ..event
        });
        let transaction = Transaction {
            txid: proposal.txid.clone(),
            timestamp: proposal.timestamp,
            event,
            effects,
        };
        Ok(Endorsed {
            transaction,
            response,
        })
    }

    /// Commits a transaction in a block of its own.
    pub fn submit(&self, endorsed: Endorsed) -> Option<Committed> {
        self.submit_block(vec![endorsed]).into_iter().next()
    }

    /// Commits transactions in one block, in this order.
    pub fn submit_block(&self, endorsed: Vec<Endorsed>) -> Vec<Committed> {
        self.commit(
            endorsed
                .into_iter()
                .map(|endorsed| endorsed.transaction)
                .collect(),
        )
    }

    pub(crate) fn commit(&self, transactions: Vec<Transaction>) -> Vec<Committed> {
        let mut ledger = self.ledger();
        let committed = ledger.commit(transactions);
        self.height.send_replace(ledger.height());
        committed
    }

    /// Runs a proposal on the first peer and gives the answer; nothing is committed.
    ///
    /// # Errors
    /// As [`Network::endorse`].
    pub async fn evaluate(&self, proposal: &Proposal) -> Result<protos::Response, EndorseError> {
        let peer = self
            .peers
            .first()
            .ok_or_else(|| LinkError::Unknown(proposal.chaincode.clone()))?;
        self.evaluate_on(peer, &proposal.proposed(CHANNEL)).await
    }

    pub(crate) async fn evaluate_on(
        &self,
        peer: &Peer,
        proposal: &Proposed,
    ) -> Result<protos::Response, EndorseError> {
        let simulation = Simulation::new(self.view_of(peer).world);
        self.simulate(peer, simulation, proposal)
            .await
            .map(|simulated| simulated.response)
    }

    /// What all peers know that are not held back.
    fn now(&self) -> View {
        let ledger = self.ledger();
        View {
            world: ledger.snapshot(),
            height: ledger.height(),
        }
    }

    pub(crate) fn view_of(&self, peer: &Peer) -> View {
        peer.behind().unwrap_or_else(|| self.now())
    }

    /// Has a peer take no further block, or catch up.
    pub(crate) fn hold_back(&self, peer: &Peer, hold: bool) {
        let view = hold.then(|| self.view_of(peer));
        *peer.behind.lock().unwrap_or_else(PoisonError::into_inner) = view;
        // Whoever waits for a block looks again.
        self.height.send_modify(|_| {});
    }

    pub(crate) fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }

    pub(crate) fn height(&self) -> watch::Receiver<u64> {
        self.height.subscribe()
    }

    /// All blocks so far.
    #[must_use]
    pub fn blocks(&self) -> Vec<Block> {
        self.ledger().blocks().to_vec()
    }

    /// How often a chaincode sent a request of a transaction before the one before was answered. A real peer drops those.
    #[must_use]
    pub fn violations(&self) -> usize {
        self.violations.load(Ordering::Relaxed)
    }

    /// Closes the streams and waits for their tasks.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs until the network stops.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }

    pub(crate) fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn simulate(
        &self,
        peer: &Peer,
        simulation: Simulation,
        proposal: &Proposed,
    ) -> Result<Simulated, EndorseError> {
        let refusal = peer
            .refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let is_meant = |refusal: &Refusal| {
            let mut arguments = proposal.input.args.iter();
            arguments.any(|argument| String::from_utf8_lossy(argument).contains(&refusal.what))
        };
        if let Some(Refusal { status, message, .. }) = refusal.filter(is_meant) {
            return Err(EndorseError::Refused { status, message });
        }
        let simulation = Arc::new(Mutex::new(simulation));
        let kind = if proposal.input.is_init {
            Type::Init
        } else {
            Type::Transaction
        };
        let message = ChaincodeMessage {
            r#type: kind.into(),
            payload: proposal.input.encode_to_vec().into(),
            txid: proposal.txid.clone(),
            channel_id: CHANNEL.to_owned(),
            proposal: Some(proposal.signed.clone()),
            timestamp: Some(proposal.timestamp),
            ..ChaincodeMessage::default()
        };
        let run = Run {
            message,
            simulation: Arc::clone(&simulation),
            msp_id: proposal.msp_id.clone(),
        };
        let last = peer.run(&proposal.chaincode, run).await?;
        if last.r#type() != Type::Completed {
            return Err(EndorseError::Failed(
                String::from_utf8_lossy(&last.payload).into_owned(),
            ));
        }
        let response = protos::Response::decode(last.payload)?;
        if response.status >= ERROR_THRESHOLD {
            return Err(EndorseError::Refused {
                status: response.status,
                message: response.message,
            });
        }
        let effects = simulation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .effects()
            .clone();
        Ok(Simulated {
            effects,
            response,
            event: last.chaincode_event,
        })
    }
}

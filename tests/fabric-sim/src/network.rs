//! The simulated network: one channel, a peer an organisation, and what a client does with them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::endorse::{EndorseError, Endorsed};
use crate::identity::Client;
use crate::ledger::{Block, Committed, Ledger, Transaction};
use crate::link::{Link, LinkError};
use crate::ordering::Ordered;
use crate::peer::{Peer, View};
use crate::proposal::Proposal;
use crate::raw::Dial;

/// The name of the one channel.
pub(crate) const CHANNEL: &str = "channel";

/// How the simulated peers behave.
#[derive(Debug, Clone)]
pub struct Options {
    /// Ids of the members, one for each peer.
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

impl Network {
    /// Three organisations with peers as of Fabric 3.1, and no chaincode yet.
    #[must_use]
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// The same with other options.
    #[must_use]
    pub fn with(options: Options) -> Self {
        let peer = |msp_id: &String| Arc::new(Peer::new(msp_id.clone(), options.execute));
        let stop = CancellationToken::new();
        Self {
            peers: options.organisations.iter().map(peer).collect(),
            ledger: Mutex::new(Ledger::of(
                options.organisations.iter().collect::<HashSet<_>>().len(),
            )),
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
            peer.connect(deployment.name.clone(), handle);
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

    /// Has so many members, in place of a majority, suffice for what no key's own policy is about, as the definition of a chaincode may
    /// say.
    pub fn require(&self, chaincode: &str, members: usize) {
        self.ledger().require(chaincode, members);
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

    /// What all peers know that are not held back.
    pub(crate) fn now(&self) -> View {
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
        peer.stay_at(hold.then(|| self.view_of(peer)));
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
}

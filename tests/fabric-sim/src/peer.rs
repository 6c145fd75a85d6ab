//! A simulated peer: its streams to chaincodes, what it knows of the ledger, and what is wrong with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fabric_wire::protos::ChaincodeMessage;

use crate::ledger::World;
use crate::link::{LinkError, LinkHandle, Run};

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
    pub(crate) world: Arc<World>,
    /// Number of its newest block.
    pub(crate) height: u64,
}

impl Peer {
    /// One that runs, and has no chaincode yet. A transaction may take so long.
    pub(crate) fn new(msp_id: String, execute: Duration) -> Self {
        Self {
            msp_id,
            links: Mutex::default(),
            execute,
            up: AtomicBool::new(true),
            behind: Mutex::default(),
            refusal: Mutex::default(),
        }
    }

    /// The stream to a chaincode, in place of one from before.
    pub(crate) fn connect(&self, chaincode: String, link: LinkHandle) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.insert(chaincode, link);
    }

    /// Has it know no more than this from now on, or all there is.
    pub(crate) fn stay_at(&self, view: Option<View>) {
        *self.behind.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// What it knows, where that is less than what there is.
    pub(crate) fn behind(&self) -> Option<View> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it says no to of itself.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.refusal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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

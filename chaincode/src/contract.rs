//! Runs one command against the state.

mod dataset;
mod draft;
mod lease;

use crate::command::Command;
use crate::event::Event;
use crate::id::{DatasetId, DatasetName, Msp, TxId};
use crate::limit;
use crate::record::Lease;
use crate::refusal::Refusal;
use crate::state::{StateError, StateReader, Write};
use draft::Draft;
use serde::{Deserialize, Serialize};

/// Version of these rules, recorded with every transaction: the same rules give the same state again.
pub const CONTRACT_VERSION: u32 = 1;

/// The contract with its parameters, which all peers of a ledger share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contract {
    /// How long after its expiry a lease may be ended by anyone, milliseconds: as much as a transaction's time may be wrong.
    pub end_margin_ms: i64,
}

impl Contract {
    /// On a ledger whose own clock gives the time.
    pub const EMBEDDED: Self = Self { end_margin_ms: 0 };
    /// On Hyperledger Fabric, where the client chooses the time within 15 minutes of the peer's: twice that.
    pub const FABRIC: Self = Self {
        end_margin_ms: 30 * 60 * 1_000,
    };
}

/// What a transaction knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxContext {
    /// Its id, unique on the ledger.
    pub tx_id: TxId,
    /// Its time, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Who submitted it, as the ledger verified.
    pub caller: Msp,
}

/// What an accepted command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Changes of the state, by key, each key once.
    pub writes: Vec<Write>,
    /// What to tell followers.
    pub event: Event,
    /// What to tell the caller.
    pub result: CommandResult,
}

/// The answer to an accepted command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CommandResult {
    /// The dataset that was registered or retired.
    Dataset {
        /// Its id.
        id: DatasetId,
        /// Its name.
        name: DatasetName,
    },
    /// The lease as it is now.
    Lease {
        /// The record.
        lease: Box<Lease>,
    },
}

impl CommandResult {
    /// The lease, where the command was about one.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Lease { lease } => Some(lease),
            Self::Dataset { .. } => None,
        }
    }
}

/// Why a command has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The contract says no, and will say so again on the same state.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Contract {
    /// Decides a command. Writes are for the ledger to apply, all or none.
    ///
    /// # Errors
    /// [`Failure::Refused`] when the rules say no, [`Failure::State`] when the state cannot be read.
    pub fn execute<S: StateReader + ?Sized>(
        &self,
        state: &S,
        context: &TxContext,
        command: &Command,
    ) -> Result<Outcome, Failure> {
        if !(0..=limit::MAX_TIMESTAMP_MS).contains(&context.timestamp_ms) {
            let reason = "expected milliseconds since the Unix epoch, before the year 10000";
            return Err(Refusal::invalid("timestamp_ms", reason).into());
        }
        let draft = Draft::new(state, context);
        match command {
            Command::RegisterDataset {
                name,
                title,
                description,
                max_ttl_seconds,
                volume_ciphertext,
                key_version,
            } => dataset::Registration {
                name,
                title,
                description,
                max_ttl_seconds: *max_ttl_seconds,
                volume_ciphertext,
                key_version: *key_version,
            }
            .register(draft),
            Command::RemoveDataset { dataset } => dataset::remove(draft, dataset),
            Command::Lease {
                dataset,
                subject,
                ttl_seconds,
            } => lease::grant(draft, dataset, subject, *ttl_seconds),
            Command::Release { lease, subject } => lease::release(draft, lease, subject),
            Command::Expire { lease } => lease::expire(draft, lease, self.end_margin_ms),
            Command::ConfirmEnd { lease } => lease::confirm_end(draft, lease),
            Command::ReportMount { lease, report } => lease::report_mount(draft, lease, report),
        }
    }
}

//! Runs one command against the state.

mod cluster;
mod dataset;
mod draft;
mod end;
mod foresight;
mod lease;
mod line;
mod organisation;
mod text;
mod trace;

use crate::command::{Command, Role};
use crate::event::Event;
use crate::id::{ClusterName, DatasetId, DatasetName, LeaseId, Msp, TraceId, TxId};
use crate::limit;
use crate::record::Lease;
use crate::refusal::Refusal;
use crate::state::{StateError, StateReader, Write};
use draft::Draft;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Version of these rules, recorded with every transaction: the same rules give the same state again.
///
/// Version 1 knew datasets and leases. Since version 2 organisations join before they do anything, and name their clusters. Since version
/// 3 the ids of new leases begin with their time; older ids stay as they are. Since version 4 a description names creators and a type.
pub const CONTRACT_VERSION: u32 = 4;

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
    /// Whose identity submitted it, as the ledger verified.
    pub caller: Msp,
    /// What that identity may do for its organisation.
    pub role: Role,
}

/// What an accepted command does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Changes of the state, by key, each key once.
    pub writes: Vec<Write>,
    /// What to tell followers: one for each transition, the one that was asked for first.
    pub events: Vec<Event>,
    /// What to tell the caller.
    pub result: CommandResult,
    /// Who has to endorse later changes of the records among the writes ([`key::is_endorsed`](crate::key::is_endorsed)), on a ledger
    /// with key-level endorsement; it replaces what was said of them before. None by rules that know no organisations.
    pub endorsement: Option<Endorsement>,
}

/// Whose peers have to agree before a record is changed again: those of more than half of the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endorsement {
    /// Organisations that have joined and are not suspended, as the transaction leaves it.
    pub members: BTreeSet<Msp>,
}

impl Endorsement {
    /// How many members it takes.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }
}

/// The answer to an accepted command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CommandResult {
    /// The dataset that the command was about.
    Dataset {
        /// Its id.
        id: DatasetId,
        /// Its name.
        name: DatasetName,
    },
    /// The lease that the command was about. The first event has it as it is now.
    Lease {
        /// Its id.
        id: LeaseId,
    },
    /// The organisation that the command was about.
    Organisation {
        /// Which.
        msp: Msp,
    },
    /// The cluster that the command was about.
    Cluster {
        /// Whose.
        msp: Msp,
        /// Its name.
        name: ClusterName,
    },
    /// The trace that was recorded.
    Trace {
        /// Its id.
        id: TraceId,
    },
}

impl Outcome {
    /// Every lease that changed, as it is now.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.events.iter().filter_map(|event| event.lease.as_deref())
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
        self.replay(CONTRACT_VERSION, state, context, command)
    }

    /// Says which keys a command will read, as far as that is known before it is decided: again when those are known it may be more.
    /// A reader that fetches many at once then need not begin to decide in vain.
    pub fn foresee<S: StateReader + ?Sized>(&self, state: &S, context: &TxContext, command: &Command) {
        state.will_read(&foresight::first_reads(CONTRACT_VERSION, context, command));
        state.will_read(&foresight::next_reads(state, context, command));
    }

    /// Decides a command as an older version of the contract decided it, to the byte.
    ///
    /// # Errors
    /// As [`Contract::execute`]; [`StateError::UnknownContract`] for a version that is not known.
    pub fn replay<S: StateReader + ?Sized>(
        &self,
        version: u32,
        state: &S,
        context: &TxContext,
        command: &Command,
    ) -> Result<Outcome, Failure> {
        if !(1..=CONTRACT_VERSION).contains(&version) {
            return Err(StateError::UnknownContract {
                found: version,
                known: CONTRACT_VERSION,
            }
            .into());
        }
        if !(0..=limit::MAX_TIMESTAMP_MS).contains(&context.timestamp_ms) {
            let reason = "expected milliseconds since the Unix epoch, before the year 10000";
            return Err(Refusal::invalid("timestamp_ms", reason).into());
        }
        if context.role < command.role() {
            return Err(Refusal::RoleNeeded {
                needed: command.role(),
                has: context.role,
            }
            .into());
        }
        if state.fetches() {
            state.will_read(&foresight::first_reads(version, context, command));
        }
        let draft = Draft::new(state, context, *self, version)?;
        draft.require_standing(command.standing())?;
        decide(draft, command)
    }
}

fn decide<S: StateReader + ?Sized>(draft: Draft<'_, S>, command: &Command) -> Result<Outcome, Failure> {
    match command {
        Command::RegisterDataset {
            name,
            metadata,
            policy,
            volume_ciphertext,
            key_version,
        } => dataset::register(draft, name, metadata, policy, volume_ciphertext, *key_version),
        Command::AmendDataset {
            dataset,
            metadata,
            policy,
        } => dataset::amend(draft, dataset, metadata.as_ref(), policy.as_ref()),
        Command::ReplaceVolume {
            dataset,
            volume_ciphertext,
            key_version,
        } => dataset::replace_volume(draft, dataset, volume_ciphertext, *key_version),
        Command::OfferDataset { dataset, to } => dataset::offer(draft, dataset, to.as_deref()),
        Command::TakeDataset {
            dataset,
            volume_ciphertext,
            key_version,
        } => dataset::take(draft, dataset, volume_ciphertext, *key_version),
        Command::RemoveDataset { dataset, force } => dataset::remove(draft, dataset, *force),
        Command::ApproveCode { dataset, code } => dataset::approve_code(draft, dataset, code),
        Command::WithdrawCode { dataset, code } => dataset::withdraw_code(draft, dataset, code),
        Command::Lease {
            dataset,
            subject,
            mode,
            ttl_seconds,
            groups,
            wait,
            cluster,
        } => lease::Asking {
            dataset,
            subject,
            mode: *mode,
            ttl_seconds: *ttl_seconds,
            groups,
            wait: *wait,
            cluster: cluster.as_deref(),
        }
        .ask(draft),
        Command::ApproveLease { lease } => lease::approve(draft, lease),
        Command::DenyLease { lease, reason } => end::deny(draft, lease, reason),
        Command::Renew {
            lease,
            subject,
            ttl_seconds,
        } => lease::renew(draft, lease, subject, *ttl_seconds),
        Command::Release { lease, subject } => end::release(draft, lease, subject),
        Command::Revoke { lease, reason } => end::revoke(draft, lease, reason),
        Command::Expire { lease } => end::expire(draft, lease),
        Command::ConfirmEnd { lease } => end::confirm(draft, lease),
        Command::DeclareEnded { lease, reason } => end::declare(draft, lease, reason),
        Command::ReportMount { lease, report } => lease::report_mount(draft, lease, report),
        Command::JoinConsortium { broker, keys } => organisation::join(draft, broker, keys),
        Command::AmendOrganisation { broker, keys } => {
            organisation::amend(draft, broker.as_deref(), keys.as_deref())
        }
        Command::SuspendOrganisation { reason } => organisation::suspend(draft, reason),
        Command::ResumeOrganisation {} => organisation::resume(draft),
        Command::VoteOnSuspension {
            organisation,
            suspend,
            reason,
        } => organisation::vote(draft, organisation, *suspend, reason),
        Command::RegisterCluster { name, keys } => cluster::register(draft, name, keys),
        Command::RetireCluster { name } => cluster::retire(draft, name),
        Command::RecordTrace { key, subject, action } => trace::record(draft, key, subject, action),
    }
}

//! What happened: one event for each transition, and the history that is made of them.

use crate::id::{DatasetId, LeaseId, Msp, Subject, TxId};
use crate::record::EndCause;
use serde::{Deserialize, Serialize};

/// What a committed transaction tells those who follow the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To which dataset.
    pub dataset: DatasetId,
    /// To which lease of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
}

/// The kinds of transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum EventKind {
    /// A dataset can be leased.
    DatasetRegistered {},
    /// A dataset can no longer be leased.
    DatasetRetired {},
    /// A lease is active.
    LeaseGranted {},
    /// The cluster can mount a lease's data.
    MountReady {},
    /// The cluster cannot mount a lease's data.
    MountFailed {
        /// The finding's code.
        code: String,
    },
    /// A lease is no longer active; its cluster takes it down.
    LeaseEnding {
        /// Why.
        cause: EndCause,
    },
    /// Nothing is left of a lease.
    LeaseEnded {},
}

/// One line in the history of a dataset and of its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryEntry {
    /// Counts the dataset's transitions from 1, without gaps.
    pub revision: u64,
    /// The transaction's time, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The transaction.
    pub tx_id: TxId,
    /// The organisation that submitted it.
    pub by: Msp,
    /// What happened.
    pub kind: EventKind,
    /// The dataset.
    pub dataset: DatasetId,
    /// The lease, where one is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// Its holder's pseudonym.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
}

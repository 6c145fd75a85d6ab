//! What happened: one event for each transition, and the history that is made of them.

use crate::id::{ClusterName, DatasetId, LeaseId, Msp, Subject, TraceId, TxId};
use crate::record::{ActionKind, By, Code, EndCause, Lease, Record};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a committed transaction tells those who follow the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To which dataset, where one is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetId>,
    /// To which lease of it, as it is now: who follows the ledger needs to ask nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Box<Lease>>,
    /// To which organisation, where one is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<Msp>,
}

/// The kinds of transition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum EventKind {
    /// A dataset can be leased.
    DatasetRegistered {},
    /// A dataset is described anew.
    DatasetDescribed {},
    /// A dataset is leased on other terms.
    PolicyChanged {},
    /// A dataset's data is elsewhere, or encrypted under another key.
    VolumeReplaced {},
    /// A dataset may be taken over by an organisation, or by nobody any longer.
    DatasetOffered {
        /// By whom.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Msp>,
    },
    /// A dataset has another owner.
    DatasetTaken {},
    /// A dataset can no longer be leased.
    DatasetRetired {},
    /// Some code may run on a dataset.
    CodeApproved {
        /// Which.
        code: Code,
    },
    /// Some code may no longer run on a dataset.
    CodeWithdrawn {
        /// Which.
        code: Code,
    },
    /// A lease needs its owner's approval.
    LeaseRequested {},
    /// A lease stands in the line.
    LeaseWaiting {},
    /// A lease is active.
    LeaseGranted {},
    /// A lease lasts longer.
    LeaseRenewed {
        /// Until when, milliseconds since the Unix epoch.
        expires_at_ms: i64,
    },
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
    /// Nothing is left of a lease, or there never was anything.
    LeaseEnded {
        /// Why.
        cause: EndCause,
    },
    /// An organisation has joined.
    OrganisationJoined {},
    /// An organisation has another broker address, or other keys.
    OrganisationAmended {},
    /// An organisation registers, leases and grants nothing any longer.
    OrganisationSuspended {
        /// Who suspended it.
        by: By,
    },
    /// What was suspended by itself, or by the others, is so no longer.
    OrganisationResumed {
        /// Who suspended it.
        by: By,
    },
    /// An organisation wants this one suspended, or no longer.
    SuspensionVoted {
        /// Whose vote.
        voter: Msp,
        /// What it wants.
        suspend: bool,
    },
    /// A cluster takes leases, or has other keys.
    ClusterRegistered {
        /// Which.
        cluster: ClusterName,
    },
    /// Something that a person of an organisation did is on the ledger.
    TraceRecorded {
        /// Under which id.
        trace: TraceId,
        /// Of which kind it is.
        action: ActionKind,
    },
    /// A cluster takes no new leases.
    ClusterRetired {
        /// Which.
        cluster: ClusterName,
    },
}

/// One line in the history of a dataset and of its lease, or of an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryEntry {
    /// Counts the transitions of the dataset, or of the organisation, from 1, without gaps.
    pub revision: u64,
    /// The transaction's time, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The transaction.
    pub tx_id: TxId,
    /// The organisation that submitted it.
    pub by: Msp,
    /// What happened.
    pub kind: EventKind,
    /// The dataset, where one is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetId>,
    /// The lease, where one is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// Its holder's pseudonym.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// The organisation, where one is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<Msp>,
}

impl Record for HistoryEntry {
    const SINCE: &'static [u32] = &[1, 2];

    /// Version 1 was about datasets only.
    fn upgrade(from: u32, record: Value) -> Option<Value> {
        (from == 1).then_some(record)
    }
}

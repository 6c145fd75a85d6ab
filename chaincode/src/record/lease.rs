//! Leases: one person's right to one dataset, from the first asking to the last trace.

use crate::id::{ClusterName, DatasetId, DatasetName, LeaseId, Msp, Subject};
use crate::record::{Finding, Mode, Record};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One person's right to one dataset for some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// For ever.
    pub id: LeaseId,
    /// Counts the leases that were asked for of this dataset, from 1.
    pub number: u64,
    /// What is leased.
    pub dataset: DatasetId,
    /// Its name when the lease was asked for.
    pub dataset_name: DatasetName,
    /// The dataset's owner at that time.
    pub owner: Msp,
    /// The holder's pseudonym.
    pub subject: Subject,
    /// The holder's organisation, whose cluster serves the lease.
    pub cluster_msp: Msp,
    /// Which of its clusters; none on leases from before clusters were registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterName>,
    /// Whether it keeps others out.
    pub mode: Mode,
    /// How long it lasts from its granting on, seconds.
    pub ttl_seconds: u64,
    /// The dataset's longest lease, seconds, when this one was asked for.
    pub max_ttl_seconds: u64,
    /// Milliseconds since the Unix epoch.
    pub asked_at_ms: i64,
    /// Until when it waits for approval or in the line, milliseconds since the Unix epoch.
    pub until_ms: i64,
    /// Whether it waits where it cannot be granted at once.
    pub waits: bool,
    /// Since it was granted.
    pub grant: Option<Grant>,
    /// Where in its life it is.
    pub state: LeaseState,
    /// How it ended; none before.
    pub end: Option<End>,
    /// Whether the data can be mounted.
    pub mount: Mount,
}

impl Record for Lease {
    const SINCE: &'static [u32] = &[1, 2];

    /// Version 1 had no cluster.
    fn upgrade(from: u32, record: Value) -> Option<Value> {
        (from == 1).then_some(record)
    }
}

impl Lease {
    /// When its state is over by time alone, milliseconds since the Unix epoch.
    #[must_use]
    pub fn due_at_ms(&self) -> i64 {
        self.grant
            .as_ref()
            .map_or(self.until_ms, |grant| grant.expires_at_ms)
    }

    /// When it was granted: 0 before.
    #[must_use]
    pub fn granted_at_ms(&self) -> i64 {
        self.grant.as_ref().map_or(0, |grant| grant.at_ms)
    }

    /// Its token, which grows with every grant of the dataset: 0 before.
    #[must_use]
    pub fn fencing_token(&self) -> u64 {
        self.grant.as_ref().map_or(0, |grant| grant.fencing_token)
    }
}

/// From when to when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Grows by one with every grant of the dataset.
    pub fencing_token: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Milliseconds since the Unix epoch; grows with renewals.
    pub expires_at_ms: i64,
    /// How often it was renewed.
    pub renewals: u32,
}

/// `requested` → `waiting` → `active` → `ending` → `ended`, with steps left out but never back. The next exclusive lease is granted
/// only after `ended`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Its owner has to approve it.
    Requested,
    /// Stands in the line.
    Waiting,
    /// May be mounted until it expires.
    Active,
    /// Mounts nothing new; the cluster is taking away what it had.
    Ending,
    /// Nothing is left of it.
    Ended,
}

impl LeaseState {
    /// The word for it, as in records and keys.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Waiting => "waiting",
            Self::Active => "active",
            Self::Ending => "ending",
            Self::Ended => "ended",
        }
    }
}

/// How a lease came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Why.
    pub cause: EndCause,
    /// In the owner's words, where it was the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it stopped being active, or waiting to be, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The organisation whose command ended it.
    pub by: Msp,
    /// When nothing of it was left, milliseconds since the Unix epoch.
    pub confirmed_at_ms: Option<i64>,
}

/// Why a lease is no longer active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// By its holder.
    Released,
    /// By time.
    Expired,
    /// By the dataset's owner.
    Revoked,
    /// With the dataset, by its owner.
    Retired,
    /// Not approved.
    Denied,
    /// It waited too long.
    Lapsed,
    /// Its turn came while its organisation, or the dataset's owner, was suspended.
    Suspended,
}

impl EndCause {
    /// The word for it, as in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Retired => "retired",
            Self::Denied => "denied",
            Self::Lapsed => "lapsed",
            Self::Suspended => "suspended",
        }
    }
}

/// Whether a lease's data can be mounted, as far as the cluster has said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
pub enum Mount {
    /// Not looked at yet.
    Pending {},
    /// It can.
    Ready {},
    /// It cannot.
    Failed {
        /// Why.
        finding: Finding,
    },
}

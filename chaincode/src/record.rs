//! What the ledger's state holds. Each record is stored as `{"schema": n, "record": {…}}`, so that a later contract can tell an
//! old one and read it.

use crate::command::Ciphertext;
use crate::id::{DatasetId, DatasetName, LeaseId, Msp, Subject};
use serde::{Deserialize, Serialize};

/// What was registered. Changes only by its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// For ever.
    pub id: DatasetId,
    /// Unique among datasets that are not retired.
    pub name: DatasetName,
    /// The organisation that registered it and holds its key.
    pub owner: Msp,
    /// One line for people.
    pub title: String,
    /// Public to the consortium.
    pub description: String,
    /// Longest lease, seconds.
    pub max_ttl_seconds: u64,
    /// Milliseconds since the Unix epoch.
    pub registered_at_ms: i64,
    /// Milliseconds since the Unix epoch; none while it can be leased.
    pub retired_at_ms: Option<i64>,
}

/// What changes about a dataset as it is leased; kept apart from [`Dataset`] so that a lease rewrites little.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetStatus {
    /// Number of transitions so far; numbers the history.
    pub revision: u64,
    /// The token of the last lease granted; 0 before the first. Only grows.
    pub fencing_token: u64,
    /// The lease that keeps others out: active or ending.
    pub lease: Option<LeaseId>,
    /// What the node last said, when the data could not be mounted; none after it could.
    pub finding: Option<Finding>,
}

/// Where the data is and what opens it, for the owner's broker only. Leaves the state when the dataset is retired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Encrypted by the owner.
    pub ciphertext: Ciphertext,
    /// Version of the data key that opens it.
    pub key_version: u32,
}

/// One person's right to one dataset for some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// For ever.
    pub id: LeaseId,
    /// What is leased.
    pub dataset: DatasetId,
    /// Its name when the lease was granted.
    pub dataset_name: DatasetName,
    /// The dataset's owner.
    pub owner: Msp,
    /// The holder's pseudonym.
    pub subject: Subject,
    /// The holder's organisation, whose cluster serves the lease.
    pub cluster_msp: Msp,
    /// Grows by one with every lease of the dataset.
    pub fencing_token: u64,
    /// Milliseconds since the Unix epoch.
    pub granted_at_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub expires_at_ms: i64,
    /// The dataset's longest lease, seconds, when this one was granted.
    pub max_ttl_seconds: u64,
    /// Where in its life it is.
    pub state: LeaseState,
    /// How it ended; none while active.
    pub end: Option<End>,
    /// Whether the data can be mounted.
    pub mount: Mount,
}

/// `active` → `ending` → `ended`, never back. The next exclusive lease is granted only after `ended`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
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
    /// When it stopped being active, milliseconds since the Unix epoch.
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
}

impl EndCause {
    /// The word for it, as in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
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

/// Why data cannot be mounted. Public to the consortium: it names no path and no server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Stable code, such as `path_missing`.
    pub code: String,
    /// A sentence for the dataset's owner.
    pub message: String,
}

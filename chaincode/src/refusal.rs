//! Why the contract refuses a command: a stable code, what it is about, and a sentence that says what to do.

use crate::record::LeaseState;
use serde::{Deserialize, Serialize};

/// A refused command. It wrote nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case", deny_unknown_fields)]
pub enum Refusal {
    /// A field is out of its bounds.
    #[error("{field} is not acceptable: {reason}")]
    InvalidField {
        /// Name of the field.
        field: String,
        /// What is expected.
        reason: String,
    },
    /// Another dataset that is not retired has the name.
    #[error("a dataset named {name} is already registered; choose another name, or remove that one first")]
    DatasetNameTaken {
        /// The name.
        name: String,
    },
    /// The transaction id has registered a dataset or granted a lease before.
    #[error("transaction {tx_id} was used before; submit the command with a new transaction id")]
    TransactionReused {
        /// The transaction id.
        tx_id: String,
    },
    /// No such dataset, or a retired one.
    #[error("no such dataset; see the catalogue for those that can be leased")]
    DatasetNotFound {},
    /// Only its owner may do that.
    #[error("the dataset belongs to {owner}; only its owner may do this")]
    NotOwner {
        /// The owner.
        owner: String,
    },
    /// A lease of it is active or ending.
    #[error("dataset {name} is leased until its lease {lease} has ended; try again after that")]
    DatasetLeased {
        /// Name of the dataset.
        name: String,
        /// The lease in the way.
        lease: String,
    },
    /// Somebody holds the exclusive lease.
    #[error("dataset {name} is leased exclusively ({}); try again after that lease has ended", lease_state.as_str())]
    LeaseConflict {
        /// Name of the dataset.
        name: String,
        /// Whether the lease in the way is active or ending.
        lease_state: LeaseState,
        /// When the lease in the way expires, milliseconds since the Unix epoch.
        expires_at_ms: i64,
    },
    /// No such lease, or one of somebody else.
    #[error("no such lease of yours; list your leases for their ids")]
    LeaseNotFound {},
    /// The lease is over.
    #[error("the lease is {}, not active; take a new lease to go on", lease_state.as_str())]
    LeaseNotActive {
        /// Where in its life it is.
        lease_state: LeaseState,
    },
    /// There is no end to confirm.
    #[error("the lease is {}, so there is no end of it to confirm", lease_state.as_str())]
    LeaseNotEnding {
        /// Where in its life it is.
        lease_state: LeaseState,
    },
    /// Its time is not over yet.
    #[error(
        "the lease may be expired from {from_ms} ms since the Unix epoch, and the transaction's time is {now_ms}"
    )]
    NotExpired {
        /// When it may be expired, milliseconds since the Unix epoch.
        from_ms: i64,
        /// The transaction's time.
        now_ms: i64,
    },
    /// Another organisation's cluster serves the lease.
    #[error("the lease is served by a cluster of {cluster_msp}; only that organisation may report on it")]
    NotCluster {
        /// The organisation of that cluster.
        cluster_msp: String,
    },
    /// The report says what the ledger says already.
    #[error("the ledger already says this of the lease's mount; there is nothing to record")]
    MountUnchanged {},
    /// A counter has reached its end.
    #[error("{counter} cannot grow any further")]
    Exhausted {
        /// Which counter.
        counter: String,
    },
}

impl Refusal {
    /// The stable code, lower case with underscores.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidField { .. } => "invalid_field",
            Self::DatasetNameTaken { .. } => "dataset_name_taken",
            Self::TransactionReused { .. } => "transaction_reused",
            Self::DatasetNotFound {} => "dataset_not_found",
            Self::NotOwner { .. } => "not_owner",
            Self::DatasetLeased { .. } => "dataset_leased",
            Self::LeaseConflict { .. } => "lease_conflict",
            Self::LeaseNotFound {} => "lease_not_found",
            Self::LeaseNotActive { .. } => "lease_not_active",
            Self::LeaseNotEnding { .. } => "lease_not_ending",
            Self::NotExpired { .. } => "not_expired",
            Self::NotCluster { .. } => "not_cluster",
            Self::MountUnchanged {} => "mount_unchanged",
            Self::Exhausted { .. } => "exhausted",
        }
    }

    pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> Self {
        Self::InvalidField {
            field: field.to_owned(),
            reason: reason.into(),
        }
    }
}

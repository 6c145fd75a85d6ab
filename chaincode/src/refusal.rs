//! Why the contract refuses a command: a stable code, what it is about, and a sentence that says what to do.

use crate::command::Role;
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
    /// The caller's identity may not do that, whatever it is done to.
    #[error("this takes the role {} of an organisation, and the caller has {}; ask one who has it", needed.as_str(), has.as_str())]
    RoleNeeded {
        /// The least role.
        needed: Role,
        /// The caller's.
        has: Role,
    },
    /// The caller's organisation is not part of the consortium.
    #[error("{msp} has not joined the consortium; an administrator of it joins it first")]
    OrganisationNotJoined {
        /// The caller.
        msp: String,
    },
    /// The caller's organisation is part of the consortium.
    #[error("{msp} has joined the consortium already; amend what it said of itself instead")]
    AlreadyJoined {
        /// The caller.
        msp: String,
    },
    /// No such organisation has joined.
    #[error("no such organisation has joined the consortium; list the organisations for their ids")]
    OrganisationNotFound {},
    /// The caller's organisation, or the one that would have to grant or get something, is suspended.
    #[error("{msp} is suspended: it registers, leases and grants nothing until it is resumed")]
    OrganisationSuspended {
        /// Which.
        msp: String,
    },
    /// The caller's organisation has no such cluster in service.
    #[error("{msp} has no such cluster in service; an administrator of it registers one")]
    ClusterNotFound {
        /// The caller.
        msp: String,
    },
    /// The organisation recorded something else under the key.
    #[error("another trace, {trace}, was recorded under this key; choose a new key")]
    TraceKeyUsed {
        /// The other one.
        trace: String,
    },
    /// Nobody, or another organisation, was offered the dataset.
    #[error("the dataset is not offered to {to}; its owner has to offer it first")]
    NotOffered {
        /// The caller.
        to: String,
    },
    /// The terms let only other organisations' people in.
    #[error("the owner's terms do not admit people of {msp}; ask the owner")]
    OrganisationNotAdmitted {
        /// The person's organisation.
        msp: String,
    },
    /// The terms let only people of certain groups in.
    #[error(
        "the owner's terms admit members of certain groups only, and the person is in none of them; ask the owner"
    )]
    GroupNotAdmitted {},
    /// The terms have no such leases.
    #[error("dataset {name} is not leased in that mode; ask for the other one")]
    ModeNotAllowed {
        /// Name of the dataset.
        name: String,
    },
    /// A lease of it is active, ending or asked for.
    #[error(
        "dataset {name} is leased until its lease {lease} has ended; try again after that, or end its leases by force"
    )]
    DatasetLeased {
        /// Name of the dataset.
        name: String,
        /// The lease in the way.
        lease: String,
    },
    /// Others have it, or wait for it.
    #[error("dataset {name} is leased to others ({}); try again after that lease has ended", lease_state.as_str())]
    LeaseConflict {
        /// Name of the dataset.
        name: String,
        /// Whether the lease in the way is active, ending or waiting.
        lease_state: LeaseState,
        /// When the time of the lease in the way is over, milliseconds since the Unix epoch.
        expires_at_ms: i64,
    },
    /// Enough people wait.
    #[error(
        "{waiting} wait for dataset {name} already, which is all that its owner lets wait; try again later"
    )]
    LineFull {
        /// Name of the dataset.
        name: String,
        /// How many.
        waiting: u32,
    },
    /// The person has a lease of this dataset already.
    #[error("this person's lease {lease} of the dataset is {}; renew or release that one", lease_state.as_str())]
    AlreadyLeased {
        /// The lease.
        lease: String,
        /// Where in its life it is.
        lease_state: LeaseState,
    },
    /// There is nothing to approve or deny.
    #[error("the lease is {}, so its owner has nothing to decide", lease_state.as_str())]
    LeaseNotRequested {
        /// Where in its life it is.
        lease_state: LeaseState,
    },
    /// Others wait for the dataset.
    #[error(
        "others wait for dataset {name}, so the lease cannot be renewed; it lasts until {expires_at_ms} ms since the Unix epoch"
    )]
    RenewalWaitedFor {
        /// Name of the dataset.
        name: String,
        /// When the lease expires.
        expires_at_ms: i64,
    },
    /// The cluster has time left for confirming the end.
    #[error(
        "the cluster has until {from_ms} ms since the Unix epoch for confirming the end, and the transaction's time is {now_ms}"
    )]
    TooEarlyToDeclare {
        /// From when on the owner may declare it, milliseconds since the Unix epoch.
        from_ms: i64,
        /// The transaction's time.
        now_ms: i64,
    },
    /// The record says so already, or there is no such record.
    #[error("the ledger says this already; there is nothing to record")]
    Unchanged {},
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
    /// Its time is over.
    #[error("the lease expired at {expires_at_ms} ms since the Unix epoch; take a new lease to go on")]
    LeaseExpired {
        /// When.
        expires_at_ms: i64,
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
            Self::RoleNeeded { .. } => "role_needed",
            Self::OrganisationNotJoined { .. } => "organisation_not_joined",
            Self::AlreadyJoined { .. } => "already_joined",
            Self::OrganisationNotFound {} => "organisation_not_found",
            Self::OrganisationSuspended { .. } => "organisation_suspended",
            Self::ClusterNotFound { .. } => "cluster_not_found",
            Self::TraceKeyUsed { .. } => "trace_key_used",
            Self::NotOffered { .. } => "not_offered",
            Self::OrganisationNotAdmitted { .. } => "organisation_not_admitted",
            Self::GroupNotAdmitted {} => "group_not_admitted",
            Self::ModeNotAllowed { .. } => "mode_not_allowed",
            Self::DatasetLeased { .. } => "dataset_leased",
            Self::LeaseConflict { .. } => "lease_conflict",
            Self::LineFull { .. } => "line_full",
            Self::AlreadyLeased { .. } => "already_leased",
            Self::LeaseNotRequested { .. } => "lease_not_requested",
            Self::RenewalWaitedFor { .. } => "renewal_waited_for",
            Self::TooEarlyToDeclare { .. } => "too_early_to_declare",
            Self::Unchanged {} => "unchanged",
            Self::LeaseExpired { .. } => "lease_expired",
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

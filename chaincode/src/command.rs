//! What an organisation may ask of the contract. Texts come as they were sent; the contract checks them, so that every ledger
//! refuses the same ones with the same words.

use crate::record::{Action, Code, Finding, Metadata, Mode, Policy, PublicKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A command. Its caller is not part of it: the ledger knows who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// A steward of any organisation, which becomes the dataset's owner.
    RegisterDataset {
        /// Unique among datasets that are not retired.
        name: String,
        /// Public to the consortium.
        metadata: Metadata,
        /// On which terms it is leased.
        policy: Policy,
        /// Where the data is and what opens it, encrypted by the owner.
        volume_ciphertext: Ciphertext,
        /// Version of the data key that opens the ciphertext, from 1.
        key_version: u32,
    },
    /// A steward of the owner: describes the dataset anew, or changes its terms for leases to come.
    AmendDataset {
        /// Id or name.
        dataset: String,
        /// Replaces the description.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metadata: Option<Metadata>,
        /// Replaces the terms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<Policy>,
    },
    /// A steward of the owner: the data has moved, or its key was rotated.
    ReplaceVolume {
        /// Id or name.
        dataset: String,
        /// Encrypted by the owner.
        volume_ciphertext: Ciphertext,
        /// Not less than before.
        key_version: u32,
    },
    /// A steward of the owner: another organisation may take the dataset over; nobody withdraws the offer.
    OfferDataset {
        /// Id or name.
        dataset: String,
        /// To whom; nobody withdraws an offer made before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// A steward of the organisation that a dataset is offered to, while nobody leases it: becomes its owner.
    TakeDataset {
        /// Id or name.
        dataset: String,
        /// Encrypted by the new owner.
        volume_ciphertext: Ciphertext,
        /// Version of the new owner's data key, from 1.
        key_version: u32,
    },
    /// A steward of the owner: the dataset is retired and its name is free again. While somebody leases it only by force, which
    /// ends the leases.
    RemoveDataset {
        /// Id or name.
        dataset: String,
        /// End its leases.
        #[serde(default)]
        force: bool,
    },
    /// A steward of the owner: this code may run on the dataset.
    ApproveCode {
        /// Id or name.
        dataset: String,
        /// By digest.
        code: Code,
    },
    /// A steward of the owner: this code may no longer run on the dataset.
    WithdrawCode {
        /// Id or name.
        dataset: String,
        /// By digest.
        code: Code,
    },
    /// The organisation of a person, whose cluster will serve the lease: asks for the dataset for that person.
    Lease {
        /// Id or name.
        dataset: String,
        /// The person's pseudonym.
        subject: String,
        /// Exclusive where absent and the dataset's policy has it, else shared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<Mode>,
        /// Seconds; the dataset's longest lease where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_seconds: Option<u64>,
        /// Groups of the person that their organisation vouches for. Not recorded.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        groups: Vec<String>,
        /// Stand in the line where it cannot be granted at once.
        #[serde(default)]
        wait: bool,
        /// The cluster that will serve it; the organisation's only one where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cluster: Option<String>,
    },
    /// A steward of the owner: the lease that was asked for is granted, or gets its place in the line.
    ApproveLease {
        /// Id of the lease.
        lease: String,
    },
    /// A steward of the owner: the lease that was asked for is not granted.
    DenyLease {
        /// Id of the lease.
        lease: String,
        /// One line for the person who asked.
        reason: String,
    },
    /// The holder, through the organisation that took the lease, while nobody waits: lasts so long from now on.
    Renew {
        /// Id of the lease.
        lease: String,
        /// The holder's pseudonym.
        subject: String,
        /// Seconds from now; the dataset's longest lease where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_seconds: Option<u64>,
    },
    /// The holder, through the organisation that took the lease; also leaves the line or withdraws a request.
    Release {
        /// Id of the lease.
        lease: String,
        /// The holder's pseudonym.
        subject: String,
    },
    /// A steward of the owner: the lease ends now.
    Revoke {
        /// Id of the lease.
        lease: String,
        /// One line for its holder.
        reason: String,
    },
    /// Anyone, once the time of the lease, its place or its request is over.
    Expire {
        /// Id of the lease.
        lease: String,
    },
    /// The organisation whose cluster serves the lease: nothing of an ending lease is left there.
    ConfirmEnd {
        /// Id of the lease.
        lease: String,
    },
    /// A steward of the owner, where a cluster has not confirmed the end of a lease for an hour: it counts as ended.
    DeclareEnded {
        /// Id of the lease.
        lease: String,
        /// One line for the record.
        reason: String,
    },
    /// The organisation whose cluster serves the lease: what the node said of the volume.
    ReportMount {
        /// Id of the lease.
        lease: String,
        /// What the node said.
        report: MountReport,
    },
    /// An administrator of an organisation that has not joined.
    JoinConsortium {
        /// Where its broker answers: `https://host[:port]`.
        broker: String,
        /// By which its broker proves what it says.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keys: Vec<PublicKey>,
    },
    /// An administrator: the caller's broker has moved, or has other keys.
    AmendOrganisation {
        /// Replaces the address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        broker: Option<String>,
        /// Replaces all keys.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keys: Option<Vec<PublicKey>>,
    },
    /// An administrator: the caller's organisation registers, leases and grants nothing from now on.
    SuspendOrganisation {
        /// One line for the others.
        reason: String,
    },
    /// An administrator: takes back that the organisation has suspended itself.
    ResumeOrganisation {},
    /// An administrator of another organisation that is not suspended: whether that organisation should be. It is, as long as more
    /// than half of the others that are not suspended themselves, and at least two, want it; counted at each vote.
    VoteOnSuspension {
        /// MSP id of the other organisation.
        organisation: String,
        /// What the caller wants.
        suspend: bool,
        /// One line for the record.
        reason: String,
    },
    /// An administrator: a cluster of the organisation takes leases from now on, or has other keys.
    RegisterCluster {
        /// Unique within the organisation.
        name: String,
        /// To which other organisations' brokers encrypt what opens a volume.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keys: Vec<PublicKey>,
    },
    /// An administrator: a cluster of the organisation takes no new leases; those it has go on.
    RetireCluster {
        /// Its name.
        name: String,
    },
    /// The organisation of a person: what that person did. Under the same key the same trace is recorded once, and no other.
    RecordTrace {
        /// Unique among the organisation's traces, such as a UUID.
        key: String,
        /// The person's pseudonym.
        subject: String,
        /// What they did.
        action: Action,
    },
}

impl Command {
    /// The command's name as it is recorded.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RegisterDataset { .. } => "register_dataset",
            Self::AmendDataset { .. } => "amend_dataset",
            Self::ReplaceVolume { .. } => "replace_volume",
            Self::OfferDataset { .. } => "offer_dataset",
            Self::TakeDataset { .. } => "take_dataset",
            Self::RemoveDataset { .. } => "remove_dataset",
            Self::ApproveCode { .. } => "approve_code",
            Self::WithdrawCode { .. } => "withdraw_code",
            Self::Lease { .. } => "lease",
            Self::ApproveLease { .. } => "approve_lease",
            Self::DenyLease { .. } => "deny_lease",
            Self::Renew { .. } => "renew",
            Self::Release { .. } => "release",
            Self::Revoke { .. } => "revoke",
            Self::Expire { .. } => "expire",
            Self::ConfirmEnd { .. } => "confirm_end",
            Self::DeclareEnded { .. } => "declare_ended",
            Self::ReportMount { .. } => "report_mount",
            Self::JoinConsortium { .. } => "join_consortium",
            Self::AmendOrganisation { .. } => "amend_organisation",
            Self::SuspendOrganisation { .. } => "suspend_organisation",
            Self::ResumeOrganisation {} => "resume_organisation",
            Self::VoteOnSuspension { .. } => "vote_on_suspension",
            Self::RegisterCluster { .. } => "register_cluster",
            Self::RetireCluster { .. } => "retire_cluster",
            Self::RecordTrace { .. } => "record_trace",
        }
    }

    /// The least role of whom an organisation lets submit it.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            Self::RegisterDataset { .. }
            | Self::AmendDataset { .. }
            | Self::ReplaceVolume { .. }
            | Self::OfferDataset { .. }
            | Self::TakeDataset { .. }
            | Self::RemoveDataset { .. }
            | Self::ApproveCode { .. }
            | Self::WithdrawCode { .. }
            | Self::ApproveLease { .. }
            | Self::DenyLease { .. }
            | Self::Revoke { .. }
            | Self::DeclareEnded { .. } => Role::Steward,
            Self::Lease { .. }
            | Self::Renew { .. }
            | Self::Release { .. }
            | Self::Expire { .. }
            | Self::ConfirmEnd { .. }
            | Self::ReportMount { .. }
            | Self::RecordTrace { .. } => Role::Member,
            Self::JoinConsortium { .. }
            | Self::AmendOrganisation { .. }
            | Self::SuspendOrganisation { .. }
            | Self::ResumeOrganisation {}
            | Self::VoteOnSuspension { .. }
            | Self::RegisterCluster { .. }
            | Self::RetireCluster { .. } => Role::Administrator,
        }
    }

    /// How the caller's organisation must stand. What ends or restricts something needs no more than that it has joined, so that
    /// a suspension leaves nothing hanging.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self {
            Self::JoinConsortium { .. } => Standing::Any,
            Self::AmendDataset { .. }
            | Self::ReplaceVolume { .. }
            | Self::RemoveDataset { .. }
            | Self::WithdrawCode { .. }
            | Self::DenyLease { .. }
            | Self::Release { .. }
            | Self::Revoke { .. }
            | Self::Expire { .. }
            | Self::ConfirmEnd { .. }
            | Self::DeclareEnded { .. }
            | Self::ReportMount { .. }
            | Self::AmendOrganisation { .. }
            | Self::SuspendOrganisation { .. }
            | Self::ResumeOrganisation {}
            | Self::RetireCluster { .. }
            | Self::RecordTrace { .. } => Standing::Joined,
            Self::RegisterDataset { .. }
            | Self::OfferDataset { .. }
            | Self::TakeDataset { .. }
            | Self::ApproveCode { .. }
            | Self::Lease { .. }
            | Self::ApproveLease { .. }
            | Self::Renew { .. }
            | Self::VoteOnSuspension { .. }
            | Self::RegisterCluster { .. } => Standing::NotSuspended,
        }
    }
}

/// How an organisation stands in the consortium, each more than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It need not have joined.
    Any,
    /// It has joined.
    Joined,
    /// It has joined and is not suspended.
    NotSuspended,
}

/// What an identity of an organisation may do, each more than the one before. The ledger knows it from the caller's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Leases for the organisation's people.
    Member,
    /// Answers for the organisation's datasets.
    Steward,
    /// Answers for the organisation.
    Administrator,
}

impl Role {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Steward => "steward",
            Self::Administrator => "administrator",
        }
    }
}

/// What a node found when it looked at a lease's volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mount", rename_all = "snake_case", deny_unknown_fields)]
pub enum MountReport {
    /// It can be mounted.
    Ready {},
    /// It cannot.
    Failed {
        /// Why.
        finding: Finding,
    },
}

/// Encrypted volume details in base64. Debug shows only the length: it is no secret, but nothing to read either.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ciphertext(pub String);

impl fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ciphertext({} characters)", self.0.len())
    }
}

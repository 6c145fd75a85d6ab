//! What an organisation may ask of the contract. Texts come as they were sent; the contract checks them, so that every ledger
//! refuses the same ones with the same words.

use crate::record::Finding;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A command. Its caller is not part of it: the ledger knows who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Any organisation: becomes the dataset's owner.
    RegisterDataset {
        /// Unique among datasets that are not retired.
        name: String,
        /// One line for people.
        title: String,
        /// Public to the consortium.
        description: String,
        /// Longest lease, seconds.
        max_ttl_seconds: u64,
        /// Where the data is and what opens it, encrypted by the owner.
        volume_ciphertext: Ciphertext,
        /// Version of the data key that opens the ciphertext, from 1.
        key_version: u32,
    },
    /// The owner, while nobody leases it: the dataset is retired and its name is free again.
    RemoveDataset {
        /// Id or name.
        dataset: String,
    },
    /// The organisation of a person, whose cluster will serve the lease: takes the dataset for that person alone.
    Lease {
        /// Id or name.
        dataset: String,
        /// The person's pseudonym.
        subject: String,
        /// Seconds; the dataset's longest lease where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_seconds: Option<u64>,
    },
    /// The holder, through the organisation that took the lease.
    Release {
        /// Id of the lease.
        lease: String,
        /// The holder's pseudonym.
        subject: String,
    },
    /// Anyone, once the lease's time is over.
    Expire {
        /// Id of the lease.
        lease: String,
    },
    /// The organisation whose cluster serves the lease: nothing of an ending lease is left there.
    ConfirmEnd {
        /// Id of the lease.
        lease: String,
    },
    /// The organisation whose cluster serves the lease: what the node said of the volume.
    ReportMount {
        /// Id of the lease.
        lease: String,
        /// What the node said.
        report: MountReport,
    },
}

impl Command {
    /// The command's name as it is recorded.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RegisterDataset { .. } => "register_dataset",
            Self::RemoveDataset { .. } => "remove_dataset",
            Self::Lease { .. } => "lease",
            Self::Release { .. } => "release",
            Self::Expire { .. } => "expire",
            Self::ConfirmEnd { .. } => "confirm_end",
            Self::ReportMount { .. } => "report_mount",
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

//! Organisations of the consortium and their clusters.

use crate::id::{ClusterName, Msp};
use crate::record::Record;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// An organisation that has joined. Changes by its own administrator, and by the votes of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// Which.
    pub msp: Msp,
    /// Where its broker answers: `https://host[:port]`.
    pub broker: String,
    /// By which its broker proves what it says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<PublicKey>,
    /// Milliseconds since the Unix epoch.
    pub joined_at_ms: i64,
    /// Number of transitions so far; numbers its history.
    pub revision: u64,
    /// Its clusters that are in service, by name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub clusters: BTreeSet<ClusterName>,
    /// Since it has suspended itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_by_itself: Option<Suspension>,
    /// Since the others have suspended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_by_others: Option<Suspension>,
    /// Which others want it suspended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<Vote>,
}

impl Record for Organisation {}

impl Organisation {
    /// Whether it registers, leases and grants nothing for the time being.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.suspended_by_itself.is_some() || self.suspended_by_others.is_some()
    }
}

/// From when on an organisation is suspended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspension {
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// In the words of whoever suspended it; of the last who voted where others did.
    pub reason: String,
}

/// An organisation's word that another one be suspended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// Whose.
    pub by: Msp,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Its reason.
    pub reason: String,
}

/// Who suspends or resumes an organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// It itself.
    Itself,
    /// More than half of the others.
    Others,
}

/// All organisations together, as far as every command needs to know them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consortium {
    /// How many have joined.
    pub joined: u32,
    /// Those of them that are not suspended.
    pub standing: BTreeSet<Msp>,
}

impl Record for Consortium {}

/// A cluster that serves leases of its organisation's people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Whose it is.
    pub organisation: Msp,
    /// Unique within the organisation.
    pub name: ClusterName,
    /// To which other organisations' brokers encrypt what opens a volume; none: they give it nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<PublicKey>,
    /// When it was first registered, milliseconds since the Unix epoch.
    pub registered_at_ms: i64,
    /// Milliseconds since the Unix epoch; none while it takes new leases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at_ms: Option<i64>,
}

impl Record for Cluster {}

/// A public key under an id of its owner's choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicKey {
    /// Unique among its owner's.
    pub id: String,
    /// What it is for.
    pub algorithm: KeyAlgorithm,
    /// SubjectPublicKeyInfo (RFC 5280) in DER, in base64: a PEM file's lines between first and last, joined.
    pub spki: String,
}

/// Kinds of public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyAlgorithm {
    /// Signatures, RFC 8032.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// Key agreement, RFC 7748.
    #[serde(rename = "x25519")]
    X25519,
    /// Signatures and key agreement, FIPS 186-5; the point uncompressed.
    #[serde(rename = "p-256")]
    P256,
}

impl KeyAlgorithm {
    /// How a key's DER begins (RFC 8410, RFC 5480), in base64 as far as whole bytes and letters agree.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Ed25519 => "MCowBQYDK2VwAyEA",
            Self::X25519 => "MCowBQYDK2VuAyEA",
            Self::P256 => "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE",
        }
    }

    /// Characters of a key in base64.
    #[must_use]
    pub fn characters(self) -> usize {
        match self {
            Self::Ed25519 | Self::X25519 => 60,
            Self::P256 => 124,
        }
    }
}

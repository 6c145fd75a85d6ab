//! Datasets: what is public about them, on which terms they are leased, how they stand.

use crate::command::Ciphertext;
use crate::id::{DatasetId, DatasetName, LeaseId, Msp};
use crate::record::Record;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What was registered. Changes only by its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// For ever.
    pub id: DatasetId,
    /// Unique among datasets that are not retired.
    pub name: DatasetName,
    /// The organisation that answers for it and holds its key.
    pub owner: Msp,
    /// What the consortium knows of it.
    pub metadata: Metadata,
    /// On which terms it is leased.
    pub policy: Policy,
    /// Milliseconds since the Unix epoch.
    pub registered_at_ms: i64,
    /// Milliseconds since the Unix epoch; none while it can be leased.
    pub retired_at_ms: Option<i64>,
}

impl Record for Dataset {
    const SINCE: &'static [u32] = &[1, 4];

    /// Version 1 named no creators and no type.
    fn upgrade(from: u32, record: Value) -> Option<Value> {
        (from == 1).then_some(record)
    }
}

/// A dataset's description, public to the consortium and for ever. The fields are those that DataCite 4.5 and DCAT 3 share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// One line for people.
    pub title: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it is about, for searching.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// SPDX identifier or address of the licence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Persistent identifiers, such as a DOI.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identifiers: Vec<String>,
    /// Who made it, the first first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub creators: Vec<Creator>,
    /// What kind of thing it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_type: Option<ResourceType>,
    /// Who published it: an organisation or a group, no person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// Year of publication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication_year: Option<u16>,
    /// Version in the publisher's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Language tag (BCP 47).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Media types or names of the files' formats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<String>,
    /// Bytes of all files together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Number of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_count: Option<u64>,
    /// Digest of the content, as its owner computes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_digest: Option<Digest>,
}

/// Who made a dataset: an organisation or a group. A person only where they want to be named for as long as the ledger is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Creator {
    /// One line.
    pub name: String,
    /// Which one: an address such as `https://ror.org/04q12yn84`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// An organisation or a group that they belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affiliation: Option<String>,
}

/// Kinds of thing that a dataset may be: those of DataCite 4.5's `resourceTypeGeneral` that are files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceType {
    /// Moving pictures, with or without sound.
    Audiovisual,
    /// Several things of different kinds.
    Collection,
    /// A program in a notebook, with its text.
    ComputationalNotebook,
    /// Data in a form of its own.
    Dataset,
    /// Pictures.
    Image,
    /// Something that takes a person's part in it.
    InteractiveResource,
    /// A model of something, such as one that was trained.
    Model,
    /// Programs.
    Software,
    /// Sound alone.
    Sound,
    /// Text.
    Text,
    /// What is done in which order.
    Workflow,
    /// None of these.
    Other,
}

/// A digest with its function.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// The function.
    #[serde(rename = "type")]
    pub hash_type: HashType,
    /// Lower-case hexadecimal.
    pub value: String,
}

/// Hash functions whose digests are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashType {
    /// FIPS 180-4.
    #[serde(rename = "sha-256")]
    Sha256,
    /// FIPS 180-4.
    #[serde(rename = "sha-384")]
    Sha384,
    /// FIPS 180-4.
    #[serde(rename = "sha-512")]
    Sha512,
    /// FIPS 202.
    #[serde(rename = "sha3-256")]
    Sha3Of256,
    /// FIPS 202.
    #[serde(rename = "sha3-512")]
    Sha3Of512,
    /// 256 bits of BLAKE3.
    #[serde(rename = "blake3")]
    Blake3,
}

impl HashType {
    /// Hexadecimal digits of a digest.
    #[must_use]
    pub fn digits(self) -> usize {
        match self {
            Self::Sha256 | Self::Sha3Of256 | Self::Blake3 => 64,
            Self::Sha384 => 96,
            Self::Sha512 | Self::Sha3Of512 => 128,
        }
    }
}

/// On which terms a dataset is leased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Whose researchers may lease it. Its owner's always may.
    #[serde(default)]
    pub organisations: Admission,
    /// Groups of which a researcher must be in one, as their organisation says; none: no group is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Whether one person may have it alone.
    #[serde(default = "yes")]
    pub exclusive: bool,
    /// How many may have it at the same time; 0: only one, alone.
    #[serde(default)]
    pub most_shared: u32,
    /// Longest lease, seconds; also the longest renewal.
    pub max_ttl_seconds: u64,
    /// Whether the owner has to approve each lease.
    #[serde(default)]
    pub approve_leases: bool,
    /// Whether the owner has to approve what is run on it.
    #[serde(default)]
    pub approve_code: bool,
    /// Where results go.
    #[serde(default)]
    pub outputs: Outputs,
    /// How many may wait for it; 0: nobody waits.
    #[serde(default)]
    pub most_waiting: u32,
    /// How long a place in the line and a request for approval are kept, seconds.
    #[serde(default = "a_week")]
    pub place_seconds: u64,
}

fn yes() -> bool {
    true
}

fn a_week() -> u64 {
    7 * 24 * 60 * 60
}

impl Policy {
    /// Exclusive leases for everybody, up to so many seconds.
    #[must_use]
    pub fn exclusive(max_ttl_seconds: u64) -> Self {
        Self {
            organisations: Admission::default(),
            groups: Vec::new(),
            exclusive: true,
            most_shared: 0,
            max_ttl_seconds,
            approve_leases: false,
            approve_code: false,
            outputs: Outputs::default(),
            most_waiting: 0,
            place_seconds: a_week(),
        }
    }

    /// Whether leases of this kind are given.
    #[must_use]
    pub fn allows(&self, mode: Mode) -> bool {
        match mode {
            Mode::Exclusive => self.exclusive,
            Mode::Shared => self.most_shared > 0,
        }
    }
}

/// Whose researchers are let in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// Every organisation's.
    #[default]
    Any,
    /// Those of the owner and these.
    Only(Vec<Msp>),
}

/// Whether a lease keeps others out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nobody else has the dataset.
    Exclusive,
    /// Others may have it too.
    Shared,
}

/// Where a job may leave results.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outputs {
    /// In the researcher's home.
    #[default]
    Home,
    /// In a volume that the owner looks through first.
    Quarantine,
}

/// What changes about a dataset as it is leased; kept apart from [`Dataset`] so that a lease rewrites little.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetStatus {
    /// Number of transitions so far; numbers the history.
    pub revision: u64,
    /// The token of the last lease granted; 0 before the first. Only grows.
    pub fencing_token: u64,
    /// Number of leases asked for so far; numbers the leases.
    pub asked: u64,
    /// Leases that are active or ending: all of one mode, and only one if that is exclusive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<LeaseId>,
    /// Their mode; none while there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Who waits, the first first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub line: Vec<Place>,
    /// What the node last said, when the data could not be mounted; none after it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    /// To whom its owner wants to give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Offer>,
}

impl Record for DatasetStatus {}

/// A place in the line of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The lease that waits.
    pub lease: LeaseId,
    /// What it waits for.
    pub mode: Mode,
    /// Until when it is kept, milliseconds since the Unix epoch.
    pub until_ms: i64,
}

/// A dataset offered to another organisation, which becomes its owner by taking it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// To whom.
    pub to: Msp,
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

impl Record for Volume {}

/// A program with its arguments, by digest: what an owner approves to run on a dataset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// Of the container image (OCI), SHA-256.
    pub image_sha256: String,
    /// Of the command line, SHA-256.
    pub command_sha256: String,
}

/// An owner's word that some code may run on a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeApproval {
    /// On which dataset.
    pub dataset: DatasetId,
    /// What.
    pub code: Code,
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
}

impl Record for CodeApproval {}

/// Why data cannot be mounted. Public to the consortium: it names no path and no server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Stable code, such as `path_missing`.
    pub code: String,
    /// A sentence for the dataset's owner.
    pub message: String,
}

//! One record as it is kept and exported, and what binds it to the one before.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::crypto;
use crate::ledger::Bytes;
use crate::secret::Secret;

/// How a decision went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It was done, or accepted to be done.
    Allowed,
    /// It was refused.
    Denied,
    /// It was tried, and nobody tells whether it was done.
    Unknown,
}

impl Decision {
    /// As a record and an answer have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Unknown => "unknown",
        }
    }
}

/// Where a request came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The peer's address; a proxy's own where there is one in between.
    pub source: Option<IpAddr>,
    /// The request's id, as its answer tells it.
    pub request: Option<String>,
}

/// What is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// A pseudonym, a machine's ServiceAccount, `broker`, or empty where nobody knows.
    pub who: String,
    /// What was asked.
    pub verb: &'static str,
    /// The id of what it is about; empty where there is none yet.
    pub object: String,
    /// How it went.
    pub decision: Decision,
    /// A stable code.
    pub reason: String,
    /// From where.
    pub origin: Origin,
    /// The lease that it is about.
    pub lease: Option<String>,
    /// The operation that carries it out.
    pub operation: Option<String>,
    /// The person that it is about, where a machine asks.
    pub subject: Option<String>,
    /// Whether a credential was decrypted for it.
    pub credential_opened: bool,
}

/// Bytes of a text in a record: whoever can have something refused must not choose how large the record is.
const LONGEST_TEXT: usize = 256;

fn bounded(text: impl Into<String>) -> String {
    let mut text: String = text.into();
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    text
}

impl Event {
    /// An event of a request.
    #[must_use]
    pub fn new(
        who: &str,
        verb: &'static str,
        object: impl Into<String>,
        decision: Decision,
        reason: impl Into<String>,
        origin: &Origin,
    ) -> Self {
        Self {
            who: bounded(who),
            verb,
            object: bounded(object),
            decision,
            reason: bounded(reason),
            origin: origin.clone(),
            lease: None,
            operation: None,
            subject: None,
            credential_opened: false,
        }
    }

    /// Something that the broker does by itself.
    #[must_use]
    pub fn own(verb: &'static str, object: impl Into<String>, reason: &str) -> Self {
        Self::new(
            "broker",
            verb,
            object,
            Decision::Allowed,
            reason,
            &Origin::default(),
        )
    }

    /// Names the lease.
    #[must_use]
    pub fn of_lease(mut self, lease: &str) -> Self {
        self.lease = Some(bounded(lease));
        self
    }

    /// Names the operation.
    #[must_use]
    pub fn by_operation(mut self, operation: &str) -> Self {
        self.operation = Some(bounded(operation));
        self
    }

    /// Names the person that it is about.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        self.subject = Some(bounded(subject));
        self
    }

    /// Says that a credential was decrypted.
    #[must_use]
    pub fn opening_a_credential(mut self) -> Self {
        self.credential_opened = true;
        self
    }
}

/// A record: the fields in this order, as JSON without spaces, are the bytes that are hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Counted from 1, without a gap.
    pub number: u64,
    /// Hash of the record before; of nothing, 32 zero bytes.
    pub previous: Bytes<32>,
    /// A UUID.
    pub id: String,
    /// RFC 3339, UTC, to the millisecond.
    pub time: String,
    /// A pseudonym, a machine's ServiceAccount, `broker`, or empty where nobody knows.
    pub who: String,
    /// What was asked.
    pub verb: String,
    /// The id of what it is about.
    pub object: String,
    /// How it went.
    pub decision: Decision,
    /// A stable code.
    pub reason: String,
    /// The peer's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The request's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The lease that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// The operation that carries it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The person that it is about, a pseudonym, where a machine asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whether a credential was decrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub credential_opened: bool,
    /// How many more of the same refusals followed one that has a record of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<u64>,
}

impl Record {
    /// The record of an event that comes after `head`.
    #[must_use]
    pub fn after(head: &Head, event: &Event, repeated: Option<u64>, at_ms: i64) -> Self {
        let time = chrono::DateTime::from_timestamp_millis(at_ms).unwrap_or_default();
        Self {
            number: head.number.saturating_add(1),
            previous: head.hash,
            id: uuid::Uuid::new_v4().to_string(),
            time: time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            who: event.who.clone(),
            verb: event.verb.to_owned(),
            object: event.object.clone(),
            decision: event.decision,
            reason: event.reason.clone(),
            source: event.origin.source,
            request: event.origin.request.clone(),
            lease: event.lease.clone(),
            operation: event.operation.clone(),
            subject: event.subject.clone(),
            credential_opened: event.credential_opened,
            repeated,
        }
    }
}

impl Record {
    /// Its time, milliseconds since the Unix epoch; none where it has none.
    #[must_use]
    pub fn at_ms(&self) -> Option<i64> {
        let time = chrono::DateTime::parse_from_rfc3339(&self.time).ok()?;
        Some(time.timestamp_millis())
    }
}

/// Which record is the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number; 0 before the first.
    pub number: u64,
    /// Its hash.
    pub hash: Bytes<32>,
}

impl Head {
    /// Before the first record.
    pub const NONE: Self = Self {
        number: 0,
        hash: Bytes([0; 32]),
    };
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

impl std::str::FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "expected NUMBER:HASH, as `audit head` prints it";
        let (number, hash) = text.split_once(':').ok_or(form)?;
        Ok(Self {
            number: number.parse().map_err(|_| form)?,
            hash: hash.parse().map_err(|_| form)?,
        })
    }
}

/// The hash of a record's bytes.
#[must_use]
pub fn hash(record: &[u8]) -> Bytes<32> {
    let mut hasher = Sha256::new();
    hasher.update(b"leasehold audit 1\0");
    hasher.update(record);
    Bytes(hasher.finalize().into())
}

/// What seals hashes: who has the file and not this key cannot make another past.
#[derive(Debug)]
pub struct SealKey(Secret<[u8; 32]>);

impl SealKey {
    /// Takes the key.
    #[must_use]
    pub const fn new(key: Secret<[u8; 32]>) -> Self {
        Self(key)
    }

    /// The seal of a record, or of the end of what went by age.
    #[must_use]
    pub fn seal(&self, kind: Sealed, head: &Head) -> Bytes<32> {
        let kind: &[u8] = match kind {
            Sealed::Record => b"record",
            Sealed::Base => b"base",
        };
        let number = head.number.to_be_bytes();
        Bytes(crypto::keyed_hash(
            self.0.expose(),
            &[kind, &number, &head.hash.0],
        ))
    }
}

/// What a seal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// That this record was written.
    Record,
    /// That all up to this record went by age.
    Base,
}

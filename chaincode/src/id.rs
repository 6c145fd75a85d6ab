//! Names of things, each its own type, built only by constructors that check it.

use crate::limit;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// A text that is not the id it should be. Never repeats the text, which may come from anywhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {what}: expected {expected}")]
pub struct InvalidId {
    /// What it should have been.
    pub what: &'static str,
    /// How such a thing looks.
    pub expected: &'static str,
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps a text.
            ///
            /// # Errors
            /// [`InvalidId`] when the text does not have the form.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidId { what: $what, expected: $expected })
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

checked_text!(
    /// A dataset, for ever: derived from the transaction that registered it.
    DatasetId,
    "dataset id",
    "64 lower-case hexadecimal digits",
    |text| is_lower_hex(text, 64)
);
checked_text!(
    /// A lease, for ever: derived from the transaction that asked for it.
    LeaseId,
    "lease id",
    "32 lower-case hexadecimal digits",
    |text| is_lower_hex(text, 32)
);
checked_text!(
    /// The keyed pseudonym of a person, made by the broker of the person's organisation. The ledger never learns who it is.
    Subject,
    "subject",
    "64 lower-case hexadecimal digits",
    |text| is_lower_hex(text, 64)
);
checked_text!(
    /// An organisation of the consortium, by its MSP id, such as `UiSMSP`.
    Msp,
    "organisation",
    "1 to 64 letters, digits, dots, hyphens or underscores, the first a letter or digit",
    |text| {
        text.len() <= limit::MSP_CHARS
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    }
);
checked_text!(
    /// The name of a dataset among those not retired; also its directory below `~/datasets`.
    DatasetName,
    "dataset name",
    "1 to 40 lower-case letters, digits or hyphens, no hyphen at either end",
    is_label
);
checked_text!(
    /// The name of a cluster within its organisation.
    ClusterName,
    "cluster name",
    "1 to 40 lower-case letters, digits or hyphens, no hyphen at either end",
    is_label
);
checked_text!(
    /// A trace, for ever: derived from the organisation that records it and the key that it chose.
    TraceId,
    "trace id",
    "32 lower-case hexadecimal digits",
    |text| is_lower_hex(text, 32)
);
checked_text!(
    /// A transaction, chosen by its submitter and used once.
    TxId,
    "transaction id",
    "1 to 128 letters, digits, dots, colons, hyphens or underscores",
    |text| {
        !text.is_empty()
            && text.len() <= limit::TX_ID_CHARS
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-' | b'_'))
    }
);

/// A dataset as people name it. An id has 64 digits and a name at most 40 characters, so the two are never mixed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DatasetRef {
    /// By id: any dataset, retired or not.
    Id(DatasetId),
    /// By name: one that is not retired.
    Name(DatasetName),
}

impl DatasetRef {
    /// Reads an id or a name.
    ///
    /// # Errors
    /// [`InvalidId`] when the text is neither.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if let Ok(id) = DatasetId::new(text) {
            return Ok(Self::Id(id));
        }
        DatasetName::new(text).map(Self::Name)
    }
}

impl TryFrom<String> for DatasetRef {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::parse(&text)
    }
}

impl From<DatasetRef> for String {
    fn from(reference: DatasetRef) -> Self {
        match reference {
            DatasetRef::Id(id) => id.into(),
            DatasetRef::Name(name) => name.into(),
        }
    }
}

impl From<DatasetId> for DatasetRef {
    fn from(id: DatasetId) -> Self {
        Self::Id(id)
    }
}

impl From<DatasetName> for DatasetRef {
    fn from(name: DatasetName) -> Self {
        Self::Name(name)
    }
}

impl DatasetId {
    /// The id of the dataset that the transaction `tx_id` registers. Known before it is submitted, so that the volume can be
    /// encrypted for exactly this dataset.
    #[must_use]
    pub fn derive(tx_id: &TxId) -> Self {
        Self(hex::encode(derive(b"leasehold dataset\0", tx_id.as_str())))
    }
}

impl LeaseId {
    /// The id of the lease that the transaction `tx_id` asks for at a time, milliseconds since the Unix epoch: 12 digits of the time, so
    /// that the records of new leases lie at the end of a sorted state and not all over it, and 20 of a hash.
    #[must_use]
    pub fn derive(tx_id: &TxId, timestamp_ms: i64) -> Self {
        let [_, _, time @ ..] = timestamp_ms.to_be_bytes();
        let mut bytes = [0; 16];
        let hash = derive(b"leasehold lease\0", tx_id.as_str());
        for (byte, from) in bytes.iter_mut().zip(time.into_iter().chain(hash)) {
            *byte = from;
        }
        Self(hex::encode(bytes))
    }

    /// The same by the rules of contract versions 1 and 2: of a hash alone.
    #[must_use]
    pub fn derive_before(tx_id: &TxId) -> Self {
        let mut digits = hex::encode(derive(b"leasehold lease\0", tx_id.as_str()));
        digits.truncate(32);
        Self(digits)
    }
}

impl TraceId {
    /// The id of the trace that an organisation records under a key of its choice: the same key is the same trace.
    #[must_use]
    pub fn derive(organisation: &Msp, key: &str) -> Self {
        let mut digits = hex::encode(derive(b"leasehold trace\0", &format!("{organisation}/{key}")));
        digits.truncate(32);
        Self(digits)
    }
}

fn derive(kind: &[u8], from: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(kind);
    hash.update(from.as_bytes());
    hash.finalize().into()
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= limit::NAME_CHARS
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

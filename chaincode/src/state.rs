//! The ledger's state as the contract sees it: a sorted map from keys to bytes that it reads, and writes that it hands back.

use crate::contract::CONTRACT_VERSION;
use crate::kept::Kept;
use crate::record::Record;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Reads the state that a transaction or query starts from. A reader that does not have a value at hand may answer
/// [`StateError::NotLoaded`], fetch it, and run the same function again: it has no effects.
pub trait StateReader {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StateError`] when the state cannot be read.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError>;

    /// The values of several keys, in their order. A reader that pays per request overrides this.
    ///
    /// # Errors
    /// [`StateError`] when the state cannot be read.
    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Whether it helps this reader to be told what is about to be read.
    fn fetches(&self) -> bool {
        false
    }

    /// Says which keys are about to be read, so that a reader that fetches can fetch them together with the next one that it
    /// lacks. Nothing depends on it: a key that was not said is only fetched later, one that is not read after all in vain.
    fn will_read(&self, _keys: &[String]) {}

    /// Where records that seldom change are kept as they were decoded, if this reader is asked for them again and again.
    fn kept(&self) -> Option<&Kept> {
        None
    }

    /// Up to `limit` pairs with `start <= key < end`, by key. Only queries use it: a transaction never depends on a range.
    ///
    /// # Errors
    /// [`StateError`] when the state cannot be read.
    fn range(&self, start: &str, end: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, StateError>;
}

/// The state could not be read. Not the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The reader must fetch something first; then run the function again.
    #[error("part of the ledger's state is not loaded yet")]
    NotLoaded,
    /// The ledger's storage failed.
    #[error("reading the ledger's state failed: {0}")]
    Storage(String),
    /// A record is of a version that this contract does not know.
    #[error(
        "the record at {key} has schema {found}, this contract knows {known} and before; upgrade the contract"
    )]
    UnknownSchema {
        /// Key of the record.
        key: String,
        /// Its version.
        found: u32,
        /// The newest that this contract knows.
        known: u32,
    },
    /// A transaction was decided by rules that this contract does not know.
    #[error("version {found} of the contract is not known here, only 1 to {known}; use a newer one")]
    UnknownContract {
        /// Their version.
        found: u32,
        /// The newest that this contract knows.
        known: u32,
    },
    /// A record cannot be read, or one that another names is missing.
    #[error("the record at {key} is damaged: {reason}; verify the ledger")]
    Damaged {
        /// Key of the record.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// The key.
        key: String,
        /// Its new value, never empty.
        value: Vec<u8>,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: String,
    },
}

/// A state in memory, for tests and for deriving a ledger's state anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryState(BTreeMap<String, Vec<u8>>);

impl MemoryState {
    /// Applies the writes of a transaction.
    pub fn apply(&mut self, writes: &[Write]) {
        self.take(writes.to_vec());
    }

    /// Applies the writes of a transaction, and keeps them.
    pub fn take(&mut self, writes: Vec<Write>) {
        for write in writes {
            match write {
                Write::Put { key, mut value } => {
                    value.shrink_to_fit();
                    self.0.insert(key, value)
                }
                Write::Delete { key } => self.0.remove(&key),
            };
        }
    }

    /// Every pair, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl StateReader for MemoryState {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.0.get(key).cloned())
    }

    fn range(&self, start: &str, end: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, StateError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let pairs = self.0.range(start.to_owned()..end.to_owned()).take(limit);
        Ok(pairs.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

#[derive(Serialize)]
struct StoredRef<'a, T> {
    schema: u32,
    record: &'a T,
}

#[derive(Deserialize)]
struct StoredSchema {
    schema: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<T> {
    schema: u32,
    record: T,
}

/// The bytes of a record as a version of the contract writes them: the same record gives the same bytes.
pub(crate) fn encode<T: Record>(key: &str, record: &T, contract: u32) -> Result<Vec<u8>, StateError> {
    let stored = StoredRef {
        schema: T::schema(contract),
        record,
    };
    // Room for most records, so that the bytes need not move as they grow. Whoever holds many of them gives back what is left of it.
    let mut bytes = Vec::with_capacity(1_024);
    serde_json::to_writer(&mut bytes, &stored).map_err(|error| damaged(key, error.to_string()))?;
    Ok(bytes)
}

/// The record in some bytes, brought up to date where an older contract wrote it.
pub(crate) fn decode<T: Record>(key: &str, bytes: &[u8]) -> Result<T, StateError> {
    let known = T::schema(CONTRACT_VERSION);
    match serde_json::from_slice::<Stored<T>>(bytes) {
        Ok(stored) if stored.schema == known => Ok(stored.record),
        outcome => match serde_json::from_slice::<StoredSchema>(bytes) {
            Ok(StoredSchema { schema }) if schema < known => upgraded(key, bytes, schema, known),
            Ok(StoredSchema { schema }) if schema > known => Err(StateError::UnknownSchema {
                key: key.to_owned(),
                found: schema,
                known,
            }),
            _ => {
                let reason = outcome
                    .err()
                    .map_or_else(|| "no record".to_owned(), |error| error.to_string());
                Err(damaged(key, reason))
            }
        },
    }
}

#[cold]
fn upgraded<T: Record>(key: &str, bytes: &[u8], from: u32, to: u32) -> Result<T, StateError> {
    let unreadable = |error: serde_json::Error| damaged(key, error.to_string());
    let stored: Stored<Value> = serde_json::from_slice(bytes).map_err(unreadable)?;
    let mut record = stored.record;
    for schema in from..to {
        record = T::upgrade(schema, record)
            .ok_or_else(|| damaged(key, format!("there is no way on from its schema {schema}")))?;
    }
    serde_json::from_value(record).map_err(unreadable)
}

pub(crate) fn damaged(key: &str, reason: impl Into<String>) -> StateError {
    StateError::Damaged {
        key: key.to_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Ship {
        name: String,
        masts: u32,
    }

    impl Record for Ship {
        const SINCE: &'static [u32] = &[1, 1, 1];

        /// Version 1 was the bare name; version 2 had no masts.
        fn upgrade(from: u32, record: Value) -> Option<Value> {
            match from {
                1 => Some(serde_json::json!({"name": record})),
                2 => {
                    let mut record = record;
                    record.as_object_mut()?.insert("masts".to_owned(), 1.into());
                    Some(record)
                }
                _ => None,
            }
        }
    }

    fn read(text: &str) -> Result<Ship, StateError> {
        decode("ship/1", text.as_bytes())
    }

    #[test]
    fn a_contract_writes_what_the_contract_of_that_version_wrote() {
        #[derive(Clone, Serialize, Deserialize)]
        struct Late;
        impl Record for Late {
            const SINCE: &'static [u32] = &[1, 3, 3, 7];
        }
        let schemas: Vec<_> = (1..=8).map(Late::schema).collect();
        assert_eq!(schemas, [1, 1, 3, 3, 3, 3, 4, 4]);
    }

    #[test]
    fn a_record_of_an_older_contract_is_brought_up_to_date_step_by_step() {
        let ship = |masts| Ship {
            name: "Fram".to_owned(),
            masts,
        };
        assert_eq!(
            read(r#"{"schema":3,"record":{"name":"Fram","masts":3}}"#),
            Ok(ship(3))
        );
        assert_eq!(read(r#"{"schema":2,"record":{"name":"Fram"}}"#), Ok(ship(1)));
        assert_eq!(read(r#"{"schema":1,"record":"Fram"}"#), Ok(ship(1)));
        assert!(matches!(
            read(r#"{"schema":0,"record":"Fram"}"#),
            Err(StateError::Damaged { .. })
        ));
        assert!(matches!(
            read(r#"{"schema":4,"record":"Fram"}"#),
            Err(StateError::UnknownSchema {
                found: 4,
                known: 3,
                ..
            })
        ));
    }
}

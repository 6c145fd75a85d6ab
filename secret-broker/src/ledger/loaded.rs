//! Lets the contract, which reads its state at once, run on a database, which answers later: the part of the state that is in
//! memory answers; what is missing is noted, fetched, and the contract run again. It has no effects, so that is only time, and
//! most commands need two or three rounds.

use super::{ReadError, storage};
use leasehold_chaincode::{StateError, StateReader, Write};
use sqlx::SqliteConnection;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

type Pairs = Vec<(String, Vec<u8>)>;

/// Part of the state.
#[derive(Default)]
pub(super) struct Loaded {
    values: HashMap<String, Option<Vec<u8>>>,
    ranges: HashMap<Range, Pairs>,
    wanted: RefCell<Wanted>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Range {
    start: String,
    end: String,
    limit: usize,
}

#[derive(Default)]
struct Wanted {
    keys: BTreeSet<String>,
    ranges: BTreeSet<Range>,
}

impl Loaded {
    /// Whether something was asked for that is not here.
    pub(super) fn lacks(&self) -> bool {
        let wanted = self.wanted.borrow();
        !(wanted.keys.is_empty() && wanted.ranges.is_empty())
    }

    /// Fetches what was asked for.
    pub(super) async fn fetch(&mut self, connection: &mut SqliteConnection) -> Result<(), ReadError> {
        let wanted = std::mem::take(self.wanted.get_mut());
        if !wanted.keys.is_empty() {
            let keys: Vec<_> = wanted.keys.into_iter().collect();
            let mut found = storage::values(connection, &keys).await?;
            for key in keys {
                let value = found.remove(&key);
                self.values.insert(key, value);
            }
        }
        for range in wanted.ranges {
            let pairs = storage::range(connection, &range.start, &range.end, range.limit).await?;
            self.ranges.insert(range, pairs);
        }
        Ok(())
    }

    /// Makes the writes of a transaction visible to the next one.
    pub(super) fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put { key, value } => self.values.insert(key.clone(), Some(value.clone())),
                Write::Delete { key } => self.values.insert(key.clone(), None),
            };
        }
    }
}

impl StateReader for Loaded {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        if let Some(value) = self.values.get(key) {
            return Ok(value.clone());
        }
        self.wanted.borrow_mut().keys.insert(key.to_owned());
        Err(StateError::NotLoaded)
    }

    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        let known: Vec<_> = keys.iter().map(|key| self.values.get(key)).collect();
        let mut values = Vec::with_capacity(keys.len());
        for (key, value) in keys.iter().zip(known) {
            match value {
                Some(value) => values.push(value.clone()),
                None => {
                    self.wanted.borrow_mut().keys.insert(key.clone());
                }
            }
        }
        if values.len() == keys.len() {
            Ok(values)
        } else {
            Err(StateError::NotLoaded)
        }
    }

    fn range(&self, start: &str, end: &str, limit: usize) -> Result<Pairs, StateError> {
        let range = Range {
            start: start.to_owned(),
            end: end.to_owned(),
            limit,
        };
        if let Some(pairs) = self.ranges.get(&range) {
            return Ok(pairs.clone());
        }
        self.wanted.borrow_mut().ranges.insert(range);
        Err(StateError::NotLoaded)
    }
}

/// Answers a question from a database.
pub(super) async fn answer<T>(
    connection: &mut SqliteConnection,
    question: impl Fn(&Loaded) -> Result<T, StateError>,
) -> Result<T, ReadError> {
    let mut loaded = Loaded::default();
    loop {
        match question(&loaded) {
            Err(StateError::NotLoaded) if loaded.lacks() => loaded.fetch(connection).await?,
            outcome => return Ok(outcome?),
        }
    }
}

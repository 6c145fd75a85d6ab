//! Lets the contract, which reads its state at once, run where the state answers later: what is here answers, what is missing is
//! noted. Whoever has the state fetches that and runs the contract again. It has no effects, so that is only time. Keys that it says
//! it will read are fetched with the first one that is missing, so that most commands need two rounds.
//!
//! It leaves the fetching to the ledgers, and promises them that a key or range is asked for once.

use crate::state::{StateError, StateReader, Write};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

/// Keys with their values.
pub type Pairs = Vec<(String, Vec<u8>)>;

/// Part of the state.
#[derive(Debug, Default)]
pub struct Loaded {
    values: HashMap<String, Option<Vec<u8>>>,
    ranges: HashMap<Range, Pairs>,
    wanted: RefCell<Wanted>,
    /// Announced, but not asked for yet.
    foreseen: RefCell<BTreeSet<String>>,
}

/// Up to `limit` pairs with `start <= key < end`, by key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// The first key that may be in it.
    pub start: String,
    /// The first key after it.
    pub end: String,
    /// Most pairs.
    pub limit: usize,
}

/// What was asked for and is not here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Single keys.
    pub keys: BTreeSet<String>,
    /// Ranges of keys.
    pub ranges: BTreeSet<Range>,
}

impl Wanted {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_empty()
    }
}

impl Loaded {
    /// Whether something was asked for that is not here.
    #[must_use]
    pub fn lacks(&self) -> bool {
        !self.wanted.borrow().is_empty()
    }

    /// Whether something was asked for, or is about to be, that is not here.
    #[must_use]
    pub fn foresees(&self) -> bool {
        self.lacks() || !self.foreseen.borrow().is_empty()
    }

    /// Takes what was asked for, and what is about to be: to be fetched and learned.
    #[must_use]
    pub fn wanted(&mut self) -> Wanted {
        let mut wanted = std::mem::take(self.wanted.get_mut());
        wanted.keys.append(self.foreseen.get_mut());
        wanted
    }

    /// A key's value, or that it has none.
    pub fn learn(&mut self, key: String, value: Option<Vec<u8>>) {
        self.values.insert(key, value);
    }

    /// How many keys are known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.values.len()
    }

    /// Keeps up with a change that was made since. Of a key that had no value nothing is kept: it was looked up to be made, and is
    /// seldom asked for again.
    pub fn keep_up(&mut self, key: &str, value: Option<&[u8]>) {
        self.ranges.clear();
        match (self.values.get_mut(key), value) {
            (Some(Some(known)), Some(value)) => {
                known.clear();
                known.extend_from_slice(value);
            }
            (Some(_), _) => {
                self.values.remove(key);
            }
            (None, _) => {}
        }
    }

    /// The pairs of a range.
    pub fn learn_range(&mut self, range: Range, pairs: Pairs) {
        self.ranges.insert(range, pairs);
    }

    /// Makes the writes of a transaction visible to the next one, which reads no ranges.
    pub fn apply(&mut self, writes: &[Write]) {
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

    fn fetches(&self) -> bool {
        true
    }

    fn will_read(&self, keys: &[String]) {
        let unknown = keys.iter().filter(|key| !self.values.contains_key(*key));
        self.foreseen.borrow_mut().extend(unknown.cloned());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_asked_for_once_and_then_answered() {
        let mut loaded = Loaded::default();
        let keys = ["a".to_owned(), "b".to_owned()];
        loaded.learn(keys[0].clone(), None);
        assert_eq!(loaded.get_many(&keys), Err(StateError::NotLoaded));
        assert_eq!(loaded.range("a", "c", 2), Err(StateError::NotLoaded));
        let wanted = loaded.wanted();
        assert_eq!(
            wanted.keys.into_iter().collect::<Vec<_>>(),
            keys[1..],
            "what is known is not asked for"
        );
        loaded.learn(keys[1].clone(), Some(vec![1]));
        for range in wanted.ranges {
            loaded.learn_range(range, vec![(keys[1].clone(), vec![1])]);
        }
        assert_eq!(loaded.get_many(&keys), Ok(vec![None, Some(vec![1])]));
        assert_eq!(loaded.range("a", "c", 2), Ok(vec![(keys[1].clone(), vec![1])]));
        assert!(!loaded.lacks());
    }

    #[test]
    fn what_changes_is_never_read_as_it_was() {
        let mut loaded = Loaded::default();
        for (key, value) in [("a", Some(vec![1])), ("b", Some(vec![1])), ("c", None)] {
            loaded.learn(key.to_owned(), value);
        }
        loaded.keep_up("a", Some(&[2]));
        loaded.keep_up("b", None);
        loaded.keep_up("c", Some(&[2]));
        loaded.keep_up("d", Some(&[2]));
        assert_eq!(loaded.get("a"), Ok(Some(vec![2])));
        for key in ["b", "c", "d"] {
            assert_eq!(loaded.get(key), Err(StateError::NotLoaded), "{key}");
        }
    }

    #[test]
    fn what_will_be_read_is_fetched_with_what_is_missing_and_never_alone() {
        let mut loaded = Loaded::default();
        let keys = ["a", "b", "c"].map(str::to_owned);
        loaded.learn(keys[0].clone(), None);
        loaded.will_read(&keys[..2]);
        assert_eq!(loaded.get(&keys[0]), Ok(None));
        assert!(!loaded.lacks(), "nobody has asked for it");
        assert!(loaded.foresees());
        assert_eq!(loaded.get(&keys[2]), Err(StateError::NotLoaded));
        assert_eq!(loaded.wanted().keys.into_iter().collect::<Vec<_>>(), keys[1..]);
        assert_eq!(loaded.wanted(), Wanted::default(), "once");
    }
}

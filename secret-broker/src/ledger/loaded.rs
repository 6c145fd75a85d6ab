//! Fetches from the database what the contract, or a question, found missing in its [`Loaded`] state; and notes what was read of it.

use super::ReadError;
use super::storage::{Session, derived};
use leasehold_chaincode::{Loaded, StateError, StateReader};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// Fetches what was asked for.
pub(super) async fn fetch(loaded: &mut Loaded, session: &mut Session<'_>) -> Result<(), ReadError> {
    let wanted = loaded.wanted();
    if !wanted.keys.is_empty() {
        let keys: Vec<_> = wanted.keys.into_iter().collect();
        let mut found = derived::values(session, &keys).await?;
        for key in keys {
            let value = found.remove(&key);
            loaded.learn(key, value);
        }
    }
    for range in wanted.ranges {
        let pairs = derived::range(session, &range.start, &range.end, range.limit).await?;
        loaded.learn_range(range, pairs);
    }
    Ok(())
}

/// Answers a question from a database.
pub(super) async fn answer<T>(
    session: &mut Session<'_>,
    question: impl Fn(&Loaded) -> Result<T, StateError>,
) -> Result<T, ReadError> {
    let mut loaded = Loaded::default();
    loop {
        match question(&loaded) {
            Err(StateError::NotLoaded) if loaded.lacks() => fetch(&mut loaded, session).await?,
            outcome => return Ok(outcome?),
        }
    }
}

/// Changes of the state, by key; none deletes.
pub(super) type Changes = HashMap<String, Option<Vec<u8>>>;

/// A state with the changes that a block has made so far, which notes what is read of it. Whoever reads it again, unchanged there,
/// comes to the same.
pub(super) struct Noted<'a> {
    state: &'a Loaded,
    changes: &'a Changes,
    /// Whether the state is told what is about to be read.
    tells: bool,
    keys: RefCell<Vec<String>>,
    ranged: Cell<bool>,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Reads {
    keys: Vec<String>,
    /// Ranges too, of which nothing more is noted.
    ranged: bool,
}

impl<'a> Noted<'a> {
    pub(super) fn new(state: &'a Loaded, changes: &'a Changes) -> Self {
        Self {
            state,
            changes,
            tells: true,
            keys: RefCell::default(),
            ranged: Cell::default(),
        }
    }

    /// Of a state that was told before.
    pub(super) fn told(state: &'a Loaded, changes: &'a Changes) -> Self {
        Self {
            tells: false,
            ..Self::new(state, changes)
        }
    }

    pub(super) fn reads(self) -> Reads {
        Reads {
            keys: self.keys.into_inner(),
            ranged: self.ranged.get(),
        }
    }
}

impl Reads {
    /// Whether what was read may be another since these changes.
    pub(super) fn touched(&self, changes: &Changes) -> bool {
        self.ranged || self.keys.iter().any(|key| changes.contains_key(key))
    }
}

impl StateReader for Noted<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.keys.borrow_mut().push(key.to_owned());
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.state.get(key),
        }
    }

    fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, StateError> {
        if !keys.iter().any(|key| self.changes.contains_key(key)) {
            self.keys.borrow_mut().extend_from_slice(keys);
            return self.state.get_many(keys);
        }
        self.will_read(keys);
        keys.iter().map(|key| self.get(key)).collect()
    }

    fn fetches(&self) -> bool {
        self.tells
    }

    fn will_read(&self, keys: &[String]) {
        self.state.will_read(keys);
    }

    /// Of the state before the block: no transaction depends on a range.
    fn range(&self, start: &str, end: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, StateError> {
        self.ranged.set(true);
        self.state.range(start, end, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Loaded {
        let mut state = Loaded::default();
        for key in ["a", "b", "c", "d"] {
            state.learn(key.to_owned(), None);
        }
        state
    }

    fn change(key: &str, value: Option<&[u8]>) -> Changes {
        Changes::from([(key.to_owned(), value.map(Vec::from))])
    }

    #[test]
    fn what_was_read_is_touched_by_a_change_of_any_of_it_and_of_nothing_else() {
        let (state, none) = (known(), Changes::new());
        let noted = Noted::new(&state, &none);
        noted.get("a").unwrap();
        noted.get_many(&["b".to_owned(), "c".to_owned()]).unwrap();
        noted.will_read(&["d".to_owned()]);
        let reads = noted.reads();
        for (key, touched) in [("a", true), ("b", true), ("c", true), ("d", false)] {
            assert_eq!(reads.touched(&change(key, None)), touched, "{key}");
        }
        let noted = Noted::new(&state, &none);
        let _ = noted.range("a", "z", 1);
        assert!(noted.reads().touched(&none), "nobody knows what is in a range");
    }

    #[test]
    fn what_the_block_has_changed_is_read_as_it_is_now() {
        let state = known();
        let keys = ["a", "b"].map(str::to_owned);
        for value in [None, Some(b"new".as_slice())] {
            let changes = change("b", value);
            let noted = Noted::new(&state, &changes);
            assert_eq!(noted.get("b").unwrap().as_deref(), value);
            assert_eq!(noted.get_many(&keys).unwrap(), [None, value.map(Vec::from)]);
            assert!(noted.reads().touched(&changes));
        }
    }
}

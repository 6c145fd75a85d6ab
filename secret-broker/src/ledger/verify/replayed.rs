//! The state that blocks lead to, as it is held while they are verified: keys and values one after the other in few pieces of memory,
//! found by a hash of the key.
//!
//! A sorted tree would compare its long keys, which are much alike, again and again, and letting go of millions of small pieces takes
//! as long as to fill them. What is replaced by something longer stays until the end: some tenth of what is here.

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use leasehold_chaincode::{Kept, StateError, StateReader, Write};
use std::hash::BuildHasher;

/// Bytes of a piece, where no single row is longer.
const PIECE: usize = if cfg!(test) { 64 } else { 1_024 * 1_024 };

/// The state.
#[derive(Default)]
pub(super) struct Replayed {
    hasher: DefaultHashBuilder,
    rows: HashTable<Row>,
    pieces: Vec<Vec<u8>>,
    kept: Kept,
}

/// Where a key is, and right behind it its value.
struct Row {
    hash: u64,
    piece: usize,
    at: usize,
    key: usize,
    value: usize,
}

impl Row {
    fn key<'p>(&self, pieces: &'p [Vec<u8>]) -> &'p [u8] {
        bytes(pieces, self.piece, self.at, self.key)
    }

    fn value<'p>(&self, pieces: &'p [Vec<u8>]) -> &'p [u8] {
        bytes(pieces, self.piece, self.at.saturating_add(self.key), self.value)
    }
}

fn bytes(pieces: &[Vec<u8>], piece: usize, at: usize, length: usize) -> &[u8] {
    let piece = pieces.get(piece).and_then(|piece| piece.get(at..));
    piece.and_then(|rest| rest.get(..length)).unwrap_or_default()
}

impl Replayed {
    /// Applies the writes of a transaction.
    pub(super) fn take(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put { key, value } => self.put(key, value),
                Write::Delete { key } => self.delete(key),
            }
        }
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The value of a key.
    pub(super) fn value(&self, key: &str) -> Option<&[u8]> {
        let hash = self.hasher.hash_one(key);
        let pieces = &self.pieces;
        let row = self
            .rows
            .find(hash, |row| row.hash == hash && row.key(pieces) == key.as_bytes());
        row.map(|row| row.value(pieces))
    }

    /// Every pair, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let pieces = &self.pieces;
        self.rows.iter().map(|row| (row.key(pieces), row.value(pieces)))
    }

    fn put(&mut self, key: &str, value: &[u8]) {
        let hash = self.hasher.hash_one(key);
        let pieces = &mut self.pieces;
        let same = |row: &Row| row.hash == hash && row.key(pieces) == key.as_bytes();
        match self.rows.entry(hash, same, |row| row.hash) {
            Entry::Occupied(mut there) => {
                let row = there.get_mut();
                let begin = row.at.saturating_add(row.key);
                let room = pieces.get_mut(row.piece).and_then(|piece| piece.get_mut(begin..));
                match room.and_then(|room| room.get_mut(..value.len())) {
                    Some(room) if value.len() <= row.value => {
                        room.copy_from_slice(value);
                        row.value = value.len();
                    }
                    _ => *row = appended(pieces, hash, key, value),
                }
            }
            Entry::Vacant(vacant) => {
                vacant.insert(appended(pieces, hash, key, value));
            }
        }
    }

    fn delete(&mut self, key: &str) {
        let hash = self.hasher.hash_one(key);
        let pieces = &self.pieces;
        let same = |row: &Row| row.hash == hash && row.key(pieces) == key.as_bytes();
        if let Ok(there) = self.rows.find_entry(hash, same) {
            there.remove();
        }
    }
}

fn appended(pieces: &mut Vec<Vec<u8>>, hash: u64, key: &str, value: &[u8]) -> Row {
    let length = key.len().saturating_add(value.len());
    let fits = |piece: &Vec<u8>| piece.capacity().saturating_sub(piece.len()) >= length;
    if !pieces.last().is_some_and(fits) {
        pieces.push(Vec::with_capacity(length.max(PIECE)));
    }
    let piece = pieces.len().saturating_sub(1);
    let mut at = 0;
    if let Some(piece) = pieces.last_mut() {
        at = piece.len();
        piece.extend_from_slice(key.as_bytes());
        piece.extend_from_slice(value);
    }
    Row {
        hash,
        piece,
        at,
        key: key.len(),
        value: value.len(),
    }
}

impl StateReader for Replayed {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.value(key).map(<[u8]>::to_vec))
    }

    fn kept(&self) -> Option<&Kept> {
        Some(&self.kept)
    }

    fn range(&self, _: &str, _: &str, _: usize) -> Result<Vec<(String, Vec<u8>)>, StateError> {
        let reason = "a transaction that is decided again reads no ranges";
        Err(StateError::Storage(reason.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn whatever_is_put_and_deleted_it_holds_what_a_map_holds(
            writes in prop::collection::vec(("[a-c]{0,3}", prop::option::of("[x-z]{0,90}")), 0..200)
        ) {
            let (mut replayed, mut map) = (Replayed::default(), BTreeMap::new());
            for (key, value) in writes {
                match value.map(String::into_bytes) {
                    Some(value) => {
                        map.insert(key.clone().into_bytes(), value.clone());
                        replayed.take(&[Write::Put { key, value }]);
                    }
                    None => {
                        map.remove(key.as_bytes());
                        replayed.take(&[Write::Delete { key }]);
                    }
                }
            }
            prop_assert_eq!(replayed.len(), map.len());
            let held: BTreeMap<_, _> = replayed.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(&held, &map);
            for (key, value) in map {
                prop_assert_eq!(replayed.value(std::str::from_utf8(&key).unwrap()), Some(value.as_slice()));
            }
            prop_assert_eq!(replayed.value("other"), None);
        }
    }
}

//! The state that blocks lead to, as it is held while they are verified: keys and values one after the other in few pieces of memory,
//! found by a hash of the key.
//!
//! A sorted tree would compare its long keys, which are much alike, again and again, and letting go of millions of small pieces takes
//! as long as to fill them. What is replaced by something longer stays until the end: some tenth of what is here.

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Bytes of a piece, where no single row is longer.
const PIECE: usize = if cfg!(test) { 64 } else { 1_024 * 1_024 };

/// The state.
#[derive(Default)]
pub(super) struct Replayed {
    hasher: DefaultHashBuilder,
    rows: HashTable<Row>,
    pieces: Vec<Vec<u8>>,
}

/// Where a key is, and right behind it its value. As small as can be: there are millions.
#[derive(Clone, Copy)]
pub(super) struct Row {
    hash: u64,
    piece: u32,
    at: u32,
    key: u32,
    value: u32,
}

impl Row {
    fn key<'p>(&self, pieces: &'p [Vec<u8>]) -> &'p [u8] {
        bytes(pieces, self.piece, large(self.at), self.key)
    }

    fn value<'p>(&self, pieces: &'p [Vec<u8>]) -> &'p [u8] {
        bytes(
            pieces,
            self.piece,
            large(self.at).saturating_add(large(self.key)),
            self.value,
        )
    }
}

fn bytes(pieces: &[Vec<u8>], piece: u32, at: usize, length: u32) -> &[u8] {
    let piece = pieces.get(large(piece)).and_then(|piece| piece.get(at..));
    piece
        .and_then(|rest| rest.get(..large(length)))
        .unwrap_or_default()
}

fn large(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What is larger than four gigabytes is not found again.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Replayed {
    /// What a key is found by.
    pub(super) fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The value of a key, which has this hash.
    pub(super) fn value_of(&self, hash: u64, key: &str) -> Option<&[u8]> {
        let pieces = &self.pieces;
        let row = self
            .rows
            .find(hash, |row| row.hash == hash && row.key(pieces) == key.as_bytes());
        row.map(|row| row.value(pieces))
    }

    /// A row that is found by this hash; seldom that of another key. Whoever seeks many of them does each step for all, so that their
    /// memory is waited for together.
    pub(super) fn row(&self, hash: u64) -> Option<Row> {
        self.rows.find(hash, |row| row.hash == hash).copied()
    }

    /// Whether a row is that of a key.
    pub(super) fn is_of(&self, row: Row, key: &str) -> bool {
        row.key(&self.pieces) == key.as_bytes()
    }

    /// The value of a row.
    pub(super) fn value_in(&self, row: Row) -> &[u8] {
        row.value(&self.pieces)
    }

    /// Every pair, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let pieces = &self.pieces;
        self.rows.iter().map(|row| (row.key(pieces), row.value(pieces)))
    }

    /// Sets a key, which has this hash.
    pub(super) fn put(&mut self, hash: u64, key: &[u8], value: &[u8]) {
        let pieces = &mut self.pieces;
        let same = |row: &Row| row.hash == hash && row.key(pieces) == key;
        match self.rows.entry(hash, same, |row| row.hash) {
            Entry::Occupied(mut there) => {
                let row = there.get_mut();
                let begin = large(row.at).saturating_add(large(row.key));
                let room = pieces
                    .get_mut(large(row.piece))
                    .and_then(|piece| piece.get_mut(begin..));
                match room.and_then(|room| room.get_mut(..value.len())) {
                    Some(room) if value.len() <= large(row.value) => {
                        room.copy_from_slice(value);
                        row.value = small(value.len());
                    }
                    _ => *row = appended(pieces, hash, key, value),
                }
            }
            Entry::Vacant(vacant) => {
                vacant.insert(appended(pieces, hash, key, value));
            }
        }
    }

    /// Removes a key, which has this hash.
    pub(super) fn delete(&mut self, hash: u64, key: &[u8]) {
        let pieces = &self.pieces;
        let same = |row: &Row| row.hash == hash && row.key(pieces) == key;
        if let Ok(there) = self.rows.find_entry(hash, same) {
            there.remove();
        }
    }
}

fn appended(pieces: &mut Vec<Vec<u8>>, hash: u64, key: &[u8], value: &[u8]) -> Row {
    let length = key.len().saturating_add(value.len());
    let fits = |piece: &Vec<u8>| piece.capacity().saturating_sub(piece.len()) >= length;
    if !pieces.last().is_some_and(fits) {
        pieces.push(Vec::with_capacity(length.max(PIECE)));
    }
    let piece = pieces.len().saturating_sub(1);
    let mut at = 0;
    if let Some(piece) = pieces.last_mut() {
        at = piece.len();
        piece.extend_from_slice(key);
        piece.extend_from_slice(value);
    }
    Row {
        hash,
        piece: small(piece),
        at: small(at),
        key: small(key.len()),
        value: small(value.len()),
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
                let hash = replayed.hash(&key);
                match value.map(String::into_bytes) {
                    Some(value) => {
                        replayed.put(hash, key.as_bytes(), &value);
                        map.insert(key.into_bytes(), value);
                    }
                    None => {
                        replayed.delete(hash, key.as_bytes());
                        map.remove(key.as_bytes());
                    }
                }
            }
            prop_assert_eq!(replayed.len(), map.len());
            let held: BTreeMap<_, _> = replayed.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(&held, &map);
            let value = |key: &str| replayed.value_of(replayed.hash(key), key);
            for (key, expected) in map {
                prop_assert_eq!(value(std::str::from_utf8(&key).unwrap()), Some(expected.as_slice()));
            }
            prop_assert_eq!(value("other"), None);
            for (key, value) in &held {
                let key = std::str::from_utf8(key).unwrap();
                let row = replayed.row(replayed.hash(key)).filter(|row| replayed.is_of(*row, key));
                prop_assert_eq!(row.map(|row| replayed.value_in(row)), Some(value.as_slice()));
            }
        }
    }
}

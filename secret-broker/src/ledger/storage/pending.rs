//! What the newest blocks lead to and a file's tables do not have yet.
//!
//! Blocks are on disk when they are acknowledged; what is derived from them is written later, for many blocks together, because
//! their rows lie all over the tables. Until then it is here, for the writer and for readers. It promises a reader one state: that
//! after the block at the view's height, whatever is added or written meanwhile. After a restart it is derived anew.

use super::place;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// Keys and transactions that a file's tables may lack: those of some seven thousand leases, 30 MB. The more, the fewer pages are
/// written for each; but after a kill they are all decided again. Tests want every path.
const MOST_PENDING: usize = if cfg!(test) { 64 } else { 65_536 };
/// And their length: readers may look at older values, so that each version of a value that is written again and again counts.
const MOST_BYTES: usize = if cfg!(test) {
    64 * 1_024
} else {
    32 * 1_024 * 1_024
};

/// Changes of the state, by key; none deletes.
pub(in crate::ledger) type Changed = Vec<(String, Option<String>)>;

/// The newest view. Clones share it.
#[derive(Clone)]
pub(in crate::ledger) struct Pending(Arc<RwLock<View>>);

/// The state after one block, as far as it is not in the tables.
#[derive(Clone, Default)]
pub(in crate::ledger) struct View {
    /// Of that block.
    pub(in crate::ledger) height: u64,
    rows: Arc<RwLock<Rows>>,
}

/// A row of the state's table, or that it is gone. Shared with whoever writes it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ledger) struct PlacedRow {
    pub(super) place: Arc<[u8]>,
    pub(super) value: Option<Arc<str>>,
    pub(super) is_line: bool,
}

/// Grows with each block; a view looks past what is newer than itself.
#[derive(Default)]
struct Rows {
    /// By place, as the table is sorted.
    state: BTreeMap<Arc<[u8]>, Versions>,
    places: HashMap<Arc<str>, (u64, usize)>,
    /// Length of all that was added, older versions of a key's value as well.
    bytes: usize,
}

/// What a row was after which block.
struct Versions {
    newest: (u64, Option<Arc<str>>),
    /// Of those before it the oldest first. Most rows are written once before they are in the tables.
    older: Vec<(u64, Option<Arc<str>>)>,
    is_line: bool,
}

impl Pending {
    /// Nothing yet: the tables are what the block at `derived` led to.
    pub(in crate::ledger) fn new(derived: u64) -> Self {
        Self(Arc::new(RwLock::new(View::empty(derived))))
    }

    pub(in crate::ledger) fn view(&self) -> View {
        read(&self.0).clone()
    }

    /// Everything is in the tables up to a block.
    pub(in crate::ledger) fn settle(&self, derived: u64) {
        self.replace(View::empty(derived));
    }

    pub(in crate::ledger) fn replace(&self, view: View) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// Adds what a block led to. Where the tables have been brought up to the block before it, nothing older is kept.
    pub(in crate::ledger) fn add(
        &self,
        height: u64,
        settled: bool,
        changes: Changed,
        places: impl Iterator<Item = (String, usize)>,
    ) {
        let mut view = if settled { View::empty(height) } else { self.view() };
        {
            let mut rows = view.rows.write().unwrap_or_else(PoisonError::into_inner);
            for (key, value) in changes {
                let length = key.len().saturating_add(value.as_ref().map_or(0, String::len));
                rows.bytes = rows.bytes.saturating_add(length);
                let version = (height, value.map(Arc::from));
                let is_line = place::is_line(&key);
                match rows.state.entry(place::of(&key).into()) {
                    Entry::Vacant(vacant) => {
                        let older = Vec::new();
                        vacant.insert(Versions {
                            newest: version,
                            older,
                            is_line,
                        });
                    }
                    Entry::Occupied(mut row) => row.get_mut().replace(version),
                }
            }
            rows.places
                .extend(places.map(|(tx_id, position)| (tx_id.into(), (height, position))));
        }
        view.height = height;
        self.replace(view);
    }
}

impl View {
    fn empty(height: u64) -> Self {
        Self {
            height,
            rows: Arc::default(),
        }
    }

    /// Keys and places that are here.
    pub(in crate::ledger) fn len(&self) -> usize {
        let rows = read(&self.rows);
        rows.state.len().saturating_add(rows.places.len())
    }

    /// Length of what is here, every version of a value.
    pub(in crate::ledger) fn bytes(&self) -> usize {
        read(&self.rows).bytes
    }

    /// Whether the tables should be written before more is added.
    pub(in crate::ledger) fn is_full(&self) -> bool {
        self.len() >= MOST_PENDING || self.bytes() >= MOST_BYTES
    }

    /// A key's value, or that it has none; nothing where the tables know.
    pub(in crate::ledger) fn value(&self, key: &str) -> Option<Option<Arc<str>>> {
        let place = place::of(key);
        read(&self.rows)
            .state
            .get(place.as_slice())?
            .at(self.height)
            .cloned()
    }

    /// What is here of a range, by key.
    pub(in crate::ledger) fn range(&self, start: &str, end: &str) -> BTreeMap<String, Option<Arc<str>>> {
        let Some((start, end)) = place::range(start, end).filter(|(start, end)| start < end) else {
            return BTreeMap::new();
        };
        let rows = read(&self.rows);
        let range = rows
            .state
            .range::<[u8], _>((Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice())));
        range
            .filter_map(|(place, versions)| Some((place::key(place)?, versions.at(self.height)?.clone())))
            .collect()
    }

    /// Where a transaction is.
    pub(in crate::ledger) fn place(&self, tx_id: &str) -> Option<(u64, usize)> {
        let place = read(&self.rows).places.get(tx_id).copied();
        place.filter(|(height, _)| *height <= self.height)
    }

    /// All rows, as the table is sorted.
    pub(in crate::ledger) fn rows(&self) -> Vec<PlacedRow> {
        let rows = read(&self.rows);
        let newest = |(place, versions): (&Arc<[u8]>, &Versions)| {
            Some(PlacedRow {
                place: Arc::clone(place),
                value: versions.at(self.height)?.clone(),
                is_line: versions.is_line,
            })
        };
        rows.state.iter().filter_map(newest).collect()
    }

    /// All places, by transaction.
    pub(in crate::ledger) fn places(&self) -> Vec<(Arc<str>, u64, usize)> {
        let rows = read(&self.rows);
        let places = rows.places.iter();
        let mut places: Vec<_> = places
            .filter(|(_, (height, _))| *height <= self.height)
            .map(|(tx_id, (height, position))| (Arc::clone(tx_id), *height, *position))
            .collect();
        places.sort_unstable();
        places
    }
}

impl Versions {
    fn replace(&mut self, version: (u64, Option<Arc<str>>)) {
        self.older.push(std::mem::replace(&mut self.newest, version));
    }

    /// After a block.
    fn at(&self, height: u64) -> Option<&Option<Arc<str>>> {
        let mut newest_first = std::iter::once(&self.newest).chain(self.older.iter().rev());
        newest_first
            .find(|(since, _)| *since <= height)
            .map(|(_, value)| value)
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: Option<&str>) -> (String, Option<String>) {
        (key.to_owned(), value.map(str::to_owned))
    }

    #[test]
    fn a_view_stays_what_it_was_whatever_is_added_and_written() {
        let pending = Pending::new(3);
        pending.add(
            4,
            false,
            vec![set("a", Some("1")), set("b", Some("1"))],
            [("one".to_owned(), 0)].into_iter(),
        );
        let view = pending.view();
        pending.add(
            5,
            false,
            vec![set("a", None), set("c", Some("1"))],
            [("two".to_owned(), 0)].into_iter(),
        );
        assert_eq!(view.height, 4);
        assert_eq!(view.value("a"), Some(Some("1".into())));
        assert_eq!((view.value("c"), view.place("two")), (None, None));
        assert_eq!(view.range("a", "cc").len(), 2);
        let newer = pending.view();
        assert_eq!(newer.value("a"), Some(None), "deleted is not unknown");
        assert_eq!(newer.place("one"), Some((4, 0)));
        let row = |key: &str, value: Option<&str>| PlacedRow {
            place: place::of(key).into(),
            value: value.map(Into::into),
            is_line: false,
        };
        assert_eq!(
            newer.rows(),
            [row("a", None), row("b", Some("1")), row("c", Some("1"))]
        );
        pending.add(6, true, vec![set("d", Some("1"))], std::iter::empty());
        let settled = pending.view();
        assert_eq!(settled.height, 6);
        assert_eq!(settled.value("a"), None, "it is in the tables");
        assert_eq!(newer.value("a"), Some(None));
        pending.settle(6);
        assert_eq!((pending.view().len(), pending.view().bytes()), (0, 0));
    }

    #[test]
    fn a_value_that_is_written_again_and_again_fills_it_as_many_do() {
        let pending = Pending::new(0);
        let value = "x".repeat(MOST_BYTES / 4);
        for height in 1..=4 {
            assert!(!pending.view().is_full(), "{height}");
            pending.add(
                height,
                false,
                vec![set("volume", Some(&value))],
                std::iter::empty(),
            );
        }
        assert!(pending.view().is_full());
        pending.add(5, true, vec![set("volume", Some(&value))], std::iter::empty());
        assert!(!pending.view().is_full(), "the tables were written");
    }

    #[test]
    fn a_range_that_ends_before_it_starts_is_empty() {
        let pending = Pending::new(0);
        pending.add(1, false, vec![set("b", Some("1"))], std::iter::empty());
        assert!(pending.view().range("c", "a").is_empty());
    }
}

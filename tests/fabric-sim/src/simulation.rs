//! One transaction before it is committed: what it read, from the state at its start, and what it would write.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::ledger::{Space, ValidationCode, Version, World};

/// A range that a transaction read, as far as it read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeRead {
    space: Space,
    start: String,
    end: String,
    rows: Vec<(String, Version)>,
    exhausted: bool,
}

/// What a transaction would write to a key. An empty value deletes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) value: Option<Bytes>,
    pub(crate) metadata: Option<BTreeMap<String, Bytes>>,
}

/// What a transaction read and would write: what peers have to agree on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    reads: BTreeMap<(Space, String), Option<Version>>,
    ranges: Vec<RangeRead>,
    pub(crate) writes: BTreeMap<(Space, String), Write>,
}

impl Effects {
    pub(crate) fn validate(&self, world: &World) -> ValidationCode {
        for ((space, key), version) in &self.reads {
            if world.get(space, key).map(|entry| entry.version) != *version {
                return ValidationCode::MvccReadConflict;
            }
        }
        for range in &self.ranges {
            let now = world.range(&range.space, &range.start, &range.end);
            let now = now.map(|(key, entry)| (key.clone(), entry.version));
            let most = if range.exhausted {
                usize::MAX
            } else {
                range.rows.len()
            };
            if !now.take(most).eq(range.rows.iter().cloned()) {
                return ValidationCode::PhantomReadConflict;
            }
        }
        ValidationCode::Valid
    }
}

/// A transaction while it runs. Chaincodes that it invokes share it.
#[derive(Debug)]
pub(crate) struct Simulation {
    world: Arc<World>,
    effects: Effects,
    paged: bool,
    private_range_read: bool,
}

/// Which range of a simulation: where its rows are noted as they are handed out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RangeId(usize);

impl Simulation {
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self {
            world,
            effects: Effects::default(),
            paged: false,
            private_range_read: false,
        }
    }

    pub(crate) fn world(&self) -> &Arc<World> {
        &self.world
    }

    pub(crate) fn effects(&self) -> &Effects {
        &self.effects
    }

    pub(crate) fn get(&mut self, space: &Space, key: &str) -> Bytes {
        self.read(space, key).map(|(value, _)| value).unwrap_or_default()
    }

    pub(crate) fn get_metadata(&mut self, space: &Space, key: &str) -> BTreeMap<String, Bytes> {
        self.read(space, key)
            .map(|(_, metadata)| metadata)
            .unwrap_or_default()
    }

    fn read(&mut self, space: &Space, key: &str) -> Option<(Bytes, BTreeMap<String, Bytes>)> {
        let entry = self.world.get(space, key);
        self.effects
            .reads
            .insert((space.clone(), key.to_owned()), entry.map(|entry| entry.version));
        entry.map(|entry| (entry.value.clone(), entry.metadata.clone()))
    }

    pub(crate) fn put(&mut self, space: &Space, key: &str, value: Bytes) -> Result<(), String> {
        self.write(space, key)?.value = Some(value);
        Ok(())
    }

    pub(crate) fn put_metadata(
        &mut self,
        space: &Space,
        key: &str,
        name: &str,
        value: Bytes,
    ) -> Result<(), String> {
        self.write(space, key)?.metadata = Some(BTreeMap::from([(name.to_owned(), value)]));
        Ok(())
    }

    fn write(&mut self, space: &Space, key: &str) -> Result<&mut Write, String> {
        if key.is_empty() {
            return Err("an empty string is not a key".to_owned());
        }
        if self.paged {
            return Err("the transaction has read a page; it may not write".to_owned());
        }
        if self.private_range_read && !space.collection.is_empty() {
            return Err("the transaction has read a private range; it may not write private data".to_owned());
        }
        Ok(self
            .effects
            .writes
            .entry((space.clone(), key.to_owned()))
            .or_default())
    }

    /// Begins to note a range.
    pub(crate) fn open_range(&mut self, space: &Space, start: &str, end: &str) -> Result<RangeId, String> {
        if !space.collection.is_empty() {
            if self
                .effects
                .writes
                .keys()
                .any(|(written, _)| !written.collection.is_empty())
            {
                return Err(
                    "the transaction has written private data; it may not read a private range".to_owned(),
                );
            }
            self.private_range_read = true;
        }
        self.effects.ranges.push(RangeRead {
            space: space.clone(),
            start: start.to_owned(),
            end: end.to_owned(),
            rows: Vec::new(),
            exhausted: false,
        });
        Ok(RangeId(self.effects.ranges.len() - 1))
    }

    /// Notes rows that were handed out, and whether they were the last.
    pub(crate) fn note_rows(&mut self, RangeId(range): RangeId, rows: &[(String, Version)], exhausted: bool) {
        if let Some(range) = self.effects.ranges.get_mut(range) {
            range.rows.extend_from_slice(rows);
            range.exhausted = exhausted;
        }
    }

    pub(crate) fn note_page(&mut self) -> Result<(), String> {
        if !self.effects.writes.is_empty() {
            return Err("the transaction has written; it may not read pages".to_owned());
        }
        self.paged = true;
        Ok(())
    }
}

//! Places for what a service does at the same time: bounded in total, and for each of those who ask, so that one who takes all
//! they can get keeps nobody else out.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The places. Clones share them.
#[derive(Debug)]
pub struct Places<K: Eq + Hash>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K: Eq + Hash> {
    total: usize,
    each: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    by: HashMap<K, usize>,
}

/// A place; given back when it is dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash> {
    places: Arc<Inner<K>>,
    whose: K,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// All are taken.
    #[error("all places are taken")]
    Full,
    /// Who asks has their share.
    #[error("this one's share of the places is taken")]
    Share,
}

impl<K: Eq + Hash> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// So many in total, and so many at most for each who asks.
    #[must_use]
    pub fn new(total: usize, each: usize) -> Self {
        let taken = Taken {
            all: 0,
            by: HashMap::new(),
        };
        Self(Arc::new(Inner {
            total,
            each,
            taken: Mutex::new(taken),
        }))
    }

    /// Takes a place at once, or not at all.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn take(&self, whose: K) -> Result<Place<K>, NoPlace> {
        let mut taken = self.0.taken();
        if taken.all >= self.0.total {
            return Err(NoPlace::Full);
        }
        let share = taken.by.get(&whose).copied().unwrap_or_default();
        if share >= self.0.each {
            return Err(NoPlace::Share);
        }
        taken.all += 1;
        taken.by.insert(whose.clone(), share + 1);
        drop(taken);
        Ok(Place {
            places: Arc::clone(&self.0),
            whose,
        })
    }
}

impl<K: Eq + Hash> Inner<K> {
    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(share) = taken.by.get_mut(&self.whose) {
            *share = share.saturating_sub(1);
            if *share == 0 {
                taken.by.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_takes_all_they_can_get_keeps_nobody_else_out() {
        let places = Places::new(3, 2);
        let mut greedy = vec![places.take("greedy").unwrap(), places.take("greedy").unwrap()];
        assert_eq!(places.take("greedy").unwrap_err(), NoPlace::Share);
        let other = places.take("other").unwrap();
        assert_eq!(places.take("third").unwrap_err(), NoPlace::Full);
        drop(other);
        greedy.pop();
        assert!(places.take("third").is_ok() && places.take("greedy").is_ok());
        drop(greedy);
        assert!(places.0.taken().by.is_empty(), "nobody is remembered for ever");
    }
}

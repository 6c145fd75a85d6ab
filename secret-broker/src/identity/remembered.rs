//! Answers that are kept for a short time, a bounded number of them: by the SHA-256 of what was asked, so that no token is kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

/// What an answer is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

/// Answers, the oldest of which give way.
#[derive(Debug)]
pub struct Remembered<V> {
    keep: Duration,
    most: usize,
    inner: Mutex<Inner<V>>,
}

#[derive(Debug)]
struct Inner<V> {
    answers: HashMap<Fingerprint, (Instant, V)>,
    /// In the order in which they came, which is that in which they are forgotten.
    order: VecDeque<(Instant, Fingerprint)>,
}

impl<V: Clone> Remembered<V> {
    /// Keeps at most `most` answers, each for this long.
    #[must_use]
    pub fn new(keep: Duration, most: usize) -> Self {
        Self {
            keep,
            most,
            inner: Mutex::new(Inner {
                answers: HashMap::new(),
                order: VecDeque::new(),
            }),
        }
    }

    /// An answer that is not too old.
    #[must_use]
    pub fn get(&self, key: &Fingerprint) -> Option<V> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = inner.answers.get(key)?;
        (at.elapsed() < self.keep).then(|| answer.clone())
    }

    /// Keeps an answer.
    pub fn put(&self, key: Fingerprint, answer: V) {
        let now = Instant::now();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.answers.insert(key, (now, answer));
        inner.order.push_back((now, key));
        while let Some((at, oldest)) = inner.order.front().copied()
            && (inner.order.len() > self.most || now.duration_since(at) >= self.keep)
        {
            inner.order.pop_front();
            // An answer that was replaced since has a later place.
            if inner.answers.get(&oldest).is_some_and(|(put, _)| *put == at) {
                inner.answers.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_gives_way_and_nothing_outlives_its_time() {
        let kept = Remembered::new(Duration::from_secs(600), 2);
        let [a, b, c] = ["a", "b", "c"].map(Fingerprint::of);
        kept.put(a, 1);
        kept.put(b, 2);
        kept.put(a, 3);
        assert_eq!((kept.get(&a), kept.get(&b)), (Some(3), Some(2)));
        kept.put(c, 4);
        assert_eq!(
            (kept.get(&a), kept.get(&b), kept.get(&c)),
            (Some(3), None, Some(4))
        );
        assert!(kept.inner.lock().unwrap().answers.len() <= 2);

        let passing = Remembered::new(Duration::ZERO, 2);
        passing.put(a, 1);
        assert_eq!(passing.get(&a), None);
    }
}

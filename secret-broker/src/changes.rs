//! What the ledger committed lately, for everybody in the broker who wants to hear of it: the lease view follows the ledger once and tells
//! it here, since a channel vouches for one follower.
//!
//! Who listens misses nothing, or is cut: queues are bounded, and who does not read comes again. The last changes are kept, so that who
//! comes again can have what it missed. On a channel a change is one transaction and a block has several, so that a block counts as told only
//! once a later one comes. The lock is held for memory only, never across an await.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::ledgers::Change;

/// Changes that may wait for one listener.
pub const QUEUE: usize = 1_024;
/// Changes that are kept for who comes again.
pub const KEPT: usize = 1_024;

/// The last changes, and who listens.
#[derive(Debug)]
pub struct Changes {
    /// Of this start of the broker alone; what was told before it is told by nobody.
    start: u64,
    /// Whether each change is all that its block has.
    are_blocks: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The last block all of which was told.
    height: u64,
    /// All changes after this block are kept.
    kept_after: u64,
    kept: VecDeque<Arc<Change>>,
    listeners: Vec<mpsc::Sender<Arc<Change>>>,
    is_closed: bool,
}

/// What a listener gets.
#[derive(Debug)]
pub struct Listening {
    /// The last block all of which is before [`Listening::changes`].
    pub height: u64,
    /// What was committed after the block that was asked for; none where some of it is not kept, or that block is not there yet.
    pub missed: Option<Vec<Arc<Change>>>,
    /// What comes; closed when the listener was too slow, or the broker stops.
    pub changes: mpsc::Receiver<Arc<Change>>,
}

impl Changes {
    /// After a block of which the broker knows otherwise; `are_blocks` where each change is all that its block has.
    #[must_use]
    pub fn after(height: u64, are_blocks: bool) -> Self {
        Self {
            // Should there be no randomness, the clock tells starts apart as well.
            start: getrandom::u64().unwrap_or_else(|_| crate::store::now_ms().unsigned_abs()),
            are_blocks,
            inner: Mutex::new(Inner {
                height,
                kept_after: height,
                kept: VecDeque::new(),
                listeners: Vec::new(),
                is_closed: false,
            }),
        }
    }

    /// What tells this start of the broker from others.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// The last block all of which was told when a change of `height` has been.
    #[must_use]
    pub const fn through(&self, height: u64) -> u64 {
        match self.are_blocks {
            true => height,
            false => height.saturating_sub(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing below can panic half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody. Yields how many were cut.
    pub fn tell(&self, change: Change) -> u64 {
        let change = Arc::new(change);
        let mut inner = self.lock();
        inner.height = inner.height.max(self.through(change.height));
        inner.kept.push_back(Arc::clone(&change));
        if inner.kept.len() > KEPT
            && let Some(forgotten) = inner.kept.pop_front()
        {
            inner.kept_after = forgotten.height;
        }
        let mut cut = 0;
        inner
            .listeners
            .retain(|listener| match listener.try_send(Arc::clone(&change)) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    cut += 1;
                    false
                }
            });
        cut
    }

    /// Listens from now on, and to what was committed after a block, if one is named. Nobody listens once nothing comes any more.
    #[must_use]
    pub fn listen(&self, after: Option<u64>) -> Option<Listening> {
        let (sender, changes) = mpsc::channel(QUEUE);
        let mut inner = self.lock();
        if inner.is_closed {
            return None;
        }
        inner.listeners.retain(|listener| !listener.is_closed());
        inner.listeners.push(sender);
        let missed = match after {
            None => Some(Vec::new()),
            Some(after) if (inner.kept_after..=inner.height).contains(&after) => {
                let later = inner.kept.iter().filter(|change| change.height > after);
                Some(later.cloned().collect())
            }
            Some(_) => None,
        };
        Some(Listening {
            height: inner.height,
            missed,
            changes,
        })
    }

    /// Nothing comes any more: queues end with what is in them.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.listeners.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(height: u64) -> Change {
        Change {
            height,
            events: Vec::new(),
        }
    }

    fn heights(changes: &[Arc<Change>]) -> Vec<u64> {
        changes.iter().map(|change| change.height).collect()
    }

    #[tokio::test]
    async fn who_comes_again_gets_what_it_missed_and_then_what_comes() {
        let changes = Changes::after(5, true);
        for height in [6, 7, 9] {
            changes.tell(change(height));
        }
        let mut listening = changes.listen(Some(6)).unwrap();
        assert_eq!(
            (listening.height, heights(&listening.missed.unwrap())),
            (9, vec![7, 9])
        );
        changes.tell(change(10));
        assert_eq!(listening.changes.recv().await.unwrap().height, 10);
        assert_eq!(
            heights(&changes.listen(Some(10)).unwrap().missed.unwrap()),
            Vec::<u64>::new()
        );
        changes.close();
        assert!(listening.changes.recv().await.is_none());
        assert!(changes.listen(None).is_none(), "nothing comes any more");
    }

    #[test]
    fn on_a_channel_who_heard_one_transaction_of_a_block_hears_its_others_when_it_comes_again() {
        let changes = Changes::after(5, false);
        changes.tell(change(6));
        let heard = changes.through(6);
        changes.tell(change(6));
        let listening = changes.listen(Some(heard)).unwrap();
        assert_eq!(heights(&listening.missed.unwrap()), [6, 6]);
        assert_eq!(listening.height, 5, "there may be more of block 6 to come");
        changes.tell(change(7));
        let later = changes.listen(Some(changes.through(7))).unwrap();
        assert_eq!((later.height, heights(&later.missed.unwrap())), (6, vec![7]));
    }

    #[test]
    fn a_start_is_told_from_another_one() {
        assert_ne!(Changes::after(5, true).start(), Changes::after(5, true).start());
    }

    #[test]
    fn what_is_not_kept_any_longer_or_has_not_come_yet_is_not_passed_off_as_nothing() {
        let changes = Changes::after(5, true);
        assert!(
            changes.listen(Some(4)).unwrap().missed.is_none(),
            "from before the start"
        );
        assert!(changes.listen(Some(6)).unwrap().missed.is_none(), "not there yet");
        let kept = u64::try_from(KEPT).unwrap();
        for height in 6..=6 + kept {
            changes.tell(change(height));
        }
        assert!(changes.listen(Some(5)).unwrap().missed.is_none(), "forgotten");
        assert_eq!(changes.listen(Some(6)).unwrap().missed.unwrap().len(), KEPT);
    }

    #[tokio::test]
    async fn a_listener_that_does_not_read_is_cut_and_others_miss_nothing() {
        let changes = Changes::after(0, true);
        let mut slow = changes.listen(None).unwrap();
        let mut quick = changes.listen(None).unwrap();
        let queue = u64::try_from(QUEUE).unwrap();
        let mut cut = 0;
        for height in 1..=queue + 1 {
            cut += changes.tell(change(height));
            assert_eq!(quick.changes.recv().await.unwrap().height, height);
        }
        assert_eq!(cut, 1);
        let mut read = 0;
        while let Some(change) = slow.changes.recv().await {
            read = change.height;
        }
        assert_eq!(read, queue, "what was in its queue, and then the end");
    }
}

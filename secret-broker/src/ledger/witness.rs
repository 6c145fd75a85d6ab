//! What this broker has seen of the ledger, and holds it to: blocks that it made itself, or that it checked before it let anything
//! rest on them.
//!
//! In a database others append as well, and whoever has it may do more than append. A block of another's counts once its number, the
//! hash before it, its content and its signature are right, by the key that the ledger named last. Where that fails, where a block is
//! gone that was there, or where it is another one, nothing is read or written until the ledger is again what it was. What this
//! process has seen is known here, [`super::seen`] keeps the last of it across restarts; receipts that are kept elsewhere show the rest.

use super::announce::announce;
use super::block::{Hash, Head, StoredBlock};
use super::bytes::{Bytes, KeyId};
use super::chain::{Care, Chain, corrupt};
use super::storage::{Session, StorageError, blocks};
use super::verify::Corruption;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::watch;

/// Blocks of others read at once.
const BATCH: usize = 16;
/// Blocks whose hashes are remembered, so that followers check no signature again.
const REMEMBERED: usize = 1_024;

/// Why nothing may rest on the ledger as it is found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Blocks are gone.
    #[error(
        "the ledger ends at block {ends}, and this broker has seen block {seen} of it: blocks were lost, as after a failover to a server that had not got them; nothing is read or written; bring back the server that has them, or, if they are lost for good, restart the brokers: each says with which --accept-lost-blocks it goes on from what is there"
    )]
    Gone {
        /// Height of the last block.
        ends: u64,
        /// Height of the last block that was there.
        seen: u64,
    },
    /// A block is another one.
    #[error(
        "block {block} of the ledger has hash {found}, and this broker has seen {seen} there: it is another ledger's past, as after a failover to a server that lacked blocks; nothing is read or written; bring back the server that has them, or, if they are lost for good, restart the brokers: each says with which --accept-lost-blocks it goes on from what is there"
    )]
    Forked {
        /// Height of the block.
        block: u64,
        /// Its hash now.
        found: Bytes<32>,
        /// Its hash before.
        seen: Bytes<32>,
    },
    /// A block does not verify.
    #[error("{0}; nothing is read or written until that block is right or gone")]
    Unsound(#[from] Corruption),
}

/// Why it is not known whether the ledger is what it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum WitnessError {
    #[error("{0}")]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Distrust(#[from] Distrust),
}

/// A block that counts, and who signs the one after it; nobody where an early version wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) head: Head,
    pub(super) next: Option<KeyId>,
}

impl Known {
    pub(super) fn of(block: &StoredBlock) -> Result<Self, StorageError> {
        Ok(Self {
            head: block.head(),
            next: block.next_signer()?,
        })
    }
}

struct State {
    /// The newest block that counts.
    last: Known,
    /// It and those before it, without gaps.
    recent: VecDeque<Known>,
    /// What a look found, until looks find nothing any more.
    found: Option<Distrust>,
    /// A block that was sound and was changed since. What followed it does not go on, so that this stays.
    changed: Option<Distrust>,
}

/// Clones share it.
#[derive(Clone)]
pub(super) struct Witness {
    ledger: Hash,
    /// Height of the last block when the ledger was opened.
    opened: u64,
    state: Arc<Mutex<State>>,
    /// Those who wait for blocks learn that the ledger is closed when its writer lets go of this.
    heights: Weak<watch::Sender<u64>>,
}

impl Witness {
    /// From a block on that was checked, or made, when the ledger was opened. Heights are told for as long as what comes with it is held.
    pub(super) fn new(ledger: Hash, last: Known) -> (Self, Arc<watch::Sender<u64>>) {
        let heights = Arc::new(watch::Sender::new(last.head.height));
        let state = State {
            last,
            recent: VecDeque::from([last]),
            found: None,
            changed: None,
        };
        let witness = Self {
            ledger,
            opened: last.head.height,
            state: Arc::new(Mutex::new(state)),
            heights: Arc::downgrade(&heights),
        };
        (witness, heights)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing below can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hash of block 0.
    pub(super) const fn ledger(&self) -> &Hash {
        &self.ledger
    }

    /// Up to which block it was settled, when the ledger was opened, who vouches for the keys.
    pub(super) const fn opened(&self) -> u64 {
        self.opened
    }

    /// The newest block that counts.
    pub(super) fn last(&self) -> Known {
        self.lock().last
    }

    /// A block that counts, if it is not long past.
    pub(super) fn at(&self, height: u64) -> Option<Known> {
        let state = self.lock();
        let first = state.recent.front()?.head.height;
        let at = usize::try_from(height.checked_sub(first)?).ok()?;
        state.recent.get(at).copied()
    }

    /// Why nothing may rest on the ledger now.
    pub(super) fn distrust(&self) -> Option<Distrust> {
        let state = self.lock();
        state.changed.clone().or_else(|| state.found.clone())
    }

    /// That a block that counted was found to be another one.
    pub(super) fn was_changed(&self, what: Distrust) {
        self.lock().changed = Some(what);
    }

    /// The block after the last one counts: this broker made it, or checked it.
    pub(super) fn add(&self, block: Known) {
        {
            let mut state = self.lock();
            if block.head.height <= state.last.head.height {
                return;
            }
            if block.head.height != state.last.head.height.saturating_add(1) {
                state.recent.clear();
            }
            state.last = block;
            state.recent.push_back(block);
            if state.recent.len() > REMEMBERED {
                state.recent.pop_front();
            }
        }
        if let Some(heights) = self.heights.upgrade() {
            announce(&heights, block.head.height);
        }
    }

    /// The last block that a session sees, after all that others appended was checked. What one server of a database shows says nothing
    /// of another one, to which the next connection may lead: once one lacked a block, or had another, nothing rests on any.
    pub(super) async fn catch_up(&self, session: &mut Session<'_>) -> Result<Known, WitnessError> {
        let known = self.look(session).await?;
        match self.found() {
            Some(found) => Err(found.into()),
            None => Ok(known),
        }
    }

    /// What is wrong with the ledger, as far as it may be right again.
    pub(super) fn found(&self) -> Option<Distrust> {
        self.lock().found.clone()
    }

    /// A database was right for long enough.
    pub(super) fn trust(&self) {
        self.lock().found = None;
    }

    /// What a session sees, whatever others have seen.
    pub(super) async fn look(&self, session: &mut Session<'_>) -> Result<Known, WitnessError> {
        if let Some(changed) = self.lock().changed.clone() {
            return Err(changed.into());
        }
        // Before the session's first look, so that it cannot see less.
        let seen = self.last();
        let outcome = match session.height() {
            Some(height) => self.compare_at(session, height).await,
            None => self.compare(session, seen).await,
        };
        match &outcome {
            // Of a file there is one.
            Ok(_) if matches!(session, Session::Sqlite(..)) => self.lock().found = None,
            Ok(_) => {}
            Err(WitnessError::Distrust(distrust)) => self.lock().found = Some(distrust.clone()),
            Err(WitnessError::Storage(_)) => {}
        }
        outcome
    }

    /// The same of a file, to which nobody else appends: readers see it as it was after the block at `height`, and the writer may be
    /// further by now, or about to say that this block counts.
    async fn compare_at(&self, session: &mut Session<'_>, height: u64) -> Result<Known, WitnessError> {
        let head = blocks::head(session).await.map_err(unsound)?;
        if head.height != height {
            let (ends, seen) = (head.height, height);
            return Err(Distrust::Gone { ends, seen }.into());
        }
        match self.at(height) {
            Some(seen) if seen.head == head => return Ok(seen),
            Some(seen) => return Err(other(&seen.head, &head).into()),
            None => {}
        }
        let seen = self.last();
        if seen.head.height > height {
            return Err(StorageError::Overtaken.into());
        }
        self.check_after(session, seen, height).await
    }

    async fn compare(&self, session: &mut Session<'_>, seen: Known) -> Result<Known, WitnessError> {
        let head = blocks::head(session).await.map_err(unsound)?;
        if head == seen.head {
            return Ok(seen);
        }
        let gone = Distrust::Gone {
            ends: head.height,
            seen: seen.head.height,
        };
        if head.height < seen.head.height {
            return Err(gone.into());
        }
        if head.height == seen.head.height {
            return Err(other(&seen.head, &head).into());
        }
        match self.check_after(session, seen, u64::MAX).await {
            Err(WitnessError::Distrust(found)) => {
                // Others may have gone on from another block than the one that was seen.
                match blocks::head_at(session, seen.head.height).await? {
                    Some(now) if now.hash != seen.head.hash => Err(other(&seen.head, &now).into()),
                    _ => Err(found.into()),
                }
            }
            outcome => outcome,
        }
    }

    async fn check_after(
        &self,
        session: &mut Session<'_>,
        seen: Known,
        until: u64,
    ) -> Result<Known, WitnessError> {
        let mut chain = Chain::after(Care::Hashes, self.ledger, seen.head, seen.next);
        let mut last = seen;
        loop {
            let after = blocks::after(session, last.head.height, BATCH);
            let blocks = after.await.map_err(unsound)?;
            if blocks.is_empty() {
                return Ok(last);
            }
            for block in blocks {
                if block.height > until {
                    return Ok(last);
                }
                chain.take(&block).map_err(Distrust::from)?;
                let head = chain.finish().map_err(Distrust::from)?;
                if !chain.unvouched.is_empty() {
                    return Err(Distrust::from(unvouched(head.height)).into());
                }
                last = Known {
                    head,
                    next: chain.key,
                };
                self.add(last);
            }
        }
    }
}

/// Whoever can write the ledger can say that its key is lost: a broker that runs does not take that from it, and one that starts only
/// of a key that it has or was told of.
pub(super) fn unvouched(height: u64) -> Corruption {
    corrupt(
        height,
        "signer",
        "a key took over that the one before does not vouch for; if that was you (`ledger rotate --lost`), give all brokers the new key and restart them",
    )
}

fn other(seen: &Head, now: &Head) -> Distrust {
    if seen.hash == now.hash {
        let field = if seen.timestamp_ms == now.timestamp_ms {
            "signature"
        } else {
            "timestamp_ms"
        };
        return corrupt(now.height, field, "it is not what it was").into();
    }
    Distrust::Forked {
        block: now.height,
        found: Bytes(now.hash),
        seen: Bytes(seen.hash),
    }
}

/// A field that is not of its form is a block that does not verify.
fn unsound(error: StorageError) -> WitnessError {
    match error {
        StorageError::Form { height, field } => {
            let block = u64::try_from(height).unwrap_or_default();
            Distrust::from(corrupt(block, field, "it is not of its form")).into()
        }
        error => error.into(),
    }
}

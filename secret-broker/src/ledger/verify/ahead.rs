//! Decides transactions ahead of their turn, each on the state before all of them, so that two threads can do it at the same time.
//!
//! What came of one stands as long as nothing that it read is changed by those before it; whoever applies it sees to that and has it
//! decided again otherwise. What came of many is kept in few pieces of memory, not as the contract gave it: that is let go of where it
//! was made, while it is at hand.

use super::answers;
use super::replayed::Replayed;
use super::walk::{Bodies, transactions};
use crate::ledger::block::Asked;
use leasehold_chaincode::{Contract, Failure, Kept, StateError, StateReader, TxContext, Write};
use std::cell::RefCell;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// The state, which is read by both threads and changed by one.
pub(super) type Shared = Arc<RwLock<Replayed>>;

pub(super) fn read(state: &Shared) -> RwLockReadGuard<'_, Replayed> {
    state.read().unwrap_or_else(PoisonError::into_inner)
}

/// What came of some transactions, one after the other.
#[derive(Default)]
pub(super) struct Ahead {
    each: Vec<Decided>,
    /// Of each key that was read, what it is found by.
    reads: Vec<u64>,
    changes: Vec<Change>,
    /// Keys that change, each with its value behind it.
    bytes: Vec<u8>,
    answers: Vec<u8>,
    kept: Kept,
}

/// What came of a transaction: where in [`Ahead`] its parts end.
struct Decided {
    failure: Option<Failure>,
    ends: Ends,
}

#[derive(Clone, Copy, Default)]
struct Ends {
    reads: usize,
    changes: usize,
    bytes: usize,
    answers: usize,
}

/// A change of the state.
struct Change {
    hash: u64,
    /// Length of the key, and of its value, where it is not removed.
    key: usize,
    value: Option<usize>,
}

/// What came of a transaction.
#[derive(Clone, Copy)]
pub(super) struct Verdict<'a> {
    pub(super) failure: Option<&'a Failure>,
    pub(super) reads: &'a [u64],
    /// The transaction as it stands in a body, with what the contract answers.
    pub(super) answer: &'a [u8],
    changes: &'a [Change],
    bytes: &'a [u8],
}

impl Ahead {
    /// How many were decided.
    pub(super) fn len(&self) -> usize {
        self.each.len()
    }

    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.each.clear();
        self.reads.clear();
        self.changes.clear();
        self.bytes.clear();
        self.answers.clear();
    }

    /// Decides one more.
    pub(super) fn decide(&mut self, contract: Contract, state: &Replayed, asked: &Asked) {
        let context = TxContext {
            tx_id: asked.tx_id.clone(),
            timestamp_ms: asked.timestamp_ms,
            caller: asked.caller.clone(),
            role: asked.role,
        };
        let reading = Reading {
            state,
            kept: &self.kept,
            reads: RefCell::new(std::mem::take(&mut self.reads)),
        };
        let outcome = contract.replay(asked.contract, &reading, &context, &asked.command);
        self.reads = reading.reads.into_inner();
        let failure = match outcome {
            Ok(outcome) => {
                for write in &outcome.writes {
                    self.note(state, write);
                }
                // What cannot be written is not what is recorded.
                let _ = answers::write(&mut self.answers, asked, &outcome);
                None
            }
            Err(failure) => Some(failure),
        };
        let ends = Ends {
            reads: self.reads.len(),
            changes: self.changes.len(),
            bytes: self.bytes.len(),
            answers: self.answers.len(),
        };
        self.each.push(Decided { failure, ends });
    }

    fn note(&mut self, state: &Replayed, write: &Write) {
        let (key, value) = match write {
            Write::Put { key, value } => (key, Some(value)),
            Write::Delete { key } => (key, None),
        };
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes
            .extend_from_slice(value.map(Vec::as_slice).unwrap_or_default());
        self.changes.push(Change {
            hash: state.hash(key),
            key: key.len(),
            value: value.map(Vec::len),
        });
    }

    /// What came of one of them.
    pub(super) fn verdict(&self, at: usize) -> Option<Verdict<'_>> {
        let Decided { failure, ends } = self.each.get(at)?;
        let before = at.checked_sub(1).and_then(|before| self.each.get(before));
        let begin = before.map(|before| before.ends).unwrap_or_default();
        Some(Verdict {
            failure: failure.as_ref(),
            reads: self.reads.get(begin.reads..ends.reads)?,
            answer: self.answers.get(begin.answers..ends.answers)?,
            changes: self.changes.get(begin.changes..ends.changes)?,
            bytes: self.bytes.get(begin.bytes..ends.bytes)?,
        })
    }
}

impl Verdict<'_> {
    /// Changes the state; and says of each key that it changes what it is found by.
    pub(super) fn apply(&self, state: &mut Replayed, mut changed: impl FnMut(u64)) {
        let mut rest = self.bytes;
        let mut taken = |length| {
            let (taken, after) = rest.split_at_checked(length).unwrap_or_default();
            rest = after;
            taken
        };
        for change in self.changes {
            let key = taken(change.key);
            match change.value {
                Some(length) => state.put(change.hash, key, taken(length)),
                None => state.delete(change.hash, key),
            }
            changed(change.hash);
        }
    }
}

/// A state of which is noted what is read.
struct Reading<'s> {
    state: &'s Replayed,
    kept: &'s Kept,
    reads: RefCell<Vec<u64>>,
}

impl StateReader for Reading<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        let hash = self.state.hash(key);
        self.reads.borrow_mut().push(hash);
        Ok(self.state.value_of(hash, key).map(<[u8]>::to_vec))
    }

    fn kept(&self) -> Option<&Kept> {
        Some(self.kept)
    }

    fn range(&self, _: &str, _: &str, _: usize) -> Result<Vec<(String, Vec<u8>)>, StateError> {
        let reason = "a transaction that is decided again reads no ranges";
        Err(StateError::Storage(reason.to_owned()))
    }
}

/// Transactions to be decided: those of some bodies from one to another.
struct Job {
    contract: Contract,
    state: Shared,
    bodies: Bodies,
    from: usize,
    count: usize,
    /// Where what comes of them is to be.
    ahead: Ahead,
}

/// A thread that decides too.
pub(super) struct Helper {
    jobs: SyncSender<Job>,
    done: Receiver<Ahead>,
}

impl Helper {
    /// With what that thread has to do, until the helper is dropped.
    pub(super) fn new() -> (Self, impl FnOnce() + Send + 'static) {
        let ((jobs, given), (ready, done)) = (sync_channel::<Job>(1), sync_channel(1));
        let work = move || {
            for mut job in given {
                job.ahead.clear();
                {
                    let state = read(&job.state);
                    for asked in transactions(&job.bodies).skip(job.from).take(job.count) {
                        job.ahead.decide(job.contract, &state, asked);
                    }
                }
                // Before the other one changes the state, and lets go of the bodies.
                let Job {
                    state, bodies, ahead, ..
                } = job;
                drop((state, bodies));
                if ready.send(ahead).is_err() {
                    return;
                }
            }
        };
        (Self { jobs, done }, work)
    }

    /// Has some transactions decided.
    pub(super) fn begin(
        &self,
        (contract, state): (Contract, &Shared),
        bodies: &Bodies,
        (from, count): (usize, usize),
        ahead: Ahead,
    ) {
        let job = Job {
            contract,
            state: Arc::clone(state),
            bodies: Arc::clone(bodies),
            from,
            count,
            ahead,
        };
        // Where nobody takes it nothing comes back either.
        let _ = self.jobs.send(job);
    }

    /// What came of them; nothing where that thread has ended.
    pub(super) fn end(&self) -> Ahead {
        self.done.recv().unwrap_or_default()
    }
}

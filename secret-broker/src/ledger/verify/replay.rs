//! Runs the contract again. The blocks' transactions are decided some at a time and by two threads, ahead of their turn; in their turn
//! they are held against what is recorded and change the state, those whose state has changed meanwhile decided once more.

use super::ahead::{Ahead, Helper, Shared, Verdict, read};
use super::answers::Recorded;
use super::replayed::Replayed;
use super::walk::{Bodies, transactions};
use crate::ledger::block::{Asked, BodyOf};
use crate::ledger::chain::corrupt;
use crate::ledger::verify::Corruption;
use hashbrown::{HashMap, HashSet};
use leasehold_chaincode::Contract;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

/// Transactions that are decided ahead: few enough that what comes of them is at hand when it is their turn, so many that two threads
/// seldom wait for each other. Where there are fewer than the least, one thread decides them.
const MOST: usize = 256;
const LEAST: usize = if cfg!(test) { 2 } else { 16 };
/// So many are decided in their turn where more than a quarter of those before had to be decided twice.
const IN_TURN: usize = if cfg!(test) { 4 } else { 2_048 };

/// Where each transaction is: in which block, and where in that.
pub(super) type Places = HashMap<String, (u64, usize)>;

/// The contract, run again.
#[derive(Default)]
pub(super) struct Replay {
    contract: Option<Contract>,
    state: Shared,
    pub(super) places: Places,
    ahead: Foreseen,
}

/// What was decided ahead.
#[derive(Default)]
struct Foreseen {
    first: Ahead,
    /// Those after the first, which the other thread decided.
    second: Ahead,
    /// One that had to be decided again.
    again: Ahead,
    /// How many had their turn, and how many of them twice.
    taken: usize,
    twice: usize,
    /// Keys that changed since, by what they are found by.
    changed: HashSet<u64>,
    /// So many more are decided in their turn.
    in_turn: usize,
}

impl Replay {
    /// The state as it is now.
    pub(super) fn state(&self) -> RwLockReadGuard<'_, Replayed> {
        read(&self.state)
    }

    /// The state, to be read by another thread.
    pub(super) fn shared(&self) -> Shared {
        Arc::clone(&self.state)
    }

    /// What all of it led to; nothing while another thread reads the state.
    pub(super) fn into_parts(self) -> Option<(Replayed, Places)> {
        let state = Arc::into_inner(self.state)?;
        Some((
            state.into_inner().unwrap_or_else(PoisonError::into_inner),
            self.places,
        ))
    }

    /// Decides what was asked in some blocks' bodies, and holds the answers against their texts.
    pub(super) fn take(&mut self, bodies: &Bodies, helper: &Helper) -> Result<(), Corruption> {
        let all = transactions(bodies).count();
        let mut at = 0_usize;
        for block in bodies.iter() {
            match &block.body {
                BodyOf::Genesis(genesis) => {
                    self.contract = Some(Contract {
                        end_margin_ms: genesis.end_margin_ms,
                    });
                }
                BodyOf::Key(_) => {}
                BodyOf::Transactions(transactions) => {
                    let mut recorded = Recorded::new(&block.text);
                    for (position, transaction) in transactions.iter().enumerate() {
                        let place = (block.height, position);
                        let contract = self
                            .contract
                            .ok_or_else(|| wrong(place, transaction, "there was no genesis"))?;
                        if self.ahead.is_taken() {
                            let rest = all.saturating_sub(at);
                            self.ahead
                                .look((contract, &self.state), bodies, (at, rest), helper);
                        }
                        self.turn(contract, place, transaction, &mut recorded)?;
                        at = at.saturating_add(1);
                    }
                    if !recorded.ends() {
                        return Err(corrupt(block.height, "body", "it goes on after its transactions"));
                    }
                }
            }
        }
        Ok(())
    }

    fn turn(
        &mut self,
        contract: Contract,
        place: (u64, usize),
        transaction: &Asked,
        recorded: &mut Recorded<'_>,
    ) -> Result<(), Corruption> {
        let Foreseen {
            first,
            second,
            again,
            taken,
            twice,
            changed,
            ..
        } = &mut self.ahead;
        let ahead = first.verdict(*taken).or_else(|| {
            let after = taken.checked_sub(first.len())?;
            second.verdict(after)
        });
        *taken = taken.saturating_add(1);
        let stands = |verdict: &Verdict<'_>| !verdict.reads.iter().any(|read| changed.contains(read));
        let verdict = match ahead.filter(stands) {
            Some(verdict) => verdict,
            None => {
                *twice = twice.saturating_add(1);
                again.clear();
                again.decide(contract, &read(&self.state), transaction);
                let verdict = again.verdict(0);
                verdict.ok_or_else(|| wrong(place, transaction, "it was not decided"))?
            }
        };
        if let Some(failure) = verdict.failure {
            let reason = format!("the contract does not accept it: {failure}");
            return Err(wrong(place, transaction, &reason));
        }
        if !recorded.goes_on(verdict.answer) {
            let reason = "the contract answers otherwise than is recorded";
            return Err(wrong(place, transaction, reason));
        }
        let tx_id = transaction.tx_id.as_str().to_owned();
        if self.places.insert(tx_id, place).is_some() {
            return Err(wrong(place, transaction, "it is on the ledger twice"));
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        verdict.apply(&mut state, |key| {
            changed.insert(key);
        });
        Ok(())
    }
}

impl Foreseen {
    /// Whether all of them had their turn.
    fn is_taken(&self) -> bool {
        self.taken >= self.first.len().saturating_add(self.second.len())
    }

    /// Decides the next ones, of so many in some bodies from one on.
    fn look(
        &mut self,
        (contract, state): (Contract, &Shared),
        bodies: &Bodies,
        (from, rest): (usize, usize),
        helper: &Helper,
    ) {
        if self.twice > self.taken / 4 && self.taken > 1 {
            self.in_turn = IN_TURN;
        }
        (self.taken, self.twice) = (0, 0);
        self.changed.clear();
        self.first.clear();
        self.second.clear();
        let count = rest.min(MOST);
        let in_turn = self.in_turn > 0 || count < LEAST;
        let (own, others) = match in_turn {
            true => (1, 0),
            false => (count / 2, count.saturating_sub(count / 2)),
        };
        self.in_turn = self.in_turn.saturating_sub(own);
        if others > 0 {
            let place = (from.saturating_add(own), others);
            let buffers = std::mem::take(&mut self.second);
            helper.begin((contract, state), bodies, place, buffers);
        }
        {
            let state = read(state);
            for asked in transactions(bodies).skip(from).take(own) {
                self.first.decide(contract, &state, asked);
            }
        }
        if others > 0 {
            self.second = helper.end();
        }
    }
}

fn wrong((height, _): (u64, usize), transaction: &Asked, reason: &str) -> Corruption {
    corrupt(
        height,
        "body",
        format!("transaction {}: {reason}", transaction.tx_id),
    )
}

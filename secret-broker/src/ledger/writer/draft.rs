//! A block in the making: what its submissions read, what the contract says to each after those before it, and the block's text.

use super::{Answer, BlockError};
use crate::ledger::block::{Head, NewBody, NewTransaction, StoredBlock, Transaction};
use crate::ledger::founding::Sealer;
use crate::ledger::loaded::{self, Changes, Noted, Reads};
use crate::ledger::storage::{Session, blocks};
use crate::ledger::{Committed, LedgerOptions, Submission, SubmitError};
use leasehold_chaincode::{
    CONTRACT_VERSION, Failure, Loaded, Outcome, Refusal, Role, StateError, TxContext, Write,
};
use std::collections::HashMap;

/// A block in the making.
#[derive(Default)]
pub(super) struct Draft<'a> {
    /// As it was before the block, as far as anybody has asked.
    pub(super) state: Loaded,
    pub(super) changes: Changes,
    pub(super) accepted: Vec<(&'a Submission, Committed)>,
    /// Transactions that were on the ledger before, by id.
    before: HashMap<String, (Transaction, u64)>,
    /// Where among the accepted a transaction is, by id.
    here: HashMap<&'a str, usize>,
}

/// What the contract says to a submission, as long as nothing changes that it read.
pub(super) struct Verdict {
    outcome: Result<Outcome, Refusal>,
    reads: Reads,
}

impl<'a> Draft<'a> {
    /// With some of the state, and those of the submissions' transactions that are on the ledger.
    pub(super) fn new(state: Loaded, before: HashMap<String, (Transaction, u64)>) -> Self {
        Self {
            state,
            before,
            ..Self::default()
        }
    }

    /// Loads what the submissions will read, all of them together, and decides each as if it were alone.
    pub(super) async fn foresee(
        &mut self,
        session: &mut Session<'_>,
        submissions: &'a [Submission],
        options: &LedgerOptions,
        timestamp_ms: i64,
    ) -> Result<Vec<Option<Verdict>>, BlockError> {
        let new: Vec<_> = submissions
            .iter()
            .filter(|submission| !self.before.contains_key(submission.tx_id.as_str()))
            .map(|submission| (context(submission, options, timestamp_ms), &submission.command))
            .collect();
        loop {
            for (context, command) in &new {
                options.contract.foresee(&self.state, context, command);
            }
            // What is lacking says what else will be read.
            let more = self.state.lacks();
            if self.state.foresees() {
                loaded::fetch(&mut self.state, session).await?;
            }
            if !more {
                break;
            }
        }
        let mut verdicts: Vec<_> = submissions.iter().map(|_| None).collect();
        loop {
            for (submission, verdict) in submissions.iter().zip(&mut verdicts) {
                if verdict.is_none() && !self.before.contains_key(submission.tx_id.as_str()) {
                    // What cannot be decided is found to be so again, when it is its turn.
                    *verdict = self
                        .execute(submission, options, timestamp_ms)
                        .unwrap_or_default();
                }
            }
            if !self.state.lacks() {
                return Ok(verdicts);
            }
            loaded::fetch(&mut self.state, session).await?;
        }
    }

    /// The answer to a submission; none where it is accepted, and answered once it is on disk.
    pub(super) async fn decide(
        &mut self,
        session: &mut Session<'_>,
        submission: &'a Submission,
        mut verdict: Option<Verdict>,
        options: &LedgerOptions,
        height: u64,
        timestamp_ms: i64,
    ) -> Result<Option<Answer>, BlockError> {
        if let Some(known) = self.known(submission, options) {
            let tx_id = submission.tx_id.to_string();
            let reused = || Refusal::TransactionReused { tx_id }.into();
            return Ok(Some(known.ok_or_else(reused)));
        }
        // A transaction before it in the block may have changed what it was decided by.
        verdict.take_if(|verdict| verdict.reads.touched(&self.changes));
        let outcome = loop {
            match verdict {
                Some(verdict) => break verdict.outcome,
                None if self.state.lacks() => loaded::fetch(&mut self.state, session).await?,
                None => {}
            }
            verdict = match self.execute(submission, options, timestamp_ms) {
                Ok(verdict) => verdict,
                // A damaged record is no reason to fail the others.
                Err(error) => return Ok(Some(Err(SubmitError::Storage(error.to_string())))),
            };
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(refusal) => return Ok(Some(Err(refusal.into()))),
        };
        for write in outcome.writes {
            match write {
                Write::Put { key, value } => self.changes.insert(key, Some(value)),
                Write::Delete { key } => self.changes.insert(key, None),
            };
        }
        self.here.insert(submission.tx_id.as_str(), self.accepted.len());
        let committed = Committed {
            tx_id: submission.tx_id.clone(),
            height,
            timestamp_ms,
            events: outcome.events,
            result: outcome.result,
        };
        self.accepted.push((submission, committed));
        Ok(None)
    }

    /// What the submission's transaction came to, if it is on the ledger or in this block; nothing if that is another one.
    fn known(&self, submission: &Submission, options: &LedgerOptions) -> Option<Option<Committed>> {
        let tx_id = submission.tx_id.as_str();
        if let Some((transaction, height)) = self.before.get(tx_id) {
            let same = transaction.command == submission.command
                && transaction.caller == *options.caller(&submission.tx_id);
            return Some(same.then(|| Committed::of(transaction, *height)));
        }
        let (first, committed) = self.accepted.get(*self.here.get(tx_id)?)?;
        Some((first.command == submission.command).then(|| committed.clone()))
    }

    /// None while something is missing in the state.
    fn execute(
        &self,
        submission: &Submission,
        options: &LedgerOptions,
        timestamp_ms: i64,
    ) -> Result<Option<Verdict>, StateError> {
        let context = context(submission, options, timestamp_ms);
        let noted = Noted::told(&self.state, &self.changes);
        let outcome = match options.contract.execute(&noted, &context, &submission.command) {
            Ok(outcome) => Ok(outcome),
            Err(Failure::Refused(refusal)) => Err(refusal),
            Err(Failure::State(StateError::NotLoaded)) if self.state.lacks() => return Ok(None),
            Err(Failure::State(error)) => return Err(error),
        };
        let reads = noted.reads();
        Ok(Some(Verdict { outcome, reads }))
    }

    pub(super) async fn write(
        &mut self,
        session: &mut Session<'_>,
        head: &Head,
        timestamp_ms: i64,
        sealer: &Sealer,
        options: &LedgerOptions,
    ) -> Result<StoredBlock, BlockError> {
        let transactions: Vec<_> = self
            .accepted
            .iter()
            .map(|(submission, committed)| NewTransaction {
                tx_id: &submission.tx_id,
                caller: options.caller(&submission.tx_id),
                role: ROLE,
                timestamp_ms,
                contract: CONTRACT_VERSION,
                command: &submission.command,
                events: &committed.events,
                result: &committed.result,
            })
            .collect();
        let body = NewBody::Transactions(&transactions);
        let block = StoredBlock::after(head, &sealer.ledger, timestamp_ms, &body, &sealer.key)?;
        blocks::append(session, &block).await?;
        Ok(block)
    }

    /// Where in the block its transactions are.
    pub(super) fn places(&self) -> impl Iterator<Item = (String, usize)> {
        let accepted = self.accepted.iter().enumerate();
        accepted.map(|(at, (submission, _))| (submission.tx_id.to_string(), at))
    }

    /// All answers, in the submissions' order: those who were accepted are told only now.
    pub(super) fn answers(self, answers: Vec<Option<Answer>>) -> Vec<Answer> {
        let mut accepted = self.accepted.into_iter().map(|(_, committed)| Ok(committed));
        answers
            .into_iter()
            .map(|answer| {
                answer
                    .or_else(|| accepted.next())
                    .unwrap_or(Err(SubmitError::Closed))
            })
            .collect()
    }
}

fn context(submission: &Submission, options: &LedgerOptions, timestamp_ms: i64) -> TxContext {
    TxContext {
        tx_id: submission.tx_id.clone(),
        timestamp_ms,
        caller: options.caller(&submission.tx_id).clone(),
        role: ROLE,
    }
}

/// This ledger is its organisation's own: the broker answers for it, and has checked who of its people asks.
const ROLE: Role = Role::Administrator;

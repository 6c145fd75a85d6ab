//! The one task that writes. It takes all submissions that are waiting, decides them one after the other, commits what was
//! accepted as one block with one flush to disk, and only then answers any of them: a refusal may rest on a grant in the same
//! block.

use super::block::{Head, NewBody, NewTransaction, StoredBlock, Transaction};
use super::founding::{SealError, Sealer};
use super::loaded::{self, Changes, Noted, Reads};
use super::storage::{Link, Session, StorageError, blocks, derived};
use super::verify::{self, Verified, VerifyError};
use super::witness::{Known, Witness, WitnessError};
use super::{Committed, LedgerOptions, ReadError, Submission, SubmitError};
use leasehold_chaincode::{
    CONTRACT_VERSION, Failure, Loaded, Outcome, Refusal, Role, StateError, TxContext, Write,
};
use std::collections::HashMap;
use std::fs::File;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub(super) enum Request {
    Submit(Box<Submission>, oneshot::Sender<Answer>),
    Rebuild(oneshot::Sender<Result<Verified, VerifyError>>),
}

type Answer = Result<Committed, SubmitError>;

pub(super) struct Writer {
    link: Link,
    head: Head,
    sealer: Sealer,
    options: LedgerOptions,
    witness: Witness,
    /// Held for as long as the file may be written.
    _lock: Option<File>,
}

/// A block in the making.
#[derive(Default)]
struct Draft<'a> {
    /// As it was before the block, as far as anybody has asked.
    state: Loaded,
    changes: Changes,
    accepted: Vec<(&'a Submission, Committed)>,
    /// Transactions that were on the ledger before, by id.
    before: HashMap<String, (Transaction, u64)>,
    /// Where among the accepted a transaction is, by id.
    here: HashMap<&'a str, usize>,
}

/// What the contract says to a submission, as long as nothing changes that it read.
struct Verdict {
    outcome: Result<Outcome, Refusal>,
    reads: Reads,
}

#[derive(Debug, thiserror::Error)]
enum BlockError {
    #[error("{0}")]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Witness(#[from] WitnessError),
    #[error("{0}")]
    Seal(#[from] SealError),
    #[error("a value of the state is not text: {0}")]
    NotText(#[from] std::str::Utf8Error),
}

impl From<serde_json::Error> for BlockError {
    fn from(error: serde_json::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl Writer {
    pub(super) fn new(
        link: Link,
        head: Head,
        sealer: Sealer,
        options: LedgerOptions,
        witness: Witness,
        lock: Option<File>,
    ) -> Self {
        Self {
            link,
            head,
            sealer,
            options,
            witness,
            _lock: lock,
        }
    }

    /// Works until it is stopped, then commits what is waiting and closes the file.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Request>, stop: CancellationToken) {
        let mut requests = Vec::new();
        loop {
            let taken = tokio::select! {
                biased;
                taken = inbox.recv_many(&mut requests, self.options.block_transactions.max(1)) => taken,
                () = stop.cancelled(), if !inbox.is_closed() => {
                    inbox.close();
                    continue;
                }
            };
            if taken == 0 {
                break;
            }
            self.serve(std::mem::take(&mut requests)).await;
        }
        self.link.close().await;
    }

    async fn serve(&mut self, requests: Vec<Request>) {
        let (mut submissions, mut answers, mut rebuilds) = (Vec::new(), Vec::new(), Vec::new());
        for request in requests {
            match request {
                Request::Submit(submission, answer) => {
                    submissions.push(*submission);
                    answers.push(answer);
                }
                Request::Rebuild(answer) => rebuilds.push(answer),
            }
        }
        if !submissions.is_empty() {
            let outcomes = match self.commit(&submissions).await {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    tracing::error!(%error, height = self.head.height, "a block could not be written");
                    self.link.close().await;
                    vec![Err(SubmitError::Storage(error.to_string())); submissions.len()]
                }
            };
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // Whoever does not wait any more finds the outcome under the transaction's id.
                let _ = answer.send(outcome);
            }
        }
        for answer in rebuilds {
            let rebuilt = self.rebuild().await;
            if rebuilt.is_err() {
                self.link.close().await;
            }
            let _ = answer.send(rebuilt);
        }
    }

    async fn rebuild(&mut self) -> Result<Verified, VerifyError> {
        let mut session = self.link.write().await?;
        let verified = verify::rebuild_in(&mut session).await?;
        session.commit().await?;
        Ok(verified)
    }

    async fn commit(&mut self, submissions: &[Submission]) -> Result<Vec<Answer>, BlockError> {
        let mut session = self.link.write().await?;
        // From the storage, not from memory: after a failed commit only that knows what became of it, and others may write too.
        let Known { head, next } = self.witness.catch_up(&mut session).await?;
        self.sealer.keep_up(next, &self.options.key)?;
        let height = head.height.saturating_add(1);
        let timestamp_ms = (self.options.clock)().max(head.timestamp_ms);
        let ids: Vec<_> = submissions
            .iter()
            .map(|submission| submission.tx_id.as_str())
            .collect();
        let mut draft = Draft {
            before: derived::transactions(&mut session, &ids).await?,
            ..Draft::default()
        };
        let options = &self.options;
        let verdicts = draft
            .foresee(&mut session, submissions, options, timestamp_ms)
            .await?;
        let mut answers = Vec::with_capacity(submissions.len());
        for (submission, verdict) in submissions.iter().zip(verdicts) {
            let answer = draft
                .decide(&mut session, submission, verdict, options, height, timestamp_ms)
                .await?;
            answers.push(answer);
        }
        if draft.accepted.is_empty() {
            session.rollback().await?;
            return Ok(draft.answers(answers));
        }
        let block = draft
            .write(&mut session, &head, timestamp_ms, &self.sealer, options)
            .await?;
        session.commit().await?;
        self.head = block.head();
        self.witness.add(Known {
            head: self.head,
            next: Some(self.sealer.key.id()),
        });
        Ok(draft.answers(answers))
    }
}

impl<'a> Draft<'a> {
    /// Loads what the submissions will read, all of them together, and decides each as if it were alone.
    async fn foresee(
        &mut self,
        session: &mut Session<'_>,
        submissions: &'a [Submission],
        options: &LedgerOptions,
        timestamp_ms: i64,
    ) -> Result<Vec<Option<Verdict>>, BlockError> {
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
    async fn decide(
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
            let same =
                transaction.command == submission.command && transaction.caller == options.organisation;
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
        let context = TxContext {
            tx_id: submission.tx_id.clone(),
            timestamp_ms,
            caller: options.organisation.clone(),
            role: ROLE,
        };
        let noted = Noted::new(&self.state, &self.changes);
        let outcome = match options.contract.execute(&noted, &context, &submission.command) {
            Ok(outcome) => Ok(outcome),
            Err(Failure::Refused(refusal)) => Err(refusal),
            Err(Failure::State(StateError::NotLoaded)) if self.state.lacks() => return Ok(None),
            Err(Failure::State(error)) => return Err(error),
        };
        let reads = noted.reads();
        Ok(Some(Verdict { outcome, reads }))
    }

    async fn write(
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
                caller: &options.organisation,
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
        let places: Vec<_> = (0..)
            .zip(&transactions)
            .map(|(at, tx)| (tx.tx_id.as_str(), block.height, at))
            .collect();
        derived::write_places(session, &places).await?;
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        for (key, value) in &self.changes {
            match value {
                Some(value) => puts.push((key.as_str(), std::str::from_utf8(value)?)),
                None => deletes.push(key.as_str()),
            }
        }
        // By key, as the table is sorted.
        puts.sort_unstable();
        derived::write(session, &puts, &deletes).await?;
        Ok(block)
    }

    /// All answers, in the submissions' order: those who were accepted are told only now.
    fn answers(self, answers: Vec<Option<Answer>>) -> Vec<Answer> {
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

/// This ledger is its organisation's own: the broker answers for it, and has checked who of its people asks.
const ROLE: Role = Role::Administrator;

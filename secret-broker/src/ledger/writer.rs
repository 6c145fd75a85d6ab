//! The one task that writes. It takes all submissions that are waiting, decides them one after the other, commits what was
//! accepted as one block with one flush to disk, and only then answers any of them: a refusal may rest on a grant in the same
//! block.

mod draft;
pub(super) mod tables;

use super::block::Head;
use super::catch_up::{self, CatchUpError};
use super::founding::{SealError, Sealer};
use super::storage::pending::{Changed, View};
use super::storage::sqlite::Lock;
use super::storage::{Link, Pending, Session, StorageError, derived};
use super::verify::{self, Verified, VerifyError};
use super::witness::{Known, Witness, WitnessError};
use super::{Committed, LedgerOptions, ReadError, Submission, SubmitError};
use draft::Draft;
use leasehold_chaincode::Loaded;
use std::time::Duration;
use tables::{write_block, write_tables};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Keys of the state that the writer keeps from one block to the next.
const MOST_KEPT: usize = if cfg!(test) { 64 } else { 32_768 };
/// With nothing to do for so long, they are written.
const IDLE: Duration = Duration::from_secs(1);

pub(super) enum Request {
    Submit(Box<Submission>, oneshot::Sender<Answer>),
    Rebuild(oneshot::Sender<Result<Verified, VerifyError>>),
    Settle(oneshot::Sender<()>),
}

type Answer = Result<Committed, SubmitError>;

pub(super) struct Writer {
    link: Link,
    head: Head,
    sealer: Sealer,
    options: LedgerOptions,
    witness: Witness,
    pending: Pending,
    /// Some of the state after the last block, where nobody else writes.
    kept: Loaded,
    /// Whether the file is as `head` and `pending` have it. Not known after a failure, and never where others write too.
    known: bool,
    /// Held for as long as the file may be written.
    _lock: Option<Lock>,
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
    #[error("{0}")]
    CatchUp(#[from] CatchUpError),
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
        pending: Pending,
        lock: Option<Lock>,
    ) -> Self {
        Self {
            link,
            head,
            sealer,
            options,
            witness,
            pending,
            kept: Loaded::default(),
            known: lock.is_some(),
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
                () = tokio::time::sleep(IDLE), if self.pending.view().len() > 0 => {
                    self.settle().await;
                    continue;
                }
            };
            if taken == 0 {
                break;
            }
            self.serve(std::mem::take(&mut requests)).await;
            // Those who were answered ask again first: the next block has all of them, not the first few.
            tokio::task::yield_now().await;
        }
        self.settle().await;
        self.link.close().await;
    }

    /// Brings the tables up to the last block. Nothing is lost where that fails.
    async fn settle(&mut self) {
        let view = self.pending.view();
        // What a failure left is looked at by the next block, or when the ledger is opened again.
        if view.len() == 0 || !self.known {
            return;
        }
        self.known = false;
        match self.write_pending(&view).await {
            Ok(()) => {
                self.pending.settle(view.height);
                self.known = true;
            }
            Err(error) => {
                tracing::warn!(%error, height = view.height, "the state's tables could not be written; the blocks are safe");
                self.link.close().await;
            }
        }
    }

    async fn write_pending(&mut self, view: &View) -> Result<(), StorageError> {
        let mut session = self.link.write().await?;
        write_tables(&mut session, view).await?;
        session.commit().await
    }

    async fn serve(&mut self, requests: Vec<Request>) {
        let (mut submissions, mut answers) = (Vec::new(), Vec::new());
        let (mut rebuilds, mut settlements) = (Vec::new(), Vec::new());
        for request in requests {
            match request {
                Request::Submit(submission, answer) => {
                    submissions.push(*submission);
                    answers.push(answer);
                }
                Request::Rebuild(answer) => rebuilds.push(answer),
                Request::Settle(done) => settlements.push(done),
            }
        }
        if !submissions.is_empty() {
            let outcomes = match self.commit(&submissions).await {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    tracing::error!(%error, height = self.head.height, "a block could not be written");
                    self.known = false;
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
                self.known = false;
                self.link.close().await;
            }
            let _ = answer.send(rebuilt);
        }
        if !settlements.is_empty() {
            self.settle().await;
        }
        for done in settlements {
            let _ = done.send(());
        }
    }

    async fn rebuild(&mut self) -> Result<Verified, VerifyError> {
        let mut session = self.link.write().await?;
        let verified = verify::rebuild_in(&mut session).await?;
        session.commit().await?;
        self.pending.settle(verified.height);
        self.kept = Loaded::default();
        Ok(verified)
    }

    async fn commit(&mut self, submissions: &[Submission]) -> Result<Vec<Answer>, BlockError> {
        let mut session = self.link.write().await?;
        let lags = matches!(session, Session::Sqlite(..));
        let head = if self.known {
            self.head
        } else {
            // From the storage, not from memory: after a failed commit only that knows what became of it, and others may write too.
            let Known { head, next } = self.witness.catch_up(&mut session).await?;
            self.sealer.keep_up(next, &self.options.key)?;
            // Where it is the block that was the last before, what it and those before it led to is here still.
            if lags && head.hash != self.head.hash {
                let pending =
                    catch_up::pending(&mut session, self.options.contract, &self.sealer.ledger).await?;
                self.pending.replace(pending.view());
            }
            head
        };
        session.see(self.pending.view());
        let height = head.height.saturating_add(1);
        let timestamp_ms = (self.options.clock)().max(head.timestamp_ms);
        let ids: Vec<_> = submissions
            .iter()
            .map(|submission| submission.tx_id.as_str())
            .collect();
        let kept = std::mem::take(&mut self.kept);
        let kept = if self.known { kept } else { Loaded::default() };
        let mut draft = Draft::new(kept, derived::transactions(&mut session, &ids).await?);
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
            if self.known {
                self.kept = std::mem::take(&mut draft.state);
            }
            return Ok(draft.answers(answers));
        }
        let view = self.pending.view();
        let settled = lags && view.is_full();
        if settled {
            write_tables(&mut session, &view).await?;
        }
        let block = draft
            .write(&mut session, &head, timestamp_ms, &self.sealer, options)
            .await?;
        let changes = catch_up::changed(std::mem::take(&mut draft.changes))?;
        let places: Vec<_> = draft.places().collect();
        if !lags {
            let places: Vec<_> = places
                .iter()
                .map(|(tx_id, at)| (tx_id.as_str(), height, *at))
                .collect();
            write_block(&mut session, &changes, &places).await?;
            // The lookout may have found meanwhile that this is not the server that counts.
            if let Some(found) = self.witness.distrust() {
                return Err(WitnessError::from(found).into());
            }
            session.commit().await?;
        } else {
            session.commit().await?;
            self.known = true;
            self.kept = still_known(std::mem::take(&mut draft.state), &changes);
            self.pending.add(height, settled, changes, places.into_iter());
        }
        self.head = block.head();
        self.witness.add(Known {
            head: self.head,
            next: Some(self.sealer.key.id()),
        });
        Ok(draft.answers(answers))
    }
}

/// What was read for a block and is worth keeping for the next.
fn still_known(mut state: Loaded, changes: &Changed) -> Loaded {
    if state.known() > MOST_KEPT {
        return Loaded::default();
    }
    for (key, value) in changes {
        state.keep_up(key, value.as_ref().map(String::as_bytes));
    }
    state
}

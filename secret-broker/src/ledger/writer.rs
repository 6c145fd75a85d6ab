//! The one task that writes. It takes all submissions that are waiting, decides them one after the other, commits what was
//! accepted as one block with one flush to disk, and only then answers any of them: a refusal may rest on a grant in the same
//! block.

use super::block::{Body, Head, StoredBlock, Transaction};
use super::founding::Sealer;
use super::loaded;
use super::storage::{self, StorageError, blocks, derived};
use super::verify::{self, Verified, VerifyError};
use super::{Committed, LedgerOptions, ReadError, Submission, SubmitError};
use leasehold_chaincode::{
    CONTRACT_VERSION, Failure, Loaded, Outcome, Refusal, Role, StateError, TxContext, Write,
};
use sqlx::{Connection, SqliteConnection};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub(super) enum Request {
    Submit(Box<Submission>, oneshot::Sender<Answer>),
    Rebuild(oneshot::Sender<Result<Verified, VerifyError>>),
}

type Answer = Result<Committed, SubmitError>;

pub(super) struct Writer {
    connection: SqliteConnection,
    head: Head,
    sealer: Sealer,
    options: LedgerOptions,
    announce: watch::Sender<u64>,
    /// Held for as long as the file may be written.
    _lock: File,
}

/// A block in the making.
#[derive(Default)]
struct Draft {
    state: Loaded,
    transactions: Vec<Transaction>,
    writes: BTreeMap<String, Option<Vec<u8>>>,
    /// Transactions that were on the ledger before, or are in this block, by id.
    committed: HashMap<String, (Transaction, u64)>,
}

#[derive(Debug, thiserror::Error)]
enum BlockError {
    #[error("{0}")]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    State(#[from] StateError),
    #[error("a value of the state is not text: {0}")]
    NotText(#[from] std::str::Utf8Error),
}

impl From<sqlx::Error> for BlockError {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl From<serde_json::Error> for BlockError {
    fn from(error: serde_json::Error) -> Self {
        Self::Storage(error.into())
    }
}

impl Writer {
    pub(super) fn new(
        connection: SqliteConnection,
        head: Head,
        sealer: Sealer,
        options: LedgerOptions,
        announce: watch::Sender<u64>,
        lock: File,
    ) -> Self {
        Self {
            connection,
            head,
            sealer,
            options,
            announce,
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
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "closing the ledger's file failed; what was committed is safe");
        }
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
                    self.reconnect().await;
                    vec![Err(SubmitError::Storage(error.to_string())); submissions.len()]
                }
            };
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // Whoever does not wait any more finds the outcome under the transaction's id.
                let _ = answer.send(outcome);
            }
        }
        for answer in rebuilds {
            let rebuilt = verify::rebuild(&mut self.connection).await;
            if rebuilt.is_err() {
                self.reconnect().await;
            }
            let _ = answer.send(rebuilt);
        }
    }

    /// Takes another connection in the place of one whose transaction failed: that one may count it as open for ever.
    async fn reconnect(&mut self) {
        match storage::connect(&self.options.path).await {
            Ok(connection) => {
                let failed = std::mem::replace(&mut self.connection, connection);
                if let Err(error) = failed.close().await {
                    tracing::warn!(%error, "closing a connection to the ledger's file failed");
                }
            }
            // The next block fails, and comes here again.
            Err(error) => tracing::error!(%error, "the ledger's file cannot be opened again"),
        }
    }

    async fn commit(&mut self, submissions: &[Submission]) -> Result<Vec<Answer>, BlockError> {
        let mut connection = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        // From the file, not from memory: after a failed commit only the file knows what became of it.
        let head = blocks::head(&mut connection).await?;
        let height = head.height.saturating_add(1);
        let timestamp_ms = (self.options.clock)().max(head.timestamp_ms);
        let ids: Vec<_> = submissions
            .iter()
            .map(|submission| submission.tx_id.as_str())
            .collect();
        let committed = derived::transactions(&mut connection, &ids).await?;
        let mut draft = Draft {
            committed,
            ..Draft::default()
        };
        let mut answers = Vec::with_capacity(submissions.len());
        draft
            .prefetch(&mut connection, submissions, &self.options, timestamp_ms)
            .await?;
        for submission in submissions {
            let answer = draft
                .decide(&mut connection, submission, &self.options, height, timestamp_ms)
                .await?;
            answers.push(answer);
        }
        if draft.transactions.is_empty() {
            connection.rollback().await?;
            return Ok(answers);
        }
        let block = draft
            .write(&mut connection, &head, timestamp_ms, &self.sealer)
            .await?;
        connection.commit().await?;
        self.head = block.head();
        self.announce.send_replace(self.head.height);
        Ok(answers)
    }
}

impl Draft {
    /// Loads what the submissions will read, all of them together, as if each were alone.
    async fn prefetch(
        &mut self,
        connection: &mut SqliteConnection,
        submissions: &[Submission],
        options: &LedgerOptions,
        timestamp_ms: i64,
    ) -> Result<(), BlockError> {
        loop {
            for submission in submissions {
                // What it decides is not wanted, only what it reads.
                let _ = execute(&self.state, submission, options, timestamp_ms);
            }
            if !self.state.lacks() {
                return Ok(());
            }
            loaded::fetch(&mut self.state, connection).await?;
        }
    }

    async fn decide(
        &mut self,
        connection: &mut SqliteConnection,
        submission: &Submission,
        options: &LedgerOptions,
        height: u64,
        timestamp_ms: i64,
    ) -> Result<Answer, BlockError> {
        if let Some((transaction, height)) = self.committed.get(submission.tx_id.as_str()) {
            if transaction.command != submission.command || transaction.caller != options.organisation {
                let tx_id = submission.tx_id.to_string();
                return Ok(Err(Refusal::TransactionReused { tx_id }.into()));
            }
            return Ok(Ok(Committed::of(transaction, *height)));
        }
        let outcome = loop {
            match execute(&self.state, submission, options, timestamp_ms) {
                Ok(outcome) => break outcome,
                Err(Failure::Refused(refusal)) => return Ok(Err(refusal.into())),
                Err(Failure::State(StateError::NotLoaded)) if self.state.lacks() => {
                    loaded::fetch(&mut self.state, connection).await?;
                }
                Err(Failure::State(error)) => return Err(error.into()),
            }
        };
        self.state.apply(&outcome.writes);
        for write in outcome.writes {
            match write {
                Write::Put { key, value } => self.writes.insert(key, Some(value)),
                Write::Delete { key } => self.writes.insert(key, None),
            };
        }
        let transaction = Transaction {
            tx_id: submission.tx_id.clone(),
            caller: options.organisation.clone(),
            role: ROLE,
            timestamp_ms,
            contract: CONTRACT_VERSION,
            command: submission.command.clone(),
            events: outcome.events,
            result: outcome.result,
        };
        let answer = Committed::of(&transaction, height);
        self.committed
            .insert(submission.tx_id.to_string(), (transaction.clone(), height));
        self.transactions.push(transaction);
        Ok(Ok(answer))
    }

    async fn write(
        self,
        connection: &mut SqliteConnection,
        head: &Head,
        timestamp_ms: i64,
        sealer: &Sealer,
    ) -> Result<StoredBlock, BlockError> {
        let body = Body::Transactions(self.transactions);
        let block = StoredBlock::after(head, &sealer.ledger, timestamp_ms, &body, &sealer.key)?;
        blocks::append(connection, &block).await?;
        if let Body::Transactions(transactions) = &body {
            let places: Vec<_> = (0..)
                .zip(transactions)
                .map(|(at, tx)| (tx.tx_id.as_str(), block.height, at))
                .collect();
            derived::write_places(connection, &places).await?;
        }
        let (mut puts, mut deletes) = (Vec::new(), Vec::new());
        for (key, value) in &self.writes {
            match value {
                Some(value) => puts.push((key.as_str(), std::str::from_utf8(value)?)),
                None => deletes.push(key.as_str()),
            }
        }
        derived::write(connection, &puts, &deletes).await?;
        Ok(block)
    }
}

/// This ledger is its organisation's own: the broker answers for it, and has checked who of its people asks.
const ROLE: Role = Role::Administrator;

fn execute(
    state: &Loaded,
    submission: &Submission,
    options: &LedgerOptions,
    timestamp_ms: i64,
) -> Result<Outcome, Failure> {
    let context = TxContext {
        tx_id: submission.tx_id.clone(),
        timestamp_ms,
        caller: options.organisation.clone(),
        role: ROLE,
    };
    options.contract.execute(state, &context, &submission.command)
}

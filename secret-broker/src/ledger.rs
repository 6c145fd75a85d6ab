//! The embedded ledger, in a file or in a database that several brokers share: an ordered, tamper-evident, durable history of what the contract accepted.
//!
//! It promises that a submission that was answered with [`Committed`] is on disk and stays; that one that was refused left
//! nothing; that the same transaction id is committed once, however often it is submitted; and that [`Ledger::verify`] finds any
//! block that was changed. Blocks are signed; a [`Receipt`] of one, kept elsewhere, shows if they were all replaced. State and
//! history are derived from the blocks; a file's tables of them may be some blocks behind, and what is missing there is in memory.
//!
//! One task writes, in blocks of as many submissions as were waiting; reads go on beside it, each on one consistent snapshot. A
//! full queue answers [`SubmitError::Busy`] at once.

mod address;
mod announce;
mod block;
mod block_name;
mod bytes;
mod catch_up;
mod chain;
mod export;
mod file;
mod follow;
mod founding;
mod key;
mod loaded;
mod maintenance;
mod meant;
mod notes;
mod opening;
mod receipt;
mod seen;
mod snapshot;
mod storage;
#[cfg(test)]
mod tests;
mod transaction_id;
mod verify;
mod vouching;
mod witness;
mod writer;

pub use address::{LedgerAddress, NotAnAddress, PostgresAddress};
pub use block::{Block, Transaction};
pub use block_name::{BlockName, NotABlockName};
pub use bytes::{Bytes, KeyId, NotBytes};
pub use export::{ExportError, ImportError, import};
pub use file::LedgerFile;
pub use follow::Follower;
pub use key::{LedgerKey, LedgerKeyError};
pub use maintenance::{KeyChanged, MaintenanceError, prepare, rebuild, rotate};
pub use meant::Meant;
pub use opening::{Clock, LedgerOptions, OpenError};
pub use receipt::{Receipt, ReceiptError};
pub use snapshot::Snapshot;
#[doc(hidden)]
pub use storage::place::of as place_of;
pub use transaction_id::transaction_id;
pub use verify::{Corruption, Depth, Verified, VerifyError};
pub use witness::Distrust;

use leasehold_chaincode::{Command, CommandResult, Contract, Event, Msp, Refusal, StateError, TxId};
use std::sync::Arc;
use storage::{Connection, Link, Readers, StorageError, derived};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use witness::{Known, Witness, WitnessError};

/// A command to be committed under an id that its submitter chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Used once; the same submission under the same id is answered from the ledger.
    pub tx_id: TxId,
    /// What to do.
    pub command: Command,
}

/// A transaction that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its id.
    pub tx_id: TxId,
    /// Height of its block.
    pub height: u64,
    /// Its time, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// What followers are told.
    pub events: Vec<Event>,
    /// The contract's answer.
    pub result: CommandResult,
}

impl Committed {
    fn of(transaction: &Transaction, height: u64) -> Self {
        Self {
            tx_id: transaction.tx_id.clone(),
            height,
            timestamp_ms: transaction.timestamp_ms,
            events: transaction.events.clone(),
            result: transaction.result.clone(),
        }
    }
}

/// Why a submission was not committed, or is not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The contract says no. Nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The queue is full. Nothing was written.
    #[error("the ledger's queue is full; submit again in a moment")]
    Busy,
    /// The ledger is shutting down. Nothing is known; submit again, with the same transaction id, after the restart.
    #[error("the ledger is closed; submit again, with the same transaction id, once it is open")]
    Closed,
    /// It was not committed and will not be, for another reason than the contract's.
    #[error("the command was not committed: {0}")]
    Abandoned(String),
    /// It may have been committed or may still be, and submitting it again would tell no more.
    #[error("whether the command was committed is not known: {0}")]
    Unknown(String),
    /// The storage failed. Nothing is known; submit again with the same transaction id.
    #[error("writing the ledger failed: {0}; submit again with the same transaction id")]
    Storage(String),
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The database failed.
    #[error("reading the ledger failed: {0}")]
    Storage(String),
    /// The state is damaged.
    #[error(transparent)]
    State(#[from] StateError),
    /// The ledger is not what this broker has seen of it.
    #[error(transparent)]
    Distrust(#[from] Distrust),
}

impl From<WitnessError> for ReadError {
    fn from(error: WitnessError) -> Self {
        match error {
            WitnessError::Storage(error) => error.into(),
            WitnessError::Distrust(distrust) => distrust.into(),
        }
    }
}

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error.to_string())
    }
}

/// A handle on the ledger. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    witness: Witness,
    requests: mpsc::Sender<writer::Request>,
    reads: Readers,
    heights: watch::Receiver<u64>,
    looked: announce::Looked,
    stop: CancellationToken,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Ledger {
    /// Opens a ledger, or creates it.
    ///
    /// # Errors
    /// [`OpenError`] when it is in use, somebody else's, or its storage fails.
    pub async fn open(options: LedgerOptions) -> Result<Self, OpenError> {
        let lock = storage::lock(&options.address)?;
        let failed = |error: StorageError| options.failed(error);
        let mut connection = Connection::open(&options.address).await.map_err(failed)?;
        storage::schema::migrate(&mut connection).await.map_err(failed)?;
        let mut session = connection.write().await.map_err(failed)?;
        let (sealer, last) = founding::found(&mut session, &options).await?;
        seen::hold(&mut session, &options).await?;
        let pending = catch_up::settled(&mut session, options.contract, &sealer.ledger).await;
        let pending = pending.map_err(|error| options.failed(error))?;
        session.commit().await.map_err(failed)?;
        let reads = Readers::open(&options.address, pending.clone());
        let reads = reads.await.map_err(failed)?;
        let last = Known::of(&last).map_err(failed)?;
        tracing::info!(ledger = %options.address, id = %Bytes(sealer.ledger), height = last.head.height, "opened the ledger; --ledger-id with that id lets no other one take its place");
        let (requests, inbox) = mpsc::channel(options.queue.max(1));
        let (witness, announce) = Witness::new(sealer.ledger, last);
        let heights = announce.subscribe();
        let stop = CancellationToken::new();
        let told = options.accept_lost_blocks;
        let notes = options.seen.clone();
        let notes = notes.map(|file| notes::Notes::new(file, *witness.ledger(), told));
        let (mut lookout, looked) = announce::Lookout::new(reads.clone(), witness.clone(), notes);
        let link = Link::new(options.address.clone(), connection);
        let writer = writer::Writer::new(link, last.head, sealer, options, witness.clone(), pending, lock);
        let writing = writer.run(inbox, stop.clone());
        // Both end together, and with the writer ends the ledger.
        let task = tokio::spawn(async move {
            tokio::select! {
                () = writing => {}
                () = lookout.run() => {}
            }
            lookout.close().await;
            drop(announce);
        });
        Ok(Self {
            witness,
            requests,
            reads,
            heights,
            looked,
            stop,
            writer: Arc::new(Mutex::new(Some(task))),
        })
    }

    /// Commits a command. Dropping the future does not take the submission back.
    ///
    /// # Errors
    /// [`SubmitError`]; only [`SubmitError::Refused`] and [`SubmitError::Busy`] say that nothing was committed.
    pub async fn submit(&self, submission: Submission) -> Result<Committed, SubmitError> {
        let (answer, answered) = oneshot::channel();
        self.requests
            .try_send(writer::Request::Submit(Box::new(submission), answer))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SubmitError::Busy,
                mpsc::error::TrySendError::Closed(_) => SubmitError::Closed,
            })?;
        answered.await.map_err(|_| SubmitError::Closed)?
    }

    /// A consistent view of the state, for several questions that belong together.
    ///
    /// # Errors
    /// [`ReadError`] when the database fails.
    pub async fn snapshot(&self) -> Result<Snapshot, ReadError> {
        Snapshot::begin(&self.reads, &self.witness).await
    }

    /// What became of a transaction; none when it is not on the ledger.
    ///
    /// # Errors
    /// [`ReadError`] when the database fails.
    pub async fn transaction(&self, tx_id: &TxId) -> Result<Option<Committed>, ReadError> {
        let mut session = self.reads.read().await?;
        self.witness.catch_up(&mut session).await?;
        let found = derived::transactions(&mut session, &[tx_id.as_str()]).await?;
        Ok(found
            .get(tx_id.as_str())
            .map(|(transaction, height)| Committed::of(transaction, *height)))
    }

    /// Height of the last block, and a way to wait for the next; closed when the ledger is.
    #[must_use]
    pub fn heights(&self) -> watch::Receiver<u64> {
        self.heights.clone()
    }

    /// Whether [`Ledger::heights`] tells of what other brokers appended until a second ago. Not so while a database that they share
    /// cannot be reached, or is not what this broker has seen of it.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.looked.is_current() && self.witness.distrust().is_none()
    }

    /// Every block after `height`, the past ones first and then each as it is committed, none left out.
    #[must_use]
    pub fn follow(&self, height: u64) -> Follower {
        Follower::new(
            self.reads.clone(),
            self.heights.clone(),
            self.witness.clone(),
            height,
        )
    }

    /// The signed head, to keep elsewhere.
    ///
    /// # Errors
    /// [`ReadError`] when the database fails.
    pub async fn receipt(&self) -> Result<Receipt, ReadError> {
        let mut session = self.reads.read().await?;
        let head = self.witness.catch_up(&mut session).await?.head;
        let unsigned = || ReadError::Storage("the last block is not signed; verify the ledger".to_owned());
        Receipt::of(self.witness.ledger(), &head).ok_or_else(unsigned)
    }

    /// Checks every block, runs every command again, and compares what it leads to with the state and its indexes.
    ///
    /// # Errors
    /// [`VerifyError::Corrupt`] with the first block and field that is not as it was written.
    pub async fn verify(&self) -> Result<Verified, VerifyError> {
        let mut snapshot = self.reads.read().await?;
        let mut beside = match &self.reads {
            Readers::Sqlite(..) => Some(self.reads.read().await?),
            Readers::Postgres(_) => None,
        };
        let verified = verify::verify_even_unsigned(&mut snapshot, beside.as_mut(), Depth::Whole, &[]);
        verify::signed(verified.await?)
    }

    /// Derives state, history and indexes from the blocks anew, between two blocks.
    ///
    /// # Errors
    /// [`VerifyError`] when a block is damaged, or the storage fails; the state is then as it was.
    pub async fn rebuild(&self) -> Result<Verified, VerifyError> {
        let (answer, answered) = oneshot::channel();
        let closed = || VerifyError::Storage("the ledger is closed".to_owned());
        self.requests
            .send(writer::Request::Rebuild(answer))
            .await
            .map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Brings a file's tables up to its last block, as is done when there is nothing else to do. Nothing depends on it.
    pub async fn settle(&self) {
        let (done, settled) = oneshot::channel();
        if self.requests.send(writer::Request::Settle(done)).await.is_ok() {
            let _ = settled.await;
        }
    }

    /// Resolves when the writer has ended: after [`Ledger::close`], or by a defect that its owner must notice.
    pub async fn stopped(&self) {
        let mut heights = self.heights.clone();
        while heights.changed().await.is_ok() {}
    }

    /// Stops accepting, commits what is waiting, and closes the file. Later submissions are answered [`SubmitError::Closed`].
    pub async fn close(&self) {
        self.stop.cancel();
        if let Some(task) = self.writer.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the ledger's writer did not end well");
        }
        self.reads.close().await;
    }
}

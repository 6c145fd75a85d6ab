//! The ledger that the cases run on, as they see it.

use async_trait::async_trait;
use leasehold_chaincode::{Command, CommandResult, Event, Msp, Question, Refusal, Role, TxId};
use serde_json::Value;

/// A ledger on which cases run.
#[async_trait]
pub trait Bench: Sync {
    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// When the next case begins, milliseconds since the Unix epoch: its times are counted from here.
    fn now_ms(&self) -> i64;

    /// Commits a command and waits until that can be read.
    ///
    /// # Errors
    /// [`BenchError::Refused`] where the contract says no; [`BenchError::Broken`] for anything else.
    async fn submit(&self, submission: Submission) -> Result<Accepted, BenchError>;

    /// What followers of the ledger were told of a transaction that was accepted.
    ///
    /// # Errors
    /// [`BenchError::Broken`].
    async fn events(&self, tx_id: &TxId) -> Result<Vec<Event>, BenchError>;

    /// The answer to a question, in JSON as [`leasehold_chaincode::Answer`] has it.
    ///
    /// # Errors
    /// [`BenchError::Broken`].
    async fn ask(&self, question: &Question) -> Result<Value, BenchError>;
}

/// What a ledger can do. Cases that need more are skipped.
#[derive(Debug, Clone)]
pub struct Abilities {
    /// What the report calls it.
    pub name: &'static str,
    /// Begins the name of every dataset: another one for each run on the same ledger; a few lower-case letters and digits, or none.
    pub tag: String,
    /// Organisations that can submit; most cases need one, some need three.
    pub organisations: Vec<Msp>,
    /// Roles that a submission may have. [`Role::Administrator`] has to be among them.
    pub roles: Vec<Role>,
    /// How far apart the times of one case may be, milliseconds; none where the ledger's own clock gives the time.
    pub span_ms: Option<i64>,
    /// The contract's margin after an expiry.
    pub end_margin_ms: i64,
    /// Whether the submitter chooses the transaction's id freely.
    pub chooses_ids: bool,
    /// Cases at once. Where the ledger has one clock that never goes back, 1.
    pub at_once: usize,
}

/// A command with its circumstances.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Who submits.
    pub organisation: Msp,
    /// What they may do.
    pub role: Role,
    /// The transaction's time; ignored where [`Abilities::span_ms`] is none.
    pub at_ms: i64,
    /// The transaction's id, where it matters.
    pub tx_id: Option<TxId>,
    /// What to do.
    pub command: Command,
}

/// A command that was committed.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The transaction.
    pub tx_id: TxId,
    /// The contract's answer.
    pub result: CommandResult,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The contract says no.
    #[error("it was refused: {0}")]
    Refused(Refusal),
    /// The ledger failed, which no case expects.
    #[error("the ledger failed: {0}")]
    Broken(String),
}

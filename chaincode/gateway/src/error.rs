//! What can go wrong, told apart by what the caller can do about it.

use std::fmt;
use std::time::Duration;

use crate::proposal::TransactionId;
use crate::signer::SignError;
use crate::validation::ValidationCode;

/// The chaincode's own no: a response of 400 or more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the chaincode refused with {status}: {message}")]
pub struct Refusal {
    /// As in HTTP.
    pub status: i32,
    /// The chaincode's own words.
    pub message: String,
}

/// One peer's or orderer's part in a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// Where it is.
    pub address: String,
    /// Its member.
    pub msp_id: String,
    /// What it said.
    pub message: String,
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: {}", self.address, self.msp_id, self.message)
    }
}

/// What a gateway said of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In its own words.
    pub message: String,
    /// What those behind it said.
    pub details: Vec<Detail>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.details.iter().try_for_each(|detail| write!(f, "; {detail}"))
    }
}

/// One try with one peer that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Address of the peer.
    pub peer: String,
    /// Why it came to nothing.
    pub reason: String,
}

/// What was tried, in its order; of many, the last ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts(Vec<Attempt>);

impl Attempts {
    /// So many are kept.
    const KEPT: usize = 8;

    pub(crate) fn note(&mut self, peer: &str, reason: impl fmt::Display) {
        if self.0.len() == Self::KEPT {
            self.0.remove(0);
        }
        self.0.push(Attempt {
            peer: peer.to_owned(),
            reason: reason.to_string(),
        });
    }

    /// One by one.
    #[must_use]
    pub fn as_slice(&self) -> &[Attempt] {
        &self.0
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no peer was asked");
        }
        for (number, Attempt { peer, reason }) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{peer}: {reason}")?;
        }
        Ok(())
    }
}

/// Why a call was not evaluated or not endorsed. Nothing was submitted, whichever it is.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// It could not be signed.
    #[error("cannot sign the proposal: {0}")]
    Sign(#[from] SignError),
    /// No random number for the nonce.
    #[error("the operating system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The chaincode said no.
    #[error(transparent)]
    Refused(Refusal),
    /// Peers of others said no, and none of the own member did: they may know more or less than that one, or not be honest. Nothing is
    /// decided; it may be endorsed later, or by others.
    #[error(
        "the chaincode refused with {} at peers of others, and at none of {own}, so that nothing is decided: {report}; try again, and ask those members where it stays so", refusal.status
    )]
    Disputed {
        /// The asker's member.
        own: String,
        /// What the first of those said that refused.
        refusal: Refusal,
        /// Who said what.
        report: Report,
    },
    /// Peers endorsed different results: they were at different blocks, which passes, or the chaincode is not a function of the ledger.
    #[error("the peers endorsed different results: {0}")]
    Mismatch(Report),
    /// The chaincode gave no response: it failed, ended, or is not there.
    #[error("the chaincode gave no response: {0}")]
    Failed(Report),
    /// The gateway or the peers do not take it: no permission, no such channel or chaincode, a policy that cannot be met.
    #[error("the proposal was turned away: {0}")]
    Rejected(Report),
    /// No peer could be reached or answered.
    #[error("no peer could answer: {0}")]
    Unavailable(Attempts),
    /// The time was over.
    #[error("no answer within {after:?}: {attempts}")]
    Deadline {
        /// The deadline.
        after: Duration,
        /// What was tried until then.
        attempts: Attempts,
    },
    /// The gateway's answer is not what was asked for. It was not signed.
    #[error("peer {peer} returned something else than the endorsed proposal: {reason}")]
    Unintelligible {
        /// Address of the peer.
        peer: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// How a peer begins that has a transaction of this id in a block already.
const DUPLICATE: &str = "duplicate transaction found";

impl ProposalError {
    /// Whether the transaction is in a block already, so that [`crate::Gateway::commit_status`] tells at once what became of it. Only
    /// where its nonce was used before.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        match self {
            Self::Failed(report) | Self::Rejected(report) => {
                let mut details = report.details.iter();
                report.message.contains(DUPLICATE) || details.any(|detail| detail.message.contains(DUPLICATE))
            }
            _ => false,
        }
    }
}

/// Why an endorsed transaction is not known to be on its way.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It could not be signed, and was not sent.
    #[error("cannot sign the transaction: {0}")]
    Sign(#[from] SignError),
    /// The ordering service does not take it, and nothing was left open before it said so.
    #[error("transaction {transaction_id} was turned away: {report}")]
    Rejected {
        /// Its id.
        transaction_id: TransactionId,
        /// What the gateway said.
        report: Report,
    },
    /// No peer could be reached, so that it never left.
    #[error("transaction {transaction_id} was not submitted, no peer could be reached: {attempts}")]
    Unavailable {
        /// Its id.
        transaction_id: TransactionId,
        /// What was tried.
        attempts: Attempts,
    },
    /// It may be ordered or not. Ask for its commit status; do not endorse it anew.
    #[error("the outcome of transaction {transaction_id} is unknown, ask for its commit status: {attempts}")]
    OutcomeUnknown {
        /// Its id.
        transaction_id: TransactionId,
        /// What was tried.
        attempts: Attempts,
    },
}

/// Why nobody told what became of a transaction. It may be ordered or not; asking again does no harm.
#[derive(Debug, thiserror::Error)]
pub enum CommitStatusError {
    /// The request could not be signed.
    #[error("cannot sign the question what became of transaction {transaction_id}: {source}")]
    Sign {
        /// Of which transaction.
        transaction_id: TransactionId,
        /// Why not.
        source: SignError,
    },
    /// This identity may not ask, or there is no such channel.
    #[error("the commit status of transaction {transaction_id} was not told: {report}")]
    Rejected {
        /// Of which transaction.
        transaction_id: TransactionId,
        /// What the gateway said.
        report: Report,
    },
    /// It is in no block of the peers that were asked, or none could be asked.
    #[error("transaction {transaction_id} was in no block after {after:?}: {attempts}")]
    Deadline {
        /// Of which transaction.
        transaction_id: TransactionId,
        /// The deadline.
        after: Duration,
        /// What was tried.
        attempts: Attempts,
    },
}

/// Why a transaction did not take effect, or is not known to have.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// It was not endorsed, and nothing was submitted.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// It could not be submitted, or it is unknown whether it was.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// It was submitted, and nobody told what became of it.
    #[error(transparent)]
    CommitStatus(#[from] CommitStatusError),
    /// It is in a block and does not count.
    #[error("transaction {transaction_id} in block {block} is invalid: {code}")]
    Invalid {
        /// Its id.
        transaction_id: TransactionId,
        /// Number of the block.
        block: u64,
        /// Why it does not count.
        code: ValidationCode,
    },
}

impl TransactionError {
    /// The transaction that may still take effect; none where it is certain that it does not.
    #[must_use]
    pub fn unknown_outcome(&self) -> Option<&TransactionId> {
        match self {
            Self::Submit(SubmitError::OutcomeUnknown { transaction_id, .. })
            | Self::CommitStatus(
                CommitStatusError::Sign { transaction_id, .. }
                | CommitStatusError::Rejected { transaction_id, .. }
                | CommitStatusError::Deadline { transaction_id, .. },
            ) => Some(transaction_id),
            Self::Proposal(_)
            | Self::Submit(
                SubmitError::Sign(_) | SubmitError::Rejected { .. } | SubmitError::Unavailable { .. },
            )
            | Self::Invalid { .. } => None,
        }
    }

    /// Whether it did not take effect only because others came between: run again, it may. Only the caller knows whether to.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Invalid { code, .. } => code.is_conflict(),
            Self::Proposal(ProposalError::Mismatch(_)) => true,
            Self::Proposal(_) | Self::Submit(_) | Self::CommitStatus(_) => false,
        }
    }
}

/// Why events stopped. Asking for the next one tries again from where they stopped, except after [`EventsError::Gap`].
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The request could not be signed.
    #[error("cannot sign the request: {0}")]
    Sign(#[from] SignError),
    /// This identity may not listen, or there is no such channel.
    #[error("the events were refused: {0}")]
    Rejected(Report),
    /// No peer could be reached or kept its stream.
    #[error("no peer gives events: {0}")]
    Unavailable(Attempts),
    /// The stream from [`crate::Start::Next`] broke before its first event, so that nobody knows from which block to go on.
    #[error("the stream of new events broke before the first came; start from a block")]
    Gap,
}

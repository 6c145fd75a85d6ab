//! Submitting a command so that it takes effect once, whatever breaks off in between.
//!
//! A submission's transactions are numbered. The first one's id follows from the submission's id and the identity's certificate, so
//! that the same submission proposes the same transaction again, of which the ledger takes one. Only when a transaction is in a block
//! and does not count, because another came between, is the next number used.
//!
//! A refusal ends a submission, unless a transaction of an earlier try may still be on its way: then its fate is waited for first.

use std::sync::Arc;
use std::time::Duration;

use fabric_gateway_client::{
    Call, CommitStatus, CommitStatusError, Endorsed, Gateway, ProposalError, Start, TransactionId,
    ValidationCode,
};
use leasehold_chaincode::{Command, TxId};

use super::answer::{Told, refused};
use super::channel::Channel;
use super::identity::{Identity, nonce};
use crate::ledger::{Committed, ReadError, Submission, SubmitError};

/// Transactions of one submission at most.
const MOST_TRANSACTIONS: u32 = 64;
/// How many of them are proposed in a row; then the caller hears that the ledger is busy.
const IN_A_ROW: u32 = 8;
/// Why a submission ends that is not proposed on a later state.
const CONFLICT: &str = "another transaction came between; send the request again";
/// How long the event of a committed transaction is waited for.
const EVENT: Duration = Duration::from_secs(10);
/// Bound of the wait before the next transaction; a random part of it is waited.
const LONGEST_WAIT_MS: u64 = 400;

/// What was written down of a submission before it was first tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The id of its first transaction, as [`Channel::transaction_of`] gave it.
    pub transaction: TxId,
    /// Whether it may have been tried before.
    pub again: bool,
    /// Whether it is meant for one state of its dataset, which its caller has looked at: once another transaction came between, it is not
    /// proposed on a later state.
    pub conditional: bool,
}

/// What became of one transaction.
enum Fate {
    Committed(Box<Committed>),
    /// In a block, and it does not count; the next number may be used.
    Lost(ValidationCode),
}

impl Channel {
    /// The id that a submission's first transaction will have, by the identity of this moment.
    ///
    /// # Errors
    /// [`SubmitError`] where that is no id of a transaction, which is a defect.
    pub fn transaction_of(&self, id: &TxId) -> Result<TxId, SubmitError> {
        tx_id(&self.present().transaction(id, 0))
    }

    /// Commits a command.
    ///
    /// # Errors
    /// [`SubmitError`]; only [`SubmitError::Refused`], [`SubmitError::Abandoned`] and [`SubmitError::Unknown`] end it, after any other it is
    /// submitted again. Of one that was tried before, the first two do not say that the earlier try comes to nothing.
    pub async fn submit(
        &self,
        submission: &Submission,
        recorded: Option<&Recorded>,
    ) -> Result<Committed, SubmitError> {
        let (identity, again) = match recorded {
            None => (self.present(), false),
            Some(recorded) => match self.inner.identities.of(&submission.tx_id, &recorded.transaction) {
                Some(identity) => (identity, recorded.again),
                None => return self.of_former_identity(recorded).await,
            },
        };
        let command = serde_json::to_string(&submission.command)
            .map_err(|error| SubmitError::Abandoned(error.to_string()))?;
        let call = Call::new("submit").argument(command);
        // The dataset's id follows from the first transaction's, and its volume is encrypted for that id.
        let is_bound = matches!(submission.command, Command::RegisterDataset { .. });
        let mut proposed = 0;
        for number in 0..MOST_TRANSACTIONS {
            let one = One {
                channel: self,
                identity: Arc::clone(&identity),
                transaction: identity.transaction(&submission.tx_id, number),
            };
            if is_bound && number > 0 {
                return Err(one.refusal_or_conflict(&call).await);
            }
            let was_proposed = &mut false;
            match one
                .run(nonce(&submission.tx_id, number), &call, again, was_proposed)
                .await?
            {
                Fate::Committed(committed) => return Ok(*committed),
                Fate::Lost(_) if recorded.is_some_and(|recorded| recorded.conditional) => {
                    return Err(SubmitError::Abandoned(CONFLICT.to_owned()));
                }
                Fate::Lost(code) => {
                    tracing::info!(transaction = %one.transaction, %code, "a transaction came after another; proposing it anew");
                }
            }
            if *was_proposed {
                proposed += 1;
                if proposed == IN_A_ROW {
                    return Err(SubmitError::Busy);
                }
                tokio::time::sleep(jitter()).await;
            }
        }
        Err(SubmitError::Abandoned(format!(
            "{MOST_TRANSACTIONS} transactions in a row came after others; send the request again"
        )))
    }

    /// A submission whose transaction belongs to a certificate that this process never had: it was renewed while the broker was down.
    async fn of_former_identity(&self, recorded: &Recorded) -> Result<Committed, SubmitError> {
        let present = self.present();
        let id = TransactionId::parse(recorded.transaction.as_str())
            .map_err(|error| SubmitError::Abandoned(error.to_string()))?;
        let one = One {
            channel: self,
            identity: Arc::clone(&present),
            transaction: id,
        };
        let renewed = "the broker's certificate was renewed before it was submitted; send the request again";
        let status = if recorded.again {
            one.status(&present.gateway).await?
        } else {
            one.status(&present.quick).await?
        };
        match status {
            // It may lie at the ordering service, or nobody was there to tell.
            None if recorded.again => Err(SubmitError::Unknown(
                "the broker's certificate was renewed after it was submitted, and no block with it is known"
                    .to_owned(),
            )),
            None => Err(SubmitError::Abandoned(renewed.to_owned())),
            Some(status) => match one.fate(status, None).await? {
                Fate::Committed(committed) => Ok(*committed),
                Fate::Lost(_) => Err(SubmitError::Abandoned(renewed.to_owned())),
            },
        }
    }
}

/// One transaction of a submission.
struct One<'c> {
    channel: &'c Channel,
    identity: Arc<Identity>,
    transaction: TransactionId,
}

impl One<'_> {
    /// Proposes it and waits for its block, unless it is in one.
    async fn run(
        &self,
        nonce: fabric_gateway_client::Nonce,
        call: &Call,
        again: bool,
        was_proposed: &mut bool,
    ) -> Result<Fate, SubmitError> {
        if again && let Some(status) = self.status(&self.identity.quick).await? {
            return self.fate(status, None).await;
        }
        let endorsed = match self.identity.contract.endorse_under(nonce, call).await {
            Ok(endorsed) => endorsed,
            Err(error) if error.is_duplicate() => {
                let status = self.status(&self.identity.gateway).await?;
                let status = status.ok_or_else(|| SubmitError::Storage(error.to_string()))?;
                return self.fate(status, None).await;
            }
            Err(ProposalError::Refused(refusal)) => {
                let refusal = refused(&refusal);
                if again && let Some(status) = self.status(&self.identity.gateway).await? {
                    return self.fate(status, None).await;
                }
                return Err(refusal);
            }
            Err(error) => return Err(SubmitError::Storage(error.to_string())),
        };
        *was_proposed = true;
        let failed = |error: &dyn std::fmt::Display| SubmitError::Storage(error.to_string());
        endorsed.submit().await.map_err(|error| failed(&error))?;
        let status = endorsed.commit_status().await.map_err(|error| failed(&error))?;
        self.fate(status, Some(&endorsed)).await
    }

    /// What became of it; none where it is in no block within the gateway's deadline.
    async fn status(&self, gateway: &Gateway) -> Result<Option<CommitStatus>, SubmitError> {
        match gateway
            .commit_status(&self.channel.inner.name, &self.transaction)
            .await
        {
            Ok(status) => Ok(Some(status)),
            Err(CommitStatusError::Deadline { .. }) => Ok(None),
            Err(error) => Err(SubmitError::Storage(error.to_string())),
        }
    }

    async fn fate(&self, status: CommitStatus, endorsed: Option<&Endorsed>) -> Result<Fate, SubmitError> {
        // The same transaction of an earlier try is in this block or in one before; the next question is answered with that.
        if status.code == ValidationCode::DUPLICATE_TXID {
            return Err(SubmitError::Storage(format!(
                "transaction {} was ordered twice",
                self.transaction
            )));
        }
        if !status.code.is_valid() {
            return Ok(Fate::Lost(status.code));
        }
        // Of two proposals of this transaction either may be the one that counts. What follows from its id is the same in both.
        let told = match endorsed {
            Some(endorsed) => Told::parse(endorsed.result()).map_err(SubmitError::Storage)?,
            None => self
                .told(status.block)
                .await
                .map_err(|error| SubmitError::Storage(error.to_string()))?,
        };
        Ok(Fate::Committed(Box::new(Committed {
            tx_id: tx_id(&self.transaction)?,
            height: status.block,
            timestamp_ms: told.timestamp_ms,
            events: told.events,
            result: told.result,
        })))
    }

    /// What its event says, from its block.
    async fn told(&self, block: u64) -> Result<Told, ReadError> {
        let mut events = self.identity.contract.events(Start::Block(block));
        let found = async {
            loop {
                let event = events
                    .next()
                    .await
                    .map_err(|error| ReadError::Storage(error.to_string()))?;
                if event.transaction_id == self.transaction {
                    return Told::parse(&event.payload).map_err(ReadError::Storage);
                }
            }
        };
        let late = || {
            ReadError::Storage(format!(
                "the event of transaction {} did not arrive",
                self.transaction
            ))
        };
        tokio::time::timeout(EVENT, found)
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    /// Why a command is not run again that must not have another id: what the contract says of it now, or else the conflict.
    async fn refusal_or_conflict(&self, call: &Call) -> SubmitError {
        match self.identity.contract.endorse(call).await {
            Err(ProposalError::Refused(refusal)) => refused(&refusal),
            _ => SubmitError::Abandoned(CONFLICT.to_owned()),
        }
    }
}

fn tx_id(id: &TransactionId) -> Result<TxId, SubmitError> {
    TxId::new(id.as_str()).map_err(|error| SubmitError::Abandoned(error.to_string()))
}

/// Those who lost together do not meet again.
fn jitter() -> Duration {
    let random = getrandom::u64().unwrap_or(LONGEST_WAIT_MS / 2);
    Duration::from_millis(random % LONGEST_WAIT_MS)
}

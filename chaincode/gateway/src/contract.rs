//! A chaincode on a channel, as a client sees it: questions, and transactions in one call or step by step.

use std::sync::Arc;

use bytes::Bytes;
use fabric_wire::{gateway as wire, protos};

use crate::call::Call;
use crate::error::{CommitStatusError, ProposalError, SubmitError, TransactionError};
use crate::event::{Events, Start};
use crate::failover::{Deadline, GaveUp, Why};
use crate::failure::{Asker, Failure, Operation};
use crate::gateway::{Gateway, report_of, signed, within};
use crate::identity::Credentials;
use crate::proposal::{NONCE, Nonce, Proposal, Target, TransactionId};
use crate::retry::{Retry, chance};
use crate::validation::CommitStatus;

/// A chaincode on a channel. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Contract {
    gateway: Gateway,
    target: Target,
}

/// A transaction that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its id.
    pub transaction_id: TransactionId,
    /// Number of its block.
    pub block: u64,
    /// What the chaincode answered.
    pub result: Bytes,
}

/// A transaction that is endorsed, and takes effect when it is submitted.
#[derive(Clone)]
pub struct Endorsed {
    gateway: Gateway,
    channel: String,
    credentials: Arc<Credentials>,
    transaction_id: TransactionId,
    payload: Bytes,
    result: Bytes,
}

impl std::fmt::Debug for Endorsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endorsed")
            .field("transaction_id", &self.transaction_id)
            .finish_non_exhaustive()
    }
}

impl Contract {
    pub(crate) fn new(gateway: Gateway, target: Target) -> Self {
        Self { gateway, target }
    }

    /// Asks one peer. Nothing is written, whatever the function does.
    ///
    /// # Errors
    /// Where the chaincode refuses, or no peer answers within [`crate::Deadlines::evaluate`].
    pub async fn evaluate(&self, call: &Call) -> Result<Bytes, ProposalError> {
        let deadline = Deadline::new(self.gateway.deadlines().evaluate);
        let (proposal, credentials, proposed) = self.propose(deadline, call, fresh()?).await?;
        let request = wire::EvaluateRequest {
            transaction_id: proposal.transaction_id.to_string(),
            channel_id: self.target.channel.clone(),
            proposed_transaction: Some(proposed),
            target_organizations: call.organisations.clone(),
        };
        let asked = Operation::Evaluate(Asker {
            msp_id: credentials.identity().msp_id(),
            organisations: &call.organisations,
        });
        let answer = self.gateway.ask(asked, deadline, async |mut client, limit| {
            client.evaluate(within(limit, request.clone())).await
        });
        let (answer, peer) = answer
            .await
            .map_err(|gave_up| proposal_error(gave_up, &credentials, deadline))?;
        let result = answer.result.ok_or(ProposalError::Unintelligible {
            peer,
            reason: "it has no answer of the chaincode",
        })?;
        Ok(result.payload)
    }

    /// Has peers run it and sign what it would write.
    ///
    /// # Errors
    /// Where the chaincode refuses, the peers do not agree on what it does or on whether it refuses, or too few answer within [`crate::Deadlines::endorse`].
    pub async fn endorse(&self, call: &Call) -> Result<Endorsed, ProposalError> {
        self.endorse_under(fresh()?, call).await
    }

    /// The same under a nonce of the caller's, who can thus know the transaction's id before there is one
    /// ([`Contract::transaction_id`]), and propose the same transaction again after a crash: it counts once, whichever of the two is
    /// ordered first. A peer that has it in a block already turns the proposal away.
    ///
    /// # Errors
    /// As [`Contract::endorse`].
    pub async fn endorse_under(&self, nonce: Nonce, call: &Call) -> Result<Endorsed, ProposalError> {
        let disputed = match self.endorse_once(nonce, call).await {
            Err(error @ ProposalError::Disputed { .. }) if call.organisations.is_empty() => error,
            done => return done,
        };
        // What a peer of the own member says, whichever gateway reaches it, decides.
        let own = self.gateway.credentials().identity().msp_id().to_owned();
        match self.evaluate(&call.clone().organisations([own])).await {
            Err(error @ ProposalError::Refused(_)) => Err(error),
            _ => Err(disputed),
        }
    }

    async fn endorse_once(&self, nonce: Nonce, call: &Call) -> Result<Endorsed, ProposalError> {
        let deadline = Deadline::new(self.gateway.deadlines().endorse);
        let (proposal, credentials, proposed) = self.propose(deadline, call, nonce).await?;
        let request = wire::EndorseRequest {
            transaction_id: proposal.transaction_id.to_string(),
            channel_id: self.target.channel.clone(),
            proposed_transaction: Some(proposed),
            endorsing_organizations: call.organisations.clone(),
        };
        let asked = Operation::Endorse(Asker {
            msp_id: credentials.identity().msp_id(),
            organisations: &call.organisations,
        });
        let answer = self.gateway.ask(asked, deadline, async |mut client, limit| {
            client.endorse(within(limit, request.clone())).await
        });
        let (answer, peer) = answer
            .await
            .map_err(|gave_up| proposal_error(gave_up, &credentials, deadline))?;
        let payload = answer.prepared_transaction.unwrap_or_default().payload;
        let response = proposal
            .answer_in(&payload)
            .map_err(|reason| ProposalError::Unintelligible { peer, reason })?;
        Ok(Endorsed {
            gateway: self.gateway.clone(),
            channel: self.target.channel.clone(),
            credentials,
            transaction_id: proposal.transaction_id,
            payload,
            result: response.payload,
        })
    }

    /// Endorses, submits and waits until it is in a block, once.
    ///
    /// # Errors
    /// Where it did not take effect, or where that is unknown: see [`TransactionError::unknown_outcome`].
    pub async fn submit(&self, call: &Call) -> Result<Committed, TransactionError> {
        let endorsed = self.endorse(call).await?;
        endorsed.submit().await?;
        let CommitStatus { block, code } = endorsed.commit_status().await?;
        if code.is_valid() {
            Ok(Committed {
                transaction_id: endorsed.transaction_id,
                block,
                result: endorsed.result,
            })
        } else {
            Err(TransactionError::Invalid {
                transaction_id: endorsed.transaction_id,
                block,
                code,
            })
        }
    }

    /// The same, and again as a new transaction where it did not take effect because others came between
    /// ([`TransactionError::is_conflict`]). Only for a command that means the same when the state has changed: the caller says so by
    /// calling this. A transaction whose outcome is unknown is never run again.
    ///
    /// # Errors
    /// As [`Contract::submit`], of the last run.
    pub async fn submit_idempotent(&self, call: &Call, retry: &Retry) -> Result<Committed, TransactionError> {
        let mut runs = 0;
        loop {
            let error = match self.submit(call).await {
                Err(error) if error.is_conflict() => error,
                done => return done,
            };
            runs += 1;
            let Some(wait) = retry.wait(runs, chance()) else {
                return Err(error);
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// The id that a transaction has under this nonce, by the credentials of this moment.
    #[must_use]
    pub fn transaction_id(&self, nonce: &Nonce) -> TransactionId {
        TransactionId::derive(nonce, self.gateway.credentials().creator())
    }

    /// The chaincode's events from `start` on. Opens nothing before the first is asked for.
    #[must_use]
    pub fn events(&self, start: Start) -> Events {
        Events::new(self.gateway.clone(), self.target.clone(), start)
    }

    async fn propose(
        &self,
        deadline: Deadline,
        call: &Call,
        nonce: Nonce,
    ) -> Result<(Proposal, Arc<Credentials>, protos::SignedProposal), ProposalError> {
        let credentials = self.gateway.credentials();
        let now = self.gateway.now();
        let proposal = Proposal::new(&self.target, call, credentials.creator(), nonce, now);
        let proposed = protos::SignedProposal {
            signature: signed(deadline, &credentials, &proposal.bytes).await?,
            proposal_bytes: proposal.bytes.clone(),
        };
        Ok((proposal, credentials, proposed))
    }
}

impl Endorsed {
    /// The transaction's id, to be kept before it is submitted by whoever must know its outcome after a crash.
    #[must_use]
    pub fn transaction_id(&self) -> &TransactionId {
        &self.transaction_id
    }

    /// What the chaincode answered. It is true once the transaction is committed and valid.
    #[must_use]
    pub fn result(&self) -> &Bytes {
        &self.result
    }

    /// Hands it to the ordering service, by one peer or another. Doing it again does no harm: it is the same transaction.
    ///
    /// # Errors
    /// Where it was not taken, or where that is unknown.
    pub async fn submit(&self) -> Result<(), SubmitError> {
        let transaction_id = self.transaction_id.clone();
        let deadline = Deadline::new(self.gateway.deadlines().submit);
        let request = wire::SubmitRequest {
            transaction_id: transaction_id.to_string(),
            channel_id: self.channel.clone(),
            prepared_transaction: Some(protos::Envelope {
                signature: signed(deadline, &self.credentials, &self.payload).await?,
                payload: self.payload.clone(),
            }),
        };
        let answer = self
            .gateway
            .ask(Operation::Submit, deadline, async |mut client, limit| {
                client.submit(within(limit, request.clone())).await
            });
        let GaveUp { why, attempts, open } = match answer.await {
            Ok(_) => return Ok(()),
            Err(gave_up) => gave_up,
        };
        Err(match why {
            _ if open => SubmitError::OutcomeUnknown {
                transaction_id,
                attempts,
            },
            Why::Said(failure) => SubmitError::Rejected {
                transaction_id,
                report: report_of(failure),
            },
            Why::Unavailable | Why::Late => SubmitError::Unavailable {
                transaction_id,
                attempts,
            },
        })
    }

    /// Waits until it is in a block, and says what became of it.
    ///
    /// # Errors
    /// Where nobody tells within [`crate::Deadlines::commit`].
    pub async fn commit_status(&self) -> Result<CommitStatus, CommitStatusError> {
        self.gateway
            .commit_status(&self.channel, &self.transaction_id)
            .await
    }
}

fn proposal_error(
    GaveUp { why, attempts, .. }: GaveUp,
    credentials: &Credentials,
    deadline: Deadline,
) -> ProposalError {
    match why {
        Why::Said(Failure::Disputed { refusal, report }) => ProposalError::Disputed {
            own: credentials.identity().msp_id().to_owned(),
            refusal,
            report,
        },
        Why::Said(Failure::Refused(refusal)) => ProposalError::Refused(refusal),
        Why::Said(Failure::Mismatch(report)) => ProposalError::Mismatch(report),
        Why::Said(Failure::Failed(report)) => ProposalError::Failed(report),
        Why::Said(Failure::Rejected(report)) => ProposalError::Rejected(report),
        Why::Said(Failure::Unavailable { .. }) | Why::Unavailable => ProposalError::Unavailable(attempts),
        Why::Said(Failure::Late) | Why::Late => ProposalError::Deadline {
            after: deadline.after,
            attempts,
        },
    }
}

pub(crate) fn fresh() -> Result<Nonce, ProposalError> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(ProposalError::Random)?;
    Ok(nonce)
}

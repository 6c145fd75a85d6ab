//! One peer, asked itself and nobody in its stead: Fabric's `Endorser` service.
//!
//! A gateway has that peer of a member answer a question which it thinks knows most, another one from question to question. What is
//! asked here is answered from this peer's own state, so that several answers can be told to be of one state: a peer's height grows only,
//! and where it was the same before and after, so was the state in between (`GetBlockchainInfo` holds the lock that a block takes while it
//! is written, read in Fabric 3.1).
//!
//! The answer is not verified to be signed by whom it names: the connection says whose it is.

use std::sync::Arc;

use bytes::Bytes;
use fabric_wire::protos;
use prost::Message as _;
use tokio::time::{Instant, timeout};

use crate::call::Call;
use crate::contract::fresh;
use crate::error::{Attempts, ProposalError, Refusal, Report};
use crate::failover::Deadline;
use crate::failure::{Failure, Operation, read};
use crate::gateway::{CHAIN, Gateway, height_call, height_in, report_of, signed, within};
use crate::link::Link;
use crate::proposal::{Proposal, Target};

/// From here on an answer is the chaincode's no.
const REFUSED: i32 = 400;
/// What a peer's own failure has as its status.
const FAILED: i32 = 500;

/// A peer of a gateway's, by itself. Cheap to clone; shares connection and credentials.
#[derive(Debug, Clone)]
pub struct OnePeer {
    gateway: Gateway,
    link: Arc<Link>,
}

/// How far a peer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Height {
    /// How many blocks it has: the next one's number.
    pub blocks: u64,
    /// The member that it says it is a peer of.
    pub msp_id: String,
}

impl OnePeer {
    pub(crate) fn new(gateway: &Gateway, link: &Arc<Link>) -> Self {
        Self {
            gateway: gateway.only(link),
            link: Arc::clone(link),
        }
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.link.address
    }

    /// Whether both are the same peer of the same gateway.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.link, &other.link)
    }

    /// Whether it failed lately, so that others are asked before it.
    #[must_use]
    pub fn rests(&self) -> bool {
        self.link.rests(Instant::now())
    }

    /// The same peer over the same connection, asked with the credentials and deadlines of another gateway.
    #[must_use]
    pub fn through(&self, gateway: &Gateway) -> Self {
        Self::new(gateway, &self.link)
    }

    /// This peer's gateway, which may ask others.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Asks a chaincode on a channel, as this peer knows it, once. Nothing is written, whatever the function does. The organisations that
    /// the call names are of no account.
    ///
    /// # Errors
    /// Where the chaincode refuses, or the peer does not answer within [`crate::Deadlines::attempt`].
    pub async fn query(&self, channel: &str, chaincode: &str, call: &Call) -> Result<Bytes, ProposalError> {
        Ok(self.ask(channel, chaincode, call).await?.0)
    }

    /// How far this peer is on a channel.
    ///
    /// # Errors
    /// As [`OnePeer::query`], and where it does not say whose peer it is.
    pub async fn height(&self, channel: &str) -> Result<Height, ProposalError> {
        let (answer, endorser) = self.ask(channel, CHAIN, &height_call(channel)).await?;
        let endorser = protos::SerializedIdentity::decode(endorser).unwrap_or_default();
        if endorser.mspid.is_empty() {
            return Err(self.unintelligible("it does not say whose peer it is"));
        }
        Ok(Height {
            blocks: height_in(answer)?,
            msp_id: endorser.mspid,
        })
    }

    /// What the chaincode answered, and who endorsed that.
    async fn ask(
        &self,
        channel: &str,
        chaincode: &str,
        call: &Call,
    ) -> Result<(Bytes, Bytes), ProposalError> {
        let target = Target {
            channel: channel.to_owned(),
            chaincode: chaincode.to_owned(),
        };
        let limit = self.gateway.deadlines().attempt;
        let deadline = Deadline::new(limit);
        let credentials = self.gateway.credentials();
        let proposal = Proposal::new(&target, call, credentials.creator(), fresh()?, self.gateway.now());
        let proposed = protos::SignedProposal {
            signature: signed(deadline, &credentials, &proposal.bytes).await?,
            proposal_bytes: proposal.bytes,
        };
        let begun = Instant::now();
        let mut client = self.link.endorser();
        let failure = match timeout(limit, client.process_proposal(within(limit, proposed))).await {
            Ok(Ok(answer)) => {
                self.link.did_well();
                return self.answer(answer.into_inner());
            }
            Ok(Err(status)) => read(Operation::Query, &status),
            Err(_) => Failure::Late,
        };
        let is_down = matches!(failure, Failure::Unavailable { .. } | Failure::Late);
        let report = report_of(failure);
        if !is_down {
            return Err(ProposalError::Rejected(report));
        }
        self.link.failed(begun);
        let mut attempts = Attempts::default();
        attempts.note(&self.link.address, report);
        Err(ProposalError::Unavailable(attempts))
    }

    fn answer(&self, answer: protos::ProposalResponse) -> Result<(Bytes, Bytes), ProposalError> {
        let protos::ProposalResponse {
            response,
            payload,
            endorsement,
        } = answer;
        let response = response.unwrap_or_default();
        if response.status == FAILED && payload.is_empty() {
            return Err(ProposalError::Failed(Report {
                message: format!("{}: {}", self.link.address, response.message),
                details: Vec::new(),
            }));
        }
        if response.status >= REFUSED {
            return Err(ProposalError::Refused(Refusal {
                status: response.status,
                message: response.message,
            }));
        }
        // What the peer has signed, rather than what stands beside it.
        let undecodable = |_| self.unintelligible("it cannot be decoded");
        let payload = protos::ProposalResponsePayload::decode(payload).map_err(undecodable)?;
        let action = protos::ChaincodeAction::decode(payload.extension).map_err(undecodable)?;
        let response = action.response;
        let response = response.ok_or_else(|| self.unintelligible("it has no answer of the chaincode"))?;
        Ok((response.payload, endorsement.unwrap_or_default().endorser))
    }

    fn unintelligible(&self, reason: &'static str) -> ProposalError {
        ProposalError::Unintelligible {
            peer: self.link.address.clone(),
            reason,
        }
    }
}

//! Running a proposal on peers: what each makes of it, and whether they agree.

use std::sync::{Arc, Mutex, PoisonError};

use fabric_wire::protos::{self, ChaincodeMessage, chaincode_message::Type};
use prost::Message as _;

use crate::ledger::Transaction;
use crate::link::{LinkError, Run};
use crate::network::{CHANNEL, Network};
use crate::peer::{Peer, Refusal};
use crate::proposal::{Proposal, Proposed};
use crate::raw::DialError;
use crate::simulation::{Effects, Simulation};

/// From here on an answer is not endorsed.
const ERROR_THRESHOLD: i32 = 400;

/// Why a proposal was not endorsed.
#[derive(Debug, thiserror::Error)]
pub enum EndorseError {
    /// The chaincode cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The chaincode did not answer, or did not register.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The chaincode answered ERROR: the transaction failed.
    #[error("the transaction failed: {0}")]
    Failed(String),
    /// The chaincode answered with a status that is not endorsed.
    #[error("the chaincode refused with {status}: {message}")]
    Refused {
        /// 400 or more.
        status: i32,
        /// The chaincode's own words.
        message: String,
    },
    /// The chaincode's answer is not a response.
    #[error("the chaincode's answer cannot be decoded: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// The chaincode is not the same function on every peer.
    #[error("the peers of {0} and {1} do not agree")]
    Disagreement(String, String),
}

/// A transaction that all organisations endorsed.
#[derive(Debug, Clone)]
pub struct Endorsed {
    /// To be submitted.
    pub transaction: Transaction,
    /// What the chaincode answered.
    pub response: protos::Response,
}

/// What a peer made of a proposal: what the peers have to agree on.
#[derive(Debug, Clone, PartialEq)]
struct Simulated {
    effects: Effects,
    response: protos::Response,
    event: Option<protos::ChaincodeEvent>,
}

impl Network {
    /// Runs a proposal on the peers of all organisations, on the same state.
    ///
    /// # Errors
    /// Where a peer cannot endorse it, or they do not agree.
    pub async fn endorse(&self, proposal: &Proposal) -> Result<Endorsed, EndorseError> {
        self.endorse_on(
            &self.peers().iter().collect::<Vec<_>>(),
            &proposal.proposed(CHANNEL),
        )
        .await
    }

    /// The same on the peers of these members.
    ///
    /// # Errors
    /// As [`Network::endorse`], and where none is a member.
    pub async fn endorse_by(&self, proposal: &Proposal, members: &[&str]) -> Result<Endorsed, EndorseError> {
        let peers = self.peers().iter();
        let peers: Vec<_> = peers.filter(|peer| members.contains(&peer.msp_id())).collect();
        self.endorse_on(&peers, &proposal.proposed(CHANNEL)).await
    }

    /// The same on these peers.
    pub(crate) async fn endorse_on(
        &self,
        peers: &[&Arc<Peer>],
        proposal: &Proposed,
    ) -> Result<Endorsed, EndorseError> {
        let now = self.now();
        let each = peers.iter().map(|peer| async {
            let world = peer.behind().unwrap_or_else(|| now.clone()).world;
            self.simulate(peer, Simulation::new(world), proposal)
                .await
                .map(|simulated| (peer.msp_id(), simulated))
        });
        // To the end, also where one fails: as long as a peer runs a transaction it does not begin the same one again.
        let each = futures::future::join_all(each).await;
        let all: Result<Vec<_>, _> = each.into_iter().collect();
        let mut all = all?.into_iter();
        let Some((first_msp, first)) = all.next() else {
            return Err(LinkError::Unknown(proposal.chaincode.clone()).into());
        };
        if let Some((other, _)) = all.find(|(_, simulated)| *simulated != first) {
            return Err(EndorseError::Disagreement(first_msp.to_owned(), other.to_owned()));
        }
        let Simulated {
            effects,
            response,
            event,
        } = first;
        let event = event.map(|event| protos::ChaincodeEvent {
            chaincode_id: proposal.chaincode.clone(),
            tx_id: proposal.txid.clone(),
            ..event
        });
        let transaction = Transaction {
            txid: proposal.txid.clone(),
            timestamp: proposal.timestamp,
            event,
            chaincode: proposal.chaincode.clone(),
            endorsers: peers.iter().map(|peer| peer.msp_id().to_owned()).collect(),
            effects,
        };
        Ok(Endorsed {
            transaction,
            response,
        })
    }

    /// Runs a proposal on the first peer and gives the answer; nothing is committed.
    ///
    /// # Errors
    /// As [`Network::endorse`].
    pub async fn evaluate(&self, proposal: &Proposal) -> Result<protos::Response, EndorseError> {
        let peer = self
            .peers()
            .first()
            .ok_or_else(|| LinkError::Unknown(proposal.chaincode.clone()))?;
        self.evaluate_on(peer, &proposal.proposed(CHANNEL)).await
    }

    pub(crate) async fn evaluate_on(
        &self,
        peer: &Peer,
        proposal: &Proposed,
    ) -> Result<protos::Response, EndorseError> {
        let simulation = Simulation::new(self.view_of(peer).world);
        self.simulate(peer, simulation, proposal)
            .await
            .map(|simulated| simulated.response)
    }

    async fn simulate(
        &self,
        peer: &Peer,
        simulation: Simulation,
        proposal: &Proposed,
    ) -> Result<Simulated, EndorseError> {
        let is_meant = |refusal: &Refusal| {
            let mut arguments = proposal.input.args.iter();
            arguments.any(|argument| String::from_utf8_lossy(argument).contains(&refusal.what))
        };
        if let Some(Refusal { status, message, .. }) = peer.refusal().filter(is_meant) {
            return Err(EndorseError::Refused { status, message });
        }
        let simulation = Arc::new(Mutex::new(simulation));
        let kind = if proposal.input.is_init {
            Type::Init
        } else {
            Type::Transaction
        };
        let message = ChaincodeMessage {
            r#type: kind.into(),
            payload: proposal.input.encode_to_vec().into(),
            txid: proposal.txid.clone(),
            channel_id: CHANNEL.to_owned(),
            proposal: Some(proposal.signed.clone()),
            timestamp: Some(proposal.timestamp),
            ..ChaincodeMessage::default()
        };
        let run = Run {
            message,
            simulation: Arc::clone(&simulation),
            msp_id: proposal.msp_id.clone(),
        };
        let last = peer.run(&proposal.chaincode, run).await?;
        if last.r#type() != Type::Completed {
            return Err(EndorseError::Failed(
                String::from_utf8_lossy(&last.payload).into_owned(),
            ));
        }
        let response = protos::Response::decode(last.payload)?;
        if response.status >= ERROR_THRESHOLD {
            return Err(EndorseError::Refused {
                status: response.status,
                message: response.message,
            });
        }
        let effects = simulation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .effects()
            .clone();
        Ok(Simulated {
            effects,
            response,
            event: last.chaincode_event,
        })
    }
}

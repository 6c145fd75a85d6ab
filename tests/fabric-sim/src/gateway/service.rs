//! The calls of a gateway, over the simulated network.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use fabric_wire::gateway::seek_position::Type;
use fabric_wire::gateway::{
    ChaincodeEventsRequest, ChaincodeEventsResponse, CommitStatusRequest, CommitStatusResponse,
    EndorseRequest, EndorseResponse, EvaluateRequest, EvaluateResponse, SignedChaincodeEventsRequest,
    SignedCommitStatusRequest, SubmitRequest, SubmitResponse, gateway_server,
};
use fabric_wire::protos::{self, SignedProposal};
use futures::Stream;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};

use super::Faults;
use super::refusal::{message, status};
use crate::endorse::Endorsed;
use crate::ledger::{Block, ValidationCode};
use crate::network::{CHANNEL, Network};
use crate::peer::Peer;
use crate::proposal::{Parts, Proposed, encode};
use crate::signature::verify;

#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) network: Arc<Network>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) faults: Arc<Faults>,
}

/// Fabric's chaincode about the chain itself.
pub(super) const CHAIN: &str = "qscc";

/// `common.BlockchainInfo` without its hashes.
#[derive(Clone, PartialEq, prost::Message)]
struct ChainInfo {
    #[prost(uint64, tag = "1")]
    height: u64,
}

type Events = Pin<Box<dyn Stream<Item = Result<ChaincodeEventsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl gateway_server::Gateway for Service {
    type ChaincodeEventsStream = Events;

    async fn evaluate(
        &self,
        request: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        self.hang().await;
        let request = request.into_inner();
        let (proposed, parts) = decoded(request.proposed_transaction)?;
        let is_chain = proposed.chaincode == CHAIN;
        let peer = self
            .evaluator(&request.target_organizations)
            .filter(|peer| is_chain || peer.has(&proposed.chaincode))
            .ok_or_else(|| {
                Status::failed_precondition(format!(
                    "no peers available to evaluate chaincode {} in channel {CHANNEL}",
                    proposed.chaincode
                ))
            })?;
        if is_chain {
            return Ok(Response::new(EvaluateResponse {
                result: Some(self.chain(peer)),
            }));
        }
        validated(&proposed, &parts).map_err(|said| {
            let text = format!("evaluate call to endorser returned error: {said}");
            status(Code::FailedPrecondition, &text, &[(peer.msp_id(), said)])
        })?;
        let answer = self.network.evaluate_on(peer, &proposed).await;
        let response = answer.map_err(|error| {
            let (message, is_refusal) = message(&error);
            let code = if is_refusal { Code::Unknown } else { Code::Aborted };
            let text = format!("evaluate call to endorser returned error: {message}");
            status(code, &text, &[(peer.msp_id(), message)])
        })?;
        Ok(Response::new(EvaluateResponse {
            result: Some(response),
        }))
    }

    async fn endorse(&self, request: Request<EndorseRequest>) -> Result<Response<EndorseResponse>, Status> {
        self.hang().await;
        let request = request.into_inner();
        let (proposed, parts) = decoded(request.proposed_transaction)?;
        let text = "failed to endorse transaction, see attached details for more info";
        validated(&proposed, &parts)
            .map_err(|said| status(Code::Aborted, text, &[(self.peer.msp_id(), said)]))?;
        if self.network.ledger().find(&proposed.txid).is_some() {
            let said = format!("duplicate transaction found [{}]. Creator [00]", proposed.txid);
            return Err(status(Code::Aborted, text, &[(self.peer.msp_id(), said)]));
        }
        let organisations = &request.endorsing_organizations;
        let (endorsed, peers) = if organisations.is_empty() {
            let own = self.network.endorse_on(&[&self.peer], &proposed).await;
            let own =
                own.map_err(|error| status(Code::Aborted, text, &[(self.peer.msp_id(), message(&error).0)]))?;
            self.collected(own, &proposed).await?
        } else {
            self.endorsed_by(organisations, &proposed).await?
        };
        let payload = if Faults::take(&self.faults.forged) {
            let call = protos::ChaincodeInvocationSpec::default();
            prepared(&parts, encode(&call), &proposed, &endorsed, &peers)
        } else {
            prepared(&parts, parts.call.clone(), &proposed, &endorsed, &peers)
        };
        self.network
            .ordering
            .prepare(payload.clone(), endorsed.transaction);
        Ok(Response::new(EndorseResponse {
            prepared_transaction: Some(protos::Envelope {
                payload,
                signature: Bytes::new(),
            }),
        }))
    }

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        self.hang().await;
        let envelope = request.into_inner().prepared_transaction.unwrap_or_default();
        if envelope.signature.is_empty() {
            return Err(Status::invalid_argument("prepared transaction must be signed"));
        }
        let refused = |why: String| {
            Status::aborted(format!(
                "received unsuccessful response from orderer: status=BAD_REQUEST, info={why}"
            ))
        };
        let creator = creator_of(&envelope.payload).map_err(|error| refused(error.to_string()))?;
        verify(&creator, &envelope.payload, &envelope.signature).map_err(refused)?;
        let transaction = self.network.ordering.prepared(&envelope.payload);
        let transaction = transaction.ok_or_else(|| refused("nobody endorsed it".to_owned()))?;
        let gone = || {
            let said = "rpc error: code = Unavailable desc = connection error".to_owned();
            let text = "no orderers could successfully process transaction";
            status(Code::Unavailable, text, &[("OrdererMSP", said)])
        };
        if !self.network.ordering.take(transaction) || Faults::take(&self.faults.lost) {
            return Err(gone());
        }
        Ok(Response::new(SubmitResponse {}))
    }

    async fn commit_status(
        &self,
        request: Request<SignedCommitStatusRequest>,
    ) -> Result<Response<CommitStatusResponse>, Status> {
        let SignedCommitStatusRequest { request, signature } = request.into_inner();
        let asked = CommitStatusRequest::decode(request.clone())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        verify(&asked.identity, &request, &signature).map_err(Status::permission_denied)?;
        let mut height = self.network.height();
        loop {
            height.borrow_and_update();
            let known = self.network.view_of(&self.peer).height;
            let found = self.network.ledger().find(&asked.transaction_id);
            let found = found.filter(|committed| committed.block <= known);
            if let Some(committed) = found {
                return Ok(Response::new(CommitStatusResponse {
                    result: i32::from(committed.code as u8),
                    block_number: committed.block,
                }));
            }
            let stopped = || Status::aborted("unexpected close of commit notification channel");
            height.changed().await.map_err(|_| stopped())?;
        }
    }

    async fn chaincode_events(
        &self,
        request: Request<SignedChaincodeEventsRequest>,
    ) -> Result<Response<Events>, Status> {
        let SignedChaincodeEventsRequest { request, signature } = request.into_inner();
        let asked = ChaincodeEventsRequest::decode(request.clone())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        verify(&asked.identity, &request, &signature).map_err(Status::permission_denied)?;
        let first = {
            let ledger = self.network.ledger();
            let after = ledger.find(&asked.after_transaction_id).map(|found| found.block);
            let next = ledger.height() + 1;
            let position = asked.start_position.and_then(|position| position.r#type);
            after.unwrap_or(match position {
                Some(Type::Specified(specified)) => specified.number.max(1),
                Some(Type::NextCommit(_)) | None => next,
            })
        };
        let following = Following {
            network: Arc::clone(&self.network),
            peer: Arc::clone(&self.peer),
            faults: Arc::clone(&self.faults),
            stalled: self.faults.stalled.subscribe(),
            passed: asked.after_transaction_id.is_empty(),
            asked,
            next: first,
        };
        let stream = futures::stream::unfold(following, |mut following| async {
            let response = following.next().await?;
            Some((Ok(response), following))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

impl Service {
    pub(super) async fn hang(&self) {
        if Faults::take(&self.faults.hung) || *self.faults.stalled.borrow() {
            std::future::pending::<()>().await;
        }
    }

    /// Who is to answer: this gateway's own peer, unless the client names others' members only.
    fn evaluator(&self, organisations: &[String]) -> Option<&Arc<Peer>> {
        let named = |peer: &Arc<Peer>| organisations.iter().any(|name| name == peer.msp_id());
        if organisations.is_empty() || named(&self.peer) {
            return Some(&self.peer);
        }
        let mut all = self.network.peers().iter();
        all.find(|peer| named(peer) && peer.is_up())
    }

    /// The one thing that is asked of Fabric's chaincode about the chain: how many blocks there are, the configuration's included.
    pub(super) fn chain(&self, peer: &Peer) -> protos::Response {
        let info = ChainInfo {
            height: self.network.view_of(peer).height + 1,
        };
        protos::Response {
            status: 200,
            payload: encode(&info),
            ..protos::Response::default()
        }
    }
}

/// A stream of events as it goes through the blocks.
struct Following {
    network: Arc<Network>,
    /// Whose stream it is.
    peer: Arc<Peer>,
    faults: Arc<Faults>,
    stalled: watch::Receiver<bool>,
    asked: ChaincodeEventsRequest,
    /// Whether the transaction after which events are wanted has been seen.
    passed: bool,
    next: u64,
}

impl Following {
    /// The next block that has events; none when the network is gone.
    async fn next(&mut self) -> Option<ChaincodeEventsResponse> {
        let mut height = self.network.height();
        loop {
            height.borrow_and_update();
            if self.network.view_of(&self.peer).height < self.next {
                height.changed().await.ok()?;
                continue;
            }
            self.stalled.wait_for(|stalled| !stalled).await.ok()?;
            let block = self.network.ledger().block(self.next).cloned();
            self.next += 1;
            let events = block.map(|block| self.matching(block)).unwrap_or_default();
            if !events.is_empty() {
                tokio::time::sleep(self.faults.event_delay()).await;
                return Some(ChaincodeEventsResponse {
                    events,
                    block_number: self.next - 1,
                });
            }
        }
    }

    fn matching(&mut self, block: Block) -> Vec<protos::ChaincodeEvent> {
        let valid = block
            .transactions
            .into_iter()
            .filter(|(_, code)| *code == ValidationCode::Valid);
        let mut matching = Vec::new();
        for event in valid.filter_map(|(transaction, _)| transaction.event) {
            if self.passed {
                matching.extend(Some(event).filter(|event| event.chaincode_id == self.asked.chaincode_id));
            } else {
                self.passed = event.tx_id == self.asked.after_transaction_id;
            }
        }
        matching
    }
}

/// What a client proposed, decoded and for this channel.
pub(super) fn decoded(proposed: Option<protos::SignedProposal>) -> Result<(Proposed, Parts), Status> {
    let signed = proposed.ok_or_else(|| Status::invalid_argument("a signed proposal is required"))?;
    let (proposed, parts) =
        Proposed::decode(signed).map_err(|error| Status::invalid_argument(error.to_string()))?;
    if parts.channel != CHANNEL {
        return Err(Status::unavailable(format!("no channel {}", parts.channel)));
    }
    Ok((proposed, parts))
}

/// Whether a peer lets the client in; otherwise what it says.
pub(super) fn validated(proposed: &Proposed, parts: &Parts) -> Result<(), String> {
    let SignedProposal {
        proposal_bytes,
        signature,
    } = &proposed.signed;
    verify(&parts.creator, proposal_bytes, signature)
        .map_err(|why| format!("error validating proposal: access denied: {why}"))?;
    if parts.id_is_right {
        Ok(())
    } else {
        Err("error validating proposal: the id is not the hash of nonce and creator".to_owned())
    }
}

fn creator_of(payload: &Bytes) -> Result<Bytes, prost::DecodeError> {
    let header = protos::Payload::decode(payload.clone())?
        .header
        .unwrap_or_default();
    Ok(protos::SignatureHeader::decode(header.signature_header)?.creator)
}

/// The payload of the envelope that the client signs.
fn prepared(
    parts: &Parts,
    call: Bytes,
    proposed: &Proposed,
    endorsed: &Endorsed,
    peers: &[&Arc<Peer>],
) -> Bytes {
    // Real peers write down what was read and is to be written; a digest tells one from another as well.
    let effects = Sha256::digest(format!("{:?}", endorsed.transaction.effects));
    let event = endorsed.transaction.event.as_ref();
    let action = protos::ChaincodeAction {
        results: Bytes::copy_from_slice(&effects),
        events: event.map(encode).unwrap_or_default(),
        response: Some(endorsed.response.clone()),
        chaincode_id: Some(protos::ChaincodeId {
            name: proposed.chaincode.clone(),
            ..protos::ChaincodeId::default()
        }),
    };
    let response = protos::ProposalResponsePayload {
        proposal_hash: Bytes::copy_from_slice(&Sha256::digest(&proposed.signed.proposal_bytes)),
        extension: encode(&action),
    };
    let endorsement = |peer: &&Arc<Peer>| protos::Endorsement {
        endorser: encode(&protos::SerializedIdentity {
            mspid: peer.msp_id().to_owned(),
            id_bytes: Bytes::new(),
        }),
        signature: Bytes::new(),
    };
    let action = protos::ChaincodeActionPayload {
        chaincode_proposal_payload: encode(&protos::ChaincodeProposalPayload {
            input: call,
            ..protos::ChaincodeProposalPayload::default()
        }),
        action: Some(protos::ChaincodeEndorsedAction {
            proposal_response_payload: encode(&response),
            endorsements: peers.iter().map(endorsement).collect(),
        }),
    };
    let transaction = protos::Transaction {
        actions: vec![protos::TransactionAction {
            header: parts.header.signature_header.clone(),
            payload: encode(&action),
        }],
    };
    encode(&protos::Payload {
        header: Some(parts.header.clone()),
        data: encode(&transaction),
    })
}

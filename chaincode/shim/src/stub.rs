//! What a transaction may ask: its arguments, its client, its time; and, in the files beside this one, the state.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use fabric_wire::protos::{self, chaincode_message::Type};
use prost::Message as _;

use crate::creator::{Creator, CreatorError};
use crate::error::CallError;
use crate::event::EventError;
use crate::lane::Lane;
use crate::proposal::{Proposal, ProposalError, Timestamp};
use crate::response::Response;

/// One transaction, as its handler sees it.
///
/// Calls may be made from several places at once; they wait for one another, because a peer takes one request of a transaction at a
/// time. Nothing that a transaction writes can be read back in it: reads see the committed state.
#[derive(Debug)]
pub struct Stub {
    pub(crate) lane: Lane,
    arguments: Vec<Bytes>,
    decorations: HashMap<String, Bytes>,
    proposal: Result<Proposal, ProposalError>,
    event: Mutex<Option<protos::ChaincodeEvent>>,
}

impl Stub {
    pub(crate) fn new(
        lane: Lane,
        input: protos::ChaincodeInput,
        proposal: Option<&protos::SignedProposal>,
    ) -> Self {
        Self {
            lane,
            arguments: input.args,
            decorations: input.decorations,
            proposal: Proposal::decode(proposal),
            event: Mutex::default(),
        }
    }

    /// All arguments; the first is the function by convention.
    #[must_use]
    pub fn arguments(&self) -> &[Bytes] {
        &self.arguments
    }

    /// The first argument as text; empty where there is none or it is not UTF-8.
    #[must_use]
    pub fn function(&self) -> &str {
        self.arguments
            .first()
            .and_then(|name| std::str::from_utf8(name).ok())
            .unwrap_or_default()
    }

    /// The arguments after the first.
    #[must_use]
    pub fn parameters(&self) -> &[Bytes] {
        self.arguments.get(1..).unwrap_or_default()
    }

    /// The transaction's id, 64 hexadecimal digits where a client of Fabric's Gateway made it.
    #[must_use]
    pub fn tx_id(&self) -> &str {
        &self.lane.key.txid
    }

    /// The channel on which the transaction runs.
    #[must_use]
    pub fn channel_id(&self) -> &str {
        &self.lane.key.channel_id
    }

    /// Who proposed the transaction. Where another chaincode invoked this one, still the client.
    ///
    /// # Errors
    /// Where the proposal, or the identity in it, cannot be read.
    pub fn creator(&self) -> Result<Creator, CreatorError> {
        let proposal = self
            .proposal
            .as_ref()
            .map_err(|error| CreatorError::Identity(error.to_string()))?;
        Creator::decode(proposal.creator.clone())
    }

    /// When the client says that it made the proposal.
    ///
    /// # Errors
    /// Where the proposal cannot be read or has no time.
    pub fn timestamp(&self) -> Result<Timestamp, ProposalError> {
        self.proposal
            .as_ref()
            .map_err(Clone::clone)?
            .timestamp
            .ok_or(ProposalError::Missing("timestamp"))
    }

    /// Data that reaches the chaincode and never the ledger.
    ///
    /// # Errors
    /// Where the proposal cannot be read.
    pub fn transient(&self) -> Result<&HashMap<String, Bytes>, ProposalError> {
        self.proposal
            .as_ref()
            .map(|proposal| &proposal.transient)
            .map_err(Clone::clone)
    }

    /// What the peer's own decorators added.
    #[must_use]
    pub fn decorations(&self) -> &HashMap<String, Bytes> {
        &self.decorations
    }

    /// Sets the transaction's event, in the place of an earlier one. It is dropped where the answer is an error.
    ///
    /// # Errors
    /// Where the name is empty.
    pub fn set_event(&self, name: &str, payload: impl Into<Bytes>) -> Result<(), EventError> {
        if name.is_empty() {
            return Err(EventError::Unnamed);
        }
        let event = protos::ChaincodeEvent {
            event_name: name.to_owned(),
            payload: payload.into(),
            ..protos::ChaincodeEvent::default()
        };
        *self.event.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
        Ok(())
    }

    /// Runs another chaincode in this transaction. On this channel its reads and writes become part of the transaction; on another
    /// one its reads are answered and its writes are dropped by the peer.
    ///
    /// The channel defaults to this one. The first argument is the function by convention.
    ///
    /// # Errors
    /// Where the peer cannot run it. What the other chaincode refuses is an answer, not an error.
    pub async fn invoke_chaincode(
        &self,
        name: &str,
        channel: Option<&str>,
        arguments: &[Bytes],
    ) -> Result<Response, CallError> {
        const CALL: Type = Type::InvokeChaincode;
        let name = channel.map_or_else(|| name.to_owned(), |channel| format!("{name}/{channel}"));
        let request = protos::ChaincodeSpec {
            chaincode_id: Some(protos::ChaincodeId {
                name,
                ..protos::ChaincodeId::default()
            }),
            input: Some(protos::ChaincodeInput {
                args: arguments.to_vec(),
                ..protos::ChaincodeInput::default()
            }),
            ..protos::ChaincodeSpec::default()
        };
        // The answer holds the other chaincode's own last message.
        let last: protos::ChaincodeMessage = self.lane.ask(CALL, &request).await?;
        match last.r#type() {
            Type::Completed => protos::Response::decode(last.payload)
                .map(Response::from)
                .map_err(|error| CallError::unintelligible(CALL, error)),
            Type::Error => Err(CallError::Refused {
                request: CALL.as_str_name(),
                message: String::from_utf8_lossy(&last.payload).into_owned(),
            }),
            other => Err(CallError::unintelligible(
                CALL,
                format!("it holds a {}", other.as_str_name()),
            )),
        }
    }

    pub(crate) fn take_event(&self) -> Option<protos::ChaincodeEvent> {
        self.event.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

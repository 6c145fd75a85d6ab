//! What a client of the simulated network proposes, in the shape in which a real one signs it. The signature is empty: nobody checks it.

use std::collections::HashMap;

use bytes::Bytes;
use fabric_wire::protos;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::identity::Client;

/// `HeaderType.ENDORSER_TRANSACTION`.
const ENDORSER_TRANSACTION: i32 = 3;
/// 2026-01-01T00:00:00Z. The simulated clients' clock starts here and advances by a second a proposal.
const FIRST_SECOND: i64 = 1_767_225_600;

/// A proposal of a client.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Its id.
    pub txid: String,
    /// Name of the chaincode.
    pub chaincode: String,
    /// Function and its parameters.
    pub arguments: Vec<Bytes>,
    /// Data beside the arguments that does not reach the ledger.
    pub transient: HashMap<String, Bytes>,
    /// Whether it is the chaincode's initialisation.
    pub is_init: bool,
    /// The client's clock.
    pub timestamp: protos::Timestamp,
    client: Client,
    nonce: Bytes,
}

impl Proposal {
    /// The `number`th proposal of the network. Id and time follow from the number and the client's name.
    pub(crate) fn new(number: u64, client: &Client, chaincode: &str, arguments: &[&str]) -> Self {
        let nonce = Sha256::digest(number.to_be_bytes());
        let mut hash = Sha256::new();
        hash.update(nonce);
        hash.update(format!("{}/{}", client.msp_id, client.name));
        Self {
            txid: hex::encode(hash.finalize()),
            chaincode: chaincode.to_owned(),
            arguments: arguments
                .iter()
                .map(|argument| Bytes::copy_from_slice(argument.as_bytes()))
                .collect(),
            transient: HashMap::new(),
            is_init: false,
            timestamp: protos::Timestamp {
                seconds: FIRST_SECOND.saturating_add_unsigned(number),
                nanos: 0,
            },
            client: client.clone(),
            nonce: Bytes::copy_from_slice(&nonce),
        }
    }

    /// The same with transient data.
    #[must_use]
    pub fn with_transient(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.transient.insert(name.to_owned(), value.into());
        self
    }

    /// The same as the chaincode's initialisation.
    #[must_use]
    pub fn as_init(mut self) -> Self {
        self.is_init = true;
        self
    }

    /// As the peers get it.
    pub(crate) fn proposed(&self, channel: &str) -> Proposed {
        Proposed {
            txid: self.txid.clone(),
            chaincode: self.chaincode.clone(),
            input: self.input(),
            timestamp: self.timestamp,
            msp_id: self.client.msp_id.clone(),
            signed: self.signed(channel),
        }
    }

    fn input(&self) -> protos::ChaincodeInput {
        protos::ChaincodeInput {
            args: self.arguments.clone(),
            is_init: self.is_init,
            ..protos::ChaincodeInput::default()
        }
    }

    fn signed(&self, channel: &str) -> protos::SignedProposal {
        let chaincode_id = Some(protos::ChaincodeId {
            name: self.chaincode.clone(),
            ..protos::ChaincodeId::default()
        });
        let spec = protos::ChaincodeSpec {
            r#type: 1,
            chaincode_id: chaincode_id.clone(),
            input: Some(self.input()),
        };
        let channel_header = protos::ChannelHeader {
            r#type: ENDORSER_TRANSACTION,
            timestamp: Some(self.timestamp),
            channel_id: channel.to_owned(),
            tx_id: self.txid.clone(),
            extension: encode(&protos::ChaincodeHeaderExtension { chaincode_id }),
            ..protos::ChannelHeader::default()
        };
        let signature_header = protos::SignatureHeader {
            creator: self.client.serialized(),
            nonce: self.nonce.clone(),
        };
        let header = protos::Header {
            channel_header: encode(&channel_header),
            signature_header: encode(&signature_header),
        };
        let payload = protos::ChaincodeProposalPayload {
            input: encode(&protos::ChaincodeInvocationSpec {
                chaincode_spec: Some(spec),
            }),
            transient_map: self.transient.clone(),
        };
        let proposal = protos::Proposal {
            header: encode(&header),
            payload: encode(&payload),
            extension: Bytes::new(),
        };
        protos::SignedProposal {
            proposal_bytes: encode(&proposal),
            signature: Bytes::new(),
        }
    }
}

/// A proposal as peers get it, whoever made it.
#[derive(Debug, Clone)]
pub(crate) struct Proposed {
    pub(crate) txid: String,
    pub(crate) chaincode: String,
    pub(crate) input: protos::ChaincodeInput,
    pub(crate) timestamp: protos::Timestamp,
    pub(crate) msp_id: String,
    pub(crate) signed: protos::SignedProposal,
}

/// What a gateway needs of a proposal beside what it runs.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) channel: String,
    pub(crate) header: protos::Header,
    pub(crate) call: Bytes,
    /// A SerializedIdentity.
    pub(crate) creator: Bytes,
    /// Whether the id is the hash of nonce and creator.
    pub(crate) id_is_right: bool,
}

impl Proposed {
    /// What a client of a gateway sent.
    pub(crate) fn decode(signed: protos::SignedProposal) -> Result<(Self, Parts), prost::DecodeError> {
        let proposal = protos::Proposal::decode(signed.proposal_bytes.clone())?;
        let header = protos::Header::decode(proposal.header)?;
        let channel_header = protos::ChannelHeader::decode(header.channel_header.clone())?;
        let signature_header = protos::SignatureHeader::decode(header.signature_header.clone())?;
        let creator = protos::SerializedIdentity::decode(signature_header.creator.clone())?;
        let payload = protos::ChaincodeProposalPayload::decode(proposal.payload)?;
        let spec = protos::ChaincodeInvocationSpec::decode(payload.input.clone())?
            .chaincode_spec
            .unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(&signature_header.nonce);
        hash.update(&signature_header.creator);
        let parts = Parts {
            channel: channel_header.channel_id,
            header,
            call: payload.input,
            creator: signature_header.creator,
            id_is_right: hex::encode(hash.finalize()) == channel_header.tx_id,
        };
        let proposed = Self {
            txid: channel_header.tx_id,
            chaincode: spec.chaincode_id.unwrap_or_default().name,
            input: spec.input.unwrap_or_default(),
            timestamp: channel_header.timestamp.unwrap_or_default(),
            msp_id: creator.mspid,
            signed,
        };
        Ok((proposed, parts))
    }
}

pub(crate) fn encode(message: &impl prost::Message) -> Bytes {
    message.encode_to_vec().into()
}

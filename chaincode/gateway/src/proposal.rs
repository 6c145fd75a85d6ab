//! A transaction before and after its endorsement: what is signed, and the check that what came back is what was proposed.

use std::fmt;

use bytes::Bytes;
use fabric_wire::protos;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::call::Call;

/// `HeaderType.ENDORSER_TRANSACTION`.
const ENDORSER_TRANSACTION: i32 = 3;
/// `ChaincodeSpec.Type.GOLANG`; peers do not look at it where the chaincode is installed.
const CHAINCODE_TYPE: i32 = 1;
/// In bytes, as Fabric's own clients take.
pub(crate) const NONCE: usize = 24;

/// What makes a client's transaction another one than its others. Whoever chooses it uses each once.
pub type Nonce = [u8; NONCE];

/// Id of a transaction: the SHA-256 of a nonce and its creator, 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId(String);

/// Not an id of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of a transaction, 64 hexadecimal digits")]
pub struct TransactionIdError(String);

impl TransactionId {
    /// From its text.
    ///
    /// # Errors
    /// Where that is not 64 lower-case hexadecimal digits.
    pub fn parse(text: impl Into<String>) -> Result<Self, TransactionIdError> {
        let text = text.into();
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(digit) {
            Ok(Self(text))
        } else {
            Err(TransactionIdError(text))
        }
    }

    /// That of a creator's transaction under a nonce.
    pub(crate) fn derive(nonce: &Nonce, creator: &Bytes) -> Self {
        let mut hash = Sha256::new();
        hash.update(nonce);
        hash.update(creator);
        Self(hex::encode(hash.finalize()))
    }

    /// As an event carries it.
    pub(crate) fn unchecked(text: String) -> Self {
        Self(text)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a call goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) channel: String,
    pub(crate) chaincode: String,
}

/// A proposal, encoded and not signed.
#[derive(Debug, Clone)]
pub(crate) struct Proposal {
    pub(crate) transaction_id: TransactionId,
    pub(crate) bytes: Bytes,
    header: protos::Header,
    input: Bytes,
}

impl Proposal {
    /// The same for the same arguments.
    pub(crate) fn new(
        target: &Target,
        call: &Call,
        creator: &Bytes,
        nonce: Nonce,
        timestamp: protos::Timestamp,
    ) -> Self {
        let transaction_id = TransactionId::derive(&nonce, creator);
        let chaincode_id = Some(protos::ChaincodeId {
            name: target.chaincode.clone(),
            ..protos::ChaincodeId::default()
        });
        let channel_header = protos::ChannelHeader {
            r#type: ENDORSER_TRANSACTION,
            timestamp: Some(timestamp),
            channel_id: target.channel.clone(),
            tx_id: transaction_id.0.clone(),
            extension: encode(&protos::ChaincodeHeaderExtension {
                chaincode_id: chaincode_id.clone(),
            }),
            ..protos::ChannelHeader::default()
        };
        let signature_header = protos::SignatureHeader {
            creator: creator.clone(),
            nonce: Bytes::copy_from_slice(&nonce),
        };
        let header = protos::Header {
            channel_header: encode(&channel_header),
            signature_header: encode(&signature_header),
        };
        let input = encode(&protos::ChaincodeInvocationSpec {
            chaincode_spec: Some(protos::ChaincodeSpec {
                r#type: CHAINCODE_TYPE,
                chaincode_id,
                input: Some(protos::ChaincodeInput {
                    args: call.arguments.clone(),
                    ..protos::ChaincodeInput::default()
                }),
            }),
        });
        let payload = protos::ChaincodeProposalPayload {
            input: input.clone(),
            transient_map: call.transient.clone(),
        };
        let bytes = encode(&protos::Proposal {
            header: encode(&header),
            payload: encode(&payload),
            extension: Bytes::new(),
        });
        Self {
            transaction_id,
            bytes,
            header,
            input,
        }
    }

    /// What the chaincode answered, out of what the gateway made of the endorsements. The reason, where it made something else than this
    /// proposal's transaction: signing that would be signing whatever a gateway likes.
    pub(crate) fn answer_in(&self, payload: &Bytes) -> Result<protos::Response, &'static str> {
        let undecodable = "it cannot be decoded";
        let payload = protos::Payload::decode(payload.clone()).map_err(|_| undecodable)?;
        if payload.header.as_ref() != Some(&self.header) {
            return Err("its header is not that of the proposal");
        }
        let transaction = protos::Transaction::decode(payload.data).map_err(|_| undecodable)?;
        let [action] = transaction.actions.as_slice() else {
            return Err("it has not exactly one action");
        };
        if action.header != self.header.signature_header {
            return Err("its action is somebody else's");
        }
        let action =
            protos::ChaincodeActionPayload::decode(action.payload.clone()).map_err(|_| undecodable)?;
        let proposed = protos::ChaincodeProposalPayload::decode(action.chaincode_proposal_payload)
            .map_err(|_| undecodable)?;
        if proposed.input != self.input || !proposed.transient_map.is_empty() {
            return Err("its call is not the one that was proposed");
        }
        let endorsed = action.action.ok_or("it has no endorsement")?;
        let response = protos::ProposalResponsePayload::decode(endorsed.proposal_response_payload)
            .map_err(|_| undecodable)?;
        let result = protos::ChaincodeAction::decode(response.extension).map_err(|_| undecodable)?;
        result.response.ok_or("it has no answer of the chaincode")
    }
}

fn encode(message: &impl prost::Message) -> Bytes {
    message.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: protos::Timestamp = protos::Timestamp {
        seconds: 1_767_225_600,
        nanos: 5,
    };

    fn proposal(call: &Call, nonce: u8) -> Proposal {
        let target = Target {
            channel: "channel".to_owned(),
            chaincode: "assets".to_owned(),
        };
        Proposal::new(
            &target,
            call,
            &Bytes::from_static(b"creator"),
            [nonce; NONCE],
            TIME,
        )
    }

    /// As a gateway prepares it.
    fn prepared(proposal: &Proposal, change: impl FnOnce(&mut protos::ChaincodeProposalPayload)) -> Bytes {
        let mut call = protos::ChaincodeProposalPayload {
            input: proposal.input.clone(),
            ..protos::ChaincodeProposalPayload::default()
        };
        change(&mut call);
        let response = protos::Response {
            status: 200,
            payload: Bytes::from_static(b"answer"),
            ..protos::Response::default()
        };
        let action = protos::ChaincodeAction {
            response: Some(response),
            ..protos::ChaincodeAction::default()
        };
        let action = protos::ChaincodeActionPayload {
            chaincode_proposal_payload: encode(&call),
            action: Some(protos::ChaincodeEndorsedAction {
                proposal_response_payload: encode(&protos::ProposalResponsePayload {
                    extension: encode(&action),
                    ..protos::ProposalResponsePayload::default()
                }),
                endorsements: Vec::new(),
            }),
        };
        let transaction = protos::Transaction {
            actions: vec![protos::TransactionAction {
                header: proposal.header.signature_header.clone(),
                payload: encode(&action),
            }],
        };
        encode(&protos::Payload {
            header: Some(proposal.header.clone()),
            data: encode(&transaction),
        })
    }

    #[test]
    fn an_id_is_the_hash_of_nonce_and_creator() {
        let mut expected = vec![7; NONCE];
        expected.extend_from_slice(b"creator");
        let id = proposal(&Call::new("read"), 7).transaction_id;
        assert_eq!(id.as_str(), hex::encode(Sha256::digest(&expected)));
        assert_eq!(TransactionId::parse(id.as_str()), Ok(id));
        for wrong in ["", "abc", &"A".repeat(64), &"g".repeat(64)] {
            assert!(TransactionId::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_answer_is_read_out_of_the_transaction_that_was_proposed() {
        let proposal = proposal(&Call::new("read").transient("key", "secret"), 7);
        let answer = proposal.answer_in(&prepared(&proposal, |_| {})).unwrap();
        assert_eq!(answer.payload, "answer");
    }

    #[test]
    fn another_transaction_than_the_one_proposed_is_not_signed() {
        let call = Call::new("read").argument("a");
        let wanted = proposal(&call, 7);
        let other_header = prepared(&proposal(&call, 8), |_| {});
        assert_eq!(
            wanted.answer_in(&other_header),
            Err("its header is not that of the proposal")
        );
        let other_call = prepared(&wanted, |payload| {
            payload.input = proposal(&Call::new("read").argument("b"), 7).input;
        });
        let leaked = prepared(&wanted, |payload| {
            payload.transient_map.insert("key".to_owned(), Bytes::new());
        });
        for payload in [other_call, leaked] {
            assert_eq!(
                wanted.answer_in(&payload),
                Err("its call is not the one that was proposed")
            );
        }
        assert!(wanted.answer_in(&Bytes::from_static(b"\xff")).is_err());
    }
}

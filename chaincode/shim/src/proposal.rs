//! The proposal behind a transaction: what the client signed. Client, time and transient data come from here.
//!
//! The peer has checked the signature before the chaincode hears of it.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fabric_wire::protos;

/// Why a proposal cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// The peer sent none: the transaction was not started by a client's proposal.
    #[error("the transaction came without a proposal")]
    Absent,
    /// A part that should be there is not.
    #[error("the proposal has no {0}")]
    Missing(&'static str),
    /// A part that is not the message it should be.
    #[error("the proposal's {part} cannot be decoded: {reason}")]
    Undecodable {
        /// Which part.
        part: &'static str,
        /// What the decoder says.
        reason: String,
    },
}

/// A time as the client's proposal gives it. The peers take it where it is within 15 minutes of their own clocks, so it bounds nothing
/// more closely than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Since the Unix epoch, in UTC.
    pub seconds: i64,
    /// 0 to 999,999,999, always forward.
    pub nanoseconds: u32,
}

impl Timestamp {
    pub(crate) fn from_wire(wire: &protos::Timestamp) -> Self {
        Self {
            seconds: wire.seconds,
            nanoseconds: u32::try_from(wire.nanos).unwrap_or(0),
        }
    }

    /// The same for `std`, where it can hold it.
    #[must_use]
    pub fn to_system_time(self) -> Option<SystemTime> {
        let whole = Duration::from_secs(self.seconds.unsigned_abs());
        let base = if self.seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(whole)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(whole)
        }?;
        base.checked_add(Duration::from_nanos(u64::from(self.nanoseconds)))
    }
}

/// The parts of a proposal that a chaincode may ask for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proposal {
    pub(crate) creator: Bytes,
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) transient: HashMap<String, Bytes>,
}

impl Proposal {
    pub(crate) fn decode(signed: Option<&protos::SignedProposal>) -> Result<Self, ProposalError> {
        let signed = signed.ok_or(ProposalError::Absent)?;
        let proposal: protos::Proposal = decode("message", &signed.proposal_bytes)?;
        let header: protos::Header = decode("header", &proposal.header)?;
        let channel: protos::ChannelHeader = decode("channel header", &header.channel_header)?;
        let signature: protos::SignatureHeader = decode("signature header", &header.signature_header)?;
        let payload: protos::ChaincodeProposalPayload = decode("payload", &proposal.payload)?;
        Ok(Self {
            creator: signature.creator,
            timestamp: channel.timestamp.as_ref().map(Timestamp::from_wire),
            transient: payload.transient_map,
        })
    }
}

fn decode<M: prost::Message + Default>(part: &'static str, bytes: &Bytes) -> Result<M, ProposalError> {
    M::decode(bytes.clone()).map_err(|error| ProposalError::Undecodable {
        part,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_the_epoch_keeps_its_nanoseconds_forward() {
        let time = Timestamp {
            seconds: -1,
            nanoseconds: 250_000_000,
        }
        .to_system_time()
        .unwrap();
        assert_eq!(
            SystemTime::UNIX_EPOCH.duration_since(time).unwrap(),
            Duration::from_millis(750)
        );
    }

    #[test]
    fn a_proposal_that_is_none_says_which_part() {
        assert_eq!(Proposal::decode(None).unwrap_err(), ProposalError::Absent);
        let broken = protos::SignedProposal {
            proposal_bytes: Bytes::from_static(&[0xff]),
            signature: Bytes::new(),
        };
        assert!(matches!(
            Proposal::decode(Some(&broken)),
            Err(ProposalError::Undecodable { part: "message", .. })
        ));
    }
}

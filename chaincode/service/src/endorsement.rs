//! Whose peers have to endorse later changes of a record, as a key's own policy: a majority's of the members that stood when it was written.
//! `docs/decisions/008-organisations-and-endorsement.md` says why.

use fabric_shim::{Bytes, EndorsementPolicy};
use leasehold_chaincode::Endorsement;

/// The policy in the form that a peer keeps. Empty, which leaves a key to the policy of the chaincode's definition, where one organisation
/// stands alone: its own would let it change the record by itself for ever, also when others have joined.
pub(crate) fn policy(endorsement: &Endorsement) -> Bytes {
    if endorsement.members.len() < 2 {
        return Bytes::new();
    }
    let peers = endorsement.members.iter();
    let peers = peers.map(|msp| EndorsementPolicy::Peer(msp.to_string()));
    let majority = u32::try_from(endorsement.majority()).unwrap_or(u32::MAX);
    EndorsementPolicy::OutOf(majority, peers.collect()).encode()
}

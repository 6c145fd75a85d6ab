//! Whose peers have to endorse later changes of a record, as a key's own policy: its owner's, or a majority's of the members that
//! stood at the time. `docs/decisions/008-organisations-and-endorsement.md` says why.

use fabric_shim::{Bytes, EndorsementPolicy};
use leasehold_chaincode::Endorsement;

/// The policy in the form that a peer keeps.
pub(crate) fn policy(endorsement: &Endorsement) -> Bytes {
    let peer = |msp: &leasehold_chaincode::Msp| EndorsementPolicy::Peer(msp.to_string());
    let mut either = vec![peer(&endorsement.owner)];
    if !endorsement.members.is_empty() {
        let majority = u32::try_from(endorsement.majority()).unwrap_or(u32::MAX);
        either.push(EndorsementPolicy::OutOf(
            majority,
            endorsement.members.iter().map(peer).collect(),
        ));
    }
    EndorsementPolicy::OutOf(1, either).encode()
}

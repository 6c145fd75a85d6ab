//! A ledger that is a channel of Hyperledger Fabric: the contract runs as a chaincode beside the peers of several organisations, and
//! this broker is a client of their gateways, under one identity of its organisation.
//!
//! It promises what the embedded ledger promises of a submission: the same command under the same id takes effect once, however often
//! it is submitted and whenever this process is killed. What differs from the embedded ledger:
//!
//! - A question is answered by one peer of this organisation, from its state at that moment; several questions are answered one after the
//!   other. A peer may be some blocks behind the others. While no own peer is up nothing is read, and so nothing granted. What must be of
//!   one state is asked of one peer ([`OwnPeer`]).
//! - A transaction's id is the hash of a nonce and of the identity's certificate. The nonce is made of the submission's id, so that
//!   whoever kept that can propose the very same transaction again ([`Channel::transaction_of`]).
//! - Followers hear of transactions with events only, from a height on, without gaps. A silent stream says nothing about whether it
//!   still stands; [`Channel::is_current`] says whether it did a moment ago, and what must not rest on an old view asks that first.
//! - Whether the ledger is whole is the peers' business: there is nothing to verify, export or rebuild here.

mod answer;
mod channel;
mod follow;
mod identity;
mod own_peer;
mod profile;
mod submit;

pub use channel::{Channel, ChannelError};
pub use follow::Follower;
pub use own_peer::OwnPeer;
pub use profile::{PeerEntry, Profile};
pub use submit::Recorded;

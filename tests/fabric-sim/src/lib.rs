//! A **simulated** Fabric network for tests: peers that speak the chaincode stream as real ones do, over a ledger in memory.
//!
//! It is honest about the wire: registration, the offer of batches, interleaving, iterators of 100 rows, keepalives, silence where a
//! real peer is silent. It is honest about the ledger as a chaincode sees it: versions, MVCC and phantom conflicts, blocks in order,
//! history, metadata, private collections, one event a transaction.
//!
//! It is **not** Fabric. Nothing is signed or verified, there is no ordering service, no gossip and no endorsement policy beyond "all
//! organisations agree"; a key's own policy is stored and not enforced; there is one channel. What depends on those is tested over real
//! peers. Its state is a function of what is submitted: no clock and no randomness decide anything.
//!
//! The seam for a simulated Gateway is [`Network`]: `endorse`, `submit`, `evaluate` and `blocks` are its calls.

mod answers;
mod identity;
mod ledger;
mod link;
mod network;
mod proposal;
mod raw;
mod simulation;

pub use identity::{Client, ClientError};
pub use ledger::{Block, Committed, Transaction, ValidationCode};
pub use link::LinkError;
pub use network::{Deployment, EndorseError, Endorsed, Network, Options};
pub use proposal::Proposal;
pub use raw::{Dial, DialError, RawError, RawPeer, Tls};

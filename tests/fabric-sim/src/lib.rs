//! A **simulated** Fabric network for tests: peers that speak the chaincode stream as real ones do, over a ledger in memory.
//!
//! It is honest about the wire: registration, the offer of batches, interleaving, iterators of 100 rows, keepalives, silence where a
//! real peer is silent. It is honest about the ledger as a chaincode sees it: versions, MVCC and phantom conflicts, blocks in order,
//! history, metadata, private collections, one event a transaction.
//!
//! It is **not** Fabric. There is no gossip: all peers see one ledger at once. There is no ordering service beyond a queue, and no
//! endorsement policy beyond "all organisations agree", or at a gateway "a majority does"; a key's own policy is stored and not enforced;
//! there is one channel. Peers sign nothing, and nobody asks who issued a certificate. What depends on those is tested over real peers.
//! The ledger is a function of what is submitted: no clock and no randomness decide anything, but for when a gateway's blocks are cut.
//!
//! [`GatewayPeer`] serves a peer's gateway as clients see it: signatures are verified, failures have the codes and details that Fabric's
//! have, a peer can be killed and started again, and [`Faults`] loses answers.

mod answers;
mod gateway;
mod identity;
mod ledger;
mod link;
mod network;
mod ordering;
mod proposal;
mod raw;
mod signature;
mod simulation;

pub use gateway::{Faults, GatewayError, GatewayPeer, GatewayTls};
pub use identity::{Client, ClientError};
pub use ledger::{Block, Committed, Transaction, ValidationCode};
pub use link::LinkError;
pub use network::{Deployment, EndorseError, Endorsed, Network, Options};
pub use proposal::Proposal;
pub use raw::{Dial, DialError, RawError, RawPeer, Tls};

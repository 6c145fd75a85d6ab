//! A **simulated** Fabric network for tests: peers that speak the chaincode stream as real ones do, over a ledger in memory.
//!
//! It is honest about the wire: registration, the offer of batches, interleaving, iterators of 100 rows, keepalives, silence where a
//! real peer is silent. It is honest about the ledger as a chaincode sees it: versions, MVCC and phantom conflicts, blocks in order,
//! history, metadata, private collections, one event a transaction; a key's own endorsement policy, and a majority for all other keys.
//!
//! It is **not** Fabric. There is no gossip: all peers see one ledger at once. There is no ordering service beyond a queue, and no policy of
//! a chaincode beyond "so many members"; there is one channel. Peers sign nothing, and nobody asks who issued a certificate. What
//! depends on those is tested over real peers.
//! The ledger is a function of what is submitted: no clock and no randomness decide anything, but for when a gateway's blocks are cut.
//!
//! [`GatewayPeer`] serves a peer's gateway as clients see it: signatures are verified, failures have the codes and details that Fabric's
//! have, a peer can be killed and started again, and [`Faults`] loses answers.

mod answers;
mod endorse;
mod endorsement;
mod gateway;
mod identity;
mod ledger;
mod link;
mod network;
mod ordering;
mod peer;
mod policy;
mod proposal;
mod raw;
mod signature;
mod simulation;

pub use endorse::{EndorseError, Endorsed};
pub use gateway::{Faults, GatewayError, GatewayPeer, GatewayTls};
pub use identity::{Client, ClientError};
pub use ledger::{Block, Committed, Transaction, ValidationCode};
pub use link::LinkError;
pub use network::{Deployment, Network, Options};
pub use proposal::Proposal;
pub use raw::{Dial, DialError, RawError, RawPeer, Tls};

//! A **real** Hyperledger Fabric network for tests: an orderer, a peer for each of three organisations, a channel, and chaincodes that
//! run as services, as processes on loopback, without containers. Servers can be killed and started again; organisations can join the
//! channel while it runs, and leave it.
//!
//! The binaries are not part of this project: `LEASEHOLD_FABRIC_BIN` names the directory that holds them, and without it
//! [`Binaries::find`] says so and the caller says [`SKIPPED`]. Every configuration file is written here.
//!
//! It promises that nothing is left when a [`Network`] is dropped: its processes are killed by their ids, its files are in a temporary
//! directory of its own. Network, peers and clients keep their logs there as long as it lives; a failure carries the end of them.

mod binaries;
mod chaincode;
mod chosen;
mod config;
mod membership;
mod network;
mod process;
mod server;
mod tap;

pub use binaries::{Binaries, SKIPPED};
pub use chaincode::{Chaincode, DialTls, Invocation, package_id};
pub use chosen::Chosen;
pub use network::{Network, ORGANISATIONS};
pub use process::FabricError;
pub use server::{ORDERER, PeerAt, User};
pub use tap::{Tap, Transcript, TranscriptLine};

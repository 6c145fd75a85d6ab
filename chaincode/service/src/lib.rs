//! Leasehold's contract on Hyperledger Fabric: a chaincode that runs as a service beside each peer.
//!
//! It puts together what others decide: [`leasehold_chaincode`] is the contract, [`fabric_shim`] speaks to the peers. Here a
//! transaction's arguments become a command or a question ([`Request`]), its client's certificate a caller and a role
//! ([`caller::identify`]), the contract's writes one batch, its events one event, its refusal a status with a code.
//!
//! It promises that what it does follows from the transaction and the state alone, so that every peer endorses the same; and
//! that whatever the arguments are, the answer is one of [`Problem`] or the contract's.
//!
//! It leaves to Fabric who may invoke it and who has to endorse, and to the consortium that every organisation runs the same
//! version.

mod answer;
pub mod caller;
mod chaincode;
mod endorsement;
mod request;
mod state;

pub use answer::{EVENT_NAME, Problem, Told};
pub use chaincode::LeaseholdChaincode;
pub use request::{ARGUMENT_BYTES, ArgumentError, Request};

//! What crosses the wire between a Hyperledger Fabric peer and a chaincode: the generated messages and the gRPC service
//! `protos.Chaincode`. No logic, no I/O.
//!
//! The proto files name the messages and fields that this project uses and no others; a field that is not named here is ignored
//! when it arrives and lost when a message is encoded again. Names and field numbers are Fabric's (fabric-protos, `peer/`, `common/`,
//! `msp/`, `ledger/`), so that both ends of the stream agree.

/// The messages and the service, in Fabric's package `protos`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod protos {
    tonic::include_proto!("protos");
}

pub use protos::{chaincode_client::ChaincodeClient, chaincode_server::ChaincodeServer};

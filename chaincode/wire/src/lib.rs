//! What crosses the wire between a Hyperledger Fabric peer and a chaincode, and between a client and a peer: the generated messages
//! and the gRPC services `protos.Chaincode`, `protos.Endorser` and `gateway.Gateway`. No logic, no I/O.
//!
//! The proto files name the messages and fields that this project uses and no others; a field that is not named here is ignored
//! when it arrives and lost when a message is encoded again. Names and field numbers are Fabric's (fabric-protos, `peer/`, `common/`,
//! `msp/`, `ledger/`, `gateway/`, `orderer/`), so that both ends agree. Packages are Fabric's where a service's name depends on them;
//! the other messages share them.

/// The messages and the service of a chaincode, in Fabric's package `protos`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod protos {
    tonic::include_proto!("protos");
}

/// The messages and the service of a gateway, in Fabric's package `gateway`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod gateway {
    tonic::include_proto!("gateway");
}

pub use gateway::{gateway_client::GatewayClient, gateway_server::GatewayServer};
pub use protos::{chaincode_client::ChaincodeClient, chaincode_server::ChaincodeServer};
pub use protos::{endorser_client::EndorserClient, endorser_server::EndorserServer};

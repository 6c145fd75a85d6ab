//! What crosses the wire between the secret broker and everybody else: the generated gRPC types, the REST bodies and the
//! names that several components must agree on. No logic, no I/O.

pub mod names;
pub mod rest;

mod discreet;

/// The gRPC service for machines, generated from `proto/leasehold/broker/v1/machines.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod machines {
    tonic::include_proto!("leasehold.broker.v1");
}

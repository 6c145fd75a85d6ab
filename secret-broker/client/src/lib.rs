//! How everybody else reaches a secret broker: [`machines::MachinesClient`] (gRPC) for the machines of a cluster and
//! [`people::PeopleClient`] (REST) for people's command line.
//!
//! Both read their token from a file at every call and their CA certificate from a file that may appear or change later,
//! connect lazily, and put a deadline on everything. Deciding what an answer means is left to the caller.

mod files;
pub mod machines;
pub mod people;

pub use files::{EndpointError, FileError};

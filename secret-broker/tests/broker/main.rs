//! The broker's promises, over real sockets: the built binary as a process of its own, an OpenID provider and an API server of the
//! tests', REST and gRPC as people and machines speak them.

// Helpers of tests may fail like tests do; clippy's leave for tests covers only the test functions themselves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod audit;
mod balancer;
mod canary;
mod conditions;
mod copies;
mod doomed;
mod events;
#[allow(dead_code, reason = "shared with the tests of a channel")]
mod fixture;
mod hostile;
mod hub;
mod issuer;
mod keys;
mod keysets;
mod lease_list;
mod ledger_command;
mod line;
mod machines;
mod memory;
mod openapi;
mod people;
mod refusals;
mod restart;
mod search;
mod shares;
#[allow(dead_code, reason = "shared with the tests of a channel")]
#[path = "../channel/story.rs"]
mod story;
mod tokens;

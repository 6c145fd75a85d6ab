//! Brokers on real database servers: replicas that share a key store, one of them killed, and kills of one broker at random moments.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout
)]

mod copies;
mod crash;
mod failover;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../broker/fixture.rs"]
mod fixture;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../broker/issuer.rs"]
mod issuer;
mod place;

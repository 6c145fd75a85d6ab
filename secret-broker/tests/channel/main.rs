//! The broker on a channel of **simulated** peers: the built binary as its operator runs it, two organisations, the real contract, and
//! peers and an ordering service that fail. What only real peers can show is in `tests/real`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod approval;
mod behind;
mod consortium;
mod failure;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../broker/fixture.rs"]
mod fixture;
#[allow(dead_code, reason = "shared with the other tests")]
#[path = "../broker/issuer.rs"]
mod issuer;
mod once;
mod story;
mod trust;
mod way;

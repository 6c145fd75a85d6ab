//! Random histories of several organisations and people, at random times, and a contract to hold them against that is too simple to
//! be wrong.
//!
//! [`plays`] draws a history: every command that the contract has, by organisations whose clocks are wrong. [`play`] plays it on a
//! state in memory and panics where the contract does otherwise than the [`Model`](model) or lets two have what one has alone. What it
//! gives back, with the answer to each command, is for other ledgers to come to as well.
//!
//! For tests only, and so it fails by panicking.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod agree;
mod attempt;
mod command;
mod consortium;
mod dataset;
#[path = "../../tests/support/fetching.rs"]
mod fetching;
mod model;
mod play;
mod tally;
mod trace;

pub use attempt::{MSPS, Play, plays};
pub use play::{History, Ledger, Turn, Verdict, play, replay};
pub use tally::Tally;

/// How many histories a test plays: so many, or what `LEASEHOLD_SOAK_CASES` says.
#[must_use]
pub fn cases(usually: u32) -> u32 {
    let asked = std::env::var("LEASEHOLD_SOAK_CASES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(usually)
}

//! Tests against what real Argo 4.1 was recorded sending to an API server (`tests/fixtures/admission`).
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod pods;
mod recordings;
mod status;

//! Reviews, recorded and forged. The pure decisions by tables; the whole shell over real sockets in `server.rs`. What only a
//! real API server can see (defaulting, other plugins, CEL) is left to the cluster's tests.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail like tests"
)]

mod guards;
mod hostile;
mod jobs;
mod pod_attacks;
mod pods;
mod properties;
mod reason_codes;
mod server;
mod workflow_attacks;
mod workflows;
mod world;

//! The `leasehold` binary against a broker that answers from a script: what scripts and people see.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod basics;
mod life;
mod script;

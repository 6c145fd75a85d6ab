//! The secret broker of one organisation: who you are, what you may, what is encrypted with what, what was done by whom.
//!
//! People register, lease and release over REST; the cluster's machines watch leases and open volumes over gRPC. Metadata and leases are
//! the ledger's; wrapped keys, bindings and accepted work are in the broker's own database. It is the only process that decrypts, and
//! it does so in one place ([`sealing`]): for the provisioner while the ledger shows the lease active, and to encrypt anew.

pub mod api;
pub mod audit;
pub mod broker;
pub mod changes;
pub mod command_line;
pub mod config;
pub mod crypto;
pub mod enrolment;
pub mod expiry;
pub mod fabric;
pub mod identity;
pub mod keeping;
pub mod keys;
pub mod ledger;
pub mod ledgers;
pub mod machines;
pub mod metrics;
pub mod operations;
pub mod pace;
pub mod private_file;
pub mod probes;
pub mod publish;
pub mod replicas;
pub mod sealing;
pub mod search;
pub mod secret;
pub mod server;
pub mod shredding;
mod sqlite;
pub mod store;
pub mod strict_json;
pub mod tls;
pub mod view;
pub mod volume;

pub use broker::{Running, run, start};
pub use config::Config;

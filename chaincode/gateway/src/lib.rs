//! A client of Hyperledger Fabric's gateway: evaluate, endorse, submit, commit status and chaincode events, over several peers.
//!
//! ```no_run
//! use fabric_gateway_client::{Call, Config, CredentialFiles, Events, Gateway, Peer, Start};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let files = CredentialFiles {
//!     msp_id: "Org1MSP".into(),
//!     certificate: "/identity/tls.crt".into(),
//!     key: "/identity/tls.key".into(),
//! };
//! let peers = vec![Peer::tls("peer0.org1:7051", std::fs::read("/roots/org1.pem")?)];
//! let gateway = Gateway::new(Config::new(peers), files.read().await?)?;
//! let contract = gateway.contract("channel", "assets");
//! let committed = contract.submit(&Call::new("create").argument("a1")).await?;
//! let asset = contract.evaluate(&Call::new("read").argument("a1")).await?;
//! let mut events = contract.events(Start::Block(committed.block));
//! while let event = events.next().await? {
//!     println!("{} {}", event.name, event.transaction_id);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It promises: every call ends by its deadline ([`Deadlines`]); a peer that fails is passed over and asked last for a while; what is
//! sent to a second peer is the same signed transaction with the same id, so that it takes effect once or not at all; and an error says
//! which of these it is: refused by the chaincode, endorsed differently, invalid in its block, not submitted, or unknown, with the id by
//! which [`Gateway::commit_status`] tells later. What a gateway returns is signed only if it is the transaction that was proposed.
//!
//! It leaves to the caller: whether a command may be run again ([`Contract::submit_idempotent`]), how many calls run at once (a peer's
//! gateway takes 500), when to read rotated keys again ([`Gateway::renew`]), and to keep checkpoints of events. A peer may answer from
//! a state that is a few blocks older than another's.

mod call;
mod config;
mod connection;
mod contract;
mod error;
mod event;
mod failover;
mod failure;
mod gateway;
mod identity;
mod link;
mod peer;
mod proposal;
mod retry;
mod signer;
mod validation;

pub use async_trait::async_trait;
pub use bytes::Bytes;

pub use call::Call;
pub use config::{
    ClientCertificate, Clock, Config, ConfigError, Deadlines, MAX_MESSAGE_BYTES, MIN_PING_INTERVAL, Peer,
};
pub use contract::{Committed, Contract, Endorsed};
pub use error::{
    Attempt, Attempts, CommitStatusError, Detail, EventsError, ProposalError, Refusal, Report, SubmitError,
    TransactionError,
};
pub use event::{Checkpoint, Event, Events, Start};
pub use gateway::Gateway;
pub use identity::{CredentialFiles, Credentials, Identity, IdentityError};
pub use peer::{Height, OnePeer};
pub use proposal::{Nonce, TransactionId, TransactionIdError};
pub use retry::Retry;
pub use signer::{P256Signer, SignError, Signer};
pub use validation::{CommitStatus, ValidationCode};

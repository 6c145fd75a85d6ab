//! Hyperledger Fabric chaincode in Rust, as a service: a server to which peers connect.
//!
//! Implement [`Chaincode`] and hand it to [`Server`]:
//!
//! ```no_run
//! use fabric_shim::{Chaincode, Config, Response, Server, Stub};
//! use tokio_util::sync::CancellationToken;
//!
//! struct Greeter;
//!
//! #[fabric_shim::async_trait]
//! impl Chaincode for Greeter {
//!     async fn invoke(&self, stub: &Stub) -> Response {
//!         stub.get_state("greeting").await.map(Option::unwrap_or_default).into()
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::from_env()?;
//! Server::new(Greeter, config).serve(CancellationToken::new()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! It promises that every transaction a peer sends is answered, also where the handler panics or takes too long; that a stream
//! that dies takes its transactions with it and no others; and that whoever calls [`Server::serve`] owns every task: when it
//! returns, none is left.
//!
//! What it leaves to the chaincode: to be a function of the ledger and the proposal. A handler that reads a clock, a random
//! number or a file endorses what no other peer endorses. What it leaves to the peer: who may invoke, order, and commit.
//!
//! The protocol was observed against peers of Fabric 3.1; the names of messages are those of fabric-protos.

mod config;
mod creator;
mod error;
mod event;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod key;
mod lane;
mod limits;
mod policy;
mod proposal;
mod query;
mod response;
mod server;
mod session;
mod state;
mod stub;
mod writer;

pub use async_trait::async_trait;
pub use bytes::Bytes;

pub use config::{Config, ConfigError, ConfigProblem, TlsConfig};
pub use creator::{Certificate, Creator, CreatorError};
pub use error::CallError;
pub use event::EventError;
pub use key::{COMPOSITE_MARK, KeyError, LAST_CHARACTER, composite_key, split_composite_key};
pub use limits::{Limits, MAX_MESSAGE_BYTES};
pub use policy::EndorsementPolicy;
pub use proposal::{ProposalError, Timestamp};
pub use query::{KeyModification, KeyValue, Page, Paging, Rows};
pub use response::{ERROR_THRESHOLD, Response, STATUS_ERROR, STATUS_OK};
pub use server::{Chaincode, ServeError, Server};
pub use state::{PrivateData, VALIDATION_PARAMETER};
pub use stub::Stub;
pub use writer::Writer;

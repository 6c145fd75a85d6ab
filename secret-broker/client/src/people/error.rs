//! Why a person's request gave nothing.

use std::time::Duration;

use http::StatusCode;
use leasehold_broker_wire::rest::Problem;

use crate::files::FileError;

/// Why a request gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// The broker refused, and said why.
    #[error("{} ({})", .0.detail, .0.code())]
    Refused(Box<Problem>),
    /// Token or CA certificate can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// No TLS with this CA bundle or trust store.
    #[error("cannot set up TLS for {url}: {reason}")]
    Tls {
        /// The broker.
        url: String,
        /// Why.
        reason: String,
    },
    /// Nobody answered.
    #[error("cannot reach the secret broker at {url}: {reason}; check the URL and that the broker runs")]
    Unreachable {
        /// The broker.
        url: String,
        /// Why.
        reason: String,
    },
    /// An answer that is not the broker's.
    #[error("{url} answered {status} with something that is not a secret broker's answer: {reason}")]
    Unintelligible {
        /// What was asked.
        url: String,
        /// HTTP status.
        status: StatusCode,
        /// Why.
        reason: String,
    },
    /// The write is still under way.
    #[error("{what} is still under way after {} s; look again with `leasehold {look}`", waited.as_secs())]
    TimedOut {
        /// The operation or lease.
        what: String,
        /// The command that shows it.
        look: String,
        /// How long was waited.
        waited: Duration,
    },
}

//! How much and how long: the bounds of a server, with defaults that fit a peer's own.

use std::time::Duration;

/// Greatest message a peer sends or takes: 100 MiB, its `grpc.MaxRecvMsgSize` and `MaxSendMsgSize`.
pub const MAX_MESSAGE_BYTES: usize = 100 << 20;

/// Bounds of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Greatest message, both ways, in bytes. A greater one inbound ends the stream; outbound, it fails the call.
    pub message_bytes: usize,
    /// How long a handler may take. The peer's `chaincode.executetimeout` is 30 s; below that the client learns why.
    pub transaction: Duration,
    /// How long a peer may take from the opened stream to READY. One that does not know our package id never answers.
    pub registration: Duration,
    /// How long running transactions may take once shutdown is asked for or their stream has died.
    pub drain: Duration,
    /// Transactions that may run at once on one stream; the next is answered with an error. A peer's
    /// `limits.concurrency.endorserService` is 2500.
    pub transactions_per_stream: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: MAX_MESSAGE_BYTES,
            transaction: Duration::from_secs(25),
            registration: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            transactions_per_stream: 2500,
        }
    }
}

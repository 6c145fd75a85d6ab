//! Which peers, how they are reached, and how long anything may take.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Greatest message, both ways: 100 MiB, a peer's `grpc.MaxRecvMsgSize` and `MaxSendMsgSize`. tonic's own limit is 4 MiB.
pub const MAX_MESSAGE_BYTES: usize = 100 << 20;

/// A peer ends the connection of a client that pings more often, `peer.keepalive.minInterval`.
pub const MIN_PING_INTERVAL: Duration = Duration::from_secs(60);

/// What a gateway needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// In the order of preference: the first that works is asked. Never empty.
    pub peers: Vec<Peer>,
    /// Shown to peers that want one (`peer.tls.clientAuthRequired`).
    pub client_certificate: Option<ClientCertificate>,
    /// How long anything may take.
    pub deadlines: Deadlines,
    /// Between two pings of a connection; less than [`MIN_PING_INTERVAL`] counts as that.
    pub ping_interval: Duration,
    /// Gives the time of what is proposed. A peer takes none that is more than 15 minutes from its own.
    pub clock: Clock,
}

/// Where a proposal's time comes from; the system's clock unless another one is given.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// Another clock than the system's.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}

impl Config {
    /// With the default deadlines and without a client certificate.
    #[must_use]
    pub fn new(peers: Vec<Peer>) -> Self {
        Self {
            peers,
            client_certificate: None,
            deadlines: Deadlines::default(),
            ping_interval: Duration::from_secs(75),
            clock: Clock::default(),
        }
    }
}

/// A peer whose gateway is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Peer {
    /// `host:port`.
    pub address: String,
    /// Roots of its TLS certificate, PEM; none for plain text.
    pub roots: Option<Vec<u8>>,
    /// Name in its TLS certificate where that is not the host of the address.
    pub server_name: Option<String>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", &self.address)
            .field("tls", &self.roots.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}

impl Peer {
    /// Over TLS, with the roots of its certificate in PEM.
    pub fn tls(address: impl Into<String>, roots: impl Into<Vec<u8>>) -> Self {
        Self {
            address: address.into(),
            roots: Some(roots.into()),
            server_name: None,
        }
    }

    /// In plain text: for tests, and where something else encrypts. Transactions are signed either way.
    pub fn plain(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            roots: None,
            server_name: None,
        }
    }
}

/// Certificate and key of a client for mutual TLS, in PEM. They need not be those that sign transactions.
#[derive(Clone)]
pub struct ClientCertificate {
    /// Certificate chain, the client's own first.
    pub certificate: Vec<u8>,
    /// Private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

/// How long anything may take. Each is for the whole of it, over however many peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    /// Until a connection stands.
    pub connect: Duration,
    /// One peer's answer; then the next is asked.
    pub attempt: Duration,
    /// An evaluation.
    pub evaluate: Duration,
    /// All endorsements of a proposal.
    pub endorse: Duration,
    /// Until the ordering service has taken a transaction. It is tried over and over until then.
    pub submit: Duration,
    /// From there until it is in a block.
    pub commit: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            attempt: Duration::from_secs(15),
            evaluate: Duration::from_secs(30),
            endorse: Duration::from_secs(30),
            submit: Duration::from_secs(30),
            commit: Duration::from_secs(60),
        }
    }
}

/// Why a gateway cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No peer at all.
    #[error("no peer is configured; name at least one")]
    NoPeers,
    /// An address that is none.
    #[error("peer address {address:?} is not host:port")]
    Address {
        /// As it was given.
        address: String,
    },
    /// Roots, name or client certificate that cannot be used.
    #[error(
        "tls to peer {address} cannot be set up: {source}; check its roots, its name and the client certificate"
    )]
    Tls {
        /// Of the peer.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

//! A peer's gateway, served on a port of loopback in a runtime of its own, so that it can be killed as a process can.

mod endorser;
mod endorsers;
mod refusal;
mod service;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fabric_wire::{EndorserServer, GatewayServer};
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::network::Network;
use crate::peer::Refusal;
use service::Service;

/// As a real peer's.
const MESSAGE_BYTES: usize = 100 << 20;
/// How long a port may take to be free again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks whether it is.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Why a gateway cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// No port, or no runtime.
    #[error("cannot serve a gateway: {0}")]
    Io(#[from] std::io::Error),
    /// Certificates that do not fit.
    #[error("cannot serve a gateway over tls: {0}")]
    Tls(#[from] tonic::transport::Error),
    /// The network has no such peer.
    #[error("the network has no peer {0}")]
    NoPeer(usize),
}

/// Certificates of a gateway, in PEM.
#[derive(Debug, Clone)]
pub struct GatewayTls {
    /// Certificate and key.
    pub identity: (String, String),
    /// Roots of the clients' certificates; given, a client must show one.
    pub client_ca: Option<String>,
}

/// What goes wrong at a gateway: so many of the next calls.
#[derive(Debug, Default)]
pub struct Faults {
    lost: AtomicUsize,
    hung: AtomicUsize,
    forged: AtomicUsize,
    stalled: watch::Sender<bool>,
    slowed_ms: AtomicU64,
}

impl Faults {
    /// A transaction is ordered, and the client is told that the peer is unavailable.
    pub fn lose_submit_answers(&self, calls: usize) {
        self.lost.store(calls, Ordering::SeqCst);
    }

    /// A call to evaluate, endorse or submit is never answered, and does nothing.
    pub fn hang(&self, calls: usize) {
        self.hung.store(calls, Ordering::SeqCst);
    }

    /// How many of those calls are still to come.
    #[must_use]
    pub fn left_to_hang(&self) -> usize {
        self.hung.load(Ordering::SeqCst)
    }

    /// A transaction of another call is returned for signature.
    pub fn forge(&self, calls: usize) {
        self.forged.store(calls, Ordering::SeqCst);
    }

    /// No call is answered and nothing comes on a stream, while connections stand; or all goes on.
    pub fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// A stream takes so long before each block with events, as one does that has much to make up for.
    pub fn slow_events(&self, each: Duration) {
        let each = u64::try_from(each.as_millis()).unwrap_or(u64::MAX);
        self.slowed_ms.store(each, Ordering::SeqCst);
    }

    fn event_delay(&self) -> Duration {
        Duration::from_millis(self.slowed_ms.load(Ordering::SeqCst))
    }

    fn take(fault: &AtomicUsize) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        fault
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
            .is_ok()
    }
}

/// The gateway of one peer. Killed when dropped.
pub struct GatewayPeer {
    network: Arc<Network>,
    place: usize,
    address: SocketAddr,
    /// Bound and never listening: while nothing is served the system gives the port to nobody who wants any port.
    _reserved: TcpSocket,
    tls: Option<GatewayTls>,
    faults: Arc<Faults>,
    runtime: Option<Runtime>,
}

impl GatewayPeer {
    /// Serves the gateway of the network's `place`th peer.
    ///
    /// # Errors
    /// Where there is no such peer, no port or no use for the certificates.
    pub fn start(
        network: &Arc<Network>,
        place: usize,
        tls: Option<GatewayTls>,
    ) -> Result<Self, GatewayError> {
        let reserved = TcpSocket::new_v4()?;
        reserved.set_reuseaddr(true)?;
        reserved.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = reserved.local_addr()?;
        let listener = TcpListener::bind(address)?;
        let mut peer = Self {
            network: Arc::clone(network),
            place,
            address,
            _reserved: reserved,
            tls,
            faults: Arc::default(),
            runtime: None,
        };
        peer.serve(listener)?;
        Ok(peer)
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What goes wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Its peer takes no further block, and answers as if there were none; or it catches up.
    pub fn hold_back(&self, hold: bool) {
        if let Some(peer) = self.network.peers().get(self.place) {
            self.network.hold_back(peer, hold);
        }
    }

    /// Its peer says no to whatever it is to run, as if the chaincode did; or it is honest again.
    pub fn refuse(&self, refusal: Option<(i32, &str)>) {
        self.refuse_what("", refusal);
    }

    /// The same to what has this text in an argument.
    pub fn refuse_what(&self, what: &str, refusal: Option<(i32, &str)>) {
        if let Some(peer) = self.network.peers().get(self.place) {
            peer.refuse(refusal.map(|(status, message)| Refusal {
                what: what.to_owned(),
                status,
                message: message.to_owned(),
            }));
        }
    }

    /// Ends it at once: its connections break, and other gateways get no endorsement of its peer.
    pub fn kill(&mut self) {
        self.close_gateway();
        if let Some(peer) = self.network.peers().get(self.place) {
            peer.set_up(false);
        }
    }

    /// Ends its gateway only: clients' connections break, and its peer goes on answering the other gateways.
    pub fn close_gateway(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Serves it again at the same address, which was kept for it.
    ///
    /// # Errors
    /// Where the server before still has the port after ten seconds.
    pub fn restart(&mut self) -> Result<(), GatewayError> {
        self.kill();
        let start = Instant::now();
        let listener = loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => break listener,
                Err(error) if start.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => std::thread::sleep(LOOK_AGAIN),
            }
        };
        self.serve(listener)
    }

    fn serve(&mut self, listener: TcpListener) -> Result<(), GatewayError> {
        let peer = self.network.peers().get(self.place);
        let peer = peer.ok_or(GatewayError::NoPeer(self.place))?;
        listener.set_nonblocking(true)?;
        let mut server = Server::builder();
        if let Some(GatewayTls { identity, client_ca }) = &self.tls {
            let (certificate, key) = identity;
            let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
            if let Some(roots) = client_ca {
                tls = tls.client_ca_root(Certificate::from_pem(roots));
            }
            server = server.tls_config(tls)?;
        }
        let service = Service {
            network: Arc::clone(&self.network),
            peer: Arc::clone(peer),
            faults: Arc::clone(&self.faults),
        };
        let endorser = EndorserServer::new(service.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let service = GatewayServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        // Owned by the runtime, which `kill` and `drop` end.
        let server = server.add_service(service).add_service(endorser);
        runtime.spawn(server.serve_with_incoming(incoming));
        peer.set_up(true);
        self.runtime = Some(runtime);
        Ok(())
    }
}

impl Drop for GatewayPeer {
    fn drop(&mut self) {
        self.kill();
    }
}

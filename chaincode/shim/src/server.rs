//! The server that peers dial: one session a stream, as many streams as there are peers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use fabric_wire::ChaincodeServer;
use fabric_wire::protos::{ChaincodeMessage, chaincode_server};
use futures::Stream;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use tonic::{Request, Response as GrpcResponse, Status, Streaming};
use tracing::info;

use crate::config::{Config, TlsConfig};
use crate::response::Response;
use crate::session::Session;
use crate::stub::Stub;

/// HTTP/2 windows, in bytes: many transactions share one stream, and a message may be large.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// A peer whose machine has gone is noticed after these two.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A chaincode: what to do with a transaction.
///
/// Handlers of many transactions run at the same time. One that panics or takes longer than [`crate::Limits::transaction`] has its
/// transaction fail, and no other; one that blocks its thread, or a process built with `panic = "abort"`, is beyond that.
#[async_trait::async_trait]
pub trait Chaincode: Send + Sync + 'static {
    /// Answers a transaction. A status below [`crate::ERROR_THRESHOLD`] lets the peer endorse what was written.
    async fn invoke(&self, stub: &Stub) -> Response;

    /// Answers the first transaction of a chaincode whose definition requires an initialisation. The same as any other by default.
    async fn init(&self, stub: &Stub) -> Response {
        self.invoke(stub).await
    }
}

/// Why a server did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// As configured.
        address: String,
        /// From the operating system.
        source: std::io::Error,
    },
    /// The certificates cannot be used, or the transport failed.
    #[error("the transport failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// A chaincode and how it is served.
#[derive(Debug)]
pub struct Server<C> {
    chaincode: Arc<C>,
    config: Config,
}

impl<C: Chaincode> Server<C> {
    /// A server that listens once it is served.
    pub fn new(chaincode: C, config: Config) -> Self {
        Self {
            chaincode: Arc::new(chaincode),
            config,
        }
    }

    /// Listens on the configured address and serves until `shutdown`, then lets running transactions end.
    ///
    /// # Errors
    /// Where it cannot listen, or the certificates cannot be used.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let address = self.config.address.clone();
        let listener = TcpListener::bind(&address)
            .await
            .map_err(|source| ServeError::Listen { address, source })?;
        self.serve_on(listener, shutdown).await
    }

    /// The same on a listener that is there already.
    ///
    /// # Errors
    /// Where the certificates cannot be used.
    pub async fn serve_on(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        let Config {
            chaincode_id,
            tls,
            limits,
            ..
        } = self.config;
        info!(chaincode_id, tls = tls.is_some(), "the chaincode server listens");
        // Sessions end when shutdown is asked for, and also where this future fails or is dropped.
        let stop = shutdown.child_token();
        let stop_sessions = stop.clone().drop_guard();
        let sessions = TaskTracker::new();
        let message_bytes = limits.message_bytes;
        let service = Service {
            chaincode: self.chaincode,
            chaincode_id: chaincode_id.into(),
            limits,
            sessions: sessions.clone(),
            stop: stop.clone(),
        };
        let service = ChaincodeServer::new(service)
            .max_decoding_message_size(message_bytes)
            .max_encoding_message_size(message_bytes);
        let mut transport = tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT));
        if let Some(tls) = tls {
            transport = transport.tls_config(transport_tls(tls))?;
        }
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let served = transport
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned())
            .await;
        drop(stop_sessions);
        sessions.close();
        sessions.wait().await;
        Ok(served?)
    }
}

fn transport_tls(tls: TlsConfig) -> ServerTlsConfig {
    let config = ServerTlsConfig::new().identity(Identity::from_pem(tls.certificate, tls.key));
    match tls.client_ca {
        Some(roots) => config.client_ca_root(Certificate::from_pem(roots)),
        None => config,
    }
}

struct Service<C> {
    chaincode: Arc<C>,
    chaincode_id: Arc<str>,
    limits: crate::limits::Limits,
    sessions: TaskTracker,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl<C: Chaincode> chaincode_server::Chaincode for Service<C> {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ChaincodeMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<ChaincodeMessage>>,
    ) -> Result<GrpcResponse<Self::ConnectStream>, Status> {
        info!(peer = ?request.remote_addr(), "a peer connected");
        let (session, outbound) = Session::new(
            Arc::clone(&self.chaincode),
            &self.chaincode_id,
            self.limits.clone(),
        );
        self.sessions
            .spawn(session.run(request.into_inner(), self.stop.clone()));
        Ok(GrpcResponse::new(Box::pin(outbound)))
    }
}

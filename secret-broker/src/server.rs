//! Accepts connections and serves them, with or without TLS, until shutdown; then lets each finish what it has begun.
//!
//! Every connection is a task of this function's own set. Handshakes, headers and idle HTTP/2 connections have deadlines, whoever does
//! not read what they are sent is cut, and the number of connections is bounded, in total and for each peer. People's connections
//! speak HTTP/1.1 alone: each has one answer in memory, where HTTP/2 would let its peer ask for hundreds and read none.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use ipnet::IpNet;
use leasehold_process::places::{Place, Places};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const MOST_CONNECTIONS: usize = 2048;
/// Of one address: no client of ours has more than a few.
const MOST_OF_A_PEER: usize = 32;
/// Of all proxies together, who come for many.
const MOST_OF_PROXIES: usize = 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// For so long nothing of an answer may be taken.
const UNREAD: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 30 });
const DRAIN: Duration = Duration::from_secs(10);

/// Where a request came from; an extension of each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The id of a request, a UUID; an extension of each request that is answered with it.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 and HTTP/1.1.
    Both,
}

impl Speaks {
    /// As a TLS handshake names it (RFC 7301), the better one first.
    #[must_use]
    pub fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

/// What is served on a port.
#[derive(Clone)]
pub struct Served {
    /// Its certificate; none where it is plain.
    pub tls: Option<Arc<ServerConfig>>,
    /// What is spoken; the certificate's configuration has to name the same.
    pub speaks: Speaks,
    /// Where proxies are, each of which comes for many.
    pub proxies: Arc<[IpNet]>,
    /// What is answered.
    pub router: Router,
}

impl Served {
    /// Where nobody comes by a proxy.
    #[must_use]
    pub fn to_peers(tls: Option<Arc<ServerConfig>>, router: Router) -> Self {
        Self {
            tls,
            speaks: Speaks::Both,
            proxies: Arc::default(),
            router,
        }
    }
}

/// Places by the address that somebody comes from, and others for proxies, who come for many.
pub struct Doors {
    peers: Places<IpAddr>,
    through_proxies: Places<IpAddr>,
    proxies: Arc<[IpNet]>,
}

impl Doors {
    /// Places of peers and of proxies.
    #[must_use]
    pub const fn new(peers: Places<IpAddr>, through_proxies: Places<IpAddr>, proxies: Arc<[IpNet]>) -> Self {
        Self {
            peers,
            through_proxies,
            proxies,
        }
    }

    /// Where somebody from an address takes a place.
    #[must_use]
    pub fn of(&self, peer: IpAddr) -> &Places<IpAddr> {
        // A socket for both families has IPv4 addresses in IPv6's form.
        let peer = peer.to_canonical();
        match self.proxies.iter().any(|network| network.contains(&peer)) {
            true => &self.through_proxies,
            false => &self.peers,
        }
    }
}

/// Serves until shutdown, then drains.
pub async fn serve(listener: TcpListener, served: Served, shutdown: CancellationToken) {
    let Served {
        tls,
        speaks,
        proxies,
        router,
    } = served;
    let acceptor = tls.map(TlsAcceptor::from);
    let doors = Doors::new(
        Places::new(MOST_CONNECTIONS, MOST_OF_A_PEER),
        Places::new(MOST_OF_PROXIES, MOST_OF_PROXIES),
        proxies,
    );
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept(&listener, &doors) => accepted,
            () = shutdown.cancelled() => break,
        };
        let Some((stream, peer, place)) = accepted else {
            continue;
        };
        let (acceptor, router, shutdown) = (acceptor.clone(), router.clone(), shutdown.clone());
        connections.spawn(async move {
            let _place = place;
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(UNREAD));
            let stream = Box::pin(stream);
            match acceptor {
                None => connection(stream, peer, speaks, router, shutdown).await,
                Some(acceptor) => match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, peer, speaks, router, shutdown).await,
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
                },
            }
        });
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("some connections did not finish in time and are cut");
    }
}

async fn accept(listener: &TcpListener, doors: &Doors) -> Option<(TcpStream, SocketAddr, Place<IpAddr>)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            let place = doors
                .of(peer.ip())
                .take(peer.ip())
                .inspect_err(|reason| tracing::debug!(%peer, %reason, "a connection is turned away"))
                .ok()?;
            // Answers are small; waiting to fill a packet only delays them.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, %error, "could not set TCP_NODELAY");
            }
            Some((stream, peer, place))
        }
        Err(error) => {
            tracing::warn!(%error, "could not accept a connection");
            // Out of file descriptors, most likely; spinning would not make more.
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn connection<S>(
    stream: S,
    peer: SocketAddr,
    speaks: Speaks,
    router: Router,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let router = router.clone();
        async move { router.oneshot(request.map(axum::body::Body::new)).await }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(256)
        .max_header_list_size(64 * 1024);
    let builder = match speaks {
        Speaks::Http1 => builder.http1_only(),
        Speaks::Both => builder,
    };
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::mpsc;

    /// Serves over HTTP/1.1 without TLS, and yields where.
    async fn started(router: Router) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut served = Served::to_peers(None, router);
        served.speaks = Speaks::Http1;
        tokio::spawn(serve(listener, served, CancellationToken::new()));
        address
    }

    /// Says so when it goes.
    struct Held(mpsc::Sender<()>);

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.try_send(()).unwrap();
        }
    }

    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_given_up() {
        let (sender, mut gone) = mpsc::channel(1);
        let answer = move || {
            let held = Held(sender.clone());
            async move {
                let megabyte = Bytes::from(vec![0; 1 << 20]);
                Body::from_stream(futures::stream::repeat_with(move || {
                    let _being_sent = &held;
                    Ok::<_, std::io::Error>(megabyte.clone())
                }))
            }
        };
        let address = started(Router::new().route("/", get(answer))).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: broker\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 12];
        client.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        let ended = tokio::time::timeout(Duration::from_secs(30), gone.recv()).await;
        assert_eq!(ended, Ok(Some(())), "it is still held");
    }

    #[tokio::test]
    async fn people_are_not_served_over_http_2() {
        let address = started(Router::new().route("/", get(|| async { "here" }))).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
            "{answer:?}"
        );
        assert_eq!(Speaks::Http1.alpn(), [b"http/1.1"]);
    }

    #[test]
    fn a_proxys_connections_are_not_one_peers() {
        let proxies = ["10.0.0.0/8".parse().unwrap()].into();
        let doors = Doors::new(Places::new(4, 1), Places::new(4, 4), proxies);
        let taken = |peer: &str| {
            let peer = peer.parse().unwrap();
            let places: Vec<_> = (0..3).map_while(|_| doors.of(peer).take(peer).ok()).collect();
            places.len()
        };
        let found = ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "::ffff:192.0.2.1"].map(taken);
        assert_eq!(found, [3, 3, 1, 1]);
    }
}

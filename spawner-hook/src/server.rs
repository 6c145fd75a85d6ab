//! Accepts connections until shutdown, so many in total and of each peer, then lets those that are open finish.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use leasehold_process::places::Places;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::tls::Tls;

/// Hubs open one connection per spawn.
const MAX_CONNECTIONS: usize = 512;
/// Of one address, a hub's or another's.
const MAX_OF_A_PEER: usize = 128;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// More than a spawn may take.
const DRAIN_DEADLINE: Duration = Duration::from_secs(25);

/// Serves HTTPS until shutdown, then drains.
pub(crate) async fn serve_tls(
    listener: TcpListener,
    tls: Arc<Tls>,
    router: Router,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let places = Places::new(MAX_CONNECTIONS, MAX_OF_A_PEER);
    loop {
        let (stream, place) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match places.take(peer.ip()) {
                    Ok(place) => (stream, place),
                    Err(reason) => {
                        tracing::debug!(%peer, %reason, "a connection is turned away");
                        continue;
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Most likely out of file descriptors: give others time to close theirs.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        let (config, router, shutdown) = (tls.config(), router.clone(), shutdown.clone());
        connections.spawn(async move {
            serve_connection(stream, TlsAcceptor::from(config), router, shutdown).await;
            drop(place);
        });
    }
    connections.close();
    if tokio::time::timeout(DRAIN_DEADLINE, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not finish in time and are cut");
    }
}

async fn serve_connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    shutdown: CancellationToken,
) {
    let stream = match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(HEADER_DEADLINE))
        .max_concurrent_streams(32);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Serves plain HTTP until shutdown.
pub(crate) async fn serve_plain(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
    {
        tracing::error!(%error, "the health port ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::tls::Certificate;

    async fn ask(address: std::net::SocketAddr, ca_pem: &str, name: &str) -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
            .unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        stream
            .write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn hubs_that_trust_our_authority_are_served_and_shutdown_lets_them_finish() {
        let names = vec!["hook.leasehold-system.svc".to_owned(), "127.0.0.1".to_owned()];
        let tls = Arc::new(Tls::new(Certificate::Own { names }).unwrap());
        let ca = tls.own_ca_pem().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let begun = Arc::new(tokio::sync::Notify::new());
        let (begin, end) = (Arc::clone(&begun), shutdown.clone());
        let slow = get(move || async move {
            begin.notify_one();
            // Answers only once shutdown has begun.
            end.cancelled().await;
            "finished"
        });
        let server = tokio::spawn(serve_tls(
            listener,
            tls,
            Router::new().route("/slow", slow),
            shutdown.clone(),
        ));

        let stranger = Tls::new(Certificate::Own {
            names: vec!["x".to_owned()],
        })
        .unwrap()
        .own_ca_pem()
        .unwrap();
        assert!(
            ask(address, &stranger, "127.0.0.1").await.is_err(),
            "another authority was trusted"
        );
        assert!(
            ask(address, &ca, "another.name").await.is_err(),
            "another name was trusted"
        );
        let (answer, ()) = tokio::join!(ask(address, &ca, "hook.leasehold-system.svc"), async {
            begun.notified().await;
            shutdown.cancel();
        });
        assert!(answer.unwrap().ends_with("finished"));
        server.await.unwrap();
        assert!(
            ask(address, &ca, "127.0.0.1").await.is_err(),
            "still accepting after shutdown"
        );
    }
}

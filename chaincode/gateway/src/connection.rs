//! Connections to one peer, and whether one stood: a request for which there was none was not sent, however its time ended.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::ServiceExt as _;

/// How many connections to a peer were opened, and how many stand.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    opened: AtomicU64,
    standing: AtomicUsize,
}

/// As it was when a request began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    opened: u64,
    stood: bool,
}

impl Connections {
    /// To be asked before a request.
    pub(crate) fn before(&self) -> Before {
        // In this order: a connection that is opened in between counts as one.
        let opened = self.opened.load(Ordering::SeqCst);
        Before {
            opened,
            stood: self.standing.load(Ordering::SeqCst) > 0,
        }
    }

    /// Whether there was a connection on which a request may have been sent that has been given up. To be asked after it was dropped.
    pub(crate) fn stood_since(&self, before: Before) -> bool {
        // With the fence in `opened`: either this sees the connection, or what would send the request sees that nobody waits for it.
        fence(Ordering::SeqCst);
        before.stood || self.opened.load(Ordering::SeqCst) != before.opened
    }

    fn opened(self: &Arc<Self>, stream: TcpStream) -> Counted {
        self.standing.fetch_add(1, Ordering::SeqCst);
        self.opened.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Counted {
            stream,
            connections: Arc::clone(self),
        }
    }
}

/// A channel that opens a connection when it is first needed and again when it broke, each within `limit`, and counts them.
pub(crate) fn channel(endpoint: &Endpoint, limit: Duration, connections: &Arc<Connections>) -> Channel {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(limit));
    let connections = Arc::clone(connections);
    endpoint.connect_with_connector_lazy(tower::service_fn(move |address: Uri| {
        let (connector, connections) = (connector.clone(), Arc::clone(&connections));
        async move {
            let stream = connector.oneshot(address).await?.into_inner();
            let counted = connections.opened(stream);
            // The channel looks whether a request is still waited for each time before it asks for the connection, so that it does
            // after this one was counted.
            tokio::task::yield_now().await;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(TokioIo::new(counted))
        }
    }))
}

/// A connection that is counted until it is closed.
struct Counted {
    stream: TcpStream,
    connections: Arc<Connections>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.connections.standing.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_counts_from_when_it_was_opened_until_it_is_closed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Connections::default());
        let before = connections.before();
        assert!(!connections.stood_since(before));
        let stream = connections.opened(TcpStream::connect(address).await.unwrap());
        assert!(connections.stood_since(before));
        assert!(connections.stood_since(connections.before()));
        drop(stream);
        assert!(connections.stood_since(before), "it stood for a while");
        assert!(!connections.stood_since(connections.before()));
    }
}

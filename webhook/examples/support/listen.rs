//! What both servers of the comparison share: the same TLS, and first lines on stdout that say where they listen.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use leasehold_webhook::certificates::{Authority, ServingCertificate};
use tokio::net::TcpListener;

/// A listener on a free port and its TLS settings, announced on stdout as the port and the CA certificate.
pub async fn listen() -> Result<(TcpListener, Arc<rustls::ServerConfig>), Box<dyn Error + Send + Sync>> {
    let authority = Authority::make("localhost", Duration::from_secs(3600))?;
    let certificate = ServingCertificate::new();
    certificate.serve(authority.leaf(Duration::from_secs(3600))?.0);
    let tls = Arc::new(certificate.server_config(None)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", listener.local_addr()?.port())?;
    writeln!(out, "{}", authority.pem().trim())?;
    out.flush()?;
    Ok((listener, tls))
}

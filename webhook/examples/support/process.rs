//! What both servers of the comparison share: pinned to their core before anything starts, the same TLS, and a first line on
//! stdout that says where they listen.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use leasehold_webhook::certificates::{Authority, ServingCertificate};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tokio::net::TcpListener;

/// Errors end a benchmark.
pub type Failure = Box<dyn Error + Send + Sync>;

/// This process and all threads that it starts from now on run on one core.
pub fn pin(core: usize) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    Ok(())
}

/// A listener on a free port and its TLS settings, announced on stdout as the port and the CA certificate.
pub async fn listen() -> Result<(TcpListener, Arc<rustls::ServerConfig>), Failure> {
    let authority = Authority::make("localhost", Duration::from_secs(3600))?;
    let certificate = ServingCertificate::new();
    certificate.serve(authority.leaf(Duration::from_secs(3600))?.0);
    let tls = Arc::new(certificate.server_config()?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", listener.local_addr()?.port())?;
    writeln!(out, "{}", authority.pem().trim())?;
    out.flush()?;
    Ok((listener, tls))
}

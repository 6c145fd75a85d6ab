//! `argo-standin-controller`: a stand-in for Argo's workflow-controller, for tests. It is not Argo.

use std::process::ExitCode;

use clap::Parser as _;
use leasehold_argo_standin::controller::{self, Options};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        tracing::warn!("another crypto provider was installed before");
    }
    let shutdown = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    match controller::run(options, shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the stand-in for argo cannot run");
            ExitCode::FAILURE
        }
    }
}

//! The spawner-hook: JupyterHub calls it once at each spawn, and it makes the person known to Kubernetes and to the broker.
//!
//! `POST /v1/spawn` makes or updates the person's two ServiceAccounts with their rights, binds the person to the accounts'
//! uids at the secret broker, and answers with what the notebook's pod needs: service account, identity volume,
//! environment, and an init container that lays the skeleton of what the person leases. Calling it again changes nothing.
//!
//! Promises: two usernames never share an account; nothing is written outside namespaces labelled
//! `leasehold.dev/users=true`; nothing is written at all before the caller proved to be a hub. Which person a spawn is for
//! is the hub's word (or its OIDC provider's, where there is an `id_token`); what a person may mount is the broker's.
//!
//! Rights it needs, which are also all that it can hand on: see [`accounts`].

pub mod accounts;
mod arguments;
mod cluster;
pub mod names;
mod observe;
pub mod patch;
pub mod problem;
mod publish;
pub mod request;
mod rest;
mod server;
mod spawn;
mod tls;

use std::sync::Arc;

use leasehold_broker_client::machines::{Endpoint, MachinesClient};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use arguments::Arguments;
pub use cluster::Cluster;
pub use observe::Observations;
pub use patch::PatchSettings;
pub use rest::router;
pub use spawn::Spawner;

/// Why the process cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Settings that cannot be right, all of them.
    #[error("wrong settings: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// A listen address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// No configuration for the API server.
    #[error("cannot prepare the connection to the Kubernetes API server: {0}")]
    Kubernetes(String),
    /// No certificate.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// A part ended by itself.
    #[error("a task of the spawner-hook ended unexpectedly")]
    Ended,
}

/// Serves until shutdown, then finishes the spawns that have begun.
///
/// # Errors
/// Where it cannot start, or a part of it ends by itself.
pub async fn run(arguments: Arguments, shutdown: CancellationToken) -> Result<(), RunError> {
    let settings = arguments.validated().map_err(RunError::Settings)?;
    let broker = MachinesClient::new(Endpoint {
        url: settings.broker_url,
        ca_file: settings.broker_ca_file.clone(),
        token_file: settings.broker_token_file,
    })
    .map_err(|error| RunError::Settings(vec![error.to_string()]))?;
    let cluster = Cluster::connect().await.map_err(RunError::Kubernetes)?;
    let observations = Arc::new(Observations::default());
    let tls = Arc::new(tls::Tls::new(settings.certificate)?);
    let rest = listen(settings.listen).await?;
    let health = listen(settings.listen_health).await?;
    tracing::info!(rest = %settings.listen, health = %settings.listen_health, "listening");

    let spawner = Spawner {
        cluster: cluster.clone(),
        broker,
        broker_ca_file: settings.broker_ca_file,
        hub_identities: settings.hub_identities,
        patch: settings.patch,
    };
    let api = router(Arc::new(spawner), Arc::clone(&observations));
    let mut parts = JoinSet::new();
    parts.spawn(server::serve_tls(rest, Arc::clone(&tls), api, shutdown.clone()));
    parts.spawn(server::serve_plain(
        health,
        observe::router(Arc::clone(&observations)),
        shutdown.clone(),
    ));
    parts.spawn(tls::keep_fresh(Arc::clone(&tls), shutdown.clone()));
    parts.spawn(publish::publish(
        cluster,
        settings.namespace,
        tls,
        observations,
        shutdown.clone(),
    ));
    while let Some(ended) = parts.join_next().await {
        if ended.is_err() || !shutdown.is_cancelled() {
            shutdown.cancel();
            return Err(RunError::Ended);
        }
    }
    Ok(())
}

async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen { address, source })
}

//! The webhook's process: views, certificate, both ports; every task is waited for, and the end of one ends all.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use leasehold_broker_client::EndpointError;
use leasehold_broker_client::machines::{Endpoint, MachinesClient};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Admission, AdmissionArguments, Lookups, Views, health, serve};
use crate::certificates::{CertificateOptions, IssueError, ServingCertificate, rotate};
use crate::leases::follow_stream;
use crate::review::Identities;
use crate::watches;

/// Why the webhook ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no way to the API server.
    #[error(
        "cannot make a client of the API server: {0}; run in a pod with a ServiceAccount, or set KUBECONFIG"
    )]
    Client(Box<kube::Error>),
    /// The broker's address is wrong.
    #[error(transparent)]
    Broker(#[from] EndpointError),
    /// A port can't be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The port of probes is gone.
    #[error("the port of probes and metrics is lost: {0}")]
    Health(std::io::Error),
    /// No certificate can be made.
    #[error(transparent)]
    Certificate(#[from] IssueError),
    /// The API server's client certificate cannot be checked.
    #[error(
        "cannot read the CA certificates of {path}: {why}; give a PEM file or leave --client-ca-file out"
    )]
    ClientCa {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// No TLS.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Runs until `shutdown`, then drains.
///
/// # Errors
/// At the start, or when something without which no review is answered is lost.
pub async fn run(arguments: AdmissionArguments, shutdown: CancellationToken) -> Result<(), RunError> {
    // Several dependencies can bring a provider; this one is ours.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::try_default()
        .await
        .map_err(|error| RunError::Client(Box::new(error)))?;
    let broker = MachinesClient::new(Endpoint {
        url: arguments.broker_url.clone(),
        ca_file: arguments.broker_ca_file.clone(),
        token_file: arguments.broker_token_file.clone(),
    })?;
    let listener = bind(arguments.listen).await?;
    let health_listener = bind(arguments.listen_health).await?;

    let views = Arc::new(Views::default());
    let identities = Identities {
        controller: arguments.argo_identity.clone(),
        provisioner: arguments.provisioner(),
    };
    let lookups = Lookups {
        cluster: Some(client.clone()),
        broker: Some(broker.clone()),
    };
    let admission = Arc::new(Admission::new(
        Arc::clone(&views),
        identities,
        lookups,
        arguments.most_in_flight,
    ));
    let certificate = ServingCertificate::new();
    let callers = client_roots(arguments.client_ca_file.as_deref())?;
    let tls = Arc::new(certificate.server_config(callers)?);
    let options = CertificateOptions {
        namespace: arguments.namespace.clone(),
        service: arguments.service.clone(),
        config_map: arguments.webhook_ca_config_map.clone(),
        configuration: arguments.webhook_configuration.clone(),
        leaf_lifetime: Duration::from_secs(arguments.certificate_lifetime_seconds),
        ..CertificateOptions::new(arguments.pod_name.clone())
    };
    let limits = arguments.limits();

    // The views and the certificate outlive the listener: reviews in flight still need them.
    let drained = CancellationToken::new();
    let serving = async {
        serve(listener, tls, Arc::clone(&admission), limits, shutdown.clone()).await;
        drained.cancel();
        Ok(())
    };
    let probes = async {
        let served = health::serve(
            health_listener,
            Arc::clone(&admission),
            Arc::clone(&certificate),
            drained.clone(),
        );
        let served = served.await.map_err(RunError::Health);
        shutdown.cancel();
        served
    };
    let certificates = async {
        let rotated = rotate(client.clone(), options, &certificate, drained.clone()).await;
        shutdown.cancel();
        rotated.map_err(RunError::Certificate)
    };
    let following = async {
        tokio::join!(
            follow_stream(|| broker.watch_leases(), &views.leases, drained.clone()),
            watches::follow(&client, &views, drained.clone()),
        );
        Ok(())
    };
    tokio::try_join!(serving, probes, certificates, following).map(|_| ())
}

/// Who may call, where the operator has given the API server a client certificate. Read once: a change needs a restart.
fn client_roots(path: Option<&Path>) -> Result<Option<RootCertStore>, RunError> {
    let Some(path) = path else { return Ok(None) };
    let failed = |why: String| RunError::ClientCa {
        path: path.to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("there is none".to_owned()));
    }
    Ok(Some(roots))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen { address, source })
}

//! The webhook's own certificates: each replica makes a CA and a leaf in memory, publishes the CA's certificate, and serves a
//! leaf only once the API server's configuration trusts that CA. No private key leaves the process, none is stored.
//!
//! [`ServingCertificate`] is what the TLS listener asks at each handshake; [`rotate()`] keeps it fed. The provisioner's leader
//! puts what replicas publish into `caBundle` ([`crate::ca_bundle`]); until it has done so this replica is not ready.

mod authority;
mod clock;
mod publication;
mod rotate;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use rustls::RootCertStore;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

pub use authority::{Authority, IssueError};
pub use clock::Clock;
pub use publication::{entry_key, pod_of_entry};
pub use rotate::rotate;

/// Whose certificate, where it is published, how long it lives.
#[derive(Debug, Clone)]
pub struct CertificateOptions {
    /// Namespace of the webhook's Service, its pods and the ConfigMap.
    pub namespace: String,
    /// Name of the webhook's Service.
    pub service: String,
    /// Name of this replica's pod.
    pub pod: String,
    /// ConfigMap in which replicas publish their CA certificates.
    pub config_map: String,
    /// Name of both the MutatingWebhookConfiguration and the ValidatingWebhookConfiguration.
    pub configuration: String,
    /// Life of a leaf; its CA lives seven times as long. Both are renewed after two thirds.
    pub leaf_lifetime: Duration,
    /// By which certificates begin, are renewed and expire.
    pub clock: Clock,
}

impl CertificateOptions {
    /// Defaults of everything but the pod's name.
    #[must_use]
    pub fn new(pod: impl Into<String>) -> Self {
        Self {
            namespace: "leasehold-system".into(),
            service: "leasehold-webhook".into(),
            pod: pod.into(),
            config_map: "leasehold-webhook-ca".into(),
            configuration: "leasehold".into(),
            leaf_lifetime: Duration::from_secs(24 * 3600),
            clock: Clock::default(),
        }
    }

    /// The only name that the certificate is good for: how the API server calls a webhook's Service.
    #[must_use]
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}

/// The certificate that is served now; swapped while connections go on.
#[derive(Debug, Default)]
pub struct ServingCertificate {
    current: ArcSwapOption<Leaf>,
}

/// A leaf certificate with its key.
#[derive(Debug)]
pub struct Leaf {
    certified: Arc<CertifiedKey>,
    expires: SystemTime,
    clock: Clock,
}

impl ServingCertificate {
    /// Nothing to serve yet: handshakes fail and [`Self::is_ready`] is false.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A certificate is served, is trusted by the API server's configuration, and has not expired.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.current
            .load()
            .as_ref()
            .is_some_and(|leaf| leaf.clock.now() < leaf.expires)
    }

    /// From now on handshakes get this leaf.
    pub fn serve(&self, leaf: Leaf) {
        self.current.store(Some(Arc::new(leaf)));
    }

    /// TLS settings of a listener that serves this certificate: TLS 1.2 and 1.3, HTTP/1.1. Where `callers` are given,
    /// only a client with a certificate of theirs gets through the handshake.
    ///
    /// # Errors
    /// The crypto provider supports none of the protocol versions, or `callers` is empty.
    pub fn server_config(
        self: &Arc<Self>,
        callers: Option<RootCertStore>,
    ) -> Result<rustls::ServerConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match callers {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current
            .load()
            .as_ref()
            .map(|leaf| Arc::clone(&leaf.certified))
    }
}

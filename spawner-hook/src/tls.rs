//! Our certificate: from files that the operator mounts, or from an authority of our own that lives in memory only and is
//! new with every process. Both are renewed without a restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// How often files are looked at, and whether a leaf is due.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A leaf of our own is replaced after this …
const RENEW_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// … and valid for this long.
const LEAF_LIFE: time::Duration = time::Duration::days(14);
/// Longer than any process lives.
const AUTHORITY_LIFE: time::Duration = time::Duration::days(3650);
/// Hubs whose clocks are a little behind trust us too.
const CLOCK_SKEW: time::Duration = time::Duration::minutes(10);

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub(crate) enum Certificate {
    /// PEM files.
    Files { chain: PathBuf, key: PathBuf },
    /// Self-made, for these DNS names and addresses.
    Own { names: Vec<String> },
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of the operator's.
    #[error("cannot use the TLS file {}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Our own.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Key and certificate do not fit.
    #[error("cannot serve with the certificate: {0}")]
    Serve(#[from] rustls::Error),
}

/// The certificate that new connections get.
pub(crate) struct Tls {
    source: Source,
    current: RwLock<Current>,
}

enum Source {
    Files {
        chain: PathBuf,
        key: PathBuf,
    },
    Own {
        names: Vec<String>,
        authority: Box<CertifiedIssuer<'static, KeyPair>>,
    },
}

struct Current {
    config: Arc<ServerConfig>,
    since: Instant,
    /// What the files held.
    files: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    pub(crate) fn new(certificate: Certificate) -> Result<Self, TlsError> {
        let source = match certificate {
            Certificate::Files { chain, key } => Source::Files { chain, key },
            Certificate::Own { names } => Source::Own {
                names,
                authority: Box::new(authority()?),
            },
        };
        let current = source.load()?;
        Ok(Self {
            source,
            current: RwLock::new(current),
        })
    }

    /// For the next handshake.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// The authority that hubs have to trust, where it is our own.
    pub(crate) fn own_ca_pem(&self) -> Option<String> {
        match &self.source {
            Source::Files { .. } => None,
            Source::Own { authority, .. } => Some(authority.pem()),
        }
    }

    /// Takes a new certificate where one is due.
    fn refresh(&self) -> Result<bool, TlsError> {
        let is_due = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            match &self.source {
                Source::Files { chain, key } => current.files != Some((read(chain)?, read(key)?)),
                Source::Own { .. } => current.since.elapsed() >= RENEW_AFTER,
            }
        };
        if is_due {
            let fresh = self.source.load()?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(is_due)
    }
}

impl Source {
    fn load(&self) -> Result<Current, TlsError> {
        let (chain, key, files) = match self {
            Self::Files { chain, key } => {
                let (chain_pem, key_pem) = (read(chain)?, read(key)?);
                let unusable = |path: &Path| {
                    let path = path.to_owned();
                    move |error: rustls::pki_types::pem::Error| TlsError::File {
                        path,
                        reason: error.to_string(),
                    }
                };
                let certificates = CertificateDer::pem_slice_iter(&chain_pem)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(unusable(chain))?;
                let private = PrivateKeyDer::from_pem_slice(&key_pem).map_err(unusable(key))?;
                (certificates, private, Some((chain_pem, key_pem)))
            }
            Self::Own { names, authority } => {
                let (certificate, key) = leaf(names, authority)?;
                (vec![certificate], key, None)
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Current {
            config: Arc::new(config),
            since: Instant::now(),
            files,
        })
    }
}

/// Keeps the certificate fresh until shutdown. A file that cannot be used leaves the old certificate in place.
pub(crate) async fn keep_fresh(tls: Arc<Tls>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => return,
        }
        match tls.refresh() {
            Ok(true) => tracing::info!("serving with a new certificate"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the certificate could not be renewed; keeping the old one"),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "leasehold-spawner-hook authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, AUTHORITY_LIFE);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn leaf(
    names: &[String],
    authority: &CertifiedIssuer<'static, KeyPair>,
) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "leasehold-spawner-hook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Python's default verification asks for it (VERIFY_X509_STRICT).
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, LEAF_LIFE);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    Ok((
        certificate.der().clone(),
        PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    ))
}

fn valid_for(params: &mut CertificateParams, life: time::Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + life;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_certificate_is_renewed_and_a_broken_one_keeps_the_old() {
        let directory = tempfile::tempdir().unwrap();
        let (chain, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
        let write = || {
            let own = rcgen::generate_simple_self_signed(vec!["hook".to_owned()]).unwrap();
            std::fs::write(&chain, own.cert.pem()).unwrap();
            std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        };
        write();
        let tls = Tls::new(Certificate::Files {
            chain: chain.clone(),
            key: key.clone(),
        })
        .unwrap();
        assert!(tls.own_ca_pem().is_none());
        let first = tls.config();
        assert!(!tls.refresh().unwrap());
        write();
        assert!(tls.refresh().unwrap());
        let second = tls.config();
        assert!(!Arc::ptr_eq(&first, &second));
        std::fs::write(&key, "half a f").unwrap();
        assert!(matches!(tls.refresh(), Err(TlsError::File { path, .. }) if path == key));
        assert!(Arc::ptr_eq(&second, &tls.config()));
    }
}

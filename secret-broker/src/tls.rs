//! The broker's certificate: from files, or made under its own CA, whose key stays in the data directory.
//!
//! Either way it is looked at again every few minutes, so that rotated files are picked up and an own certificate never expires.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::config::TlsSource;
use crate::server::Speaks;

const CA_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 90;
const LOOK_AGAIN: Duration = Duration::from_secs(300);
const RENEW_AFTER: time::Duration = time::Duration::days(1);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("could not use {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path} holds no usable PEM: {reason}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No certificate could be made.
    #[error("could not make a certificate: {0}; check --tls-names")]
    Make(#[from] rcgen::Error),
    /// Certificate and key do not belong together, or TLS refuses them.
    #[error("the certificate cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The certificate in use, and how to renew it.
#[derive(Debug)]
pub struct Certificate {
    source: Source,
    current: ArcSwap<CertifiedKey>,
}

#[derive(Debug)]
enum Source {
    Own { names: Vec<String>, ca: Box<Authority> },
    Files { certificate: PathBuf, key: PathBuf },
}

#[derive(Debug)]
struct Authority {
    key: KeyPair,
    certificate: String,
}

impl Certificate {
    /// Loads or makes the certificate.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(source: &TlsSource, data_dir: &Path) -> Result<Arc<Self>, TlsError> {
        let source = match source {
            TlsSource::Own { names } => {
                let ca = Box::new(Authority::load_or_make(&data_dir.join("tls-ca.pem"))?);
                Source::Own {
                    names: names.clone(),
                    ca,
                }
            }
            TlsSource::Files { certificate, key } => Source::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            },
        };
        let current = ArcSwap::from_pointee(source.certify()?);
        Ok(Arc::new(Self { source, current }))
    }

    /// The own CA's certificate, PEM; none where the certificate is given.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        match &self.source {
            Source::Own { ca, .. } => Some(&ca.certificate),
            Source::Files { .. } => None,
        }
    }

    /// A server that shows whatever certificate is current.
    ///
    /// # Errors
    /// [`TlsError::Unusable`].
    pub fn server(self: &Arc<Self>, speaks: Speaks) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = speaks.alpn();
        Ok(Arc::new(config))
    }

    /// Renews until shutdown.
    pub async fn keep_fresh(self: Arc<Self>, shutdown: CancellationToken) {
        let mut made = OffsetDateTime::now_utc();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = shutdown.cancelled() => return,
            }
            let now = OffsetDateTime::now_utc();
            if matches!(self.source, Source::Own { .. }) && now - made < RENEW_AFTER {
                continue;
            }
            match self.source.certify() {
                Ok(key) => {
                    self.current.store(Arc::new(key));
                    made = now;
                }
                Err(error) => {
                    tracing::warn!(%error, "could not renew the certificate; the old one stays in use")
                }
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl Source {
    fn certify(&self) -> Result<CertifiedKey, TlsError> {
        let (chain, key) = match self {
            Self::Own { names, ca } => ca.issue(names)?,
            Self::Files { certificate, key } => {
                let pem = |path: &PathBuf, reason: String| TlsError::Pem {
                    path: path.clone(),
                    reason,
                };
                let chain = CertificateDer::pem_file_iter(certificate)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(|e| pem(certificate, e.to_string()))?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|e| pem(key, e.to_string()))?;
                (chain, key)
            }
        };
        let provider = rustls::crypto::ring::default_provider();
        Ok(CertifiedKey::from_der(chain, key, &provider)?)
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Leasehold secret broker");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn valid_for(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    // Clocks of clients may be a little behind.
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + time::Duration::days(days);
}

impl Authority {
    /// One file holds key and certificate, so that they cannot come apart.
    fn load_or_make(path: &Path) -> Result<Self, TlsError> {
        let file = |source| TlsError::File {
            path: path.to_owned(),
            source,
        };
        match fs::read_to_string(path) {
            Ok(text) => {
                let pem = |reason: String| TlsError::Pem {
                    path: path.to_owned(),
                    reason,
                };
                let start = text
                    .find("-----BEGIN CERTIFICATE-----")
                    .ok_or_else(|| pem("no certificate".to_owned()))?;
                let (key, certificate) = text.split_at(start);
                let key = KeyPair::from_pem(key).map_err(|e| pem(e.to_string()))?;
                Ok(Self {
                    key,
                    certificate: certificate.to_owned(),
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate()?;
                let mut params = authority_params();
                valid_for(&mut params, CA_DAYS);
                let certificate = params.self_signed(&key)?.pem();
                write_private(path, &format!("{}{certificate}", key.serialize_pem())).map_err(file)?;
                Ok(Self { key, certificate })
            }
            Err(error) => Err(file(error)),
        }
    }

    fn issue(
        &self,
        names: &[String],
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "leasehold-secret-broker");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid_for(&mut params, LEAF_DAYS);
        let key = KeyPair::generate()?;
        let issuer = Issuer::new(authority_params(), &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        let private = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|reason| rustls::Error::General(reason.to_owned()))?;
        Ok((vec![certificate.der().clone()], private))
    }
}

/// Whole or not at all, and for this user only.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_survives_a_restart_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let source = TlsSource::Own {
            names: vec!["localhost".into(), "127.0.0.1".into()],
        };
        let first = Certificate::new(&source, directory.path()).unwrap();
        let second = Certificate::new(&source, directory.path()).unwrap();
        assert_eq!(first.authority(), second.authority());
        let path = directory.path().join("tls-ca.pem");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!first.authority().unwrap().contains("PRIVATE KEY"));
    }
}

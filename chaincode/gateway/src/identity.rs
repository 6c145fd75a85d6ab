//! Who the client is: a member's id and a certificate, with the signer that goes with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fabric_wire::protos::SerializedIdentity;
use prost::Message as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::signer::{P256Signer, SignError, Signer, sign};

/// More than this is no certificate and no key.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file that cannot be read.
    #[error("cannot read the {what} from {}: {source}", path.display())]
    Unreadable {
        /// `certificate` or `key`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No member's id.
    #[error("the id of the member (msp) is empty")]
    NoMsp,
    /// Not a certificate.
    #[error("the certificate is not an x.509 certificate in pem: {0}")]
    Certificate(String),
    /// Not a key that Fabric takes from this client.
    #[error("the key is not an unencrypted p-256 private key in pem (pkcs#8 or sec 1)")]
    Key,
    /// They do not belong together.
    #[error("the key is not that of the certificate")]
    Mismatch,
}

/// A member's id and a certificate that the member's authority issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    msp_id: String,
    certificate: String,
    public_point: Vec<u8>,
}

impl Identity {
    /// From a certificate in PEM.
    ///
    /// # Errors
    /// Where the id is empty or the certificate is none.
    pub fn new(msp_id: impl Into<String>, certificate: impl Into<String>) -> Result<Self, IdentityError> {
        let (msp_id, certificate) = (msp_id.into(), certificate.into());
        if msp_id.is_empty() {
            return Err(IdentityError::NoMsp);
        }
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| IdentityError::Certificate(error.to_string()))?;
        let (_, parsed) =
            X509Certificate::from_der(&der).map_err(|error| IdentityError::Certificate(error.to_string()))?;
        let public_point = parsed.public_key().subject_public_key.data.to_vec();
        Ok(Self {
            msp_id,
            certificate,
            public_point,
        })
    }

    /// The member's id.
    #[must_use]
    pub fn msp_id(&self) -> &str {
        &self.msp_id
    }

    /// The certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    fn serialized(&self) -> Bytes {
        let identity = SerializedIdentity {
            mspid: self.msp_id.clone(),
            id_bytes: Bytes::copy_from_slice(self.certificate.as_bytes()),
        };
        identity.encode_to_vec().into()
    }
}

/// An identity and what signs for it.
#[derive(Clone)]
pub struct Credentials {
    identity: Identity,
    signer: Arc<dyn Signer>,
    creator: Bytes,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("msp_id", &self.identity.msp_id)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// An identity whose key is elsewhere. Whether they belong together shows when a peer checks a signature.
    pub fn new(identity: Identity, signer: Arc<dyn Signer>) -> Self {
        Self {
            creator: identity.serialized(),
            identity,
            signer,
        }
    }

    /// From a certificate and its key in PEM.
    ///
    /// # Errors
    /// Where one of them cannot be used, or they do not belong together.
    pub fn from_pem(msp_id: impl Into<String>, certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let identity = Identity::new(msp_id, certificate)?;
        let signer = P256Signer::from_pem(key)?;
        if *signer.public_point() == *identity.public_point {
            Ok(Self::new(identity, Arc::new(signer)))
        } else {
            Err(IdentityError::Mismatch)
        }
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// `SerializedIdentity`, encoded.
    pub(crate) fn creator(&self) -> &Bytes {
        &self.creator
    }

    pub(crate) async fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        sign(self.signer.as_ref(), message).await
    }
}

/// Where a certificate and its key are: files, or a mounted Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialFiles {
    /// The member's id.
    pub msp_id: String,
    /// Certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl CredentialFiles {
    /// What is in the files now. Files that are being exchanged at this moment are read once more.
    ///
    /// # Errors
    /// Where one of them cannot be read or used, or they do not belong together.
    pub async fn read(&self) -> Result<Credentials, IdentityError> {
        match self.read_once().await {
            Err(IdentityError::Mismatch) => self.read_once().await,
            read => read,
        }
    }

    async fn read_once(&self) -> Result<Credentials, IdentityError> {
        let certificate = text("certificate", &self.certificate).await?;
        let key = text("key", &self.key).await?;
        Credentials::from_pem(self.msp_id.clone(), &certificate, &key)
    }
}

async fn text(what: &'static str, path: &Path) -> Result<Zeroizing<String>, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable {
        what,
        path: path.to_owned(),
        source,
    };
    let length = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    if usize::try_from(length).map_or(true, |length| length > MAX_FILE_BYTES) {
        return Err(unreadable(std::io::ErrorKind::FileTooLarge.into()));
    }
    tokio::fs::read_to_string(path)
        .await
        .map(Zeroizing::new)
        .map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384};

    use super::*;

    fn issued() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(Vec::new()).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn a_key_must_be_that_of_the_certificate() {
        let ((certificate, key), (_, another)) = (issued(), issued());
        let credentials = Credentials::from_pem("Org1MSP", &certificate, &key).unwrap();
        assert_eq!(credentials.identity().msp_id(), "Org1MSP");
        assert_eq!(
            format!("{credentials:?}"),
            r#"Credentials { msp_id: "Org1MSP", .. }"#
        );
        let refused = Credentials::from_pem("Org1MSP", &certificate, &another);
        assert!(matches!(refused, Err(IdentityError::Mismatch)));
    }

    #[test]
    fn what_is_no_certificate_or_no_key_of_the_right_kind_is_refused() {
        let (certificate, key) = issued();
        let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)
            .unwrap()
            .serialize_pem();
        let from = |msp_id: &str, certificate: &str, key: &str| {
            Credentials::from_pem(msp_id, certificate, key).unwrap_err()
        };
        assert!(matches!(from("", &certificate, &key), IdentityError::NoMsp));
        assert!(matches!(from("M", &key, &key), IdentityError::Certificate(_)));
        assert!(matches!(
            from("M", &certificate, &certificate),
            IdentityError::Key
        ));
        assert!(matches!(from("M", &certificate, &p384), IdentityError::Key));
    }

    #[tokio::test]
    async fn files_are_read_when_asked_and_an_absent_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let files = CredentialFiles {
            msp_id: "Org1MSP".to_owned(),
            certificate: directory.path().join("tls.crt"),
            key: directory.path().join("tls.key"),
        };
        let (certificate, key) = issued();
        std::fs::write(&files.certificate, certificate.clone()).unwrap();
        let absent = files.read().await.unwrap_err().to_string();
        assert!(
            absent.contains("cannot read the key from") && absent.contains("tls.key"),
            "{absent}"
        );
        std::fs::write(&files.key, key).unwrap();
        let read = files.read().await.unwrap();
        assert_eq!(read.identity().certificate(), certificate);
    }
}

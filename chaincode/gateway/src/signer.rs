//! Who signs: a trait, so that the key may live in hardware or in a service, and a signer whose key is in memory.
//!
//! Fabric takes ECDSA over P-256 and SHA-256, in DER, and of the two values of `s` that verify the lower one only (its `bccsp/sw`
//! refuses the other). Whatever a signer returns is brought into that form before it is used.

use async_trait::async_trait;
use bytes::Bytes;
use p256::SecretKey;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{DerSignature, Signature, SigningKey};
use p256::pkcs8::DecodePrivateKey as _;
use sha2::{Digest as _, Sha256};

use crate::identity::IdentityError;

/// What signs with the key of one certificate.
#[async_trait]
pub trait Signer: Send + Sync {
    /// A signature of a SHA-256 digest: ECDSA over P-256, DER. Either value of `s` will do. It counts against the deadline of the call
    /// that needs it.
    ///
    /// # Errors
    /// Where the key cannot be used now.
    async fn sign_digest(&self, digest: &[u8; 32]) -> Result<Vec<u8>, SignError>;
}

/// Why nothing was signed. Nothing was sent either.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The signer failed.
    #[error("the signer failed: {0}")]
    Signer(Box<dyn std::error::Error + Send + Sync>),
    /// What it returned is no signature.
    #[error("the signer returned no der-encoded ecdsa signature over p-256")]
    Malformed,
    /// It took too long.
    #[error("the signer did not answer in time")]
    Late,
}

/// A signer whose key is in this process's memory, and is wiped when dropped.
pub struct P256Signer {
    key: SigningKey,
}

impl std::fmt::Debug for P256Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("P256Signer").finish_non_exhaustive()
    }
}

impl P256Signer {
    /// From PEM, PKCS#8 (`PRIVATE KEY`) or SEC 1 (`EC PRIVATE KEY`).
    ///
    /// # Errors
    /// Where it is another kind of key, encrypted, or none.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        let key = SecretKey::from_pkcs8_pem(pem).ok();
        let key = key.or_else(|| SecretKey::from_sec1_pem(pem).ok());
        let key = key.ok_or(IdentityError::Key)?;
        Ok(Self { key: key.into() })
    }

    /// The public key as in a certificate: an uncompressed point.
    pub(crate) fn public_point(&self) -> Box<[u8]> {
        self.key.verifying_key().to_encoded_point(false).to_bytes()
    }
}

#[async_trait]
impl Signer for P256Signer {
    async fn sign_digest(&self, digest: &[u8; 32]) -> Result<Vec<u8>, SignError> {
        let signature: Signature = self
            .key
            .sign_prehash(digest)
            .map_err(|error| SignError::Signer(Box::new(error)))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

pub(crate) async fn sign(signer: &dyn Signer, message: &[u8]) -> Result<Bytes, SignError> {
    let digest: [u8; 32] = Sha256::digest(message).into();
    low_s(&signer.sign_digest(&digest).await?)
}

/// The same signature with the lower value of `s`.
fn low_s(der: &[u8]) -> Result<Bytes, SignError> {
    let signature = DerSignature::try_from(der)
        .and_then(Signature::try_from)
        .map_err(|_| SignError::Malformed)?;
    let signature = signature.normalize_s().unwrap_or(signature);
    Ok(Bytes::copy_from_slice(signature.to_der().as_bytes()))
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::hazmat::PrehashVerifier as _;

    use super::*;

    fn signer(seed: u8) -> P256Signer {
        P256Signer {
            key: SigningKey::from_slice(&[seed; 32]).unwrap(),
        }
    }

    /// Returns whichever value of `s` the key did not.
    struct Contrary(P256Signer);

    #[async_trait]
    impl Signer for Contrary {
        async fn sign_digest(&self, digest: &[u8; 32]) -> Result<Vec<u8>, SignError> {
            let signature = Signature::from_der(&self.0.sign_digest(digest).await?).unwrap();
            let (r, s) = signature.split_scalars();
            let other = Signature::from_scalars(r, -s).unwrap();
            Ok(other.to_der().as_bytes().to_vec())
        }
    }

    #[tokio::test]
    async fn what_is_sent_verifies_and_has_the_lower_s_whatever_the_signer_returns() {
        for seed in 1..=20 {
            for signer in [
                Box::new(signer(seed)) as Box<dyn Signer>,
                Box::new(Contrary(signer(seed))),
            ] {
                let der = sign(signer.as_ref(), b"message").await.unwrap();
                let signature = Signature::from_der(&der).unwrap();
                assert!(signature.normalize_s().is_none(), "s is the higher one");
                let key = SigningKey::from_slice(&[seed; 32]).unwrap();
                let digest = Sha256::digest(b"message");
                key.verifying_key().verify_prehash(&digest, &signature).unwrap();
            }
        }
    }

    #[test]
    fn what_is_no_signature_is_not_sent() {
        assert!(matches!(low_s(b"not a signature"), Err(SignError::Malformed)));
    }

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", signer(7)), "P256Signer { .. }");
    }
}

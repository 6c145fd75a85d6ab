//! A certificate authority that lives in one process, for one server name: X.509 name constraints make its signature worth
//! nothing elsewhere. ECDSA on P-256.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls::crypto::ring::sign::any_ecdsa_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};

use super::{Clock, Leaf};

/// Certificates begin this much earlier, for clocks that lag.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The certificate itself.
    #[error("cannot make a certificate for {server_name}: {source}")]
    Certificate {
        /// For whom.
        server_name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// Its key.
    #[error("cannot use the key that was just made for {server_name}: {source}")]
    Key {
        /// For whom.
        server_name: String,
        /// Why.
        source: rustls::Error,
    },
}

/// A CA with its private key, which it never gives away.
pub struct Authority {
    server_name: String,
    serial: String,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    begins: SystemTime,
    expires: SystemTime,
    clock: Clock,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a CA that can sign for `server_name` alone, valid from now for `lifetime`.
    ///
    /// # Errors
    /// The name is not a DNS name, or no randomness is to be had.
    pub fn make(server_name: &str, lifetime: Duration) -> Result<Self, IssueError> {
        Self::make_by(Clock::default(), server_name, lifetime)
    }

    /// As [`Self::make`], by another clock than the system's. So are its leaves.
    ///
    /// # Errors
    /// As for [`Self::make`].
    pub fn make_by(clock: Clock, server_name: &str, lifetime: Duration) -> Result<Self, IssueError> {
        let failed = |source| IssueError::Certificate {
            server_name: server_name.to_owned(),
            source,
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        // The serial is derived from the key, so it is as unique as the key is.
        let digest = Sha256::digest(key.public_key_raw());
        let serial: String = hex::encode(digest).chars().take(16).collect();

        let begins = clock.now();
        let expires = begins + lifetime;
        let mut params = CertificateParams::default();
        params.not_before = (begins - CLOCK_SKEW).into();
        params.not_after = whole_second_after(expires).into();
        params.serial_number = Some(serial_number(&serial));
        params.distinguished_name = rcgen::DistinguishedName::new();
        // Unique, so that a bundle of several such CAs is searched by name.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Leasehold webhook CA {serial}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(server_name.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let pem = params.self_signed(&key).map_err(failed)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self {
            server_name: server_name.to_owned(),
            serial,
            pem,
            issuer,
            begins,
            expires,
            clock,
        })
    }

    /// 16 hex digits.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The CA's certificate, for those who are to trust it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// When a successor is due: after two thirds of its life.
    #[must_use]
    pub fn renew_at(&self) -> SystemTime {
        two_thirds(self.begins, self.expires)
    }

    /// Signs a leaf with a fresh key, valid from now for `lifetime` or as long as this CA, whichever is shorter; and tells
    /// when a successor is due.
    ///
    /// # Errors
    /// As for [`Self::make`].
    pub fn leaf(&self, lifetime: Duration) -> Result<(Leaf, SystemTime), IssueError> {
        let failed = |source| IssueError::Certificate {
            server_name: self.server_name.clone(),
            source,
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let begins = self.clock.now();
        let expires = (begins + lifetime).min(self.expires);
        let mut params = CertificateParams::new(vec![self.server_name.clone()]).map_err(failed)?;
        params.not_before = (begins - CLOCK_SKEW).into();
        params.not_after = whole_second_after(expires).into();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "Leasehold webhook");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;

        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = any_ecdsa_type(&private).map_err(|source| IssueError::Key {
            server_name: self.server_name.clone(),
            source,
        })?;
        let certified = Arc::new(CertifiedKey::new(vec![certificate.into()], signer));
        let leaf = Leaf {
            certified,
            expires,
            clock: self.clock.clone(),
        };
        Ok((leaf, two_thirds(begins, expires)))
    }
}

/// X.509 counts in whole seconds, cut off: a certificate must not end before we say.
fn whole_second_after(time: SystemTime) -> SystemTime {
    time + Duration::from_secs(1)
}

fn two_thirds(begins: SystemTime, expires: SystemTime) -> SystemTime {
    let life = expires.duration_since(begins).unwrap_or_default();
    begins + life.mul_f64(2.0 / 3.0)
}

fn serial_number(serial: &str) -> SerialNumber {
    // A leading 00..7f keeps the DER integer positive.
    let mut bytes = hex::decode(serial).unwrap_or_default();
    if let Some(first) = bytes.first_mut() {
        *first &= 0x7f;
    }
    SerialNumber::from_slice(&bytes)
}

//! What a peer asks of a client's signature: that it is the certificate's, and of the two that would be, the one with the lower `s`.

use fabric_wire::protos::SerializedIdentity;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use prost::Message as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Whether `signature` of `message` is the creator's; otherwise why not.
pub(crate) fn verify(creator: &[u8], message: &[u8], signature: &[u8]) -> Result<(), String> {
    let identity = SerializedIdentity::decode(creator).map_err(|error| format!("no identity: {error}"))?;
    let der = CertificateDer::from_pem_slice(&identity.id_bytes)
        .map_err(|error| format!("no certificate: {error}"))?;
    let (_, certificate) =
        X509Certificate::from_der(&der).map_err(|error| format!("no certificate: {error}"))?;
    let point = &certificate.public_key().subject_public_key.data;
    let key = VerifyingKey::from_sec1_bytes(point).map_err(|_| "no p-256 key".to_owned())?;
    let signature = Signature::from_der(signature).map_err(|_| "no signature".to_owned())?;
    if signature.normalize_s().is_some() {
        return Err("the signature's s is the higher one".to_owned());
    }
    key.verify_prehash(&Sha256::digest(message), &signature)
        .map_err(|_| "the signature is not that of the certificate".to_owned())
}

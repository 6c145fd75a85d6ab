//! Clients of the simulated network: real certificates, made on the spot, that nobody verifies.

use bytes::Bytes;
use fabric_wire::protos;
use prost::Message as _;
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair};

/// 1.2.3.4.5.6.7.8.1, where a Fabric CA writes attributes.
const ATTRIBUTES_OID: [u64; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 1];

/// Why a client's certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the certificate of {name} cannot be made: {source}")]
pub struct ClientError {
    name: String,
    source: rcgen::Error,
}

/// A client: a member organisation's id, a name and a certificate with the unit `client`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Id of the member.
    pub msp_id: String,
    /// Common name.
    pub name: String,
    /// Certificate, PEM.
    pub pem: String,
    /// Its key, PEM: only the simulated gateways look at signatures.
    pub key: String,
}

impl Client {
    /// A client without attributes.
    ///
    /// # Errors
    /// Where no certificate can be made.
    pub fn new(msp_id: &str, name: &str) -> Result<Self, ClientError> {
        Self::with_attributes(msp_id, name, None)
    }

    /// A client whose certificate has this JSON where a Fabric CA writes `{"attrs": {…}}`.
    ///
    /// # Errors
    /// Where no certificate can be made.
    pub fn with_attributes(msp_id: &str, name: &str, json: Option<&str>) -> Result<Self, ClientError> {
        let (pem, key) = certificate(name, json).map_err(|source| ClientError {
            name: name.to_owned(),
            source,
        })?;
        Ok(Self {
            msp_id: msp_id.to_owned(),
            name: name.to_owned(),
            pem,
            key,
        })
    }

    pub(crate) fn serialized(&self) -> Bytes {
        let identity = protos::SerializedIdentity {
            mspid: self.msp_id.clone(),
            id_bytes: self.pem.clone().into(),
        };
        identity.encode_to_vec().into()
    }
}

fn certificate(name: &str, attributes: Option<&str>) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, "client");
    params.distinguished_name.push(DnType::CommonName, name);
    params.custom_extensions.extend(
        attributes.map(|json| CustomExtension::from_oid_content(&ATTRIBUTES_OID, json.as_bytes().to_vec())),
    );
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

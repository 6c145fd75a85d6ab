//! Who proposed the transaction: the member organisation and the certificate it vouches for.
//!
//! The peer has verified the chain and the signature; here the certificate is only read. Attributes are those that a Fabric CA
//! writes into the extension 1.2.3.4.5.6.7.8.1, as JSON `{"attrs": {"name": "value"}}`.

use std::collections::BTreeMap;

use bytes::Bytes;
use fabric_wire::protos;
use prost::Message as _;
use serde::Deserialize;
use x509_parser::prelude::{FromDer as _, Pem, X509Certificate, X509Name};

const ATTRIBUTES_OID: &str = "1.2.3.4.5.6.7.8.1";

/// Why a creator cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreatorError {
    /// Not a serialized identity.
    #[error("the creator is not a serialized identity: {0}")]
    Identity(String),
    /// Not a certificate in PEM. An Idemix identity ends here too.
    #[error("the creator's certificate cannot be read: {0}")]
    Certificate(String),
    /// The extension is there and is not what a Fabric CA writes.
    #[error("the attributes in the creator's certificate cannot be read: {0}")]
    Attributes(String),
}

/// A client's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creator {
    msp_id: String,
    pem: Bytes,
}

/// What a chaincode asks of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Common name of the subject.
    pub common_name: Option<String>,
    /// The subject's organizational units, in the certificate's order; with NodeOUs one is `client`, `admin`, `peer` or `orderer`.
    pub organizational_units: Vec<String>,
    /// The subject, in the order of the certificate, for people.
    pub subject: String,
    /// The issuer, likewise.
    pub issuer: String,
    /// Serial number, hexadecimal, without leading zeros.
    pub serial: String,
    /// Attributes that a Fabric CA put in; empty where it put in none.
    pub attributes: BTreeMap<String, String>,
}

impl Creator {
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, CreatorError> {
        let identity = protos::SerializedIdentity::decode(bytes)
            .map_err(|error| CreatorError::Identity(error.to_string()))?;
        if identity.mspid.is_empty() {
            return Err(CreatorError::Identity("it names no member".to_owned()));
        }
        Ok(Self {
            msp_id: identity.mspid,
            pem: identity.id_bytes,
        })
    }

    /// Id of the organisation's membership service provider, such as `Org1MSP`.
    #[must_use]
    pub fn msp_id(&self) -> &str {
        &self.msp_id
    }

    /// The certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> &Bytes {
        &self.pem
    }

    /// What is in the certificate.
    ///
    /// # Errors
    /// Where the identity is no X.509 certificate in PEM, or its attributes are not JSON.
    pub fn certificate(&self) -> Result<Certificate, CreatorError> {
        let unreadable = |error: &dyn std::fmt::Display| CreatorError::Certificate(error.to_string());
        let (pem, _) = Pem::read(std::io::Cursor::new(&self.pem[..])).map_err(|error| unreadable(&error))?;
        let (_, certificate) =
            X509Certificate::from_der(&pem.contents).map_err(|error| unreadable(&error))?;
        let subject = certificate.subject();
        Ok(Certificate {
            common_name: texts(subject.iter_common_name()).into_iter().next(),
            organizational_units: texts(subject.iter_organizational_unit()),
            subject: display(subject),
            issuer: display(certificate.issuer()),
            serial: format!("{:x}", certificate.tbs_certificate.serial),
            attributes: attributes(&certificate)?,
        })
    }
}

fn display(name: &X509Name<'_>) -> String {
    name.to_string()
}

fn texts<'a>(parts: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>) -> Vec<String> {
    parts
        .filter_map(|part| part.as_str().ok())
        .map(str::to_owned)
        .collect()
}

fn attributes(certificate: &X509Certificate<'_>) -> Result<BTreeMap<String, String>, CreatorError> {
    #[derive(Deserialize)]
    struct Extension {
        #[serde(default)]
        attrs: BTreeMap<String, String>,
    }
    let Some(extension) = certificate
        .extensions()
        .iter()
        .find(|extension| extension.oid.to_id_string() == ATTRIBUTES_OID)
    else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_slice::<Extension>(extension.value)
        .map(|extension| extension.attrs)
        .map_err(|error| CreatorError::Attributes(error.to_string()))
}

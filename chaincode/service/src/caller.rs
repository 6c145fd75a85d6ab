//! Who asks: the organisation that the ledger verified, and the role that its certificate gives.
//!
//! | in the certificate | role |
//! |---|---|
//! | the organisational unit `admin` (`NodeOUs` of the membership service provider) | administrator |
//! | the attribute `leasehold.role` of a Fabric CA with `steward`, `administrator` or `member` | that one |
//! | neither | member |
//!
//! The attribute lies in the extension 1.2.3.4.5.6.7.8.1; whoever registers an identity with `leasehold.role=steward:ecert` gives
//! it. Both are the organisation's own word: its CA issues the certificate, and Fabric verified the chain.

use fabric_shim::{Certificate, Creator, CreatorError};
use leasehold_chaincode::{Msp, Role};

/// Name of the attribute.
pub const ROLE_ATTRIBUTE: &str = "leasehold.role";
/// The organisational unit of administrators.
const ADMINISTRATORS: &str = "admin";

/// Why it is not known who asks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallerError {
    /// The identity cannot be read; Idemix is not supported.
    #[error("the transaction's creator cannot be read: {0}; use an X.509 identity")]
    Creator(#[from] CreatorError),
    /// Fabric lets a name be what the contract does not.
    #[error("the creator's MSP id is not one that the contract takes: expected {0}")]
    Organisation(&'static str),
    /// The attribute says something else.
    #[error("the certificate's attribute leasehold.role is none of member, steward and administrator")]
    Role,
}

/// The organisation and the role of a transaction's client.
///
/// # Errors
/// [`CallerError`] where the certificate does not say.
pub fn identify(creator: &Creator) -> Result<(Msp, Role), CallerError> {
    let msp = Msp::new(creator.msp_id()).map_err(|error| CallerError::Organisation(error.expected))?;
    Ok((msp, role(&creator.certificate()?)?))
}

fn role(certificate: &Certificate) -> Result<Role, CallerError> {
    if certificate
        .organizational_units
        .iter()
        .any(|unit| unit == ADMINISTRATORS)
    {
        return Ok(Role::Administrator);
    }
    let Some(word) = certificate.attributes.get(ROLE_ATTRIBUTE) else {
        return Ok(Role::Member);
    };
    [Role::Member, Role::Steward, Role::Administrator]
        .into_iter()
        .find(|role| role.as_str() == word)
        .ok_or(CallerError::Role)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(units: &[&str], attribute: Option<&str>) -> Certificate {
        let attributes = attribute.map(|value| (ROLE_ATTRIBUTE.to_owned(), value.to_owned()));
        Certificate {
            common_name: None,
            organizational_units: units.iter().map(|unit| (*unit).to_owned()).collect(),
            subject: String::new(),
            issuer: String::new(),
            serial: String::new(),
            attributes: attributes.into_iter().collect(),
        }
    }

    #[test]
    fn the_certificate_gives_the_role() {
        for (units, attribute, expected) in [
            (["client"], None, Ok(Role::Member)),
            (["peer"], None, Ok(Role::Member)),
            (["admin"], None, Ok(Role::Administrator)),
            (["admin"], Some("member"), Ok(Role::Administrator)),
            (["client"], Some("member"), Ok(Role::Member)),
            (["client"], Some("steward"), Ok(Role::Steward)),
            (["client"], Some("administrator"), Ok(Role::Administrator)),
            (["Admin"], None, Ok(Role::Member)),
            (["client"], Some("Steward"), Err(CallerError::Role)),
            (["client"], Some(""), Err(CallerError::Role)),
        ] {
            let found = role(&certificate(&units, attribute));
            assert_eq!(found, expected, "{units:?} {attribute:?}");
        }
    }
}

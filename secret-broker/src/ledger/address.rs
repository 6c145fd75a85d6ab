//! Where a ledger is, as it is written in the configuration.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a ledger is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerAddress {
    /// In a file of this machine, for one broker.
    Sqlite(PathBuf),
    /// On a channel of Hyperledger Fabric, which the profile in this file describes.
    Fabric(PathBuf),
}

/// A text that is no address of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected sqlite:PATH or fabric:PROFILE")]
pub struct NotAnAddress;

impl FromStr for LedgerAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(("fabric", profile)) if !profile.is_empty() => Ok(Self::Fabric(profile.into())),
            _ => Err(NotAnAddress),
        }
    }
}

impl fmt::Display for LedgerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Fabric(profile) => write!(f, "fabric:{}", profile.display()),
        }
    }
}

impl LedgerAddress {
    /// Where its key is where nothing else is said. A channel has none: peers sign there, and the broker as its profile says.
    #[must_use]
    pub fn key_beside(&self) -> PathBuf {
        match self {
            Self::Sqlite(path) | Self::Fabric(path) => path.with_extension("key"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn an_address_names_its_kind() {
        let address: LedgerAddress = "sqlite:/srv/ledger.db".parse().unwrap();
        assert_eq!(address, LedgerAddress::Sqlite("/srv/ledger.db".into()));
        assert_eq!(address.key_beside(), Path::new("/srv/ledger.key"));
        assert_eq!(address.to_string().parse(), Ok(address));
        let profile: LedgerAddress = "fabric:/etc/leasehold/profile.yaml".parse().unwrap();
        assert_eq!(
            profile,
            LedgerAddress::Fabric("/etc/leasehold/profile.yaml".into())
        );
        assert_eq!(profile.to_string().parse(), Ok(profile));
        for text in ["", "fabric:", "sqlite:", "/srv/ledger.db", "mysql:x", "sqlite"] {
            assert_eq!(text.parse::<LedgerAddress>(), Err(NotAnAddress), "{text}");
        }
    }
}

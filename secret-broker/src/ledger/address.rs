//! Where a ledger is, as it is written in the configuration.

mod postgres;

pub use postgres::PostgresAddress;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a ledger is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerAddress {
    /// In a file of this machine, for one broker.
    Sqlite(PathBuf),
    /// On a channel of Hyperledger Fabric, which the profile in this file describes.
    Fabric(PathBuf),
    /// In a database, for several brokers of one organisation.
    Postgres(PostgresAddress),
}

/// A text that is no address of a ledger. Says nothing of the text itself, which may have a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAddress {
    /// Neither of the forms.
    #[error("expected sqlite:PATH, postgres://USER@HOST[:PORT]/DATABASE or fabric:PROFILE")]
    Form,
    /// The part after `postgres:` is no URL.
    #[error("this is no URL of a database ({0}); expected postgres://USER@HOST[:PORT]/DATABASE")]
    Url(url::ParseError),
    /// It does not name the database.
    #[error("the URL names no database; expected postgres://USER@HOST[:PORT]/DATABASE")]
    NoDatabase,
    /// A parameter that nobody reads.
    #[error("the URL has the parameter `{0}`, which is not known; known are {known}", known = postgres::PARAMETERS.join(", "))]
    Parameter(String),
    /// The client does not do what it says.
    #[error(
        "sslmode=allow would never encrypt here, whatever the server asks for: say `verify-full`, or `prefer` or `disable` where nobody can listen"
    )]
    Allow,
    /// A parameter's value.
    #[error("the URL's parameters are not of their form; see the ledger guide")]
    Value,
}

impl FromStr for LedgerAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(("fabric", profile)) if !profile.is_empty() => Ok(Self::Fabric(profile.into())),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                Ok(Self::Postgres(PostgresAddress::parse(text)?))
            }
            Some(("postgres", url)) if url.starts_with("postgres") => {
                Ok(Self::Postgres(PostgresAddress::parse(url)?))
            }
            _ => Err(NotAnAddress::Form),
        }
    }
}

impl fmt::Display for LedgerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Fabric(profile) => write!(f, "fabric:{}", profile.display()),
            Self::Postgres(address) => fmt::Display::fmt(address, f),
        }
    }
}

impl From<&Path> for LedgerAddress {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}

impl From<&Self> for LedgerAddress {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl From<PathBuf> for LedgerAddress {
    fn from(path: PathBuf) -> Self {
        Self::Sqlite(path)
    }
}

impl From<&PathBuf> for LedgerAddress {
    fn from(path: &PathBuf) -> Self {
        Self::Sqlite(path.clone())
    }
}

impl LedgerAddress {
    /// Where its key is where nothing else is said: beside a file. A database has no such place, and on a channel peers sign.
    #[must_use]
    pub fn key_beside(&self) -> Option<PathBuf> {
        match self {
            Self::Sqlite(path) => Some(path.with_extension("key")),
            Self::Postgres(_) | Self::Fabric(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_kind() {
        let address: LedgerAddress = "sqlite:/srv/ledger.db".parse().unwrap();
        assert_eq!(address, LedgerAddress::Sqlite("/srv/ledger.db".into()));
        assert_eq!(address.key_beside(), Some("/srv/ledger.key".into()));
        assert_eq!(address.to_string().parse(), Ok(address));
        let profile: LedgerAddress = "fabric:/etc/leasehold/profile.yaml".parse().unwrap();
        assert_eq!(
            profile,
            LedgerAddress::Fabric("/etc/leasehold/profile.yaml".into())
        );
        assert_eq!(profile.to_string().parse(), Ok(profile));
        for text in [
            "",
            "fabric:",
            "sqlite:",
            "/srv/ledger.db",
            "mysql:x",
            "sqlite",
            "postgres:x",
        ] {
            assert_eq!(text.parse::<LedgerAddress>(), Err(NotAnAddress::Form), "{text}");
        }
    }

    #[test]
    fn a_database_is_named_with_or_without_the_kind_before_its_url() {
        let address: LedgerAddress = "postgres://broker@db.example.org/leasehold".parse().unwrap();
        assert_eq!(
            "postgres:postgresql://broker@db.example.org/leasehold"
                .parse::<LedgerAddress>()
                .unwrap()
                .to_string(),
            address.to_string()
        );
        assert_eq!(
            address.to_string(),
            "postgres://broker@db.example.org:5432/leasehold"
        );
        assert_eq!(address.key_beside(), None);
    }

    #[test]
    fn no_text_of_an_address_or_of_its_errors_has_the_password() {
        let url = "postgres://broker:hunter2@db.example.org:6543/leasehold?sslmode=verify-full";
        let address: LedgerAddress = url.parse().unwrap();
        for text in [address.to_string(), format!("{address:?}")] {
            assert!(text.contains("db.example.org:6543"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        for wrong in [
            "postgres://broker:hunter2@db.example.org:x/leasehold",
            "postgres://broker:hunter2@db.example.org",
            "postgres://broker:hunter2@db.example.org/leasehold?pasword=hunter2",
            "postgres://broker:hunter2@db.example.org/leasehold?sslmode=hunter2",
            "postgre://broker:hunter2@db.example.org/leasehold",
        ] {
            let error = wrong.parse::<LedgerAddress>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

//! Where a key store is, as it is written in the configuration.

mod mysql;

pub use mysql::MySqlAddress;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::ledger::{NotAnAddress, PostgresAddress};

/// Where a key store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// In a file of this machine, for one broker.
    Sqlite(PathBuf),
    /// In PostgreSQL, for several brokers of one organisation.
    Postgres(PostgresAddress),
    /// In MariaDB or MySQL, the same.
    MySql(MySqlAddress),
}

/// A text that is no address of a key store. Says nothing of the text itself, which may have a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAStore {
    /// None of the forms.
    #[error(
        "expected sqlite:PATH, postgres://USER@HOST[:PORT]/DATABASE or mysql://USER@HOST[:PORT]/DATABASE"
    )]
    Form,
    /// The URL of the database.
    #[error(transparent)]
    Url(#[from] NotAnAddress),
    /// The URL of MariaDB or MySQL.
    #[error(transparent)]
    MySql(#[from] mysql::NotAUrl),
}

impl FromStr for StoreAddress {
    type Err = NotAStore;

    fn from_str(text: &str) -> Result<Self, NotAStore> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                Ok(Self::Postgres(PostgresAddress::parse(text)?))
            }
            Some(("postgres", url)) if url.starts_with("postgres") => {
                Ok(Self::Postgres(PostgresAddress::parse(url)?))
            }
            Some(("mysql" | "mariadb", rest)) if rest.starts_with("//") => {
                Ok(Self::MySql(MySqlAddress::parse(text)?))
            }
            Some(("mysql", url)) if url.starts_with("mysql:") || url.starts_with("mariadb:") => {
                Ok(Self::MySql(MySqlAddress::parse(url)?))
            }
            _ => Err(NotAStore::Form),
        }
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(address) => fmt::Display::fmt(address, f),
            Self::MySql(address) => fmt::Display::fmt(address, f),
        }
    }
}

impl From<&Path> for StoreAddress {
    fn from(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }
}

impl From<&PathBuf> for StoreAddress {
    fn from(path: &PathBuf) -> Self {
        Self::Sqlite(path.clone())
    }
}

impl From<&Self> for StoreAddress {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_kind_and_prints_no_password() {
        for (text, shown) in [
            ("sqlite:/srv/broker.db", "sqlite:/srv/broker.db"),
            (
                "postgres://broker:hunter2@db.example.org/keys",
                "postgres://broker@db.example.org:5432/keys",
            ),
            (
                "mysql://broker:hunter2@db.example.org/keys",
                "mysql://broker@db.example.org:3306/keys",
            ),
            (
                "mariadb://broker:hunter2@db.example.org:3307/keys?sslmode=require",
                "mysql://broker@db.example.org:3307/keys",
            ),
            (
                "mysql:mysql://broker:hunter2@db.example.org/keys",
                "mysql://broker@db.example.org:3306/keys",
            ),
        ] {
            let address: StoreAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(!format!("{address:?}").contains("hunter2"));
        }
        for text in [
            "",
            "sqlite:",
            "/srv/broker.db",
            "fabric:x",
            "mysql:x",
            "postgres:x",
        ] {
            assert_eq!(text.parse::<StoreAddress>(), Err(NotAStore::Form), "{text}");
        }
        for wrong in [
            "mysql://broker:hunter2@db.example.org:x/keys",
            "mysql://broker:hunter2@db.example.org",
            "mysql://broker:hunter2@db.example.org/keys?pasword=hunter2",
            "mysql://broker:hunter2@db.example.org/keys?sslmode=hunter2",
            "mysql://broker:hunter2@db.example.org/keys?sslmode=allow",
            "postgres://broker:hunter2@db.example.org/keys?sslmode=allow",
            "mysq://broker:hunter2@db.example.org/keys",
        ] {
            let error = wrong.parse::<StoreAddress>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

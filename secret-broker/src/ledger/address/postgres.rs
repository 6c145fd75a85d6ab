//! A database of PostgreSQL by its URL, whose password nothing prints.

use super::NotAnAddress;
use crate::ledger::storage::StorageError;
use crate::secret::Secret;
use sqlx::postgres::PgConnectOptions;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use url::Url;
use zeroize::Zeroizing;

/// What a URL may say beside user, password, host, port and database.
pub(super) const PARAMETERS: [&str; 8] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "port",
    "user",
    "password_file",
];

/// A database, and how to connect to it.
#[derive(Clone)]
pub struct PostgresAddress(Arc<Place>);

struct Place {
    url: Secret<String>,
    /// Holds the password, read whenever a connection is made.
    password_file: Option<PathBuf>,
    /// `postgres://USER@HOST:PORT/DATABASE`.
    name: String,
}

impl PostgresAddress {
    pub(super) fn parse(text: &str) -> Result<Self, NotAnAddress> {
        let mut url = Url::parse(text).map_err(NotAnAddress::Url)?;
        if url.path().trim_start_matches('/').is_empty() {
            return Err(NotAnAddress::NoDatabase);
        }
        let mut password_file = None;
        let mut others = Vec::new();
        for (key, value) in url.query_pairs() {
            match &*key {
                "password_file" => password_file = Some(PathBuf::from(&*value)),
                known if PARAMETERS.contains(&known) => others.push((key.to_string(), value.to_string())),
                unknown => return Err(NotAnAddress::Parameter(unknown.to_owned())),
            }
        }
        url.set_query(None);
        if !others.is_empty() {
            url.query_pairs_mut().extend_pairs(&others);
        }
        let options: PgConnectOptions = url.as_str().parse().map_err(|_| NotAnAddress::Value)?;
        let place = match options.get_socket() {
            Some(directory) => directory.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let name = format!(
            "postgres://{}@{place}/{}",
            options.get_username(),
            options.get_database().unwrap_or_default()
        );
        Ok(Self(Arc::new(Place {
            url: Secret::new(url.into()),
            password_file,
            name,
        })))
    }

    /// How to connect, with the password as it is now.
    pub(in crate::ledger) fn options(&self) -> Result<PgConnectOptions, StorageError> {
        let options: PgConnectOptions = self.0.url.expose().parse()?;
        let Some(path) = &self.0.password_file else {
            return Ok(options);
        };
        let text = std::fs::read_to_string(path).map_err(|source| StorageError::Password {
            path: path.clone(),
            source,
        })?;
        let text = Zeroizing::new(text);
        Ok(options.password(text.trim_end_matches(['\r', '\n'])))
    }
}

impl PartialEq for PostgresAddress {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.0, &other.0);
        one.url.expose() == other.url.expose() && one.password_file == other.password_file
    }
}

impl Eq for PostgresAddress {}

impl fmt::Display for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl fmt::Debug for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

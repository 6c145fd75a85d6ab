//! A database of PostgreSQL by its URL, whose password nothing prints.
//!
//! Over a network the server's certificate must be its own, unless the URL says otherwise in so many words: `PGSSLMODE` does not.

use super::NotAnAddress;
use crate::ledger::storage::StorageError;
use crate::secret::Secret;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::fmt;
use std::net::IpAddr;
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
    pub(crate) fn parse(text: &str) -> Result<Self, NotAnAddress> {
        let mut url = Url::parse(text).map_err(NotAnAddress::Url)?;
        if url.path().trim_start_matches('/').is_empty() {
            return Err(NotAnAddress::NoDatabase);
        }
        let mut password_file = None;
        let mut others = Vec::new();
        for (key, value) in url.query_pairs() {
            match &*key {
                // Which the client takes for `disable`.
                "sslmode" if value.eq_ignore_ascii_case("allow") => return Err(NotAnAddress::Allow),
                "password_file" => password_file = Some(PathBuf::from(&*value)),
                known if PARAMETERS.contains(&known) => others.push((key.to_string(), value.to_string())),
                unknown => return Err(NotAnAddress::Parameter(unknown.to_owned())),
            }
        }
        url.set_query(None);
        if !others.is_empty() {
            url.query_pairs_mut().extend_pairs(&others);
        }
        let mut options: PgConnectOptions = url.as_str().parse().map_err(|_| NotAnAddress::Value)?;
        let says_how = others.iter().any(|(key, _)| key == "sslmode");
        if !says_how && !is_this_machine(&options) {
            url.query_pairs_mut().append_pair("sslmode", "verify-full");
            options = options.ssl_mode(PgSslMode::VerifyFull);
        }
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

    /// The same for what is no ledger, or why it cannot be said.
    pub(crate) fn connect_options(&self) -> Result<PgConnectOptions, String> {
        self.options().map_err(|error| error.to_string())
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

/// Whether what is sent stays on this machine.
fn is_this_machine(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_matches(['[', ']']);
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    options.get_socket().is_some() || host == "localhost" || host.parse().is_ok_and(is_loopback)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_network_the_server_proves_who_it_is_unless_the_url_says_otherwise() {
        for (url, expected) in [
            ("postgres://b@db.example.org/l", "VerifyFull"),
            ("postgres://b@10.0.0.7/l?sslrootcert=/ca.crt", "VerifyFull"),
            ("postgres://b@localhost.example.org/l", "VerifyFull"),
            ("postgres://b@[2001:db8::1]/l", "VerifyFull"),
            ("postgres:///l?user=b&host=db.example.org", "VerifyFull"),
            ("postgres://b@127.0.0.1/l?host=db.example.org", "VerifyFull"),
            ("postgres://b@db.example.org/l?sslmode=require", "Require"),
            ("postgres://b@db.example.org/l?sslmode=disable", "Disable"),
            ("postgres://b@localhost/l", "Prefer"),
            ("postgres://b@127.0.0.1/l", "Prefer"),
            ("postgres://b@[::1]/l", "Prefer"),
            ("postgres:///l?user=b&host=/run/postgresql", "Prefer"),
            ("postgres://b@127.0.0.1/l?sslmode=verify-full", "VerifyFull"),
        ] {
            let options = PostgresAddress::parse(url).unwrap().options().unwrap();
            assert_eq!(format!("{:?}", options.get_ssl_mode()), expected, "{url}");
        }
    }

    #[test]
    fn a_mode_that_says_more_than_the_client_does_is_refused_by_name() {
        for url in [
            "postgres://b@db.example.org/l?sslmode=allow",
            "postgres://b@localhost/l?sslmode=Allow",
            "postgres://b@db.example.org/l?sslmode=verify-full&sslmode=ALLOW",
            "postgres://b@db.example.org/l?sslm%6Fde=allow",
        ] {
            let error = PostgresAddress::parse(url).unwrap_err();
            assert_eq!(error, NotAnAddress::Allow, "{url}");
            assert!(error.to_string().contains("sslmode=allow"));
        }
    }
}

//! A database of MariaDB or MySQL by its URL, whose password nothing prints.
//!
//! Its parameters have the names and words that they have for PostgreSQL. Over a network the server's certificate must be its own, unless
//! the URL says otherwise in so many words.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use url::Url;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::store::StoreError;

/// What a URL may say beside user, password, host, port and database.
const PARAMETERS: [&str; 6] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "socket",
    "password_file",
];

/// A text that is no URL of a database. Says nothing of the text itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAUrl {
    /// It is no URL.
    #[error("this is no URL of a database ({0}); expected mysql://USER@HOST[:PORT]/DATABASE")]
    Url(url::ParseError),
    /// User, password or database are not written as a URL has them.
    #[error("the URL's user, password or database is not of its form: write other characters as %XX")]
    Part,
    /// It does not name the database.
    #[error("the URL names no database; expected mysql://USER@HOST[:PORT]/DATABASE")]
    NoDatabase,
    /// A parameter that nobody reads.
    #[error("the URL has the parameter `{0}`, which is not known; known are {known}", known = PARAMETERS.join(", "))]
    Parameter(String),
    /// What is said of TLS.
    #[error("sslmode is one of disable, prefer, require, verify-ca, verify-full: say `verify-full`")]
    Mode,
}

/// A database, and how to connect to it.
#[derive(Clone)]
pub struct MySqlAddress(Arc<Place>);

#[derive(PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
    user: String,
    database: String,
    password: Option<Password>,
    socket: Option<PathBuf>,
    mode: Mode,
    roots: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

enum Password {
    /// As the URL has it.
    Said(Secret<String>),
    /// Read whenever connections are made.
    In(PathBuf),
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Said(one), Self::Said(other)) => one.expose() == other.expose(),
            (Self::In(one), Self::In(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Password {}

impl MySqlAddress {
    pub(super) fn parse(text: &str) -> Result<Self, NotAUrl> {
        let url = Url::parse(text).map_err(NotAUrl::Url)?;
        let decoded = |part: &str| {
            let mut pair = Zeroizing::new("part=".to_owned());
            // In a form a plus is a space; in these parts it is itself.
            pair.push_str(&part.replace('+', "%2B").replace('&', "%26"));
            let found = url::form_urlencoded::parse(pair.as_bytes()).next();
            let (_, found) = found.ok_or(NotAUrl::Part)?;
            match found.contains('\u{fffd}') {
                true => Err(NotAUrl::Part),
                false => Ok(found.into_owned()),
            }
        };
        let database = decoded(url.path().trim_start_matches('/'))?;
        if database.is_empty() {
            return Err(NotAUrl::NoDatabase);
        }
        let mut password = match url.password() {
            Some(password) => Some(Password::Said(Secret::new(decoded(password)?))),
            None => None,
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.unwrap_or("localhost").trim_matches(['[', ']']).to_owned();
        let (mut socket, mut mode, mut roots, mut certificate, mut key) = (None, None, None, None, None);
        for (name, value) in url.query_pairs() {
            let path = || Some(PathBuf::from(&*value));
            match &*name {
                "sslmode" => mode = Some(Mode::parse(&value)?),
                "sslrootcert" => roots = path(),
                "sslcert" => certificate = path(),
                "sslkey" => key = path(),
                "socket" => socket = path(),
                "password_file" => password = path().map(Password::In),
                unknown => return Err(NotAUrl::Parameter(unknown.to_owned())),
            }
        }
        let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
        let is_here = socket.is_some() || host == "localhost" || host.parse().is_ok_and(is_loopback);
        let mode = mode.unwrap_or(if is_here { Mode::Prefer } else { Mode::VerifyFull });
        Ok(Self(Arc::new(Place {
            port: url.port().unwrap_or(3306),
            user: decoded(url.username())?,
            host,
            database,
            password,
            socket,
            mode,
            roots,
            certificate,
            key,
        })))
    }

    /// How to connect, with the password as it is now.
    pub(in crate::store) fn options(&self) -> Result<MySqlConnectOptions, StoreError> {
        let place = &self.0;
        let mut options = MySqlConnectOptions::new()
            .host(&place.host)
            .port(place.port)
            .username(&place.user)
            .database(&place.database)
            .ssl_mode(match place.mode {
                Mode::Disable => MySqlSslMode::Disabled,
                Mode::Prefer => MySqlSslMode::Preferred,
                Mode::Require => MySqlSslMode::Required,
                Mode::VerifyCa => MySqlSslMode::VerifyCa,
                Mode::VerifyFull => MySqlSslMode::VerifyIdentity,
            });
        match &place.password {
            Some(Password::Said(password)) => options = options.password(password.expose()),
            Some(Password::In(path)) => {
                let text = std::fs::read_to_string(path).map_err(|source| {
                    let path = path.display();
                    StoreError::Address(format!(
                        "the password file {path}: {source}; check password_file and the file's rights"
                    ))
                })?;
                let text = Zeroizing::new(text);
                options = options.password(text.trim_end_matches(['\r', '\n']));
            }
            None => {}
        }
        if let Some(socket) = &place.socket {
            options = options.socket(socket);
        }
        if let Some(roots) = &place.roots {
            options = options.ssl_ca(roots);
        }
        if let Some(certificate) = &place.certificate {
            options = options.ssl_client_cert(certificate);
        }
        if let Some(key) = &place.key {
            options = options.ssl_client_key(key);
        }
        Ok(options)
    }
}

impl Mode {
    fn parse(word: &str) -> Result<Self, NotAUrl> {
        Ok(match word {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            // `allow` would never encrypt; of other words nobody knows what is meant.
            _ => return Err(NotAUrl::Mode),
        })
    }
}

impl PartialEq for MySqlAddress {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for MySqlAddress {}

impl fmt::Display for MySqlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.0;
        match &place.socket {
            Some(socket) => write!(
                f,
                "mysql://{}@{}/{}",
                place.user,
                socket.display(),
                place.database
            ),
            None => write!(
                f,
                "mysql://{}@{}:{}/{}",
                place.user, place.host, place.port, place.database
            ),
        }
    }
}

impl fmt::Debug for MySqlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_network_the_server_proves_who_it_is_unless_the_url_says_otherwise() {
        for (url, expected) in [
            ("mysql://b@db.example.org/k", "VerifyIdentity"),
            ("mysql://b@10.0.0.7/k?sslrootcert=/ca.crt", "VerifyIdentity"),
            ("mysql://b@localhost.example.org/k", "VerifyIdentity"),
            ("mysql://b@[2001:db8::1]/k", "VerifyIdentity"),
            ("mysql://b@db.example.org/k?sslmode=require", "Required"),
            ("mysql://b@db.example.org/k?sslmode=disable", "Disabled"),
            ("mysql://b@localhost/k", "Preferred"),
            ("mysql://b@127.0.0.1/k", "Preferred"),
            ("mysql://b@[::1]/k", "Preferred"),
            (
                "mysql://b@db.example.org/k?socket=/run/mysqld/mysqld.sock",
                "Preferred",
            ),
            ("mysql://b@127.0.0.1/k?sslmode=verify-full", "VerifyIdentity"),
        ] {
            let options = MySqlAddress::parse(url).unwrap().options().unwrap();
            assert_eq!(format!("{:?}", options.get_ssl_mode()), expected, "{url}");
        }
    }

    #[test]
    fn parts_of_a_url_mean_what_they_say() {
        let address = MySqlAddress::parse("mysql://us%2Fer:p+%26%20%C3%A5@db/ke%2Bys").unwrap();
        assert_eq!((&*address.0.user, &*address.0.database), ("us/er", "ke+ys"));
        let Some(Password::Said(password)) = &address.0.password else {
            panic!("no password");
        };
        assert_eq!(password.expose(), "p+& å");
        let refused = MySqlAddress::parse("mysql://u%FF@db/keys").unwrap_err();
        assert_eq!(refused, NotAUrl::Part);
        for mode in ["allow", "ALLOW", "verify_full", ""] {
            let url = format!("mysql://u@db/keys?sslmode={mode}");
            assert_eq!(MySqlAddress::parse(&url).unwrap_err(), NotAUrl::Mode, "{mode}");
        }
    }
}

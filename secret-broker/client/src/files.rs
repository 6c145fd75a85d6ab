//! The two files that every call depends on, token and CA certificate, and the check that a token only ever travels to
//! where it cannot be overheard.

use std::path::{Path, PathBuf};

use http::Uri;
use http::header::HeaderValue;

/// More than this is no token and no CA bundle of ours.
const MAX_FILE_BYTES: usize = 1 << 20;

/// A broker URL that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EndpointError {
    /// Not a URL with a scheme and a host.
    #[error(
        "broker URL {url:?} is not an absolute URL such as https://leasehold-secret-broker.leasehold-system.svc:8443"
    )]
    Malformed {
        /// As it was given.
        url: String,
    },
    /// Plain HTTP to somewhere else than this machine, or another scheme.
    #[error("broker URL {url:?} would send a token in the clear; use https")]
    Insecure {
        /// As it was given.
        url: String,
    },
}

/// A token or CA file that cannot be used now; it may appear or change later.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file can't be read.
    #[error("cannot read the {what} from {}: {source}", path.display())]
    Unreadable {
        /// `token` or `CA certificate`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{} does not hold a {what}", path.display())]
    Malformed {
        /// `token` or `CA certificate`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
    },
}

/// Parses a broker URL; plain HTTP is for loopback addresses only.
pub(crate) fn broker_uri(url: &str) -> Result<Uri, EndpointError> {
    let malformed = || EndpointError::Malformed { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| malformed())?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(malformed)?;
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if matches!(host, "127.0.0.1" | "[::1]" | "localhost") => Ok(uri),
        Some(_) => Err(EndpointError::Insecure { url: url.to_owned() }),
        None => Err(malformed()),
    }
}

/// The token in `path` as an `authorization` value that logs and `Debug` do not show.
pub(crate) async fn bearer(path: &Path) -> Result<HeaderValue, FileError> {
    const WHAT: &str = "token";
    let content = read(WHAT, path).await?;
    let malformed = || FileError::Malformed {
        what: WHAT,
        path: path.to_owned(),
    };
    let token = std::str::from_utf8(&content).map_err(|_| malformed())?.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| malformed())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The PEM text in `path`.
pub(crate) async fn ca_pem(path: &Path) -> Result<Vec<u8>, FileError> {
    const WHAT: &str = "CA certificate";
    let pem = read(WHAT, path).await?;
    if pem
        .windows(27)
        .any(|window| window == b"-----BEGIN CERTIFICATE-----")
    {
        Ok(pem)
    } else {
        Err(FileError::Malformed {
            what: WHAT,
            path: path.to_owned(),
        })
    }
}

async fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    let content = tokio::fs::read(path)
        .await
        .map_err(|source| FileError::Unreadable {
            what,
            path: path.to_owned(),
            source,
        })?;
    if content.len() > MAX_FILE_BYTES {
        return Err(FileError::Malformed {
            what,
            path: path.to_owned(),
        });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_travels_in_the_clear() {
        for url in [
            "http://broker:8443",
            "http://127.0.0.1.example.org",
            "ftp://broker",
            "http://localhost.evil",
        ] {
            assert_eq!(
                broker_uri(url).unwrap_err(),
                EndpointError::Insecure { url: url.to_owned() }
            );
        }
        for url in ["", "broker:8443", "/v1", "https://"] {
            assert!(broker_uri(url).is_err(), "{url}");
        }
        for url in ["https://broker:8443", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert!(broker_uri(url).is_ok(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_token_file_may_end_in_a_newline_but_hold_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "abc.def\n").unwrap();
        let value = bearer(&path).await.unwrap();
        assert_eq!(value.as_bytes(), b"Bearer abc.def");
        assert!(!format!("{value:?}").contains("abc"));
        for bad in ["", "\n", "two words", "a\nb", "t\u{f6}ken"] {
            std::fs::write(&path, bad).unwrap();
            assert!(
                matches!(bearer(&path).await, Err(FileError::Malformed { .. })),
                "{bad:?}"
            );
        }
    }
}

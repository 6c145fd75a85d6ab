//! Where a server listens and as what: from the environment variables that Fabric's samples use, checked once, all faults at once.
//!
//! | variable | meaning |
//! |---|---|
//! | `CHAINCODE_SERVER_ADDRESS` | `host:port` to listen on |
//! | `CHAINCODE_ID` | the package id, `label:hash`, as `peer lifecycle chaincode calculatepackageid` prints it |
//! | `CHAINCODE_TLS_DISABLED` | `true` or `false`; unset, TLS is on where a key or a certificate is given |
//! | `CHAINCODE_TLS_KEY` | file with the server's private key, PEM |
//! | `CHAINCODE_TLS_CERT` | file with its certificate and those between it and the root, PEM |
//! | `CHAINCODE_CLIENT_CA_CERT` | file with the roots of the peers' client certificates, PEM; given, every peer must show one |

use std::fmt;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::limits::Limits;

const ADDRESS: &str = "CHAINCODE_SERVER_ADDRESS";
const ID: &str = "CHAINCODE_ID";
const TLS_DISABLED: &str = "CHAINCODE_TLS_DISABLED";
const TLS_KEY: &str = "CHAINCODE_TLS_KEY";
const TLS_CERT: &str = "CHAINCODE_TLS_CERT";
const CLIENT_CA: &str = "CHAINCODE_CLIENT_CA_CERT";

/// What a server needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// `host:port` to listen on.
    pub address: String,
    /// Package id, `label:hash`.
    pub chaincode_id: String,
    /// None for plain text.
    pub tls: Option<TlsConfig>,
    /// Bounds.
    pub limits: Limits,
}

/// Certificates of a server, in PEM.
#[derive(Clone)]
pub struct TlsConfig {
    /// Certificate chain, the server's own first.
    pub certificate: Vec<u8>,
    /// Private key.
    pub key: Vec<u8>,
    /// Roots of client certificates; given, a peer without one is turned away.
    pub client_ca: Option<Vec<u8>>,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("client_ca", &self.client_ca.is_some())
            .finish_non_exhaustive()
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// In the order of the variables; never empty.
    pub problems: Vec<ConfigProblem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the chaincode server cannot be configured")?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "; {problem}"))
    }
}

impl std::error::Error for ConfigError {}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// A variable that must be set is not.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// A variable's value cannot be used.
    #[error("{variable} is {value:?}, which is not {wanted}")]
    Invalid {
        /// Which.
        variable: &'static str,
        /// As it is set.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The file that a variable names cannot be used.
    #[error("{variable} names {path:?}: {reason}")]
    File {
        /// Which.
        variable: &'static str,
        /// As it is set.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A root for client certificates without TLS, which would let everybody in.
    #[error("{CLIENT_CA} is set, but TLS is off")]
    ClientCaWithoutTls,
}

impl Config {
    /// A configuration without TLS and with the default bounds.
    pub fn new(address: impl Into<String>, chaincode_id: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            chaincode_id: chaincode_id.into(),
            tls: None,
            limits: Limits::default(),
        }
    }

    /// From the process's environment.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// From wherever variables come from. A variable that is empty counts as not set. Files are read now.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut reader = Reader {
            lookup,
            problems: Vec::new(),
        };
        let address = reader.checked(ADDRESS, "host:port", is_address);
        let chaincode_id = reader.checked(ID, "a package id, label:hash", is_package_id);
        let tls = reader.tls();
        if reader.problems.is_empty() {
            Ok(Self {
                address,
                chaincode_id,
                tls,
                limits: Limits::default(),
            })
        } else {
            Err(ConfigError {
                problems: reader.problems,
            })
        }
    }
}

fn is_address(value: &str) -> bool {
    value
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn is_package_id(value: &str) -> bool {
    value
        .split_once(':')
        .is_some_and(|(label, hash)| !label.is_empty() && !hash.is_empty())
}

/// Reads variables and remembers what is wrong with them. What it gives for a wrong one is not used.
struct Reader<L> {
    lookup: L,
    problems: Vec<ConfigProblem>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    fn set(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    fn checked(
        &mut self,
        variable: &'static str,
        wanted: &'static str,
        check: impl Fn(&str) -> bool,
    ) -> String {
        let value = self.set(variable);
        match &value {
            None => self.problems.push(ConfigProblem::Missing(variable)),
            Some(value) if !check(value) => {
                self.problems.push(ConfigProblem::Invalid {
                    variable,
                    value: value.clone(),
                    wanted,
                });
            }
            Some(_) => {}
        }
        value.unwrap_or_default()
    }

    fn tls(&mut self) -> Option<TlsConfig> {
        let disabled = match self
            .set(TLS_DISABLED)
            .as_deref()
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Some("true") => true,
            Some("false") => false,
            Some(other) => {
                let value = other.to_owned();
                let wanted = "true or false";
                self.problems.push(ConfigProblem::Invalid {
                    variable: TLS_DISABLED,
                    value,
                    wanted,
                });
                return None;
            }
            None if self.set(TLS_KEY).is_none() && self.set(TLS_CERT).is_none() => {
                if self.set(CLIENT_CA).is_some() {
                    self.problems.push(ConfigProblem::ClientCaWithoutTls);
                }
                true
            }
            None => false,
        };
        if disabled {
            return None;
        }
        let key = self.file(TLS_KEY, |pem| {
            PrivateKeyDer::from_pem_slice(pem)
                .map(drop)
                .map_err(|error| format!("no private key in PEM: {error}"))
        });
        let certificate = self.file(TLS_CERT, certificates);
        let client_ca = self.set(CLIENT_CA).map(|_| self.file(CLIENT_CA, certificates));
        Some(TlsConfig {
            certificate,
            key,
            client_ca,
        })
    }

    fn file(&mut self, variable: &'static str, check: impl Fn(&[u8]) -> Result<(), String>) -> Vec<u8> {
        let Some(path) = self.set(variable) else {
            self.problems.push(ConfigProblem::Missing(variable));
            return Vec::new();
        };
        let read = std::fs::read(&path).map_err(|error| error.to_string());
        match read.and_then(|content| check(&content).map(|()| content)) {
            Ok(content) => content,
            Err(reason) => {
                self.problems.push(ConfigProblem::File {
                    variable,
                    path,
                    reason,
                });
                Vec::new()
            }
        }
    }
}

fn certificates(pem: &[u8]) -> Result<(), String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("no certificate in PEM".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("no certificate in PEM: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_variables(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn address_and_id_are_enough_without_tls() {
        let config = read(&[(ADDRESS, "0.0.0.0:7052"), (ID, "basic:abc")]).unwrap();
        assert_eq!(
            (config.address.as_str(), config.chaincode_id.as_str()),
            ("0.0.0.0:7052", "basic:abc")
        );
        assert!(config.tls.is_none());
        assert_eq!(config.limits, Limits::default());
    }

    #[test]
    fn all_faults_are_said_at_once() {
        let problems = read(&[
            (ADDRESS, "here"),
            (ID, ""),
            (TLS_DISABLED, "false"),
            (TLS_CERT, "/nonexistent"),
            (CLIENT_CA, "/dev/null"),
        ])
        .unwrap_err()
        .problems;
        let invalid = ConfigProblem::Invalid {
            variable: ADDRESS,
            value: "here".into(),
            wanted: "host:port",
        };
        assert_eq!(
            problems.get(..3),
            Some(
                &[
                    invalid,
                    ConfigProblem::Missing(ID),
                    ConfigProblem::Missing(TLS_KEY)
                ][..]
            )
        );
        assert!(
            matches!(
                problems.get(3),
                Some(ConfigProblem::File {
                    variable: TLS_CERT,
                    ..
                })
            ),
            "{problems:?}"
        );
        assert!(
            matches!(
                problems.get(4),
                Some(ConfigProblem::File {
                    variable: CLIENT_CA,
                    ..
                })
            ),
            "{problems:?}"
        );
        assert_eq!(problems.len(), 5);
    }

    #[test]
    fn client_certificates_without_tls_are_a_fault_unless_tls_is_disabled_by_name() {
        let base = [(ADDRESS, "h:1"), (ID, "a:b"), (CLIENT_CA, "/ca.pem")];
        assert_eq!(
            read(&base).unwrap_err().problems,
            [ConfigProblem::ClientCaWithoutTls]
        );
        let mut disabled = base.to_vec();
        disabled.push((TLS_DISABLED, "TRUE"));
        assert!(read(&disabled).unwrap().tls.is_none());
    }

    #[test]
    fn a_key_is_never_printed() {
        let tls = TlsConfig {
            certificate: b"public".to_vec(),
            key: b"sesame".to_vec(),
            client_ca: None,
        };
        assert_eq!(format!("{tls:?}"), "TlsConfig { client_ca: false, .. }");
    }
}

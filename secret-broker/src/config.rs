//! Flags and their environment, checked once at start with all errors told together.

mod roots;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use clap::{Parser, Subcommand};
use ipnet::IpNet;
use leasehold_chaincode::{ClusterName, Msp};
use leasehold_process::Logging;

use crate::command_line::audit::AuditArgs;
use crate::command_line::keys::KeysArgs;
use crate::command_line::ledger::LedgerArgs;
use crate::fabric::Profile;
use crate::identity::config::IdentityConfig;
use crate::keys::pkcs11::Pkcs11Settings;
use crate::ledger::{BlockName, Bytes, KeyId, LedgerAddress};
use crate::pace::PaceArgs;
use crate::shredding::waiting::Brake;
use crate::store::StoreAddress;
use crate::volume::LocalRoots;

/// The secret broker of one organisation: who you are, what you may, what is encrypted with what.
#[derive(Debug, Parser)]
#[command(
    name = "leasehold-secret-broker",
    version,
    about,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// Other work than serving.
    #[command(subcommand)]
    pub command: Option<Work>,
    /// How to serve.
    #[command(flatten)]
    pub flags: Flags,
}

/// Work that is done once.
#[derive(Debug, Subcommand)]
pub enum Work {
    /// Look after the key ring and the key store.
    Keys(KeysArgs),
    /// Verify, receipt, export, import or rebuild a ledger.
    Ledger(LedgerArgs),
    /// Verify or export what the broker decided.
    Audit(AuditArgs),
}

/// Which hardware module holds key-encryption keys, where one does.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Pkcs11Args {
    /// Library (.so) of the hardware module that new key-encryption keys are made in, and those of the ring that are there are used in.
    #[arg(long, env = "LEASEHOLD_PKCS11_MODULE", value_name = "FILE")]
    pub pkcs11_module: Option<PathBuf>,
    /// Label of the token in it.
    #[arg(long, env = "LEASEHOLD_PKCS11_TOKEN", value_name = "LABEL")]
    pub pkcs11_token: Option<String>,
    /// File that holds the PIN of the token's user.
    #[arg(long, env = "LEASEHOLD_PKCS11_PIN_FILE", value_name = "FILE")]
    pub pkcs11_pin_file: Option<PathBuf>,
}

impl Pkcs11Args {
    /// The module, if one is wanted.
    ///
    /// # Errors
    /// A sentence where it is said in part.
    pub fn settings(&self) -> Result<Option<Pkcs11Settings>, String> {
        match (&self.pkcs11_module, &self.pkcs11_token, &self.pkcs11_pin_file) {
            (None, None, None) => Ok(None),
            (Some(module), Some(token), Some(pin_file)) => Ok(Some(Pkcs11Settings {
                module: module.clone(),
                token: token.clone(),
                pin_file: pin_file.clone(),
            })),
            _ => Err(
                "--pkcs11-module, --pkcs11-token and --pkcs11-pin-file come together or not at all"
                    .to_owned(),
            ),
        }
    }
}

/// The flags of the service. `run` takes the checked [`Config`].
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Issuers, stewards and machines, YAML or JSON; see config.example.yaml.
    #[arg(long, env = "LEASEHOLD_CONFIG")]
    pub config: Option<PathBuf>,
    /// MSP id of the organisation that runs this broker.
    #[arg(long, env = "LEASEHOLD_ORGANISATION")]
    pub organisation: Option<String>,
    /// The organisation's cluster that this broker serves, as it is named on the ledger. No two brokers may run under one name.
    #[arg(long, env = "LEASEHOLD_CLUSTER", default_value = "main")]
    pub cluster: String,
    /// Where other organisations' brokers reach this one, as it is told on the ledger.
    #[arg(
        long,
        env = "LEASEHOLD_ADDRESS",
        default_value = "https://leasehold-secret-broker.leasehold-system.svc:8443"
    )]
    pub address: String,
    /// Directory of the databases and of the broker's own CA.
    #[arg(long, env = "LEASEHOLD_DATA_DIR", default_value = "/var/lib/leasehold")]
    pub data_dir: PathBuf,
    /// Where the ledger is, sqlite:PATH, postgres:URL or fabric:PROFILE; `sqlite:<data-dir>/ledger.db` where absent.
    #[arg(long, env = "LEASEHOLD_LEDGER", hide_env_values = true)]
    pub ledger: Option<String>,
    /// The key store: `sqlite:PATH`, or for replicas that share it `postgres://USER@HOST/DATABASE` or `mysql://USER@HOST/DATABASE` (MariaDB
    /// too); `sqlite:<data-dir>/broker.db` where absent.
    #[arg(long, env = "LEASEHOLD_STORE", hide_env_values = true)]
    pub store: Option<String>,
    /// The Ed25519 key that signs the ledger, PKCS#8 PEM; where absent it is made beside a new ledger's file, or for a database as
    /// `<data-dir>/ledger.key`. Brokers that share a ledger share its key.
    #[arg(long, env = "LEASEHOLD_LEDGER_KEY")]
    pub ledger_key: Option<PathBuf>,
    /// Sign a ledger that an early version wrote without signing, and so vouch for all of it.
    #[arg(long, env = "LEASEHOLD_ADOPT_UNSIGNED_LEDGER")]
    pub adopt_unsigned_ledger: bool,
    /// A key of yours (its `key_id`) that took over from a lost one (`ledger rotate --lost`) and is not the ledger key any more.
    #[arg(
        long = "trust-ledger-key",
        env = "LEASEHOLD_TRUST_LEDGER_KEY",
        value_delimiter = ',',
        value_name = "KEY_ID"
    )]
    pub trusted_ledger_keys: Vec<KeyId>,
    /// Which ledger it must be, by its id as the broker's log, `ledger verify` and receipts have it: no other one is opened, and none is made.
    #[arg(long, env = "LEASEHOLD_LEDGER_ID", value_name = "ID")]
    pub ledger_id: Option<Bytes<32>>,
    /// Go on from a ledger that lacks blocks which this broker has seen, as after a failover that lost them for good: the block that it ends
    /// with, as the broker prints it when it refuses to. It counts once; left where it is, it accepts no later loss.
    #[arg(long, env = "LEASEHOLD_ACCEPT_LOST_BLOCKS", value_name = "HEIGHT:HASH")]
    pub accept_lost_blocks: Option<BlockName>,
    /// How many days the audit keeps its records: six years, as HIPAA (45 CFR 164.316) wants of what it documents.
    #[arg(long, env = "LEASEHOLD_AUDIT_KEEP_DAYS", default_value_t = 2192, value_parser = clap::value_parser!(u32).range(30..))]
    pub audit_keep_days: u32,
    /// How long the ledger has to go on saying that a dataset is retired before its data keys are destroyed, seconds.
    #[arg(
        long,
        env = "LEASEHOLD_KEY_DESTRUCTION_DELAY_SECONDS",
        default_value_t = 86_400,
        value_name = "SECONDS"
    )]
    pub key_destruction_delay_seconds: u32,
    /// Of how many retired datasets an hour the data keys are destroyed; what is more waits, or is let go by `keys release`.
    #[arg(
        long,
        env = "LEASEHOLD_KEY_DESTRUCTIONS_PER_HOUR",
        default_value_t = 10,
        value_name = "DATASETS"
    )]
    pub key_destructions_per_hour: u32,
    /// How fast one person may ask.
    #[command(flatten)]
    pub pace: PaceArgs,
    /// Networks of the proxies or load balancers through which people come: their connections are many, and share 1,024 places. Any other
    /// address may have 32.
    #[arg(
        long,
        env = "LEASEHOLD_PROXY_NETWORKS",
        value_delimiter = ',',
        value_name = "CIDR"
    )]
    pub proxy_networks: Vec<IpNet>,
    /// Where people's REST API listens (https).
    #[arg(long, env = "LEASEHOLD_REST_LISTEN", default_value = "0.0.0.0:8443")]
    pub rest_listen: SocketAddr,
    /// Where the machines' gRPC API listens (TLS).
    #[arg(long, env = "LEASEHOLD_GRPC_LISTEN", default_value = "0.0.0.0:9443")]
    pub grpc_listen: SocketAddr,
    /// Where /livez, /readyz and /metrics listen (plain http).
    #[arg(long, env = "LEASEHOLD_PROBE_LISTEN", default_value = "0.0.0.0:8080")]
    pub probe_listen: SocketAddr,
    /// Directories that an owner's local volumes must be below: `UiSMSP=/srv/a,UiOMSP=/srv/b`; an owner may occur again.
    #[arg(long, env = "LEASEHOLD_LOCAL_ROOTS", value_delimiter = ',')]
    pub local_roots: Vec<String>,
    /// The key ring, one key per line as `use:version:base64`; `<data-dir>/keys` where absent. Read again while the broker runs.
    #[arg(long, env = "LEASEHOLD_KEK_FILE")]
    pub kek_file: Option<PathBuf>,
    /// Make the key ring at start if there is none, and the key store has no keys that a lost one wrapped.
    #[arg(long, env = "LEASEHOLD_KEK_CREATE")]
    pub kek_create: bool,
    /// The hardware module.
    #[command(flatten)]
    pub pkcs11: Pkcs11Args,
    /// Names and addresses in the broker's own certificate.
    #[arg(
        long,
        env = "LEASEHOLD_TLS_NAMES",
        value_delimiter = ',',
        default_value = "localhost,127.0.0.1,leasehold-secret-broker,leasehold-secret-broker.leasehold-system,leasehold-secret-broker.leasehold-system.svc,leasehold-secret-broker.leasehold-system.svc.cluster.local"
    )]
    pub tls_names: Vec<String>,
    /// Certificate chain (PEM) to use instead of an own one.
    #[arg(long, env = "LEASEHOLD_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, env = "LEASEHOLD_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// ConfigMap `namespace/name` into which the own CA certificate is written, key `ca.crt`.
    #[arg(long, env = "LEASEHOLD_PUBLISH_CA")]
    pub publish_ca: Option<String>,
    /// Its log.
    #[command(flatten)]
    pub logging: Logging,
    /// Check the configuration and leave.
    #[arg(long)]
    pub check: bool,
}

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSource {
    /// Made by the broker under its own CA.
    Own {
        /// DNS names and IP addresses.
        names: Vec<String>,
    },
    /// Given, and read again when it changes.
    Files {
        /// Certificate chain.
        certificate: PathBuf,
        /// Private key.
        key: PathBuf,
    },
}

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Issuers, stewards, machines.
    pub identity: IdentityConfig,
    /// Whose broker this is.
    pub organisation: Msp,
    /// The cluster that it serves.
    pub cluster: ClusterName,
    /// Where others reach it: `https://host[:port]`; the ledger checks its form.
    pub address: String,
    /// Directory of the databases.
    pub data_dir: PathBuf,
    /// The ledger.
    pub ledger: LedgerAddress,
    /// The key store.
    pub store: StoreAddress,
    /// What signs the ledger.
    pub ledger_key: PathBuf,
    /// Whether one that nobody signed is taken over.
    pub adopt_unsigned_ledger: bool,
    /// Keys of the operator's that may have taken over from a lost one.
    pub trusted_ledger_keys: Vec<KeyId>,
    /// Which ledger it must be.
    pub ledger_id: Option<Bytes<32>>,
    /// What one ends with that lacks blocks and is gone on from.
    pub accept_lost_blocks: Option<BlockName>,
    /// How long the audit keeps its records.
    pub audit_keep_days: u32,
    /// What keeps many data keys from being destroyed by mistake.
    pub brake: Brake,
    /// How fast one person may ask.
    pub pace: PaceArgs,
    /// Where proxies are, each of which comes for many.
    pub proxy_networks: Vec<IpNet>,
    /// REST address.
    pub rest_listen: SocketAddr,
    /// gRPC address.
    pub grpc_listen: SocketAddr,
    /// Probes' address.
    pub probe_listen: SocketAddr,
    /// Allowed roots of local volumes.
    pub local_roots: LocalRoots,
    /// The key ring.
    pub kek_file: PathBuf,
    /// Whether to make it.
    pub kek_create: bool,
    /// The hardware module that holds keys of it.
    pub pkcs11: Option<Pkcs11Settings>,
    /// Certificate.
    pub tls: TlsSource,
    /// ConfigMap for the CA: namespace and name.
    pub publish_ca: Option<(String, String)>,
}

impl Config {
    /// Checks the flags and reads the configuration file.
    ///
    /// # Errors
    /// Everything that is wrong, one sentence each.
    pub fn from_flags(flags: Flags) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let identity = match &flags.config {
            None => Err(vec![
                "--config is missing; give the file with issuers, stewards and machines".to_owned(),
            ]),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| {
                    vec![format!(
                        "could not read the configuration file {}: {error}",
                        path.display()
                    )]
                })
                .and_then(|text| IdentityConfig::parse(&text)),
        };
        let identity = identity.map_err(|mut e| errors.append(&mut e)).ok();
        let organisation = match flags.organisation.as_deref() {
            None => {
                errors.push(
                    "--organisation is missing; give this organisation's MSP id, such as UiSMSP".to_owned(),
                );
                None
            }
            Some(id) => Msp::new(id)
                .map_err(|error| errors.push(format!("--organisation: {error}")))
                .ok(),
        };
        let cluster = ClusterName::new(flags.cluster)
            .map_err(|error| errors.push(format!("--cluster: {error}")))
            .ok();
        if !flags.address.starts_with("https://") {
            errors.push(format!(
                "--address `{}` is not https://host or https://host:port",
                flags.address
            ));
        }
        let ledger = match flags.ledger.as_deref().map(LedgerAddress::from_str) {
            None => LedgerAddress::Sqlite(flags.data_dir.join("ledger.db")),
            Some(Ok(address)) => address,
            Some(Err(error)) => {
                errors.push(format!("--ledger: {error}"));
                LedgerAddress::Sqlite(PathBuf::new())
            }
        };
        let store = match flags.store.as_deref().map(StoreAddress::from_str) {
            None => StoreAddress::Sqlite(flags.data_dir.join("broker.db")),
            Some(Ok(address)) => address,
            Some(Err(error)) => {
                errors.push(format!("--store: {error}"));
                StoreAddress::Sqlite(PathBuf::new())
            }
        };
        if let (LedgerAddress::Fabric(profile), Some(organisation)) = (&ledger, &organisation)
            && let Err(mut wrong) = Profile::read(profile, organisation)
        {
            errors.append(&mut wrong);
        }
        if matches!(ledger, LedgerAddress::Fabric(_)) && flags.ledger_key.is_some() {
            errors.push(
                "--ledger-key is for a ledger that the broker signs; on a channel peers do, and the broker as its profile says: leave it out".to_owned(),
            );
        }
        if matches!(ledger, LedgerAddress::Fabric(_)) && flags.ledger_id.is_some() {
            errors.push(
                "--ledger-id is for a ledger that the broker signs; a channel is named in its profile: leave it out".to_owned(),
            );
        }
        let ledger_key = flags.ledger_key.or_else(|| ledger.key_beside());
        let ledger_key = ledger_key.unwrap_or_else(|| flags.data_dir.join("ledger.key"));
        let local_roots = roots::parse(&flags.local_roots, &mut errors);
        let tls = match (flags.tls_cert, flags.tls_key) {
            (Some(certificate), Some(key)) => TlsSource::Files { certificate, key },
            (None, None) => TlsSource::Own {
                names: flags.tls_names,
            },
            _ => {
                errors.push("--tls-cert and --tls-key come together or not at all".to_owned());
                TlsSource::Own { names: Vec::new() }
            }
        };
        let publish_ca = flags
            .publish_ca
            .as_deref()
            .and_then(|target| match target.split_once('/') {
                Some((namespace, name))
                    if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
                {
                    Some((namespace.to_owned(), name.to_owned()))
                }
                _ => {
                    errors.push(format!("--publish-ca `{target}` is not namespace/name"));
                    None
                }
            });
        let pkcs11 = flags.pkcs11.settings().unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        let kek_file = flags.kek_file.unwrap_or_else(|| flags.data_dir.join("keys"));
        match (identity, organisation, cluster) {
            (Some(identity), Some(organisation), Some(cluster)) if errors.is_empty() => Ok(Self {
                identity,
                organisation,
                cluster,
                address: flags.address,
                data_dir: flags.data_dir,
                ledger,
                store,
                ledger_key,
                adopt_unsigned_ledger: flags.adopt_unsigned_ledger,
                trusted_ledger_keys: flags.trusted_ledger_keys,
                ledger_id: flags.ledger_id,
                accept_lost_blocks: flags.accept_lost_blocks,
                audit_keep_days: flags.audit_keep_days,
                brake: Brake {
                    delay: Duration::from_secs(flags.key_destruction_delay_seconds.into()),
                    most_per_hour: flags.key_destructions_per_hour.into(),
                },
                pace: flags.pace,
                proxy_networks: flags.proxy_networks,
                rest_listen: flags.rest_listen,
                grpc_listen: flags.grpc_listen,
                probe_listen: flags.probe_listen,
                local_roots,
                kek_file,
                kek_create: flags.kek_create,
                pkcs11,
                tls,
                publish_ca,
            }),
            _ => Err(errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(arguments: &[&str]) -> Flags {
        Cli::parse_from(std::iter::once("x").chain(arguments.iter().copied())).flags
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let errors = Config::from_flags(flags(&[
            "--organisation",
            "not an msp!",
            "--local-roots",
            "UiSMSP",
            "--local-roots",
            "UiSMSP=/",
            "--local-roots",
            "UiSMSP=/srv/a,UiOMSP=/srv/a/below",
            "--tls-cert",
            "x",
            "--publish-ca",
            "name",
            "--cluster",
            "Not a name",
            "--address",
            "http://broker",
            "--ledger",
            "ledger.db",
            "--store",
            "mysql://broker:hunter2@db.example.org/keys?sslmode=allow",
            "--pkcs11-token",
            "leasehold",
        ]))
        .unwrap_err();
        for part in [
            "--config",
            "--organisation",
            "`UiSMSP`",
            "`UiSMSP=/`",
            "`UiOMSP=/srv/a/below`",
            "--tls-cert",
            "--publish-ca",
            "--cluster",
            "--address",
            "--ledger: expected",
            "--store: sslmode is one of",
            "--pkcs11-module",
        ] {
            assert!(
                errors.iter().any(|e| e.contains(part)),
                "{part} is missing in {errors:#?}"
            );
        }
    }

    #[test]
    fn a_channels_profile_is_checked_before_anything_is_started() {
        let errors = Config::from_flags(flags(&[
            "--organisation",
            "UiSMSP",
            "--ledger",
            "fabric:/nowhere/profile.yaml",
            "--ledger-key",
            "/nowhere/ledger.key",
            "--ledger-id",
            &"a7".repeat(32),
        ]))
        .unwrap_err();
        for part in [
            "/nowhere/profile.yaml cannot be read",
            "--ledger-key is for",
            "--ledger-id is for",
        ] {
            assert!(errors.iter().any(|e| e.contains(part)), "{part}: {errors:#?}");
        }
    }
}

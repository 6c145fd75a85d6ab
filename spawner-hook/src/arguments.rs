//! The command line and environment of the spawner-hook, validated once, all mistakes at a time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use leasehold_process::Logging;

use crate::patch::PatchSettings;
use crate::tls::Certificate;

/// Makes each JupyterHub user's ServiceAccounts, binds them at the secret broker and answers with the pod patch.
#[derive(Debug, Clone, Parser)]
#[command(name = "leasehold-spawner-hook", version, about)]
pub struct Arguments {
    /// Address of the HTTPS API for hubs
    #[arg(long, env = "LEASEHOLD_LISTEN", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics, plain HTTP
    #[arg(long, env = "LEASEHOLD_LISTEN_HEALTH", default_value = "[::]:8080")]
    pub listen_health: SocketAddr,
    /// The broker's gRPC address, https://…:9443
    #[arg(long, env = "LEASEHOLD_BROKER_URL")]
    pub broker_url: String,
    /// PEM file with the broker's CA certificate; also copied to where notebooks can mount it
    #[arg(
        long,
        env = "LEASEHOLD_BROKER_CA_FILE",
        default_value = "/var/run/leasehold/ca.crt"
    )]
    pub broker_ca_file: PathBuf,
    /// File with our own token, audience leasehold-broker
    #[arg(
        long,
        env = "LEASEHOLD_BROKER_TOKEN_FILE",
        default_value = "/var/run/leasehold/token"
    )]
    pub broker_token_file: PathBuf,
    /// The broker's REST address as notebooks reach it [default: https://leasehold-secret-broker.NAMESPACE.svc:8443]
    #[arg(long, env = "LEASEHOLD_BROKER_PUBLIC_URL")]
    pub broker_public_url: Option<String>,
    /// ServiceAccounts of the hubs that may call, as system:serviceaccount:NAMESPACE:NAME, comma-separated
    #[arg(
        long,
        env = "LEASEHOLD_HUB_IDENTITIES",
        value_delimiter = ',',
        required = true
    )]
    pub hub_identities: Vec<String>,
    /// Image with the `leasehold` command, for the init container that lays skeletons
    #[arg(long, env = "LEASEHOLD_CLI_IMAGE")]
    pub cli_image: String,
    /// Always, IfNotPresent or Never
    #[arg(long, env = "LEASEHOLD_CLI_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub cli_image_pull_policy: String,
    /// Our own namespace, where the CA certificate is published
    #[arg(long, env = "LEASEHOLD_NAMESPACE", default_value = "leasehold-system")]
    pub namespace: String,
    /// DNS names and addresses by which hubs reach us, comma-separated [default: the names of the Service]
    #[arg(long, env = "LEASEHOLD_SERVER_NAMES", value_delimiter = ',')]
    pub server_names: Vec<String>,
    /// PEM file with our certificate chain; without it we make our own authority and publish it
    #[arg(long, env = "LEASEHOLD_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, env = "LEASEHOLD_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// User id of notebooks for which the hub names none
    #[arg(long, env = "LEASEHOLD_NOTEBOOK_UID", default_value_t = 1000)]
    pub notebook_uid: i64,
    /// Group id of notebooks for which the hub names none
    #[arg(long, env = "LEASEHOLD_NOTEBOOK_GID", default_value_t = 100)]
    pub notebook_gid: i64,
    /// Its log
    #[command(flatten)]
    pub logging: Logging,
}

/// The arguments, known to be usable.
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) listen_health: SocketAddr,
    pub(crate) broker_url: String,
    pub(crate) broker_ca_file: PathBuf,
    pub(crate) broker_token_file: PathBuf,
    pub(crate) hub_identities: BTreeSet<String>,
    pub(crate) namespace: String,
    pub(crate) certificate: Certificate,
    pub(crate) patch: PatchSettings,
}

impl Arguments {
    pub(crate) fn validated(self) -> Result<Settings, Vec<String>> {
        let mut mistakes = Vec::new();
        for identity in &self.hub_identities {
            let rest = identity.strip_prefix("system:serviceaccount:");
            if rest
                .and_then(|rest| rest.split_once(':'))
                .is_none_or(|(namespace, name)| namespace.is_empty() || name.is_empty() || name.contains(':'))
            {
                mistakes.push(format!(
                    "--hub-identities: {identity:?} is not of the form system:serviceaccount:NAMESPACE:NAME"
                ));
            }
        }
        if !matches!(
            self.cli_image_pull_policy.as_str(),
            "Always" | "IfNotPresent" | "Never"
        ) {
            mistakes.push(format!(
                "--cli-image-pull-policy: {:?} is none of Always, IfNotPresent, Never",
                self.cli_image_pull_policy
            ));
        }
        if self.cli_image.is_empty() {
            mistakes.push("--cli-image is empty".to_owned());
        }
        for (flag, id) in [
            ("--notebook-uid", self.notebook_uid),
            ("--notebook-gid", self.notebook_gid),
        ] {
            if !(0..=i64::from(i32::MAX)).contains(&id) {
                mistakes.push(format!("{flag}: {id} is no id"));
            }
        }
        let broker_public_url = self
            .broker_public_url
            .unwrap_or_else(|| format!("https://leasehold-secret-broker.{}.svc:8443", self.namespace));
        if !broker_public_url.starts_with("https://") {
            mistakes.push(format!(
                "--broker-public-url: {broker_public_url:?} is not https, and tokens go there"
            ));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let certificate = match (self.tls_cert, self.tls_key) {
            (Some(chain), Some(key)) => Certificate::Files { chain, key },
            _ if self.server_names.is_empty() => Certificate::Own {
                names: ["", ".svc", ".svc.cluster.local"]
                    .map(|suffix| format!("leasehold-spawner-hook.{}{suffix}", self.namespace))
                    .to_vec(),
            },
            _ => Certificate::Own {
                names: self.server_names,
            },
        };
        Ok(Settings {
            listen: self.listen,
            listen_health: self.listen_health,
            broker_url: self.broker_url,
            broker_ca_file: self.broker_ca_file,
            broker_token_file: self.broker_token_file,
            hub_identities: self.hub_identities.into_iter().collect(),
            namespace: self.namespace,
            certificate,
            patch: PatchSettings {
                broker_url: broker_public_url,
                cli_image: self.cli_image,
                cli_image_pull_policy: self.cli_image_pull_policy,
                notebook_uid: self.notebook_uid,
                notebook_gid: self.notebook_gid,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn arguments(more: &[&str]) -> Arguments {
        let minimum = [
            "hook",
            "--broker-url=https://b:9443",
            "--cli-image=cli:dev",
            "--hub-identities=system:serviceaccount:hub:hub",
        ];
        Arguments::try_parse_from(minimum.iter().chain(more)).unwrap()
    }

    #[test]
    fn the_minimum_is_enough() {
        Arguments::command().debug_assert();
        let settings = arguments(&[])
            .validated()
            .unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        assert_eq!(
            settings.patch.broker_url,
            "https://leasehold-secret-broker.leasehold-system.svc:8443"
        );
        let Certificate::Own { names } = settings.certificate else {
            panic!("not our own")
        };
        assert!(names.contains(&"leasehold-spawner-hook.leasehold-system.svc".to_owned()));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let wrong = arguments(&[
            "--hub-identities=hub,system:serviceaccount:hub:",
            "--cli-image-pull-policy=Sometimes",
            "--broker-public-url=http://b",
            "--notebook-uid=-1",
        ]);
        let Err(mistakes) = wrong.validated() else {
            panic!("accepted")
        };
        assert_eq!(mistakes.len(), 5, "{mistakes:?}");
    }
}

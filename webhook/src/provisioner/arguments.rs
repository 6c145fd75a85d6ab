//! The provisioner's command line. Each flag has its `LEASEHOLD_…` environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use leasehold_process::Logging;

use super::volume::LocalRoots;

/// Command line of the provisioner.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "leasehold-provisioner",
    version,
    about = "Makes leased datasets mountable and takes them away in time"
)]
pub struct ProvisionerArguments {
    /// Namespace of Leasehold itself: Secrets, probe pods, leadership.
    #[arg(long, env = "LEASEHOLD_NAMESPACE", default_value = "leasehold-system")]
    pub namespace: String,
    /// Name of this pod, by which it campaigns; a random one where empty.
    #[arg(long, env = "LEASEHOLD_POD_NAME", default_value = "")]
    pub pod_name: String,
    /// The organisation's own broker, gRPC.
    #[arg(
        long,
        env = "LEASEHOLD_BROKER_URL",
        default_value = "https://leasehold-secret-broker.leasehold-system.svc:9443"
    )]
    pub broker_url: String,
    /// File with the broker's CA certificate.
    #[arg(
        long,
        env = "LEASEHOLD_BROKER_CA_FILE",
        default_value = "/var/run/leasehold/ca.crt"
    )]
    pub broker_ca_file: PathBuf,
    /// File with our token for the broker, read at each call.
    #[arg(
        long,
        env = "LEASEHOLD_BROKER_TOKEN_FILE",
        default_value = "/var/run/leasehold/token"
    )]
    pub broker_token_file: PathBuf,
    /// Directories of nodes that owners may offer: OWNER=/path, separated by commas.
    #[arg(long, env = "LEASEHOLD_LOCAL_ROOTS", default_value = "")]
    pub local_roots: LocalRoots,
    /// Image with leasehold-probe.
    #[arg(long, env = "LEASEHOLD_PROBE_IMAGE")]
    pub probe_image: String,
    /// When the probe's image is pulled.
    #[arg(long, env = "LEASEHOLD_PROBE_IMAGE_PULL_POLICY", value_enum, default_value_t = PullPolicy::IfNotPresent)]
    pub probe_image_pull_policy: PullPolicy,
    /// Seconds that a running pod is given when its lease is over.
    #[arg(long, env = "LEASEHOLD_END_GRACE_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=30))]
    pub end_grace_seconds: u32,
    /// Name of both webhook configurations whose caBundle is kept.
    #[arg(long, env = "LEASEHOLD_WEBHOOK_CONFIGURATION", default_value = "leasehold")]
    pub webhook_configuration: String,
    /// ConfigMap in which the webhook's replicas publish their CA certificates.
    #[arg(
        long,
        env = "LEASEHOLD_WEBHOOK_CA_CONFIG_MAP",
        default_value = "leasehold-webhook-ca"
    )]
    pub webhook_ca_config_map: String,
    /// Label selector of the webhook's pods.
    #[arg(
        long,
        env = "LEASEHOLD_WEBHOOK_SELECTOR",
        default_value = "app.kubernetes.io/name=leasehold-webhook"
    )]
    pub webhook_selector: String,
    /// Address of /livez, /readyz, /readyz/leader and /metrics, plain HTTP.
    #[arg(long, env = "LEASEHOLD_LISTEN_HEALTH", default_value = "[::]:8080")]
    pub listen_health: SocketAddr,
    /// Its log.
    #[command(flatten)]
    pub logging: Logging,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// Where the node has none.
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charts_command_line_is_understood() {
        let arguments = ProvisionerArguments::try_parse_from([
            "leasehold-provisioner",
            "--listen-health=[::]:8080",
            "--broker-url=https://leasehold-secret-broker.leasehold-system.svc:9443",
            "--broker-ca-file=/var/run/leasehold/ca.crt",
            "--broker-token-file=/var/run/leasehold/token",
            "--local-roots=UiSMSP=/srv/leasehold/uis",
            "--probe-image=leasehold.local/webhook:dev",
            "--probe-image-pull-policy=Never",
            "--namespace=leasehold-system",
        ])
        .unwrap();
        assert_eq!(arguments.probe_image_pull_policy.as_str(), "Never");
        let none = ["leasehold-provisioner", "--probe-image=i", "--local-roots="];
        assert_eq!(
            ProvisionerArguments::try_parse_from(none).unwrap().local_roots,
            LocalRoots::default()
        );
        let bad = [
            "leasehold-provisioner",
            "--probe-image=i",
            "--local-roots=UiSMSP=/srv/../etc",
        ];
        assert!(ProvisionerArguments::try_parse_from(bad).is_err());
    }
}

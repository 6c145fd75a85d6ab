//! The webhook's command line. Each flag has its `LEASEHOLD_…` environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use leasehold_process::Logging;

use super::callers::Limits;

/// Command line of the webhook.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "leasehold-webhook",
    version,
    about = "Stamps Workflows with whose they are and injects what their owner leases into their pods"
)]
pub struct AdmissionArguments {
    /// Identity of Argo's workflow-controller.
    #[arg(
        long,
        env = "LEASEHOLD_ARGO_IDENTITY",
        default_value = "system:serviceaccount:argo:argo"
    )]
    pub argo_identity: String,
    /// Identity of our provisioner; empty: the ServiceAccount leasehold-provisioner of the namespace.
    #[arg(long, env = "LEASEHOLD_PROVISIONER_IDENTITY", default_value = "")]
    pub provisioner_identity: String,
    /// Namespace of Leasehold itself.
    #[arg(long, env = "LEASEHOLD_NAMESPACE", default_value = "leasehold-system")]
    pub namespace: String,
    /// Name of this pod, under which its CA certificate is published.
    #[arg(long, env = "LEASEHOLD_POD_NAME")]
    pub pod_name: String,
    /// Name of the Service that the API server calls.
    #[arg(long, env = "LEASEHOLD_WEBHOOK_SERVICE", default_value = "leasehold-webhook")]
    pub service: String,
    /// Name of both webhook configurations.
    #[arg(long, env = "LEASEHOLD_WEBHOOK_CONFIGURATION", default_value = "leasehold")]
    pub webhook_configuration: String,
    /// ConfigMap in which replicas publish their CA certificates.
    #[arg(
        long,
        env = "LEASEHOLD_WEBHOOK_CA_CONFIG_MAP",
        default_value = "leasehold-webhook-ca"
    )]
    pub webhook_ca_config_map: String,
    /// Seconds that a serving certificate lives; it is renewed after two thirds.
    #[arg(long, env = "LEASEHOLD_CERTIFICATE_LIFETIME_SECONDS", default_value_t = 24 * 3600, value_parser = clap::value_parser!(u64).range(3..))]
    pub certificate_lifetime_seconds: u64,
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
    /// Address of the admission port, TLS.
    #[arg(long, env = "LEASEHOLD_LISTEN", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// Address of /livez, /readyz and /metrics, plain HTTP.
    #[arg(long, env = "LEASEHOLD_LISTEN_HEALTH", default_value = "[::]:8080")]
    pub listen_health: SocketAddr,
    /// Reviews decided at once, of one address as many as are left for others; more are turned away.
    #[arg(long, env = "LEASEHOLD_MOST_IN_FLIGHT", default_value_t = 512)]
    pub most_in_flight: usize,
    /// Connections to the admission port at a time.
    #[arg(long, env = "LEASEHOLD_MOST_CONNECTIONS", default_value_t = 1024, value_parser = at_least_one)]
    pub most_connections: usize,
    /// Of these, from one address; an API server needs one for each review that is under way.
    #[arg(long, env = "LEASEHOLD_MOST_CONNECTIONS_PER_PEER", default_value_t = 256, value_parser = at_least_one)]
    pub most_connections_per_peer: usize,
    /// Mebibytes of bodies that are read or decided at a time, a quarter of it for one address; others wait.
    #[arg(long, env = "LEASEHOLD_BODY_BUDGET_MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(14..=4096))]
    pub body_budget_mib: u32,
    /// File with the CA certificates of the API server's client certificate; without it none is asked for.
    #[arg(long, env = "LEASEHOLD_CLIENT_CA_FILE")]
    pub client_ca_file: Option<PathBuf>,
    /// Milliseconds within which a review is answered, look-ups included, where the API server doesn't say.
    #[arg(long, env = "LEASEHOLD_REVIEW_DEADLINE_MS", default_value_t = 4_000, value_parser = clap::value_parser!(u64).range(100..=29_000))]
    pub review_deadline_ms: u64,
    /// Its log.
    #[command(flatten)]
    pub logging: Logging,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("it is no number: {error}")),
    }
}

impl AdmissionArguments {
    /// Bounds of the admission port.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let patience = Duration::from_millis(self.review_deadline_ms);
        Limits {
            connections: self.most_connections,
            connections_per_peer: self.most_connections_per_peer,
            body_bytes: usize::try_from(self.body_budget_mib).map_or(usize::MAX, |mib| mib << 20),
            decisions: self.most_in_flight,
            ..Limits::new(patience)
        }
    }

    /// The provisioner's identity, given or by its usual name.
    #[must_use]
    pub fn provisioner(&self) -> String {
        match self.provisioner_identity.as_str() {
            "" => format!("system:serviceaccount:{}:leasehold-provisioner", self.namespace),
            given => given.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charts_command_line_is_understood() {
        let arguments = AdmissionArguments::try_parse_from([
            "leasehold-webhook",
            "--listen=[::]:8443",
            "--listen-health=[::]:8080",
            "--broker-url=https://leasehold-secret-broker.leasehold-system.svc:9443",
            "--broker-ca-file=/var/run/leasehold/ca.crt",
            "--broker-token-file=/var/run/leasehold/token",
            "--argo-identity=system:serviceaccount:argo:argo",
            "--provisioner-identity=system:serviceaccount:leasehold-system:leasehold-provisioner",
            "--namespace=leasehold-system",
            "--pod-name=leasehold-webhook-0",
        ])
        .unwrap();
        assert_eq!(
            arguments.provisioner(),
            "system:serviceaccount:leasehold-system:leasehold-provisioner"
        );
    }
}

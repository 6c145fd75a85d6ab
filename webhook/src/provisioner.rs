//! The provisioner: makes each active lease mountable (probe, Secret, PersistentVolume, claim) and takes everything down when
//! the lease is over, the pods that hold the claim first. One replica leads, the others wait.
//!
//! [`plan::plan`] decides from a lease and what is in the cluster, without I/O; [`reconcile`] observes and executes. Every
//! step is idempotent and found again from the cluster's own state, so that a kill at any instant leaves nothing that the
//! next leader does not finish. The leader also keeps `caBundle` right ([`crate::ca_bundle`]).
//!
//! # Rights that the provisioner's ServiceAccount needs
//!
//! | where | group | resource | names | verbs | for |
//! |---|---|---|---|---|---|
//! | cluster | "" | persistentvolumes | | create, delete, get, list, watch | the volume of a lease |
//! | cluster | "" | persistentvolumeclaims | | create, delete, get, list, watch | its claim in the holder's namespace |
//! | cluster | "" | pods | | delete, list, watch | those that hold the claim of a lease that is over |
//! | cluster | "" | namespaces | | list, watch | which ones are users' |
//! | cluster | "" | nodes | | get | the node that holds a `local` volume |
//! | cluster | admissionregistration.k8s.io | mutatingwebhookconfigurations, validatingwebhookconfigurations | `leasehold` | get, list, patch, watch | `caBundle`; lists and watches name the object |
//! | system namespace | "" | secrets | | create, delete, get, list, watch | volume details; lists and watches ask for metadata only |
//! | system namespace | "" | pods | | create, delete, get, list, watch | probe pods; CAs of live webhook pods |
//! | system namespace | "" | pods/log | | get | what the probe found |
//! | system namespace | "" | configmaps | `leasehold-webhook-ca` | get, list, patch, watch | CAs that the webhook's replicas publish |
//! | system namespace | coordination.k8s.io | leases | | create | leadership |
//! | system namespace | coordination.k8s.io | leases | `leasehold-provisioner` | get, update | leadership |
//!
//! Each webhook replica needs get and patch on the ConfigMap `leasehold-webhook-ca`, which the chart makes, and get on both
//! configurations `leasehold`. The probe pod mounts a hostPath: the system namespace's Pod Security level is `privileged`.

mod act;
mod arguments;
pub mod election;
mod ending;
mod health;
mod observe;
pub mod plan;
mod reconcile;
pub mod shapes;
pub mod volume;
pub mod watching;

use std::sync::Arc;

use kube::Client;
use kube::api::Api;
use leasehold_broker_client::EndpointError;
use leasehold_broker_client::machines::{Endpoint, MachinesClient};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::ca_bundle::{CaBundleOptions, maintain};
use crate::certificates::Clock;
use crate::leases::{LeaseIndex, follow};

pub use arguments::{ProvisionerArguments, PullPolicy};

/// Name of the Lease object by which replicas elect their leader.
const LEADER_LEASE: &str = "leasehold-provisioner";

/// The provisioner could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No way to the API server.
    #[error(
        "cannot find the way to the API server: {0}; run in a pod with a ServiceAccount, or set KUBECONFIG"
    )]
    Client(Box<kube::Error>),
    /// No way to the broker.
    #[error("cannot use --broker-url: {0}")]
    Broker(#[from] EndpointError),
    /// The port of probes and metrics.
    #[error("cannot serve {address}: {source}")]
    Health {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs one replica until `shutdown`: follows the broker, campaigns, and reconciles while it leads.
///
/// # Errors
/// At the start, or when the port of probes and metrics is lost.
pub async fn run(arguments: ProvisionerArguments, shutdown: CancellationToken) -> Result<(), RunError> {
    // Several dependencies can bring a provider; this one is ours.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::try_default()
        .await
        .map_err(|error| RunError::Client(Box::new(error)))?;
    let address = arguments.listen_health;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Health { address, source })?;
    run_on(client, listener, arguments, shutdown).await
}

/// The same with the API server's client and the health port given.
///
/// # Errors
/// As for [`run`].
pub async fn run_on(
    client: Client,
    listener: TcpListener,
    arguments: ProvisionerArguments,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let broker = MachinesClient::new(Endpoint {
        url: arguments.broker_url.clone(),
        ca_file: arguments.broker_ca_file.clone(),
        token_file: arguments.broker_token_file.clone(),
    })?;
    let index = Arc::new(LeaseIndex::new());
    let health = Arc::new(health::Health::new(Arc::clone(&index)));
    let election = election::Election::new(LEADER_LEASE, identity(&arguments));
    let leases = Api::namespaced(client.clone(), &arguments.namespace);

    // On the heap: what a leader does is a large state machine.
    let work = |term, stop| Box::pin(lead(&client, &broker, &arguments, &index, &health, term, stop));
    let address = arguments.listen_health;
    let serving = async {
        let served = health::serve(listener, Arc::clone(&health), shutdown.clone()).await;
        // Without it nobody sees how we are: end, and be started again.
        shutdown.cancel();
        served.map_err(|source| RunError::Health { address, source })
    };
    let (served, (), ()) = tokio::join!(
        serving,
        follow(broker.clone(), Arc::clone(&index), shutdown.clone()),
        election::lead(leases, election, &health.leading, shutdown.clone(), work),
    );
    served
}

/// One term of leadership.
async fn lead(
    client: &Client,
    broker: &MachinesClient,
    arguments: &ProvisionerArguments,
    index: &Arc<LeaseIndex>,
    health: &health::Health,
    term: election::Term,
    stop: CancellationToken,
) {
    let ender = ending::PodEnder::new(client.clone(), term.clone(), arguments.end_grace_seconds);
    let executor = act::Executor {
        client: client.clone(),
        broker: broker.clone(),
        term,
        roots: arguments.local_roots.clone(),
        probe: shapes::ProbeImage {
            image: arguments.probe_image.clone(),
            pull_policy: arguments.probe_image_pull_policy.as_str().to_owned(),
            namespace: arguments.namespace.clone(),
        },
        ender: Arc::new(ender),
    };
    let bundle = CaBundleOptions {
        namespace: arguments.namespace.clone(),
        config_map: arguments.webhook_ca_config_map.clone(),
        configuration: arguments.webhook_configuration.clone(),
        pod_selector: arguments.webhook_selector.clone(),
        clock: Clock::default(),
    };
    let wake = Notify::new();
    let (stores, follow_cluster) = observe::Stores::watch(client, &arguments.namespace, &wake);
    let working = async {
        let reconciling = reconcile::reconcile(&executor, index, &stores, &wake, health, stop.clone());
        let maintaining = maintain(client.clone(), bundle, stop.clone());
        tokio::join!(reconciling, Box::pin(maintaining));
    };
    tokio::select! {
        () = working => {}
        () = follow_cluster => tracing::error!("the watches of the cluster ended"),
    }
}

/// A pod's name is one process at a time; outside of a pod nobody's is.
fn identity(arguments: &ProvisionerArguments) -> String {
    if arguments.pod_name.is_empty() {
        format!("process-{}-{:08x}", std::process::id(), rand_suffix())
    } else {
        arguments.pod_name.clone()
    }
}

fn rand_suffix() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    // The low half of a hash under a random key.
    (RandomState::new().hash_one(0) & u64::from(u32::MAX)) as u32
}

//! Makes our CA certificate known to hubs, again and again until it stands there, and from time to time after: somebody
//! may have changed it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::observe::Observations;
use crate::tls::Tls;

/// ConfigMap in our own namespace that hubs read.
const CONFIG_MAP: &str = "leasehold-spawner-hook-ca";
const RETRY: Duration = Duration::from_secs(1);
const REPEAT: Duration = Duration::from_secs(300);

/// Runs until shutdown. Where the operator gave a certificate there is nothing to publish.
pub(crate) async fn publish(
    cluster: Cluster,
    namespace: String,
    tls: Arc<Tls>,
    observations: Arc<Observations>,
    shutdown: CancellationToken,
) {
    let Some(pem) = tls.own_ca_pem() else {
        observations.ready();
        return shutdown.cancelled().await;
    };
    loop {
        let pause = match cluster.publish_ca(&namespace, CONFIG_MAP, &pem).await {
            Ok(()) => {
                observations.ready();
                REPEAT
            }
            Err(error) => {
                tracing::warn!(%error, config_map = CONFIG_MAP, "the CA certificate could not be published; trying again");
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

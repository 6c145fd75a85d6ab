//! Writes the broker's CA certificate into a ConfigMap, so that the cluster's machines and notebooks can check whom they talk to.
//!
//! Happens in the background and is tried until it succeeds; the broker serves meanwhile.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Somebody may have changed or deleted it.
const AGAIN: Duration = Duration::from_secs(600);

/// Publishes now, and now and then, until shutdown.
pub async fn publish(namespace: String, name: String, certificate: String, shutdown: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = tokio::time::timeout(DEADLINE, apply(&namespace, &name, &certificate));
        let wait = match attempt.await {
            Ok(Ok(())) => {
                tracing::info!(%namespace, %name, "published the CA certificate");
                pause = FIRST_PAUSE;
                AGAIN
            }
            Ok(Err(error)) => {
                tracing::warn!(%namespace, %name, %error, "could not publish the CA certificate; trying again");
                backoff(&mut pause)
            }
            Err(_) => {
                tracing::warn!(%namespace, %name, "publishing the CA certificate took too long; trying again");
                backoff(&mut pause)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

fn backoff(pause: &mut Duration) -> Duration {
    let wait = *pause;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
    wait
}

async fn apply(namespace: &str, name: &str, certificate: &str) -> Result<(), kube::Error> {
    let config = kube::Config::incluster().map_err(|error| kube::Error::Service(Box::new(error)))?;
    let client = Client::try_from(config)?;
    let map = ConfigMap {
        metadata: kube::core::ObjectMeta {
            name: Some(name.to_owned()),
            ..Default::default()
        },
        data: Some([("ca.crt".to_owned(), certificate.to_owned())].into()),
        ..Default::default()
    };
    let parameters = PatchParams::apply("leasehold-secret-broker").force();
    Api::<ConfigMap>::namespaced(client, namespace)
        .patch(name, &parameters, &Patch::Apply(&map))
        .await?;
    Ok(())
}

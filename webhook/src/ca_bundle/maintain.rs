//! The shell around [`super::bundle`]: watches the ConfigMap, the webhook's pods and both configurations, and patches what
//! differs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Absences, Bundle, bundle};
use crate::certificates::Clock;
use crate::provisioner::watching::{slim, watch};

/// Even without an event everything is looked at again: certificates expire silently.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where replicas publish and where they are trusted.
#[derive(Debug, Clone)]
pub struct CaBundleOptions {
    /// Namespace of the webhook's pods and the ConfigMap.
    pub namespace: String,
    /// ConfigMap in which replicas publish.
    pub config_map: String,
    /// Name of both webhook configurations.
    pub configuration: String,
    /// Label selector of the webhook's pods.
    pub pod_selector: String,
    /// By which certificates are valid.
    pub clock: Clock,
}

struct Views {
    entries: Store<ConfigMap>,
    pods: Store<PartialObjectMeta<Pod>>,
    mutating: Store<MutatingWebhookConfiguration>,
    validating: Store<ValidatingWebhookConfiguration>,
}

/// Keeps both configurations right until `shutdown`. Errors are logged and tried again.
pub async fn maintain(client: Client, options: CaBundleOptions, shutdown: CancellationToken) {
    let wake = Notify::new();
    let named =
        |name: &str| kube::runtime::watcher::Config::default().fields(&format!("metadata.name={name}"));
    let labelled = kube::runtime::watcher::Config::default().labels(&options.pod_selector);
    let in_ours = &options.namespace;

    let (entries, follow_entries) = watch(
        Api::namespaced(client.clone(), in_ours),
        named(&options.config_map),
        slim,
        &wake,
    );
    let (pods, follow_pods) = watch(
        Api::<PartialObjectMeta<Pod>>::namespaced(client.clone(), in_ours),
        labelled,
        slim,
        &wake,
    );
    let configuration = named(&options.configuration);
    let (mutating, follow_mutating) = watch(Api::all(client.clone()), configuration.clone(), slim, &wake);
    let (validating, follow_validating) = watch(Api::all(client.clone()), configuration, slim, &wake);
    let views = Views {
        entries,
        pods,
        mutating,
        validating,
    };

    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keep_right(&client, &options, &views, &wake) => {}
        _ = futures::future::join4(follow_entries, follow_pods, follow_mutating, follow_validating) => {}
    }
}

async fn keep_right(client: &Client, options: &CaBundleOptions, views: &Views, wake: &Notify) {
    let ready = futures::future::join4(
        views.entries.wait_until_ready(),
        views.pods.wait_until_ready(),
        views.mutating.wait_until_ready(),
        views.validating.wait_until_ready(),
    );
    let _ = ready.await;
    let mut absences = Absences::new();
    loop {
        if let Err(error) = make_right(client, options, views, &mut absences).await {
            tracing::warn!(%error, "cannot keep caBundle of the webhook configurations up to date; trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let _ = tokio::time::timeout(LOOK_EVERY, wake.notified()).await;
    }
}

async fn make_right(
    client: &Client,
    options: &CaBundleOptions,
    views: &Views,
    absences: &mut Absences,
) -> kube::Result<()> {
    let entries: BTreeMap<String, String> = views
        .entries
        .state()
        .iter()
        .filter_map(|map| map.data.clone())
        .flatten()
        .collect();
    let pods: BTreeSet<String> = views.pods.state().iter().map(|pod| pod.name_any()).collect();
    let Bundle { pem, prune } = bundle(&entries, &pods, absences, options.clock.now());

    if !pem.is_empty() {
        for configuration in views.mutating.state() {
            let names = configuration.webhooks.iter().flatten();
            let wrong: Vec<&str> = names
                .filter(|w| differs(w.client_config.ca_bundle.as_ref(), &pem))
                .map(|w| w.name.as_str())
                .collect();
            let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
            patch(&api, &options.configuration, &wrong, &pem).await?;
        }
        for configuration in views.validating.state() {
            let names = configuration.webhooks.iter().flatten();
            let wrong: Vec<&str> = names
                .filter(|w| differs(w.client_config.ca_bundle.as_ref(), &pem))
                .map(|w| w.name.as_str())
                .collect();
            let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
            patch(&api, &options.configuration, &wrong, &pem).await?;
        }
    }
    if !prune.is_empty() {
        tracing::info!(entries = ?prune, "CAs of webhook replicas that are gone are removed");
        let nothing: BTreeMap<&str, Option<&str>> = prune.iter().map(|key| (key.as_str(), None)).collect();
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &options.namespace);
        let body = Patch::Merge(json!({"data": nothing}));
        api.patch(&options.config_map, &PatchParams::default(), &body)
            .await?;
    }
    Ok(())
}

fn differs(now: Option<&ByteString>, wanted: &str) -> bool {
    now.is_none_or(|bundle| bundle.0 != wanted.as_bytes())
}

/// A strategic merge: webhooks are merged by name, so nothing but `caBundle` of those named changes.
async fn patch<K>(api: &Api<K>, name: &str, webhooks: &[&str], pem: &str) -> kube::Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    if webhooks.is_empty() {
        return Ok(());
    }
    let bundle = ByteString(pem.as_bytes().to_vec());
    let webhooks: Vec<_> = webhooks
        .iter()
        .map(|webhook| json!({"name": webhook, "clientConfig": {"caBundle": bundle}}))
        .collect();
    api.patch(
        name,
        &PatchParams::default(),
        &Patch::Strategic(json!({"webhooks": webhooks})),
    )
    .await?;
    tracing::info!(kind = %K::kind(&()), name, "caBundle is brought up to date");
    Ok(())
}

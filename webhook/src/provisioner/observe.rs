//! What the cluster has of each lease, gathered from watches into what [`super::plan`] decides from.
//!
//! An object counts only under the lease's own name and label; whatever else carries the label is nobody's of ours.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Secret};
use kube::api::{Api, ObjectMeta};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use leasehold_broker_wire::names::{DATASET_POD_LABEL, LEASE_LABEL, USERS_NAMESPACE_LABEL};
use tokio::sync::Notify;

use super::ending::ends_within;
use super::plan::{Claim, Holder, Object, Observed, Probe, Progress, Volume};
use super::shapes::{PROBE_LABEL, probe_name};
use super::watching::{slim, watch};
use crate::leases::LeaseId;

/// A first list comes in pages of this many.
const PAGE: u32 = 50;
/// The same of pods with datasets: people make each as large as the API server takes it, and a page is held whole.
const PAGE_OF_PODS: u32 = 5;

/// Stores of everything that a lease can have in the cluster.
pub(super) struct Stores {
    claims: Store<PersistentVolumeClaim>,
    volumes: Store<PersistentVolume>,
    secrets: Store<PartialObjectMeta<Secret>>,
    probes: Store<Pod>,
    dataset_pods: Store<Pod>,
    namespaces: Store<PartialObjectMeta<Namespace>>,
}

/// How far a probe pod is, as far as its object does not say.
pub(super) trait Probes {
    /// What is known of the probe pod of this uid that has, or has not, ended.
    fn progress(&mut self, uid: &str, ended: bool, status: String) -> Progress;
}

impl Stores {
    /// The stores, and the future that feeds them.
    pub(super) fn watch<'w>(
        client: &Client,
        system_namespace: &str,
        wake: &'w Notify,
    ) -> (Self, impl Future<Output = ()> + Send + 'w) {
        let with = |selector: &str| watcher::Config::default().labels(selector).page_size(PAGE);
        let (claims, a) = watch(Api::all(client.clone()), with(LEASE_LABEL), slim, wake);
        let (volumes, b) = watch(Api::all(client.clone()), with(LEASE_LABEL), slim, wake);
        let (secrets, c) = watch(
            Api::namespaced(client.clone(), system_namespace),
            with(LEASE_LABEL),
            slim,
            wake,
        );
        let (probes, d) = watch(
            Api::namespaced(client.clone(), system_namespace),
            with(PROBE_LABEL),
            slim,
            wake,
        );
        let (dataset_pods, e) = watch(
            Api::all(client.clone()),
            with(&format!("{DATASET_POD_LABEL}=true")).page_size(PAGE_OF_PODS),
            keep_claims,
            wake,
        );
        let (namespaces, f) = watch(
            Api::all(client.clone()),
            with(&format!("{USERS_NAMESPACE_LABEL}=true")),
            slim,
            wake,
        );
        let follow = async move {
            tokio::join!(a, b, c, d, e, f);
        };
        (
            Self {
                claims,
                volumes,
                secrets,
                probes,
                dataset_pods,
                namespaces,
            },
            follow,
        )
    }

    /// Waits until each store has been filled once.
    pub(super) async fn wait_until_ready(&self) {
        let _ = tokio::join!(
            self.claims.wait_until_ready(),
            self.volumes.wait_until_ready(),
            self.secrets.wait_until_ready(),
            self.probes.wait_until_ready(),
            self.dataset_pods.wait_until_ready(),
            self.namespaces.wait_until_ready(),
        );
    }

    /// Namespaces in which people's pods are enforced.
    pub(super) fn enforced(&self) -> BTreeSet<String> {
        let open = |namespace: &PartialObjectMeta<Namespace>| namespace.metadata.deletion_timestamp.is_none();
        self.namespaces
            .state()
            .iter()
            .filter(|n| open(n))
            .map(|n| n.name_any())
            .collect()
    }

    /// Everything, by lease.
    pub(super) fn observe(&self, known: &mut impl Probes) -> HashMap<LeaseId, Observed> {
        let mut all: HashMap<LeaseId, Observed> = HashMap::new();
        for claim in self.claims.state() {
            let Some(lease) = lease_of(&claim.metadata, LeaseId::claim_name) else {
                continue;
            };
            all.entry(lease).or_default().claims.push(Claim {
                namespace: claim.namespace().unwrap_or_default(),
                object: object(&claim.metadata),
                bound: claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound"),
            });
        }
        for volume in self.volumes.state() {
            let Some(lease) = lease_of(&volume.metadata, LeaseId::claim_name) else {
                continue;
            };
            let claim_ref = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
            all.entry(lease).or_default().volume = Some(Volume {
                object: object(&volume.metadata),
                claim_uid: claim_ref.and_then(|claim| claim.uid.clone()).unwrap_or_default(),
            });
        }
        for secret in self.secrets.state() {
            let Some(lease) = lease_of(&secret.metadata, LeaseId::claim_name) else {
                continue;
            };
            all.entry(lease).or_default().secret = Some(object(&secret.metadata));
        }
        for pod in self.probes.state() {
            let Some(lease) = lease_of(&pod.metadata, probe_name) else {
                continue;
            };
            let object = object(&pod.metadata);
            let ended = is_finished(&pod);
            let progress = known.progress(&object.uid, ended, status_of(&pod));
            all.entry(lease).or_default().probe = Some(Probe { object, progress });
        }
        for pod in self.dataset_pods.state() {
            let namespace = pod.namespace().unwrap_or_default();
            for claim in claims_of(&pod) {
                let Some(lease) = claim
                    .strip_prefix("leasehold-")
                    .and_then(|id| LeaseId::parse(id).ok())
                else {
                    continue;
                };
                let metadata = &pod.metadata;
                all.entry(lease).or_default().holders.push(Holder {
                    namespace: namespace.clone(),
                    name: pod.name_any(),
                    uid: metadata.uid.clone().unwrap_or_default(),
                    ends_within: ends_within(
                        metadata.deletion_timestamp.is_some(),
                        metadata.deletion_grace_period_seconds,
                    ),
                });
            }
        }
        for observed in all.values_mut() {
            observed.holders.sort_unstable();
            observed.holders.dedup();
            observed
                .claims
                .sort_unstable_by(|a, b| a.namespace.cmp(&b.namespace));
        }
        all
    }
}

/// The lease that an object belongs to: the label says which, and the name agrees.
pub(super) fn lease_of(metadata: &ObjectMeta, name_of: impl Fn(LeaseId) -> String) -> Option<LeaseId> {
    let label = metadata.labels.as_ref()?.get(LEASE_LABEL)?;
    let lease = LeaseId::parse(label).ok()?;
    (metadata.name.as_deref() == Some(&name_of(lease))).then_some(lease)
}

/// Names of the claims that a pod's volumes refer to.
fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.volumes.as_deref())
        .unwrap_or_default();
    volumes
        .iter()
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
        .map(|claim| claim.claim_name.as_str())
}

/// Of a pod with datasets only which claims it names: the rest is written by its owner, and can be large.
fn keep_claims(pod: &mut Pod) {
    slim(pod);
    let mut volumes = pod.spec.take().and_then(|spec| spec.volumes).unwrap_or_default();
    volumes.retain(|volume| volume.persistent_volume_claim.is_some());
    pod.spec = Some(PodSpec {
        volumes: Some(volumes),
        ..PodSpec::default()
    });
    pod.status = None;
}

fn object(metadata: &ObjectMeta) -> Object {
    Object {
        uid: metadata.uid.clone().unwrap_or_default(),
        deleting: metadata.deletion_timestamp.is_some(),
    }
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Why a pod does not get on, in Kubernetes' own word.
fn status_of(pod: &Pod) -> String {
    let Some(status) = &pod.status else {
        return "Unknown".to_owned();
    };
    let container = status
        .container_statuses
        .as_ref()
        .and_then(|all| all.first())
        .and_then(|one| one.state.as_ref());
    let waiting = container
        .and_then(|state| state.waiting.as_ref())
        .and_then(|waiting| waiting.reason.clone());
    waiting
        .or_else(|| status.reason.clone())
        .or_else(|| status.phase.clone())
        .unwrap_or_else(|| "Unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_pod_with_datasets_only_its_claims_are_kept() {
        let mut pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "job", "namespace": "hub", "uid": "u", "annotations": {"a": "x".repeat(1 << 18)}},
            "spec": {
                "containers": [{"name": "main", "env": [{"name": "BIG", "value": "x".repeat(1 << 20)}]}],
                "volumes": [
                    {"name": "tmp", "emptyDir": {}},
                    {"name": "data", "persistentVolumeClaim": {"claimName": "leasehold-0"}},
                ],
            },
            "status": {"message": "x".repeat(1 << 10)},
        }))
        .unwrap();
        keep_claims(&mut pod);
        assert_eq!(claims_of(&pod).collect::<Vec<_>>(), ["leasehold-0"]);
        assert_eq!(
            (pod.name_any(), pod.namespace()),
            ("job".to_owned(), Some("hub".to_owned()))
        );
        let kept = serde_json::to_vec(&pod).unwrap().len();
        assert!(kept < 512, "{kept} bytes of it are kept");
    }

    #[test]
    fn an_object_counts_only_under_the_leases_own_name_and_label() {
        let id = "ab".repeat(16);
        let named = |name: &str, label: &str| {
            let metadata: ObjectMeta =
                serde_json::from_value(json!({"name": name, "labels": {LEASE_LABEL: label}})).unwrap();
            lease_of(&metadata, LeaseId::claim_name).is_some()
        };
        assert!(named(&format!("leasehold-{id}"), &id));
        assert!(!named("leasehold-other", &id));
        assert!(!named(&format!("leasehold-{id}"), &"cd".repeat(16)));
        assert!(!named("leasehold-", ""));
        assert!(lease_of(&ObjectMeta::default(), LeaseId::claim_name).is_none());
    }
}

//! The Kubernetes objects of a lease: probe pod, Secret, claim, volume. All carry the lease's label; the Secret and the probe
//! pod stand in the system namespace, the claim in the holder's. Nothing of the volume's details shows in the claim.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use leasehold_broker_wire::names::LEASE_LABEL;
use serde_json::{Value, json};

use super::volume::LocalVolume;
use crate::leases::LeaseId;
use crate::probe::ROOT_MOUNT;

/// Label of probe pods, so that they can be watched alone.
pub const PROBE_LABEL: &str = "leasehold.dev/probe";
/// Type of the Secrets with volume details.
const SECRET_TYPE: &str = "leasehold.dev/volume";
/// Annotation of probe pod and Secret: the place that was looked at, as a digest. What is mounted is only what was looked at.
pub const PLACE_ANNOTATION: &str = "leasehold.dev/place";
/// What claim and volume say of their size. Nothing enforces it; a quota on requested storage counts it.
const SIZE: &str = "1Gi";
const READ_ONLY_MANY: &str = "ReadOnlyMany";

/// How probe pods are made.
#[derive(Debug, Clone)]
pub struct ProbeImage {
    /// Image with `leasehold-probe`.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
    /// The webhook's and provisioner's own namespace.
    pub namespace: String,
}

/// Name of the probe pod of a lease.
#[must_use]
pub fn probe_name(lease: LeaseId) -> String {
    format!("leasehold-probe-{lease}")
}

fn labels(lease: LeaseId) -> Value {
    json!({LEASE_LABEL: lease.to_string(), "app.kubernetes.io/part-of": "leasehold"})
}

/// A pod on the volume's node that sees the allowed root, never the dataset itself: a link at the dataset's place would be
/// followed by whoever mounts it. Root in its container, for directories of any owner; of root's rights it keeps the one to
/// read them.
///
/// # Errors
/// None that a correct build can meet: the JSON fits the type.
pub fn probe_pod(lease: LeaseId, volume: &LocalVolume, image: &ProbeImage) -> serde_json::Result<Pod> {
    let labels = json!({
        LEASE_LABEL: lease.to_string(),
        PROBE_LABEL: "true",
        "app.kubernetes.io/part-of": "leasehold",
        "app.kubernetes.io/name": "leasehold-probe",
    });
    serde_json::from_value(json!({
        "metadata": {"name": probe_name(lease), "namespace": image.namespace, "labels": labels,
            "annotations": {PLACE_ANNOTATION: volume.place_digest()}},
        "spec": {
            // Past the scheduler: a node that takes no new pods still has its data.
            "nodeName": volume.node,
            "tolerations": [{"operator": "Exists"}],
            "restartPolicy": "Never",
            "activeDeadlineSeconds": 45,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "containers": [{
                "name": "probe",
                "image": image.image,
                "imagePullPolicy": image.pull_policy,
                "command": ["leasehold-probe", "--root", ROOT_MOUNT, "--path", literal(&volume.below)],
                "resources": {
                    "requests": {"cpu": "10m", "memory": "16Mi"},
                    "limits": {"memory": "128Mi"},
                },
                "securityContext": {
                    "runAsUser": 0,
                    "runAsGroup": 0,
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]},
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "volumeMounts": [{"name": "root", "mountPath": ROOT_MOUNT, "readOnly": true}],
            }],
            "volumes": [{"name": "root", "hostPath": {"path": volume.root, "type": "Directory"}}],
        },
    }))
}

/// An argument that the kubelet passes on as it is: it expands `$(NAME)`, and makes one `$` of two.
fn literal(argument: &str) -> String {
    argument.replace('$', "$$")
}

/// The volume's details and what opens it.
///
/// # Errors
/// As for [`probe_pod`].
pub fn secret(lease: LeaseId, volume: &LocalVolume, namespace: &str) -> serde_json::Result<Secret> {
    let details = json!({"kind": "local", "path": volume.path(), "node": volume.node});
    let mut data = BTreeMap::from([("details".to_owned(), ByteString(details.to_string().into_bytes()))]);
    for (name, value) in volume.credential.expose() {
        data.insert(
            format!("credential.{name}"),
            ByteString(value.as_bytes().to_vec()),
        );
    }
    let mut secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": lease.claim_name(), "namespace": namespace, "labels": labels(lease),
            "annotations": {PLACE_ANNOTATION: volume.place_digest()}},
        "type": SECRET_TYPE,
        "immutable": true,
    }))?;
    secret.data = Some(data);
    Ok(secret)
}

/// The claim, made before its volume so that the volume can name its uid.
///
/// # Errors
/// As for [`probe_pod`].
pub fn claim(lease: LeaseId, namespace: &str) -> serde_json::Result<PersistentVolumeClaim> {
    serde_json::from_value(json!({
        "metadata": {"name": lease.claim_name(), "namespace": namespace, "labels": labels(lease)},
        "spec": {
            "accessModes": [READ_ONLY_MANY],
            "storageClassName": "",
            "volumeName": lease.claim_name(),
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": SIZE}},
        },
    }))
}

/// The volume, read-only, for one claim alone.
///
/// # Errors
/// As for [`probe_pod`].
pub fn persistent_volume(
    lease: LeaseId,
    volume: &LocalVolume,
    hostname: &str,
    namespace: &str,
    claim_uid: &str,
) -> serde_json::Result<PersistentVolume> {
    let name = lease.claim_name();
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels(lease)},
        "spec": {
            "capacity": {"storage": SIZE},
            "accessModes": [READ_ONLY_MANY],
            "volumeMode": "Filesystem",
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            // Kind `local` has no field for it, and a pod's own `readOnly` is not mirrored into every container.
            "mountOptions": ["ro"],
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": namespace,
                "name": name,
                "uid": claim_uid,
            },
            "local": {"path": volume.path()},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [hostname]},
            ]}]}},
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provisioner::volume::{LocalRoots, Volume, parse};

    fn lease() -> LeaseId {
        LeaseId::parse(&"ab".repeat(16)).unwrap()
    }

    fn volume() -> LocalVolume {
        let roots: LocalRoots = "UiSMSP=/srv/uis".parse().unwrap();
        let details =
            br#"{"kind":"local","path":"/srv/uis/a/texts","node":"n1","credential":{"key":"hunter2"}}"#;
        let Volume::Local(volume) = parse(details, "UiSMSP", &roots).unwrap();
        volume
    }

    #[test]
    fn the_probe_sees_the_root_read_only_and_never_the_dataset_as_a_mount() {
        let image = ProbeImage {
            image: "i".into(),
            pull_policy: "Never".into(),
            namespace: "s".into(),
        };
        let pod = probe_pod(lease(), &volume(), &image).unwrap();
        let spec = pod.spec.unwrap();
        assert_eq!(spec.volumes.as_ref().unwrap().len(), 1);
        assert_eq!(
            spec.volumes.unwrap()[0].host_path.as_ref().unwrap().path,
            "/srv/uis"
        );
        let container = &spec.containers[0];
        assert_eq!(container.volume_mounts.as_ref().unwrap()[0].read_only, Some(true));
        assert_eq!(container.command.as_ref().unwrap().last().unwrap(), "a/texts");
        assert_eq!(spec.automount_service_account_token, Some(false));
        let context = container.security_context.as_ref().unwrap();
        assert_eq!(
            context.capabilities.as_ref().unwrap().drop.as_deref().unwrap(),
            ["ALL"]
        );
        assert_eq!(context.read_only_root_filesystem, Some(true));
    }

    #[test]
    fn the_probe_looks_at_the_path_as_it_is_written_whatever_the_kubelet_expands() {
        let image = ProbeImage {
            image: "i".into(),
            pull_policy: "Never".into(),
            namespace: "s".into(),
        };
        for (below, argument) in [
            ("a/$(HOSTNAME)", "a/$$(HOSTNAME)"),
            ("a/$$(HOSTNAME)", "a/$$$$(HOSTNAME)"),
            ("a/b$$c", "a/b$$$$c"),
            ("plain", "plain"),
        ] {
            let volume = LocalVolume {
                below: below.into(),
                ..volume()
            };
            let spec = probe_pod(lease(), &volume, &image).unwrap().spec.unwrap();
            assert_eq!(
                spec.containers[0].command.as_ref().unwrap().last().unwrap(),
                argument
            );
            let mounted = persistent_volume(lease(), &volume, "h", "hub", "u").unwrap();
            let path = mounted.spec.unwrap().local.unwrap().path;
            assert_eq!(path, format!("/srv/uis/{below}"), "nothing expands it there");
        }
    }

    #[test]
    fn probe_and_secret_say_which_place_they_are_of_and_no_two_places_are_alike() {
        let image = ProbeImage {
            image: "i".into(),
            pull_policy: "Never".into(),
            namespace: "s".into(),
        };
        let digest_of = |volume: &LocalVolume| {
            let probe = probe_pod(lease(), volume, &image).unwrap();
            let secret = secret(lease(), volume, "s").unwrap();
            let of =
                |metadata: kube::api::ObjectMeta| metadata.annotations.unwrap()[PLACE_ANNOTATION].clone();
            let (probe, secret) = (of(probe.metadata), of(secret.metadata));
            assert_eq!(probe, secret);
            probe
        };
        let here = volume();
        let elsewhere = [
            LocalVolume {
                below: "b".into(),
                ..here.clone()
            },
            LocalVolume {
                node: "n2".into(),
                ..here.clone()
            },
            LocalVolume {
                root: "/srv/uis/a".into(),
                below: "texts".into(),
                ..here.clone()
            },
        ];
        assert!(elsewhere.iter().all(|other| digest_of(other) != digest_of(&here)));
        let other_key = LocalVolume {
            credential: Default::default(),
            ..here.clone()
        };
        assert_eq!(
            digest_of(&other_key),
            digest_of(&here),
            "nothing of the credential is in it"
        );
    }

    #[test]
    fn the_volume_is_read_only_pinned_to_its_node_and_to_one_claim() {
        let volume = persistent_volume(lease(), &volume(), "host-1", "hub", "uid-1").unwrap();
        let spec = volume.spec.unwrap();
        assert_eq!(spec.access_modes.unwrap(), ["ReadOnlyMany"]);
        assert_eq!(spec.mount_options.unwrap(), ["ro"]);
        assert_eq!(spec.persistent_volume_reclaim_policy.as_deref(), Some("Retain"));
        assert_eq!(spec.storage_class_name.as_deref(), Some(""));
        assert_eq!(spec.claim_ref.unwrap().uid.as_deref(), Some("uid-1"));
        let affinity = serde_json::to_string(&spec.node_affinity).unwrap();
        assert!(affinity.contains("host-1"), "{affinity}");
    }

    #[test]
    fn the_credential_is_in_the_secret_and_in_nothing_else() {
        let image = ProbeImage {
            image: "i".into(),
            pull_policy: "Never".into(),
            namespace: "s".into(),
        };
        let volume = volume();
        for object in [
            serde_json::to_string(&probe_pod(lease(), &volume, &image).unwrap()),
            serde_json::to_string(&claim(lease(), "hub").unwrap()),
            serde_json::to_string(&persistent_volume(lease(), &volume, "h", "hub", "u").unwrap()),
        ] {
            assert!(!object.unwrap().contains("hunter2"));
        }
        let secret = secret(lease(), &volume, "s").unwrap();
        let data = secret.data.unwrap();
        assert_eq!(data["credential.key"].0, b"hunter2");
        assert!(!String::from_utf8_lossy(&data["details"].0).contains("hunter2"));
    }

    #[test]
    fn the_claim_says_nothing_of_where_the_data_is() {
        let claim = serde_json::to_string(&claim(lease(), "hub").unwrap()).unwrap();
        assert!(!claim.contains("srv") && !claim.contains("n1"), "{claim}");
    }
}

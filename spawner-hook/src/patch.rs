//! What the notebook's pod needs to act for its person, ready to be merged by the hub's hook file.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, Container, EnvVar, KeyToPath, ProjectedVolumeSource,
    ResourceRequirements, SeccompProfile, SecurityContext, ServiceAccountTokenProjection, Volume,
    VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use leasehold_broker_wire::names::{IDENTITY_MOUNT_PATH, IDENTITY_VOLUME, PEOPLE_AUDIENCE};
use serde::Serialize;

use crate::names::Names;
use crate::request::SpawnRequest;

/// ConfigMap with the broker's CA certificate, in the broker's namespace and copied to the users'.
pub const CA_CONFIG_MAP: &str = "leasehold-ca";
/// Its only key.
pub const CA_KEY: &str = "ca.crt";
/// Lays the skeleton of leased datasets before the notebook starts.
const INIT_CONTAINER: &str = "leasehold-skeleton";
/// Kubelet renews a token at four fifths of this, which is the least that Kubernetes gives. A copied token outlives its account by
/// as much at most.
const TOKEN_SECONDS: i64 = 600;
/// A broker that is away delays a spawn by this at most.
const SKELETON_PATIENCE: &str = "10s";

/// What is the same at every spawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchSettings {
    /// The broker's REST address as notebooks reach it.
    pub broker_url: String,
    /// Image with the `leasehold` command.
    pub cli_image: String,
    /// Its pull policy.
    pub cli_image_pull_policy: String,
    /// User id where the request names none.
    pub notebook_uid: i64,
    /// Group id where the request names none.
    pub notebook_gid: i64,
}

/// Answer of `POST /v1/spawn`; Kubernetes objects are as the API server takes them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PodPatch {
    /// For `spec.serviceAccountName`, with its token mounted.
    pub service_account: String,
    /// Whom the person's jobs run as; for the hub's information.
    pub executor_service_account: String,
    /// To be set on the pod.
    pub annotations: BTreeMap<String, String>,
    /// For the notebook container.
    pub env: BTreeMap<String, String>,
    /// For `spec.volumes`.
    pub volumes: Vec<Volume>,
    /// For the notebook container.
    pub volume_mounts: Vec<VolumeMount>,
    /// For `spec.initContainers`, last.
    pub init_containers: Vec<Container>,
}

/// The patch of one spawn.
#[must_use]
pub fn pod_patch(request: &SpawnRequest, names: &Names, settings: &PatchSettings) -> PodPatch {
    let env = BTreeMap::from([
        ("LEASEHOLD_URL".to_owned(), settings.broker_url.clone()),
        (
            "LEASEHOLD_TOKEN_FILE".to_owned(),
            format!("{IDENTITY_MOUNT_PATH}/token"),
        ),
        (
            "LEASEHOLD_CA_FILE".to_owned(),
            format!("{IDENTITY_MOUNT_PATH}/{CA_KEY}"),
        ),
    ]);
    PodPatch {
        service_account: names.notebook.clone(),
        executor_service_account: names.executor.clone(),
        annotations: BTreeMap::new(),
        volumes: vec![identity_volume()],
        volume_mounts: vec![identity_mount()],
        init_containers: vec![skeleton_container(request, settings, &env)],
        env,
    }
}

fn identity_volume() -> Volume {
    let token = VolumeProjection {
        service_account_token: Some(ServiceAccountTokenProjection {
            audience: Some(PEOPLE_AUDIENCE.to_owned()),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: "token".to_owned(),
        }),
        ..VolumeProjection::default()
    };
    let ca = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: CA_CONFIG_MAP.to_owned(),
            items: Some(vec![KeyToPath {
                key: CA_KEY.to_owned(),
                path: CA_KEY.to_owned(),
                mode: None,
            }]),
            optional: None,
        }),
        ..VolumeProjection::default()
    };
    Volume {
        name: IDENTITY_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![token, ca]),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn identity_mount() -> VolumeMount {
    VolumeMount {
        name: IDENTITY_VOLUME.to_owned(),
        mount_path: IDENTITY_MOUNT_PATH.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

/// Runs as the notebook does, so that the directories are the person's, and can do nothing but that.
fn skeleton_container(
    request: &SpawnRequest,
    settings: &PatchSettings,
    env: &BTreeMap<String, String>,
) -> Container {
    let uid = request.uid.unwrap_or(settings.notebook_uid);
    let quantities = |pairs: &[(&str, &str)]| {
        Some(
            pairs
                .iter()
                .map(|&(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned())))
                .collect(),
        )
    };
    let arguments = [
        "--timeout",
        SKELETON_PATIENCE,
        "skeleton",
        "sync",
        "--best-effort",
        "--home",
    ];
    Container {
        name: INIT_CONTAINER.to_owned(),
        image: Some(settings.cli_image.clone()),
        image_pull_policy: Some(settings.cli_image_pull_policy.clone()),
        args: Some(
            arguments
                .map(str::to_owned)
                .into_iter()
                .chain([request.home.mount_path.clone()])
                .collect::<Vec<_>>(),
        ),
        env: Some(
            env.iter()
                .map(|(name, value)| EnvVar {
                    name: name.clone(),
                    value: Some(value.clone()),
                    value_from: None,
                })
                .collect(),
        ),
        resources: Some(ResourceRequirements {
            requests: quantities(&[("cpu", "10m"), ("memory", "16Mi")]),
            limits: quantities(&[("cpu", "500m"), ("memory", "128Mi")]),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            run_as_user: Some(uid),
            run_as_group: Some(request.gid.unwrap_or(settings.notebook_gid)),
            run_as_non_root: (uid != 0).then_some(true),
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            identity_mount(),
            VolumeMount {
                name: request.home.volume.clone(),
                mount_path: request.home.mount_path.clone(),
                sub_path: request.home.sub_path.clone(),
                ..VolumeMount::default()
            },
        ]),
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn patch(more: &Value) -> Value {
        let mut body = json!({
            "username": "alice@example.com", "namespace": "hub", "pod_name": "jupyter-alice",
            "home": {"claim": "claim-alice", "sub_path": "alice", "mount_path": "/home/jovyan", "volume": "volume-alice"},
        });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let request = serde_json::from_value(body).unwrap();
        let settings = PatchSettings {
            broker_url: "https://broker:8443".to_owned(),
            cli_image: "cli:dev".to_owned(),
            cli_image_pull_policy: "Never".to_owned(),
            notebook_uid: 1000,
            notebook_gid: 100,
        };
        json!(pod_patch(&request, &Names::of("alice@example.com"), &settings))
    }

    #[test]
    fn the_notebook_gets_its_account_a_token_and_the_brokers_certificate() {
        let patch = patch(&json!({}));
        assert!(
            patch["service_account"]
                .as_str()
                .unwrap()
                .starts_with("nb-alice-example-com-")
        );
        assert!(
            patch["executor_service_account"]
                .as_str()
                .unwrap()
                .starts_with("wf-alice-example-com-")
        );
        assert_eq!(
            patch["volumes"],
            json!([{"name": "leasehold-identity", "projected": {"sources": [
                {"serviceAccountToken": {"audience": "leasehold", "expirationSeconds": 600, "path": "token"}},
                {"configMap": {"name": "leasehold-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            ]}}])
        );
        assert_eq!(
            patch["volume_mounts"],
            json!([{"name": "leasehold-identity", "mountPath": "/var/run/leasehold", "readOnly": true}])
        );
        assert_eq!(
            patch["env"],
            json!({"LEASEHOLD_URL": "https://broker:8443", "LEASEHOLD_TOKEN_FILE": "/var/run/leasehold/token",
                   "LEASEHOLD_CA_FILE": "/var/run/leasehold/ca.crt"})
        );
    }

    #[test]
    fn the_skeleton_is_laid_as_the_person_and_never_stops_a_spawn() {
        let container = patch(&json!({}))["init_containers"][0].clone();
        assert_eq!(
            container["args"],
            json!([
                "--timeout",
                "10s",
                "skeleton",
                "sync",
                "--best-effort",
                "--home",
                "/home/jovyan"
            ])
        );
        assert_eq!(
            container["volumeMounts"][1],
            json!({"name": "volume-alice", "mountPath": "/home/jovyan", "subPath": "alice"})
        );
        let security = &container["securityContext"];
        assert_eq!(
            (&security["runAsUser"], &security["runAsGroup"]),
            (&json!(1000), &json!(100))
        );
        assert_eq!(security["allowPrivilegeEscalation"], json!(false));
        let own = patch(&json!({"uid": 4711, "gid": 12}));
        let security = &own["init_containers"][0]["securityContext"];
        assert_eq!(
            (&security["runAsUser"], &security["runAsGroup"]),
            (&json!(4711), &json!(12))
        );
        let root = patch(&json!({"uid": 0}));
        assert_eq!(
            root["init_containers"][0]["securityContext"].get("runAsNonRoot"),
            None
        );
    }
}

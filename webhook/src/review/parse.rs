//! Reading an object against its typed allowlist. The structs are the list: what they don't name is refused, and here the
//! refusal gets its reason from the key that stood out and its place from a second, slower reading.

use serde::Deserialize;

use super::reason::{Denial, Reason};
use super::strict::Strict;

/// Fields of Argo's own types that are refused for a reason of their own, wherever they appear.
const REFUSED_KEYS: &[(&str, Reason)] = &[
    ("podSpecPatch", Reason::PodSpecPatch),
    ("workflowMetadata", Reason::WorkflowMetadata),
    ("podMetadata", Reason::WorkflowMetadata),
    ("volumeClaimTemplates", Reason::VolumeClaimTemplate),
    ("script", Reason::TemplateType),
    ("containerSet", Reason::TemplateType),
    ("resource", Reason::TemplateType),
    ("http", Reason::TemplateType),
    ("plugin", Reason::TemplateType),
    ("data", Reason::TemplateType),
    ("suspend", Reason::TemplateType),
    ("steps", Reason::TemplateType),
    ("artifacts", Reason::Artifact),
    ("archiveLocation", Reason::Artifact),
    ("archiveLogs", Reason::Artifact),
    ("artifactRepositoryRef", Reason::Artifact),
    ("artifactGC", Reason::Artifact),
    ("executor", Reason::ServiceAccount),
    ("secretKeyRef", Reason::SecretRef),
    ("secretRef", Reason::SecretRef),
    ("envFrom", Reason::SecretRef),
    ("imagePullSecrets", Reason::SecretRef),
    ("secret", Reason::SecretRef),
    ("awsElasticBlockStore", Reason::VolumeType),
    ("azureDisk", Reason::VolumeType),
    ("azureFile", Reason::VolumeType),
    ("cephfs", Reason::VolumeType),
    ("cinder", Reason::VolumeType),
    ("clusterTrustBundle", Reason::VolumeType),
    ("csi", Reason::VolumeType),
    ("downwardAPI", Reason::VolumeType),
    ("ephemeral", Reason::VolumeType),
    ("fc", Reason::VolumeType),
    ("flexVolume", Reason::VolumeType),
    ("flocker", Reason::VolumeType),
    ("gcePersistentDisk", Reason::VolumeType),
    ("gitRepo", Reason::VolumeType),
    ("glusterfs", Reason::VolumeType),
    ("hostPath", Reason::VolumeType),
    ("iscsi", Reason::VolumeType),
    ("nfs", Reason::VolumeType),
    ("photonPersistentDisk", Reason::VolumeType),
    ("podCertificate", Reason::VolumeType),
    ("portworxVolume", Reason::VolumeType),
    ("quobyte", Reason::VolumeType),
    ("rbd", Reason::VolumeType),
    ("scaleIO", Reason::VolumeType),
    ("storageos", Reason::VolumeType),
    ("vsphereVolume", Reason::VolumeType),
];

/// Fields that Workflows, templates, containers or pods do have and that no allowlist of ours names.
const KNOWN_KEYS: &[&str] = &[
    "activeDeadlineSeconds",
    "affinity",
    "annotations",
    "args",
    "arguments",
    "automountServiceAccountToken",
    "clusterScope",
    "container",
    "continueOn",
    "daemon",
    "depends",
    "dnsConfig",
    "dnsPolicy",
    "entrypoint",
    "ephemeralContainers",
    "executorPlugins",
    "failFast",
    "finalizers",
    "fsGroup",
    "hooks",
    "host",
    "hostAliases",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostUsers",
    "hostname",
    "initContainers",
    "inline",
    "inputs",
    "labels",
    "labelsFrom",
    "lifecycle",
    "livenessProbe",
    "memoize",
    "metadata",
    "metrics",
    "mirrorVolumeMounts",
    "mountPropagation",
    "nodeName",
    "nodeSelector",
    "onExit",
    "outputs",
    "overhead",
    "parallelism",
    "parameters",
    "pendingTimeout",
    "podDisruptionBudget",
    "podGC",
    "podPriorityClassName",
    "podResources",
    "ports",
    "priority",
    "priorityClassName",
    "privileged",
    "procMount",
    "readinessGates",
    "readinessProbe",
    "recursiveReadOnly",
    "resizePolicy",
    "resourceClaims",
    "restartPolicy",
    "restartPolicyRules",
    "retryStrategy",
    "runtimeClassName",
    "schedule",
    "schedulerName",
    "schedulingGates",
    "securityContext",
    "seLinuxOptions",
    "seccompProfile",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "sidecars",
    "startupProbe",
    "stdin",
    "stdinOnce",
    "subPathExpr",
    "subdomain",
    "synchronization",
    "sysctls",
    "template",
    "templateDefaults",
    "templateRef",
    "timeout",
    "tolerations",
    "topologySpreadConstraints",
    "ttlStrategy",
    "tty",
    "volumeClaimGC",
    "volumeDevices",
    "when",
    "withItems",
    "withParam",
    "withSequence",
    "workflowTemplateRef",
    "configMapKeyRef",
    "fileKeyRef",
    "supplementalGroups",
    "capabilities",
    "allowPrivilegeEscalation",
    "serviceAccount",
    "terminationGracePeriodSeconds",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "name",
    "value",
    "valueFrom",
    "workloadRef",
    "volumes",
    "volumeMounts",
    "env",
    "image",
    "command",
    "workingDir",
    "resources",
    "serviceAccountName",
    "templates",
    "dag",
    "tasks",
    "dependencies",
    "enableServiceLinks",
    "preemptionPolicy",
];

/// Reads `json` as a `T`.
///
/// # Errors
/// What `T` doesn't allow, with the reason that its key has.
pub fn parse<'a, T: Deserialize<'a>>(json: &'a str, what: &str) -> Result<T, Denial> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    T::deserialize(Strict(&mut deserializer))
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| refusal::<T>(json, what, &error))
}

#[cold]
fn refusal<'a, T: Deserialize<'a>>(json: &'a str, what: &str, error: &serde_json::Error) -> Denial {
    let deserializer = &mut serde_json::Deserializer::from_str(json);
    let place = match serde_path_to_error::deserialize::<_, T>(Strict(deserializer)) {
        Err(error) => error.path().to_string(),
        Ok(_) => String::new(),
    };
    let text = error.to_string();
    let key = |prefix: &str| text.strip_prefix(prefix)?.split_once('`').map(|(key, _)| key);
    if let Some(key) = key("unknown field `") {
        let reason = reason_of_key(key);
        let place = if place.is_empty() || place == key || place.ends_with(&format!(".{key}")) {
            if place.is_empty() { key.to_owned() } else { place }
        } else {
            format!("{place}.{key}")
        };
        return Denial::new(
            reason,
            match reason {
                Reason::UnknownField => {
                    format!(
                        "{what} has the field {place}, which is not known; check its spelling and case, or remove it"
                    )
                }
                _ => format!("{what} has the field {place}, which is not allowed here; remove it"),
            },
        );
    }
    if let Some(key) = key("duplicate field `") {
        return Denial::new(
            Reason::UnknownField,
            format!("{what} gives the field {key} twice at {place}; give it once"),
        );
    }
    Denial::new(
        Reason::WrongType,
        format!("{what} has a value at {place} that does not fit: {text}"),
    )
}

fn reason_of_key(key: &str) -> Reason {
    REFUSED_KEYS
        .iter()
        .find(|(refused, _)| *refused == key)
        .map_or_else(
            || {
                if KNOWN_KEYS.contains(&key) {
                    Reason::FieldNotAllowed
                } else {
                    Reason::UnknownField
                }
            },
            |(_, reason)| *reason,
        )
}

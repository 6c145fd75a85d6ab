//! The allowlist of what Argo's controller makes of a jupyterflow job, seen in the recordings, with what the API server's
//! defaults and its own admission plugins add. A field that is not named here is refused.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::review::text::{Map, Presence, Text, list};
use crate::review::volume::{Mount, Volume};
use crate::review::workflow::metadata::Metadata;

/// A pod.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pod<'a> {
    #[serde(default, rename = "apiVersion")]
    _api_version: Presence,
    #[serde(default, rename = "kind")]
    _kind: Presence,
    /// Labels, annotations, owners.
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    /// Containers and volumes.
    #[serde(borrow)]
    pub spec: PodSpec<'a>,
    #[serde(default, rename = "status")]
    _status: Presence,
}

/// A pod's spec.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSpec<'a> {
    /// All volumes.
    #[serde(borrow, default, deserialize_with = "list")]
    pub volumes: Vec<Volume<'a>>,
    /// Argo's `init`.
    #[serde(borrow, default, deserialize_with = "list")]
    pub init_containers: Vec<Container<'a>>,
    /// Argo's `wait` or `supervisor`, and the job's.
    #[serde(borrow, default, deserialize_with = "list")]
    pub containers: Vec<Container<'a>>,
    /// Must be the executor.
    #[serde(borrow, default)]
    pub service_account_name: Option<Text<'a>>,
    /// How long the pod may run.
    #[serde(default)]
    pub active_deadline_seconds: Option<i64>,
    /// A class of the system's own would evict us.
    #[serde(borrow, default)]
    pub priority_class_name: Option<Text<'a>>,
    /// Which scheduler.
    #[serde(borrow, default)]
    pub scheduler_name: Option<Text<'a>>,
    /// Only what Kubernetes adds itself.
    #[serde(borrow, default, deserialize_with = "list")]
    pub tolerations: Vec<Toleration<'a>>,
    #[serde(default, rename = "securityContext")]
    _security_context: Option<PodSecurityContext>,
    #[serde(default, rename = "serviceAccount")]
    _service_account: Presence,
    #[serde(default, rename = "restartPolicy")]
    _restart_policy: Presence,
    #[serde(default, rename = "terminationGracePeriodSeconds")]
    _termination_grace_period_seconds: Presence,
    #[serde(default, rename = "dnsPolicy")]
    _dns_policy: Presence,
    #[serde(default, rename = "nodeSelector")]
    _node_selector: Presence,
    #[serde(default, rename = "automountServiceAccountToken")]
    _automount_service_account_token: Presence,
    #[serde(default, rename = "imagePullSecrets")]
    _image_pull_secrets: Presence,
    #[serde(default, rename = "priority")]
    _priority: Presence,
    #[serde(default, rename = "preemptionPolicy")]
    _preemption_policy: Presence,
    #[serde(default, rename = "enableServiceLinks")]
    _enable_service_links: Presence,
}

/// A pod-wide security context: only what restricts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSecurityContext {
    #[serde(default, rename = "runAsNonRoot")]
    _run_as_non_root: Presence,
}

/// A toleration.
#[derive(Debug, Deserialize)]
pub struct Toleration<'a> {
    /// Which taint; absent is every taint.
    #[serde(borrow, default)]
    pub key: Option<Text<'a>>,
}

/// A container of any list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// What runs.
    #[serde(borrow, default, deserialize_with = "list")]
    pub command: Vec<Text<'a>>,
    /// Its arguments.
    #[serde(borrow, default, deserialize_with = "list")]
    pub args: Vec<Text<'a>>,
    /// Its environment.
    #[serde(borrow, default, deserialize_with = "list")]
    pub env: Vec<Env<'a>>,
    /// Its mounts.
    #[serde(borrow, default, deserialize_with = "list")]
    pub volume_mounts: Vec<Mount<'a>>,
    /// What it may do to the node.
    #[serde(borrow, default)]
    pub security_context: Option<SecurityContext<'a>>,
    #[serde(default, rename = "image")]
    _image: Presence,
    #[serde(default, rename = "imagePullPolicy")]
    _image_pull_policy: Presence,
    #[serde(default, rename = "workingDir")]
    _working_dir: Presence,
    #[serde(default, rename = "resources")]
    _resources: Presence,
    #[serde(default, rename = "terminationMessagePath")]
    _termination_message_path: Presence,
    #[serde(default, rename = "terminationMessagePolicy")]
    _termination_message_policy: Presence,
}

/// An environment variable, its value left unread: Argo's hold whole templates.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Env<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Its value, as JSON.
    #[serde(borrow, default)]
    pub value: Option<&'a RawValue>,
    #[serde(default, rename = "valueFrom")]
    _value_from: Option<crate::review::workflow::spec::ValueFrom>,
}

/// A container's security context.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecurityContext<'a> {
    /// All of the node.
    #[serde(default)]
    pub privileged: bool,
    /// More than its parent.
    #[serde(default)]
    pub allow_privilege_escalation: bool,
    /// Powers added.
    #[serde(borrow, default)]
    pub capabilities: Capabilities<'a>,
    /// System calls.
    #[serde(borrow, default)]
    pub seccomp_profile: Map<'a, Text<'a>>,
    #[serde(default, rename = "runAsUser")]
    _run_as_user: Presence,
    #[serde(default, rename = "runAsGroup")]
    _run_as_group: Presence,
    #[serde(default, rename = "runAsNonRoot")]
    _run_as_non_root: Presence,
    #[serde(default, rename = "readOnlyRootFilesystem")]
    _read_only_root_filesystem: Presence,
}

/// Powers added and dropped.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities<'a> {
    /// Added.
    #[serde(borrow, default, deserialize_with = "list")]
    pub add: Vec<Text<'a>>,
    #[serde(default, rename = "drop")]
    _drop: Presence,
}

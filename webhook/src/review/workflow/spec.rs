//! The allowlist of the profile `jupyterflow`: what jupyterflow 0.0.4 emits (`templates/workflow.yaml` of its source, and
//! the recordings in `tests/fixtures`), and the empty leftovers that Argo's own types add to it. A field that is not named
//! here is refused.

use serde::Deserialize;

use crate::review::text::{Map, Presence, Text, list};
use crate::review::volume::{Mount, Volume};

/// A Workflow's spec.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowSpec<'a> {
    #[serde(default, rename = "entrypoint")]
    _entrypoint: Presence,
    /// Overwritten with the executor's.
    #[serde(borrow, default)]
    pub service_account_name: Option<Text<'a>>,
    /// Jobs and the graph.
    #[serde(borrow, default, deserialize_with = "list")]
    pub templates: Vec<Template<'a>>,
    /// The notebook pod's volumes.
    #[serde(borrow, default, deserialize_with = "list")]
    pub volumes: Vec<Volume<'a>>,
    /// The notebook pod's node selector.
    #[serde(borrow, default)]
    pub node_selector: Map<'a, Text<'a>>,
    #[serde(default, rename = "arguments")]
    _arguments: Option<Nothing>,
}

/// An object that must be empty: Argo's types leave these behind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// A job or the graph.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Template<'a> {
    /// Its name.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// Overwritten with the executor's.
    #[serde(borrow, default)]
    pub service_account_name: Option<Text<'a>>,
    /// jupyterflow writes one annotation.
    #[serde(borrow, default)]
    pub metadata: TemplateMetadata<'a>,
    /// A job.
    #[serde(borrow, default)]
    pub container: Option<Container<'a>>,
    #[serde(borrow, default, rename = "dag")]
    _dag: Option<Dag<'a>>,
    #[serde(default, rename = "inputs")]
    _inputs: Option<Nothing>,
    #[serde(default, rename = "outputs")]
    _outputs: Option<Nothing>,
}

/// Metadata of a job's pod.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateMetadata<'a> {
    /// Only `sidecar.istio.io/inject`.
    #[serde(borrow, default)]
    pub annotations: Map<'a, Text<'a>>,
    /// None.
    #[serde(borrow, default)]
    pub labels: Map<'a, Text<'a>>,
}

/// The graph.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dag<'a> {
    #[serde(borrow, default, deserialize_with = "list", rename = "tasks")]
    _tasks: Vec<Task<'a>>,
}

/// A node of the graph.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task<'a> {
    #[serde(borrow, rename = "name")]
    _name: Text<'a>,
    #[serde(borrow, rename = "template")]
    _template: Text<'a>,
    #[serde(borrow, default, deserialize_with = "list", rename = "dependencies")]
    _dependencies: Vec<Text<'a>>,
    #[serde(default, rename = "arguments")]
    _arguments: Option<Nothing>,
}

/// What a job runs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container<'a> {
    #[serde(borrow, default, rename = "name")]
    _name: Option<Text<'a>>,
    /// The notebook's image, by default.
    #[serde(borrow, default)]
    pub image: Option<Text<'a>>,
    #[serde(borrow, default, rename = "imagePullPolicy")]
    _image_pull_policy: Option<Text<'a>>,
    /// jupyterflow's stray field; removed.
    #[serde(default)]
    pub image_pull_secret: Option<Presence>,
    /// Likewise.
    #[serde(default)]
    pub image_pull_secrets: Option<Presence>,
    /// The program.
    #[serde(borrow, default, deserialize_with = "list")]
    pub command: Vec<Text<'a>>,
    /// Its arguments.
    #[serde(borrow, default, deserialize_with = "list")]
    pub args: Vec<Text<'a>>,
    /// Where it starts.
    #[serde(borrow, default)]
    pub working_dir: Option<Text<'a>>,
    /// The notebook's whole environment.
    #[serde(borrow, default, deserialize_with = "list")]
    pub env: Vec<Env<'a>>,
    #[serde(borrow, default, rename = "resources")]
    _resources: Option<Resources<'a>>,
    #[serde(default, rename = "securityContext")]
    _security_context: Option<SecurityContext>,
    /// The notebook container's mounts.
    #[serde(borrow, default, deserialize_with = "list")]
    pub volume_mounts: Vec<Mount<'a>>,
}

/// An environment variable.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Env<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Its value.
    #[serde(borrow, default)]
    pub value: Option<Text<'a>>,
    #[serde(default, rename = "valueFrom")]
    _value_from: Option<ValueFrom>,
}

/// Values that the pod itself knows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValueFrom {
    #[serde(default, rename = "fieldRef")]
    _field_ref: Presence,
    #[serde(default, rename = "resourceFieldRef")]
    _resource_field_ref: Presence,
}

/// CPU, memory and the like.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources<'a> {
    #[serde(borrow, default, rename = "limits")]
    _limits: Map<'a, Presence>,
    #[serde(borrow, default, rename = "requests")]
    _requests: Map<'a, Presence>,
}

/// Whose files a job can read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecurityContext {
    #[serde(default, rename = "runAsUser")]
    _run_as_user: Option<i64>,
    #[serde(default, rename = "runAsGroup")]
    _run_as_group: Option<i64>,
}

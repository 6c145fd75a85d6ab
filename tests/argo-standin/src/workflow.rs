//! A Workflow as the stand-in reads it: the whole object, and a typed view of the part that it understands.
//!
//! [`Workflow::parse`] refuses what the stand-in cannot run (templates of other types, parameters, artifacts,
//! conditions) with a sentence that says so, rather than running something else than was asked for. Fields that
//! end up in pods are all honoured: the tests of the webhook rely on attacks reaching the pod.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use k8s_openapi::api::core::v1::{
    Affinity, Container, HostAlias, LocalObjectReference, PodSecurityContext, Toleration, Volume, VolumeMount,
};
use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::Value;

use crate::status::Status;

pub use normalise::normalise;

mod left_out;
mod normalise;

/// Why a Workflow is not run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unfit {
    /// The object is not a Workflow.
    #[error("the workflow cannot be read: {0}")]
    Malformed(String),
    /// A part of Argo that the stand-in leaves out.
    #[error("the stand-in for argo does not run {0}; set LEASEHOLD_ARGO_BIN to test with real argo")]
    LeftOut(String),
}

/// The Workflow's identity, specification and status.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// The typed view of `spec`.
    pub spec: Spec,
    /// The status that an earlier reconciliation wrote.
    pub status: Status,
}

/// `spec` of a Workflow.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// Template to start with.
    pub entrypoint: String,
    /// Template to run when all else is over.
    pub on_exit: Option<String>,
    /// All templates.
    pub templates: Vec<Template>,
    /// Volumes that containers may mount.
    pub volumes: Vec<Volume>,
    /// ServiceAccount of pods whose template names none.
    pub service_account_name: Option<String>,
    /// Whether pods get a token.
    pub automount_service_account_token: Option<bool>,
    /// Labels and annotations for all pods.
    pub pod_metadata: Metadata,
    /// Labels and annotations for the Workflow itself.
    pub workflow_metadata: Metadata,
    /// Which finished pods Argo would delete; here only told in an annotation.
    #[serde(rename = "podGC")]
    pub pod_gc: Option<PodGc>,
    /// Nodes to run on.
    pub node_selector: BTreeMap<String, String>,
    /// Finer placement.
    pub affinity: Option<Affinity>,
    /// Taints to tolerate.
    pub tolerations: Vec<Toleration>,
    /// Scheduler to ask.
    pub scheduler_name: Option<String>,
    /// Priority class of the pods.
    pub pod_priority_class_name: Option<String>,
    /// Lines for /etc/hosts.
    pub host_aliases: Vec<HostAlias>,
    /// Share the node's network.
    pub host_network: Option<bool>,
    /// Security context of the pods.
    pub security_context: Option<PodSecurityContext>,
    /// Credentials for registries.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Seconds after its start when the Workflow must be over.
    pub active_deadline_seconds: Option<i64>,
    /// `Stop` or `Terminate`: start nothing more.
    pub shutdown: Option<String>,
    /// Start nothing for now.
    pub suspend: Option<bool>,
}

/// Labels and annotations.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// `spec.podGC`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodGc {
    /// When.
    pub strategy: String,
    /// How long after; Argo's own default is five seconds.
    pub delete_delay_duration: Option<String>,
}

/// One template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Template {
    /// The template as written (normalised); the `init` container gets it as text.
    #[serde(skip)]
    pub raw: Value,
    /// Its name.
    pub name: String,
    /// Labels and annotations of its pods.
    pub metadata: Metadata,
    /// One container.
    pub container: Option<Container>,
    /// One container that runs a script.
    pub script: Option<Script>,
    /// Several containers in one pod.
    pub container_set: Option<ContainerSet>,
    /// A graph of tasks.
    pub dag: Option<Dag>,
    /// Groups of steps, one group after the other.
    pub steps: Option<Vec<Vec<Call>>>,
    /// How often to try again.
    pub retry_strategy: Option<RetryStrategy>,
    /// ServiceAccount of its pods.
    pub service_account_name: Option<String>,
    /// Whether its pods get a token.
    pub automount_service_account_token: Option<bool>,
    /// Volumes of its pods.
    pub volumes: Vec<Volume>,
    /// Containers beside the main one.
    pub sidecars: Vec<UserContainer>,
    /// Containers before the main one.
    pub init_containers: Vec<UserContainer>,
    /// Nodes to run on.
    pub node_selector: BTreeMap<String, String>,
    /// Finer placement.
    pub affinity: Option<Affinity>,
    /// Taints to tolerate.
    pub tolerations: Vec<Toleration>,
    /// Scheduler to ask.
    pub scheduler_name: Option<String>,
    /// Priority class of its pods.
    pub priority_class_name: Option<String>,
    /// Lines for /etc/hosts.
    pub host_aliases: Vec<HostAlias>,
    /// Security context of its pods.
    pub security_context: Option<PodSecurityContext>,
    /// Seconds after its start when its pod must be over.
    pub active_deadline_seconds: Option<i64>,
}

/// What a template does.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// It is a pod.
    Pod,
    /// It calls other templates, ordered by dependencies.
    Dag(&'a Dag),
    /// It calls other templates, group by group.
    Steps(&'a [Vec<Call>]),
}

impl Template {
    /// What it does.
    #[must_use]
    pub fn kind(&self) -> Kind<'_> {
        match (&self.dag, &self.steps) {
            (Some(dag), _) => Kind::Dag(dag),
            (None, Some(steps)) => Kind::Steps(steps),
            (None, None) => Kind::Pod,
        }
    }
}

/// A script: its container and its source.
#[derive(Clone, Debug, Deserialize)]
pub struct Script {
    /// The container.
    #[serde(flatten)]
    pub container: Container,
    /// The text to run.
    #[serde(default)]
    pub source: String,
}

/// Several containers that share one pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerSet {
    /// Its members.
    pub containers: Vec<Member>,
    /// Mounts of every member.
    pub volume_mounts: Vec<VolumeMount>,
}

/// A member of a container set.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// The container.
    #[serde(flatten)]
    pub container: Container,
    /// Members that must have succeeded before.
    #[serde(default)]
    pub dependencies: Vec<String>,
}

/// A sidecar or init container.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserContainer {
    /// The container.
    #[serde(flatten)]
    pub container: Container,
    /// Whether it gets the main container's mounts too.
    #[serde(default)]
    pub mirror_volume_mounts: Option<bool>,
}

/// A graph of tasks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dag {
    /// The tasks.
    pub tasks: Vec<Call>,
    /// Whether one failed end decides for all; true if absent.
    pub fail_fast: Option<bool>,
}

/// A task or a step: a call of a template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Template it calls.
    pub template: String,
    /// Tasks that must have succeeded before.
    pub dependencies: Vec<String>,
}

/// How often to try again, and after what.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryStrategy {
    /// Number of further attempts, as a number or as text; none means for ever.
    pub limit: Option<Value>,
    /// `OnFailure` (the default), `OnError` or `Always`.
    pub retry_policy: Option<String>,
}

impl RetryStrategy {
    /// The number of further attempts.
    #[must_use]
    pub fn further_attempts(&self) -> Option<u64> {
        self.limit
            .as_ref()
            .and_then(|limit| limit.as_u64().or_else(|| limit.as_str()?.parse().ok()))
    }
}

impl Workflow {
    /// Reads a Workflow, normalised as Argo stores it.
    ///
    /// # Errors
    /// [`Unfit`] if it cannot be read or asks for what the stand-in leaves out.
    pub fn parse(object: &DynamicObject) -> Result<Self, Unfit> {
        let mut spec = object.data.get("spec").cloned().unwrap_or_default();
        normalise(&mut spec);
        let raw = spec
            .get("templates")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        if let Some(left_out) = left_out::left_out(&spec) {
            return Err(Unfit::LeftOut(left_out));
        }
        let mut spec: Spec =
            serde_json::from_value(spec).map_err(|error| Unfit::Malformed(error.to_string()))?;
        for (template, raw) in spec.templates.iter_mut().zip(raw) {
            template.raw = raw;
        }
        let status = object
            .data
            .get("status")
            .cloned()
            .unwrap_or_else(|| Value::Object(Default::default()));
        let status = serde_json::from_value(status).map_err(|error| Unfit::Malformed(error.to_string()))?;
        let metadata = &object.metadata;
        Ok(Self {
            name: metadata.name.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            spec,
            status,
        })
    }

    /// The template called `name`.
    #[must_use]
    pub fn template(&self, name: &str) -> Option<&Template> {
        self.spec.templates.iter().find(|template| template.name == name)
    }

    /// When it must be over.
    #[must_use]
    pub fn deadline(&self) -> Option<DateTime<Utc>> {
        let started: DateTime<Utc> = self.status.started_at.as_deref()?.parse().ok()?;
        started.checked_add_signed(chrono::TimeDelta::try_seconds(
            self.spec.active_deadline_seconds?,
        )?)
    }
}

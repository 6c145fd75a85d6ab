//! `status` of a Workflow: the nodes of its tree and what became of each.
//!
//! Shapes and spellings are those of the recorded UPDATEs in `tests/fixtures/admission`, and no field of theirs
//! is missing but `resourcesDuration`, which the stand-in does not measure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a node has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing yet, or waiting for its pod.
    #[default]
    #[serde(alias = "")]
    Pending,
    /// Under way.
    Running,
    /// Done as asked.
    Succeeded,
    /// Its job failed.
    Failed,
    /// It could not be run.
    Error,
    /// Its dependencies failed.
    Omitted,
    /// Its condition was false.
    Skipped,
}

impl Phase {
    /// Whether it will not change again.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// Whether it ended badly.
    #[must_use]
    pub fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::Error)
    }
}

/// `status` of a Workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// None before the first reconciliation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// First reconciliation, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Last transition, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Pods (and containers of container sets) that succeeded, of those known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// All nodes by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, Node>,
    /// `PodRunning` and `Completed`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Constant here: nothing is collected.
    #[serde(rename = "artifactGCStatus", skip_serializing_if = "Option::is_none")]
    pub artifact_gc_status: Option<Value>,
    /// Constant here: no artifact repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_repository_ref: Option<Value>,
}

/// A condition of the Workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `True` or `False`.
    pub status: String,
    /// Of what.
    #[serde(rename = "type")]
    pub kind: String,
}

/// One node of the tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// Key in `status.nodes`.
    pub id: String,
    /// Path from the root.
    pub name: String,
    /// What people see.
    pub display_name: String,
    /// `Pod`, `DAG`, `Steps`, `StepGroup`, `Retry`, `Container` or `Skipped`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Template it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_name: Option<String>,
    /// Where that template comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_scope: Option<String>,
    /// What it has come to.
    pub phase: Phase,
    /// Node that called it.
    #[serde(rename = "boundaryID", skip_serializing_if = "Option::is_none")]
    pub boundary_id: Option<String>,
    /// Why it waits or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// Succeeded of all, below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Nodes that follow it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<String>,
    /// Nodes that whatever follows a finished `DAG` or `Steps` follows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outbound_nodes: Vec<String>,
    /// Kubernetes node of its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_node_name: Option<String>,
    /// Exit code of its main container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Outputs>,
    /// Constant on pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_result_synced: Option<bool>,
    /// An attempt of a retry, or an exit handler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_flag: Option<NodeFlag>,
}

/// Outputs of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Outputs {
    /// Of the main container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<String>,
}

/// What is special about a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFlag {
    /// An exit handler.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hooked: bool,
    /// An attempt of a retry.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retried: bool,
}

//! Labels, annotations and derived names that Argo Workflows puts on what it makes.
//!
//! Everything here is a pure function of names, so a controller that was killed and started again derives the
//! same pod names and adopts the pods of its predecessor. The shapes were read off the recorded requests in
//! `tests/fixtures/admission`.

use chrono::{DateTime, Utc};

/// API group of Workflows and CronWorkflows.
pub const GROUP: &str = "argoproj.io";
/// The only version of that group.
pub const VERSION: &str = "v1alpha1";
/// Label on a pod: name of its Workflow.
pub const WORKFLOW: &str = "workflows.argoproj.io/workflow";
/// Label on a Workflow or pod: has it finished.
pub const COMPLETED: &str = "workflows.argoproj.io/completed";
/// Label on a Workflow: a copy of `status.phase`.
pub const PHASE: &str = "workflows.argoproj.io/phase";
/// Label on the pods of an exit handler.
pub const ON_EXIT: &str = "workflows.argoproj.io/on-exit";
/// Label on a Workflow: the CronWorkflow that started it.
pub const CRON_WORKFLOW: &str = "workflows.argoproj.io/cron-workflow";
/// Annotation on such a Workflow: the instant it was due.
pub const SCHEDULED_TIME: &str = "workflows.argoproj.io/scheduled-time";
/// Annotation on a CronWorkflow: which of its schedules fired last.
pub const LAST_USED_SCHEDULE: &str = "cronworkflows.argoproj.io/last-used-schedule";
/// Annotation on a pod: id of its node.
pub const NODE_ID: &str = "workflows.argoproj.io/node-id";
/// Annotation on a pod: name of its node.
pub const NODE_NAME: &str = "workflows.argoproj.io/node-name";
/// Annotation on a pod: what pod garbage collection would do.
pub const POD_GC_STRATEGY: &str = "workflows.argoproj.io/pod-gc-strategy";
/// Annotation on a pod: identifier of the span that created it.
pub const SPAN_ID: &str = "workflows.argoproj.io/span-id";
/// Annotation on a Workflow and its pods: identifier of the trace they belong to.
pub const TRACE_ID: &str = "workflows.argoproj.io/trace-id";
/// Annotation on a Workflow: how its pods are named.
pub const POD_NAME_FORMAT: &str = "workflows.argoproj.io/pod-name-format";
/// Label on a WorkflowTaskResult: whether the executor has reported all it will report.
pub const REPORT_COMPLETED: &str = "workflows.argoproj.io/report-outputs-completed";
/// Annotation that tells kubectl which container is the user's.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Longest name Kubernetes takes (253), less a dash and ten digits of hash.
const LONGEST_PREFIX: usize = 242;

/// FNV-1a, 32 bits.
#[must_use]
pub fn fnv32a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// FNV-1a, 64 bits.
fn fnv64a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Id of the node `node` in `workflow`: the workflow's own name for its root, else `workflow-hash`.
#[must_use]
pub fn node_id(workflow: &str, node: &str) -> String {
    if workflow == node {
        workflow.to_owned()
    } else {
        format!("{workflow}-{}", fnv32a(node))
    }
}

/// Name of the pod that runs `node` from `template`.
#[must_use]
pub fn pod_name(workflow: &str, node: &str, template: &str) -> String {
    if workflow == node {
        return workflow.to_owned();
    }
    let prefix: String = format!("{workflow}-{template}")
        .chars()
        .take(LONGEST_PREFIX)
        .collect();
    format!("{prefix}-{}", fnv32a(node))
}

/// Name of the Workflow that a CronWorkflow starts for the instant `due`.
#[must_use]
pub fn cron_run_name(cron: &str, due: DateTime<Utc>) -> String {
    format!("{cron}-{}", due.timestamp())
}

/// W3C trace context of a pod: which trace it belongs to and which span made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// 32 hex digits, the same for all pods of a Workflow.
    pub trace_id: String,
    /// 16 hex digits, one per pod.
    pub span_id: String,
}

impl Trace {
    /// Derives both from names, where real Argo draws them at random: a restarted controller agrees with itself.
    #[must_use]
    pub fn of(workflow_uid: &str, node_id: &str) -> Self {
        Self {
            trace_id: trace_id(workflow_uid),
            span_id: format!("{:016x}", fnv64a(&format!("{workflow_uid}/{node_id}"))),
        }
    }

    /// The `traceparent` header's value, sampled.
    #[must_use]
    pub fn parent(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.span_id)
    }
}

/// Trace of a Workflow: a UID happens to have the right number of hex digits.
#[must_use]
pub fn trace_id(workflow_uid: &str) -> String {
    workflow_uid.replace('-', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_argo_gave_in_the_recordings() {
        for (workflow, node, template, id, pod) in [
            ("w", "w", "main", "w", "w"),
            (
                "jupyter-alice-nkv6h",
                "jupyter-alice-nkv6h.job-1",
                "job-1",
                "jupyter-alice-nkv6h-56416436",
                "jupyter-alice-nkv6h-job-1-56416436",
            ),
            (
                "steps-4bkr7",
                "steps-4bkr7[0].a",
                "t",
                "steps-4bkr7-4152051468",
                "steps-4bkr7-t-4152051468",
            ),
            (
                "steps-4bkr7",
                "steps-4bkr7.onExit",
                "bye",
                "steps-4bkr7-2692115356",
                "steps-4bkr7-bye-2692115356",
            ),
        ] {
            assert_eq!(node_id(workflow, node), id);
            assert_eq!(pod_name(workflow, node, template), pod);
        }
    }

    #[test]
    fn a_pod_name_never_exceeds_what_kubernetes_takes() {
        let name = pod_name(&"w".repeat(200), "other", &"t".repeat(200));
        assert!(name.len() <= 253, "{} characters", name.len());
    }
}

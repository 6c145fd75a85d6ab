//! Waits for the user's containers to end, and reports that to the API server.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::api::Api;
use super::{Failure, Files, variable};
use crate::names;

const TICK: Duration = Duration::from_millis(100);
/// 128 + SIGKILL.
const KILLED: i32 = 137;

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this exit code.
    Code(i32),
    /// Its emissary was killed and could not say.
    Killed,
}

impl Ending {
    /// As a shell would say it.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Killed => KILLED,
        }
    }
}

/// Waits until `container` has ended; for ever if it never starts, as its dependants must.
///
/// # Errors
/// [`Failure`] if its exit code cannot be read.
pub fn wait_for_end(files: &Files, container: &str) -> Result<Ending, Failure> {
    loop {
        let dead = files.is_dead(container);
        // Read after the look at its life: an emissary writes the code before it dies.
        match files.exit_code(container)? {
            Some(code) => return Ok(Ending::Code(code)),
            None if dead => return Ok(Ending::Killed),
            None => thread::sleep(TICK),
        }
    }
}

/// Announces a result, waits, and completes it: three requests by the pod's own ServiceAccount, as Argo makes them.
pub(super) fn wait(files: &Files) -> Result<(), Failure> {
    // The user's containers get the same signal; this one stays to say how they ended.
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        let registered = signal_hook::flag::register(signal, Arc::clone(&told));
        registered.map_err(|source| Failure::Command {
            command: "wait".to_owned(),
            source,
        })?;
    }
    let (node, workflow) = (variable("ARGO_NODE_ID")?, variable("ARGO_WORKFLOW_NAME")?);
    let api = Api::of_this_pod()?;
    let labels = |completed: &str| json!({names::WORKFLOW: workflow, names::REPORT_COMPLETED: completed});
    let result = json!({
        "apiVersion": format!("{}/{}", names::GROUP, names::VERSION),
        "kind": "WorkflowTaskResult",
        "metadata": {
            "name": node,
            "labels": labels("false"),
            "ownerReferences": [{
                "apiVersion": format!("{}/{}", names::GROUP, names::VERSION),
                "kind": "Workflow",
                "name": workflow,
                "uid": variable("ARGO_WORKFLOW_UID")?,
            }],
        },
    });
    api.create_result(&result)?;
    for container in files.template()?.mains() {
        wait_for_end(files, &container)?;
    }
    api.patch_result(&node, &json!({"outputs": {}}))?;
    api.patch_result(&node, &json!({"metadata": {"labels": labels("true")}}))
}

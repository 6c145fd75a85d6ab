//! WorkflowTaskResults: how a job's `wait` container tells the controller what came out. The controller matches them by name
//! and label without asking whose they are; here a person's accounts may write only those of their own Workflows.

use serde::Deserialize;

use super::envelope::{Operation, Request};
use super::parse::parse;
use super::patch::Patch;
use super::text::{Map, Text, list};
use super::workflow::metadata::OwnerReference;
use super::{OwnerKind, Reason, Stop, View, deny, is_persons_account, object, old_object};

#[derive(Debug, Deserialize)]
struct TaskResult<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default)]
    labels: Map<'a, Text<'a>>,
    #[serde(borrow, default, deserialize_with = "list")]
    owner_references: Vec<OwnerReference<'a>>,
}

/// Decides a task result.
///
/// # Errors
/// A denial or a question.
pub fn review(request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    if !is_persons_account(&request.user_info) {
        return Ok(Patch::new());
    }
    match request.operation {
        Operation::Create => owned(object(request)?, request, view),
        Operation::Update => {
            owned(old_object(request)?, request, view)?;
            owned(object(request)?, request, view)
        }
        Operation::Delete | Operation::Connect => foreign(),
    }
}

fn owned(object: &str, request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    let result: TaskResult<'_> = parse(object, "the task result")?;
    let [owner] = result.metadata.owner_references.as_slice() else {
        return foreign();
    };
    let label = result.metadata.labels.get("workflows.argoproj.io/workflow");
    let named_for_it = request
        .name()
        .strip_prefix(&*owner.name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    if owner.kind != "Workflow" || label != Some(&owner.name) || !named_for_it {
        return foreign();
    }
    let workflow = view.owner(OwnerKind::Workflow, request.namespace(), &owner.name, &owner.uid)?;
    let Some(stamp) = &workflow.stamp else {
        return foreign();
    };
    let person = view.person(&stamp.uid)?;
    let user = &request.user_info;
    if !user.uid.is_empty() && *user.uid == *person.binding.executor.uid {
        return Ok(Patch::new());
    }
    foreign()
}

fn foreign<T>() -> Result<T, Stop> {
    deny(
        Reason::TaskresultOwner,
        "a task result may be written only by the executor of the person whose Workflow it belongs to",
    )
}

//! Reconciles one Workflow: read, decide, create the pods that are due, decide again, write.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::Action as Next;
use kube::{Error, ResourceExt as _};
use regex::Regex;
use serde_json::json;
use tracing::{info, warn};

use super::{Context, Failure, asked, dynamic, now, workflow_type};
use crate::engine::{self, Action, Answer, PodOrder, PodState};
use crate::names::{self, Trace};
use crate::pod::{self, Order};
use crate::status::Status;
use crate::workflow::{Metadata, Workflow, normalise};

/// Brings one Workflow forward.
pub(super) async fn reconcile(seen: Arc<DynamicObject>, context: Arc<Context>) -> Result<Next, Failure> {
    let namespace = seen.namespace().unwrap_or_default();
    let workflows = dynamic(&context.client, Some(&namespace), &workflow_type());
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let object = workflows
        .get_opt(&seen.name_any())
        .await
        .map_err(asked("read the workflow"))?;
    let Some(object) = object.filter(|it| it.metadata.deletion_timestamp.is_none()) else {
        return Ok(Next::await_change());
    };
    let workflow = match Workflow::parse(&object) {
        Ok(workflow) => workflow,
        Err(unfit) => {
            if object.data.pointer("/status/finishedAt").is_none() {
                let status = engine::unfit(unfit.to_string(), now());
                write(&workflows, object, &status, &Metadata::default()).await?;
            }
            return Ok(Next::await_change());
        }
    };
    let selector = ListParams::default().labels(&format!("{}={}", names::WORKFLOW, workflow.name));
    let listed = pods
        .list(&selector)
        .await
        .map_err(asked("list the workflow's pods"))?;
    let states: Vec<PodState> = listed
        .iter()
        .filter(|pod| is_owned(pod, &workflow.uid))
        .filter_map(PodState::of)
        .collect();

    let mut answers = BTreeMap::new();
    let actions = loop {
        let actions = engine::decide(&workflow, &states, &answers, now());
        let mut asked_for_one = false;
        for action in &actions {
            if let Action::CreatePod(order) = action {
                answers.insert(
                    order.node_id.clone(),
                    create(&context, &pods, &workflow, order).await,
                );
                asked_for_one = true;
            }
        }
        if !asked_for_one {
            break actions;
        }
    };
    for action in actions {
        match action {
            Action::Write(status) => {
                write(
                    &workflows,
                    object.clone(),
                    &status,
                    &workflow.spec.workflow_metadata,
                )
                .await?;
            }
            Action::Complete { pod } => complete(&pods, &pod).await?,
            Action::CreatePod(_) => {}
        }
    }
    let waits = answers.values().any(|answer| matches!(answer, Answer::Wait(_)));
    Ok(if waits {
        Next::requeue(context.requeue)
    } else {
        Next::await_change()
    })
}

async fn create(context: &Context, pods: &Api<Pod>, workflow: &Workflow, order: &PodOrder) -> Answer {
    let Some(template) = workflow.template(&order.template) else {
        return Answer::Refused(format!("template '{}' not found", order.template));
    };
    let order = Order {
        workflow,
        template,
        caller: order.caller.as_ref().and_then(|name| workflow.template(name)),
        node_name: &order.node_name,
        on_exit: order.on_exit,
        trace: Trace::of(&workflow.uid, &order.node_id),
        now: now(),
    };
    let pod = match pod::build(&context.executor, &order) {
        Ok(pod) => pod,
        Err(error) => return Answer::Refused(error.to_string()),
    };
    let name = pod.name_any();
    let answer = match pods.create(&PostParams::default(), &pod).await {
        Ok(_) => Answer::Created,
        Err(Error::Api(status)) if status.reason == "AlreadyExists" => {
            adopt(pods, &name, &workflow.uid).await
        }
        Err(error) => judge(&error, context),
    };
    match &answer {
        Answer::Created => info!(pod = name, "pod created"),
        Answer::Wait(message) => info!(pod = name, message, "pod has to wait"),
        Answer::Refused(message) => warn!(pod = name, message, "pod refused"),
    }
    answer
}

/// A pod of that name is there: ours, made before the last status was written, or somebody else's.
async fn adopt(pods: &Api<Pod>, name: &str, workflow_uid: &str) -> Answer {
    match pods.get(name).await {
        Ok(pod) if is_owned(&pod, workflow_uid) => Answer::Created,
        Ok(_) => Answer::Refused(format!(
            "pods \"{name}\" already exists and belongs to no node of this workflow"
        )),
        Err(error) => Answer::Wait(error.to_string()),
    }
}

/// Tells what passes from what does not, as Argo does.
fn judge(error: &Error, context: &Context) -> Answer {
    match error {
        Error::Api(status) if passes(status, context.transient.as_ref()) => {
            Answer::Wait(status.message.clone())
        }
        Error::Api(status) => Answer::Refused(status.message.clone()),
        // No answer at all: the connection failed.
        other => Answer::Wait(other.to_string()),
    }
}

/// Whether the API server's answer may be another one later.
fn passes(status: &kube::core::Status, transient: Option<&Regex>) -> bool {
    let reasons = [
        "TooManyRequests",
        "ServiceUnavailable",
        "Timeout",
        "ServerTimeout",
    ];
    let over_quota = status.code == 403 && status.message.contains("exceeded quota");
    // A webhook whose server is not there: the API server reports it as its own error.
    let no_webhook = status.message.contains("connection refused");
    matches!(status.code, 429 | 503 | 504)
        || reasons.contains(&status.reason.as_str())
        || over_quota
        || no_webhook
        || transient.is_some_and(|pattern| pattern.is_match(&status.message))
}

fn is_owned(pod: &Pod, workflow_uid: &str) -> bool {
    pod.owner_references()
        .iter()
        .any(|owner| owner.uid == workflow_uid)
}

async fn complete(pods: &Api<Pod>, name: &str) -> Result<(), Failure> {
    let patch = Patch::Merge(json!({"metadata": {"labels": {names::COMPLETED: "true"}}}));
    match pods.patch(name, &PatchParams::default(), &patch).await {
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(|_| ()).map_err(asked("label a finished pod")),
    }
}

/// Updates the whole object: normalised specification, status, and the labels that repeat it.
async fn write(
    workflows: &Api<DynamicObject>,
    mut object: DynamicObject,
    status: &Status,
    extra: &Metadata,
) -> Result<(), Failure> {
    let first = object
        .data
        .get("status")
        .is_none_or(|status| status.get("phase").is_none());
    if let Some(spec) = object.data.get_mut("spec") {
        normalise(spec);
    }
    let over = status.phase.is_some_and(crate::status::Phase::is_final);
    let phase = serde_json::to_value(status.phase)?;
    if let Some(data) = object.data.as_object_mut() {
        data.insert("status".to_owned(), serde_json::to_value(status)?);
    }
    let trace = names::trace_id(&object.uid().unwrap_or_default());
    let labels = object.labels_mut();
    labels.insert(
        names::PHASE.to_owned(),
        phase.as_str().unwrap_or_default().to_owned(),
    );
    labels.insert(names::COMPLETED.to_owned(), over.to_string());
    if first {
        // With the controller's own identity, whatever the user wrote there: that is what Argo does.
        labels.extend(extra.labels.clone());
    }
    let annotations = object.annotations_mut();
    annotations.insert(names::POD_NAME_FORMAT.to_owned(), "v2".to_owned());
    annotations.insert(names::TRACE_ID.to_owned(), trace);
    if first {
        annotations.extend(extra.annotations.clone());
    }
    let (name, phase) = (object.name_any(), phase);
    workflows
        .replace(&name, &PostParams::default(), &object)
        .await
        .map_err(asked("update the workflow"))?;
    info!(
        workflow = name,
        phase = phase.as_str().unwrap_or_default(),
        "status written"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_time_may_heal_is_waited_for() {
        let denied = "admission webhook \"leasehold\" denied the request: lease_held";
        let silent = "failed calling webhook \"leasehold\": context deadline exceeded";
        let refused =
            "failed calling webhook \"leasehold\": dial tcp 198.18.0.7:443: connect: connection refused";
        for (code, reason, message, waits) in [
            (429, "", denied, true),
            (429, "TooManyRequests", denied, true),
            (503, "ServiceUnavailable", "", true),
            (403, "Forbidden", denied, false),
            (
                403,
                "Forbidden",
                "pods \"p\" is forbidden: exceeded quota: q",
                true,
            ),
            (400, "BadRequest", denied, false),
            (422, "Invalid", "Pod \"p\" is invalid", false),
            (500, "InternalError", refused, true),
            (500, "InternalError", silent, false),
        ] {
            let status = kube::core::Status {
                code,
                reason: reason.to_owned(),
                message: message.to_owned(),
                ..Default::default()
            };
            assert_eq!(passes(&status, None), waits, "{code} {reason}: {message}");
        }
        let pattern = Regex::new("failed calling webhook").unwrap();
        let status = kube::core::Status {
            code: 500,
            message: silent.to_owned(),
            ..Default::default()
        };
        assert!(passes(&status, Some(&pattern)), "TRANSIENT_ERROR_PATTERN");
    }
}

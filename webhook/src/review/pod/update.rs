//! A pod with a dataset mounted stays as it was admitted: no other image, no label that joins a Service, no debug container.

use leasehold_broker_wire::names::{DATASET_POD_LABEL, LEASES_ANNOTATION};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::is_dataset_pod;
use crate::review::envelope::Request;
use crate::review::parse::parse;
use crate::review::patch::Patch;
use crate::review::text::{self, Text};
use crate::review::{Reason, Stop, View, deny, is_persons_account, object, old_object};

const ARGO: &str = "workflows.argoproj.io/";

/// Decides a change of a pod.
pub(crate) fn review(request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    let (new, old) = (object(request)?, old_object(request)?);
    if !is_dataset_pod(old)? {
        if is_dataset_pod(new)? {
            return deny(
                Reason::ReservedMetadata,
                format!(
                    "label {DATASET_POD_LABEL} and annotation {LEASES_ANNOTATION} are set at a pod's creation, by Leasehold alone"
                ),
            );
        }
        return check_argos(new, old, request, view);
    }
    let is_controller = *request.user_info.username == *view.identities.controller;
    if is_persons_account(&request.user_info) {
        return frozen("nobody's notebook or job may change it");
    }
    let (new, old) = (read(new)?, read(old)?);
    if !same_spec(&new, &old) {
        return frozen("its spec cannot change, apart from a shorter activeDeadlineSeconds");
    }
    let metadata = |pod: &Value, key: &str| {
        pod.pointer(&format!("/metadata/{key}"))
            .cloned()
            .unwrap_or(Value::Null)
    };
    if metadata(&new, "ownerReferences") != metadata(&old, "ownerReferences") {
        return frozen("its owners cannot change");
    }
    let changed_labels = changed(&metadata(&new, "labels"), &metadata(&old, "labels"));
    if let Some(label) = changed_labels
        .iter()
        .find(|label| !is_controller || *label != "workflows.argoproj.io/completed")
    {
        return frozen(&format!("its label {label} cannot change"));
    }
    let changed_annotations = changed(&metadata(&new, "annotations"), &metadata(&old, "annotations"));
    if let Some(annotation) = changed_annotations.iter().find(|key| {
        key.starts_with("leasehold.dev/")
            || (key.starts_with("workflows.argoproj.io/") && (!is_controller || key.contains("/kill-cmd")))
    }) {
        return frozen(&format!("its annotation {annotation} cannot change"));
    }
    Ok(Patch::new())
}

/// Labels and annotations of Argo's tell its controller what a pod is and what to do with it: nobody else may set them later,
/// apart from Kubernetes itself.
fn check_argos(new: &str, old: &str, request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    let user = &request.user_info;
    let is_kubernetes = match user.service_account() {
        Some((namespace, _)) => namespace == "kube-system",
        None => user.username.starts_with("system:"),
    };
    if *user.username == *view.identities.controller || is_kubernetes {
        return Ok(Patch::new());
    }
    let (new, old): (Marked<'_>, Marked<'_>) = (parse(new, "the pod")?, parse(old, "the former pod")?);
    if new.metadata.argos() != old.metadata.argos() {
        return deny(
            Reason::ReservedMetadata,
            format!(
                "labels and annotations {ARGO}* of a pod are set by Argo's controller alone; leave them as they are"
            ),
        );
    }
    Ok(Patch::new())
}

#[derive(Debug, Deserialize)]
struct Marked<'a> {
    #[serde(borrow, default)]
    metadata: Marks<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct Marks<'a> {
    #[serde(borrow, default)]
    labels: text::Map<'a, Text<'a>>,
    #[serde(borrow, default)]
    annotations: text::Map<'a, Text<'a>>,
}

impl Marks<'_> {
    /// Argo's labels and annotations, in order.
    fn argos(&self) -> Vec<(bool, &str, &str)> {
        let labels = self.labels.0.iter().map(|(key, value)| (false, &**key, &**value));
        let annotations = self
            .annotations
            .0
            .iter()
            .map(|(key, value)| (true, &**key, &**value));
        let mut argos: Vec<_> = labels
            .chain(annotations)
            .filter(|(_, key, _)| key.starts_with(ARGO))
            .collect();
        argos.sort_unstable();
        argos
    }
}

/// Decides an ephemeral container.
pub(crate) fn review_ephemeral(request: &Request<'_>) -> Result<Patch, Stop> {
    // The pod as it is: what it would be can't have lost its volumes, but it is the former one that counts.
    if is_dataset_pod(old_object(request)?)? || is_dataset_pod(object(request)?)? {
        return deny(
            Reason::Ephemeral,
            "a pod with a leased dataset mounted takes no ephemeral containers; debug with a job that leases nothing",
        );
    }
    Ok(Patch::new())
}

fn frozen<T>(what: &str) -> Result<T, Stop> {
    deny(
        Reason::DatasetPodFrozen,
        format!("the pod has a leased dataset mounted: {what}; run another job instead"),
    )
}

fn read(json: &str) -> Result<Value, Stop> {
    match serde_json::from_str(json) {
        Ok(value) => Ok(value),
        Err(error) => deny(Reason::WrongType, format!("the pod cannot be read: {error}")),
    }
}

fn same_spec(new: &Value, old: &Value) -> bool {
    let split = |pod: &Value| {
        let mut spec = pod
            .get("spec")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let deadline = spec
            .remove("activeDeadlineSeconds")
            .and_then(|deadline| deadline.as_i64());
        (spec, deadline.unwrap_or(i64::MAX))
    };
    let ((new, new_deadline), (old, old_deadline)) = (split(new), split(old));
    new == old && new_deadline <= old_deadline
}

fn changed(new: &Value, old: &Value) -> Vec<String> {
    let empty = Map::new();
    let new = new.as_object().unwrap_or(&empty);
    let old = old.as_object().unwrap_or(&empty);
    let mut keys: Vec<String> = new
        .keys()
        .chain(old.keys())
        .filter(|key| new.get(*key) != old.get(*key))
        .cloned()
        .collect();
    keys.dedup();
    keys
}

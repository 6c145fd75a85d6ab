//! All of a pod but its containers: what it is called, whose it is, where and as whom it runs.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use super::{NoPod, Order};
use crate::names;
use crate::workflow::PodGc;

pub(super) fn metadata(order: &Order<'_>, node_name: &str, default_container: String) -> ObjectMeta {
    let Order {
        workflow,
        template,
        on_exit,
        ..
    } = *order;
    let owned = |text: &str| text.to_owned();
    let mut labels = std::collections::BTreeMap::from([
        (owned(names::WORKFLOW), workflow.name.clone()),
        (owned(names::COMPLETED), owned("false")),
    ]);
    if on_exit {
        labels.insert(owned(names::ON_EXIT), owned("true"));
    }
    let mut annotations = std::collections::BTreeMap::from([
        (owned(names::NODE_NAME), owned(node_name)),
        (owned(names::NODE_ID), names::node_id(&workflow.name, node_name)),
        (owned(names::DEFAULT_CONTAINER), default_container),
        (owned(names::TRACE_ID), order.trace.trace_id.clone()),
        (owned(names::SPAN_ID), order.trace.span_id.clone()),
    ]);
    if let Some(PodGc {
        strategy,
        delete_delay_duration,
    }) = &workflow.spec.pod_gc
    {
        let delay = delete_delay_duration.as_deref().unwrap_or("5s");
        annotations.insert(owned(names::POD_GC_STRATEGY), format!("{strategy}/{delay}"));
    }
    // The user's metadata comes last and wins over Argo's own, as it does in Argo.
    for theirs in [&workflow.spec.pod_metadata, &template.metadata] {
        labels.extend(theirs.labels.clone());
        annotations.extend(theirs.annotations.clone());
    }
    ObjectMeta {
        name: Some(names::pod_name(&workflow.name, node_name, &template.name)),
        namespace: Some(workflow.namespace.clone()),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{}/{}", names::GROUP, names::VERSION),
            kind: "Workflow".to_owned(),
            name: workflow.name.clone(),
            uid: workflow.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

/// All of the pod's specification that says where and as whom it runs.
pub(super) fn placement(order: &Order<'_>) -> PodSpec {
    let (spec, template) = (&order.workflow.spec, order.template);
    let caller = order.caller;
    let selectors = [
        Some(&template.node_selector),
        caller.map(|it| &it.node_selector),
        Some(&spec.node_selector),
    ];
    let tolerations = [
        Some(&template.tolerations),
        caller.map(|it| &it.tolerations),
        Some(&spec.tolerations),
    ];
    let affinity = template
        .affinity
        .as_ref()
        .or_else(|| caller?.affinity.as_ref())
        .or(spec.affinity.as_ref());
    let aliases: Vec<_> = spec
        .host_aliases
        .iter()
        .chain(&template.host_aliases)
        .cloned()
        .collect();
    PodSpec {
        service_account_name: template
            .service_account_name
            .clone()
            .or(spec.service_account_name.clone()),
        automount_service_account_token: template
            .automount_service_account_token
            .or(spec.automount_service_account_token)
            .filter(|automount| !automount),
        node_selector: selectors.into_iter().flatten().find(|it| !it.is_empty()).cloned(),
        tolerations: tolerations
            .into_iter()
            .flatten()
            .find(|it| !it.is_empty())
            .cloned(),
        affinity: affinity.cloned(),
        scheduler_name: template.scheduler_name.clone().or(spec.scheduler_name.clone()),
        priority_class_name: template
            .priority_class_name
            .clone()
            .or(spec.pod_priority_class_name.clone()),
        security_context: template
            .security_context
            .clone()
            .or(spec.security_context.clone()),
        host_network: spec.host_network,
        host_aliases: (!aliases.is_empty()).then_some(aliases),
        image_pull_secrets: (!spec.image_pull_secrets.is_empty()).then(|| spec.image_pull_secrets.clone()),
        ..PodSpec::default()
    }
}

pub(super) fn active_deadline_seconds(order: &Order<'_>) -> Result<Option<i64>, NoPod> {
    let left = order
        .workflow
        .deadline()
        .filter(|_| !order.on_exit)
        .map(|time| (time - order.now).num_seconds());
    if left.is_some_and(|seconds| seconds <= 0) {
        return Err(NoPod::TooLate(order.node_name.to_owned()));
    }
    Ok(left
        .into_iter()
        .chain(order.template.active_deadline_seconds)
        .min())
}

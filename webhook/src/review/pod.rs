//! Pods: those of the Argo controller get what their Workflow's owner leases; nobody else's may name a claim of ours.

pub mod container;
pub mod injection;
pub mod rules;
pub mod spec;
pub mod update;

use leasehold_broker_wire::names::{CLAIM_PREFIX, DATASET_POD_LABEL, LEASES_ANNOTATION};
use serde::Deserialize;

use super::envelope::{Operation, Request};
use super::parse::parse;
use super::patch::Patch;
use super::text::{Map, Text, list};
use super::workflow::settle;
use super::{OwnerKind, Reason, Stage, Stop, View, deny, object};

/// Decides a pod.
///
/// # Errors
/// A denial or a question.
pub fn review(stage: Stage, request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    match request.operation {
        Operation::Create if *request.user_info.username == *view.identities.controller => {
            settle(stage, create(stage, request, view)?)
        }
        // Its probes look at a claim before anybody mounts it.
        Operation::Create if *request.user_info.username == *view.identities.provisioner => Ok(Patch::new()),
        Operation::Create => foreign(object(request)?),
        Operation::Update => update::review(request, view),
        Operation::Delete => Ok(Patch::new()),
        Operation::Connect => deny(
            Reason::Unsupported,
            "a pod is connected to through its subresources",
        ),
    }
}

/// A pod that the controller makes for a person's Workflow.
fn create(stage: Stage, request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    let pod: spec::Pod<'_> = parse(object(request)?, "the pod")?;
    let owner = match pod.metadata.owner_references.as_slice() {
        [owner]
            if owner.controller == Some(true)
                && owner.api_version == "argoproj.io/v1alpha1"
                && owner.kind == "Workflow" =>
        {
            view.owner(OwnerKind::Workflow, request.namespace(), &owner.name, &owner.uid)?
        }
        _ => {
            return deny(
                Reason::OwnerReference,
                "the controller's pods here must be owned by exactly one Workflow, as its controller; agent and artifact pods are not allowed",
            );
        }
    };
    let Some(stamp) = &owner.stamp else {
        return deny(
            Reason::Unstamped,
            format!(
                "Workflow {} carries no stamp: it was not created from a notebook, or before Leasehold was enforced here; create it again from your notebook",
                owner.name
            ),
        );
    };
    let person = view.person(&stamp.uid)?;
    let binding = &person.binding;
    if *stamp.namespace != *request.namespace() || *binding.executor.namespace != *request.namespace() {
        return deny(
            Reason::ServiceAccount,
            format!(
                "Workflow {} belongs to another namespace than its owner",
                owner.name
            ),
        );
    }
    let runs_as = pod.spec.service_account_name.as_deref().unwrap_or_default();
    if runs_as != &*binding.executor.name {
        return deny(
            Reason::ServiceAccount,
            format!(
                "the pod runs as {runs_as:?} and must run as {}, the executor of the Workflow's owner; leave serviceAccountName out of the Workflow",
                binding.executor.name
            ),
        );
    }
    view.account_is(request.namespace(), runs_as, &binding.executor.uid)?;
    rules::check(&pod, &owner, &person)?;
    injection::inject(stage, &pod, &person, stamp, view)
}

/// The little that matters of a pod that isn't the controller's.
#[derive(Debug, Deserialize)]
struct ForeignPod<'a> {
    #[serde(borrow, default)]
    metadata: ForeignMetadata<'a>,
    #[serde(borrow, default)]
    spec: ForeignSpec<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct ForeignMetadata<'a> {
    #[serde(borrow, default)]
    labels: Map<'a, Text<'a>>,
    #[serde(borrow, default)]
    annotations: Map<'a, Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct ForeignSpec<'a> {
    #[serde(borrow, default, deserialize_with = "list")]
    volumes: Vec<ForeignVolume<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ForeignVolume<'a> {
    #[serde(borrow, default)]
    persistent_volume_claim: Option<ForeignClaim<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ForeignClaim<'a> {
    #[serde(borrow, default)]
    claim_name: Text<'a>,
}

impl ForeignPod<'_> {
    fn claims(&self) -> impl Iterator<Item = &str> {
        self.spec
            .volumes
            .iter()
            .filter_map(|volume| Some(&*volume.persistent_volume_claim.as_ref()?.claim_name))
            .filter(|claim| claim.starts_with(CLAIM_PREFIX))
    }

    fn is_marked(&self) -> bool {
        self.metadata.labels.get(DATASET_POD_LABEL).is_some()
            || self.metadata.annotations.get(LEASES_ANNOTATION).is_some()
    }
}

/// Whether this pod has a claim of ours mounted, going by its volumes and, to be safe, by its marks.
///
/// # Errors
/// It is no pod.
pub fn is_dataset_pod(pod: &str) -> Result<bool, Stop> {
    let pod: ForeignPod<'_> = parse(pod, "the pod")?;
    Ok(pod.claims().next().is_some() || pod.is_marked())
}

fn foreign(object: &str) -> Result<Patch, Stop> {
    let pod: ForeignPod<'_> = parse(object, "the pod")?;
    if let Some(claim) = pod.claims().next() {
        return deny(
            Reason::PvcNotInjected,
            format!(
                "claim {claim} is mounted by naming it, but leased datasets are mounted by Leasehold alone and only into jobs of a Workflow; run a job instead"
            ),
        );
    }
    if pod.is_marked() {
        return deny(
            Reason::ReservedMetadata,
            format!(
                "label {DATASET_POD_LABEL} and annotation {LEASES_ANNOTATION} are set by Leasehold alone; remove them"
            ),
        );
    }
    Ok(Patch::new())
}

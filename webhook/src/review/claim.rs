//! PersistentVolumeClaims and PersistentVolumes: those under the reserved prefix, and those that point at one, are the
//! provisioner's alone. Kubernetes' own controllers bind them and take their finalizers off.

use leasehold_broker_wire::names::CLAIM_PREFIX;
use serde::Deserialize;

use super::envelope::{Operation, Request};
use super::parse::parse;
use super::patch::Patch;
use super::text::Text;
use super::{Reason, Stop, View, deny};

#[derive(Debug, Deserialize)]
struct Object<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    spec: Spec<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    generate_name: Text<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow, default)]
    volume_name: Text<'a>,
    #[serde(borrow, default)]
    claim_ref: Option<Reference<'a>>,
    #[serde(borrow, default)]
    data_source: Option<Reference<'a>>,
    #[serde(borrow, default)]
    data_source_ref: Option<Reference<'a>>,
}

#[derive(Debug, Deserialize)]
struct Reference<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
}

/// Decides a claim or volume.
///
/// # Errors
/// A denial.
pub fn review(request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    let user = &*request.user_info.username;
    if user == view.identities.provisioner {
        return Ok(Patch::new());
    }
    let mut reserved = request.name().starts_with(CLAIM_PREFIX);
    for object in [request.object, request.old_object].into_iter().flatten() {
        let object: Object<'_> = parse(object.get(), "the object")?;
        let references = [
            &object.spec.claim_ref,
            &object.spec.data_source,
            &object.spec.data_source_ref,
        ];
        reserved |= [
            &object.metadata.name,
            &object.metadata.generate_name,
            &object.spec.volume_name,
        ]
        .into_iter()
        .chain(references.into_iter().flatten().map(|reference| &reference.name))
        .any(|name| name.starts_with(CLAIM_PREFIX));
    }
    if !reserved || (request.operation != Operation::Create && is_kubernetes_own(user)) {
        return Ok(Patch::new());
    }
    deny(
        Reason::ClaimReserved,
        format!(
            "claims and volumes that begin with {CLAIM_PREFIX}, or point at one, belong to leases; only Leasehold's provisioner makes, changes or deletes them: end the lease instead"
        ),
    )
}

/// Controllers of the control plane, with one identity or one each.
fn is_kubernetes_own(username: &str) -> bool {
    matches!(
        username,
        "system:kube-controller-manager" | "system:kube-scheduler"
    ) || username.starts_with("system:serviceaccount:kube-system:")
}

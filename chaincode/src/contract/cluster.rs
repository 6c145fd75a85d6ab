//! Clusters: an organisation says which of its own serve its people's leases, and under which keys.

use super::draft::Draft;
use super::{CommandResult, Failure, Outcome, text};
use crate::event::EventKind;
use crate::id::ClusterName;
use crate::record::{Cluster, PublicKey};
use crate::refusal::Refusal;
use crate::state::StateReader;
use crate::{key, limit, query};

/// Also of one that is registered, with other keys, and of one that was retired.
pub(super) fn register<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    name: &str,
    keys: &[PublicKey],
) -> Result<Outcome, Failure> {
    let name = name_of(name)?;
    text::keys(keys)?;
    let mut organisation = draft.own_organisation()?;
    let place = key::cluster(&organisation.msp, &name);
    let before: Option<Cluster> = query::optional(draft.state, &place)?;
    let cluster = Cluster {
        organisation: organisation.msp.clone(),
        name: name.clone(),
        keys: keys.to_vec(),
        registered_at_ms: before
            .as_ref()
            .map_or(draft.context.timestamp_ms, |before| before.registered_at_ms),
        retired_at_ms: None,
    };
    if before.as_ref() == Some(&cluster) {
        return Err(Refusal::Unchanged {}.into());
    }
    organisation.clusters.insert(name.clone());
    if organisation.clusters.len() > limit::CLUSTERS {
        let counter = "the organisation's number of clusters".to_owned();
        return Err(Refusal::Exhausted { counter }.into());
    }
    draft.put(place, &cluster)?;
    let kind = EventKind::ClusterRegistered {
        cluster: name.clone(),
    };
    draft.organisation_event(&mut organisation, kind)?;
    let msp = organisation.msp.clone();
    draft.finish_organisation(&organisation, CommandResult::Cluster { msp, name })
}

pub(super) fn retire<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    name: &str,
) -> Result<Outcome, Failure> {
    let mut cluster = in_service(&draft, name)?;
    let mut organisation = draft.own_organisation()?;
    let name = cluster.name.clone();
    organisation.clusters.remove(&name);
    cluster.retired_at_ms = Some(draft.context.timestamp_ms);
    draft.put(key::cluster(&organisation.msp, &name), &cluster)?;
    let kind = EventKind::ClusterRetired {
        cluster: name.clone(),
    };
    draft.organisation_event(&mut organisation, kind)?;
    let msp = organisation.msp.clone();
    draft.finish_organisation(&organisation, CommandResult::Cluster { msp, name })
}

/// The caller's cluster that will serve a lease: the one named, or its only one. None by rules that know no clusters.
pub(super) fn serving<S: StateReader + ?Sized>(
    draft: &Draft<'_, S>,
    name: Option<&str>,
) -> Result<Option<ClusterName>, Failure> {
    if !draft.knows_clusters() {
        return Ok(None);
    }
    if let Some(name) = name {
        return Ok(Some(in_service(draft, name)?.name));
    }
    let organisation = draft.own_organisation()?;
    let mut clusters = organisation.clusters.into_iter();
    match (clusters.next(), clusters.next()) {
        (None, _) => Err(not_found(draft).into()),
        (Some(only), None) => Ok(Some(only)),
        (Some(_), Some(_)) => {
            let reason =
                "expected the name of one of the organisation's clusters, of which there are several";
            Err(Refusal::invalid("cluster", reason).into())
        }
    }
}

/// A cluster of the caller that takes leases.
fn in_service<S: StateReader + ?Sized>(draft: &Draft<'_, S>, name: &str) -> Result<Cluster, Failure> {
    let name = ClusterName::new(name).map_err(|_| not_found(draft))?;
    let cluster = query::cluster(draft.state, &draft.context.caller, &name)?;
    let cluster = cluster.filter(|cluster| cluster.retired_at_ms.is_none());
    Ok(cluster.ok_or_else(|| not_found(draft))?)
}

fn not_found<S: ?Sized>(draft: &Draft<'_, S>) -> Refusal {
    Refusal::ClusterNotFound {
        msp: draft.context.caller.to_string(),
    }
}

fn name_of(text: &str) -> Result<ClusterName, Refusal> {
    ClusterName::new(text).map_err(|error| Refusal::invalid("name", format!("expected {}", error.expected)))
}

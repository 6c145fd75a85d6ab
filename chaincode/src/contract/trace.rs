//! Traces are added and never changed. What they name exists, and whoever records them may speak of it.

use super::draft::Draft;
use super::lease::{of_holder, subject};
use super::{CommandResult, Failure, Outcome, text};
use crate::event::EventKind;
use crate::id::{DatasetId, TraceId};
use crate::record::{Action, Dataset, Lease, Trace};
use crate::refusal::Refusal;
use crate::state::{self, StateReader};
use crate::{key, limit};
use std::collections::BTreeSet;

pub(super) fn record<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    key: &str,
    person: &str,
    action: &Action,
) -> Result<Outcome, Failure> {
    text::trace_key(key)?;
    bounds(action)?;
    let organisation = draft.context.caller.clone();
    let trace = Trace {
        id: TraceId::derive(&organisation, key),
        organisation,
        subject: subject(person)?,
        at_ms: draft.context.timestamp_ms,
        tx_id: draft.context.tx_id.clone(),
        action: action.clone(),
    };
    let place = key::trace(&trace.id);
    if let Some(before) = draft.state.get(&place)? {
        let before: Trace = state::decode(&place, &before)?;
        let is_same = (&before.subject, &before.action) == (&trace.subject, &trace.action);
        let refusal = if is_same {
            Refusal::Unchanged {}
        } else {
            let trace = trace.id.into();
            Refusal::TraceKeyUsed { trace }
        };
        return Err(refusal.into());
    }
    let datasets = datasets(&draft, &trace)?;
    let mut lists = vec![
        key::TRACES.to_owned(),
        key::traces_of(&trace.subject),
        key::traces_by(&trace.organisation),
        key::traces_with(action.kind().as_str()),
    ];
    lists.extend(datasets.iter().map(key::traces_on));
    if let Some(lease) = lease(&draft, &trace)? {
        lists.push(key::traces_under(&lease.id));
        lists.push(key::traces_on(&lease.dataset));
    }
    for list in lists {
        draft.put_index(key::trace_in(&list, &trace), trace.id.as_str());
    }
    draft.put(place, &trace)?;
    draft.tell_organisation(EventKind::TraceRecorded {
        trace: trace.id.clone(),
        action: action.kind(),
    });
    Ok(draft.finish(CommandResult::Trace { id: trace.id }))
}

/// The datasets that it names exist, retired or not; of its making and changing only its owner speaks.
fn datasets<S: StateReader + ?Sized>(
    draft: &Draft<'_, S>,
    trace: &Trace,
) -> Result<BTreeSet<DatasetId>, Failure> {
    let mut ids = BTreeSet::new();
    for id in trace.datasets() {
        ids.insert(DatasetId::new(id).map_err(|_| Refusal::DatasetNotFound {})?);
    }
    let keys: Vec<_> = ids.iter().map(key::dataset).collect();
    let found = draft.state.get_many(&keys)?;
    let is_owners = matches!(
        trace.action,
        Action::CreateDataset { .. } | Action::UpdateDataset { .. }
    );
    for (place, dataset) in keys.iter().zip(found) {
        let dataset: Dataset = state::decode(place, &dataset.ok_or(Refusal::DatasetNotFound {})?)?;
        if is_owners {
            draft.require_owner(&dataset)?;
        }
    }
    Ok(ids)
}

/// The person's own lease, once it was granted; results may come after its end.
fn lease<S: StateReader + ?Sized>(draft: &Draft<'_, S>, trace: &Trace) -> Result<Option<Lease>, Failure> {
    let Action::Run { lease, .. } = &trace.action else {
        return Ok(None);
    };
    let lease = of_holder(draft, lease, trace.subject.as_str())?;
    if lease.grant.is_none() {
        let lease_state = lease.state;
        return Err(Refusal::LeaseNotActive { lease_state }.into());
    }
    Ok(Some(lease))
}

fn bounds(action: &Action) -> Result<(), Refusal> {
    let named = |field, name: &str| text::line(field, name, limit::LIST_ENTRY_CHARS);
    match action {
        Action::CreateDataset { resources, .. } => text::resources("action.resources", resources),
        Action::UpdateDataset {
            details, resources, ..
        } => {
            text::line("action.details", details, limit::REASON_CHARS)?;
            text::resources("action.resources", resources)
        }
        Action::UseDatasets { datasets, tool } => {
            text::several("action.datasets", datasets)?;
            let Some(tool) = tool else { return Ok(()) };
            named("action.tool.name", &tool.name)?;
            let version = tool.version.as_deref();
            version.map_or(Ok(()), |version| named("action.tool.version", version))
        }
        Action::Run { pods, results, .. } => {
            text::pods("action.pods", pods)?;
            text::resources("action.results", results)
        }
        Action::CreateModel {
            application,
            model,
            digest,
            datasets,
        } => {
            named("action.application", application)?;
            named("action.model", model)?;
            if let Some(digest) = digest {
                text::digest("action.digest", digest)?;
            }
            text::several("action.datasets", datasets)
        }
        Action::UseModels { application, models } => {
            named("action.application", application)?;
            text::several("action.models", models)
        }
    }
}

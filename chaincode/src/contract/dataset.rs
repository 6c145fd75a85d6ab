//! Datasets: registered, described, moved, handed over and retired by their owner alone.

use super::draft::Draft;
use super::{Failure, Outcome, end, text};
use crate::command::Ciphertext;
use crate::event::EventKind;
use crate::id::{DatasetId, DatasetName, Msp};
use crate::key;
use crate::query;
use crate::record::{Code, CodeApproval, Dataset, DatasetStatus, Metadata, Offer, Policy, Volume};
use crate::refusal::Refusal;
use crate::state::StateReader;

pub(super) fn register<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    name: &str,
    metadata: &Metadata,
    policy: &Policy,
    volume_ciphertext: &Ciphertext,
    key_version: u32,
) -> Result<Outcome, Failure> {
    let name = DatasetName::new(name)
        .map_err(|error| Refusal::invalid("name", format!("expected {}", error.expected)))?;
    text::metadata(metadata)?;
    draft.require_known(metadata)?;
    text::policy(policy)?;
    text::volume(volume_ciphertext, key_version, 1)?;
    let id = DatasetId::derive(&draft.context.tx_id);
    if draft.state.get(&key::dataset_name(&name))?.is_some() {
        return Err(Refusal::DatasetNameTaken { name: name.into() }.into());
    }
    if draft.state.get(&key::dataset(&id))?.is_some() {
        return Err(draft.transaction_reused().into());
    }
    let dataset = Dataset {
        id,
        name,
        owner: draft.context.caller.clone(),
        metadata: metadata.clone(),
        policy: policy.clone(),
        registered_at_ms: draft.context.timestamp_ms,
        retired_at_ms: None,
    };
    let volume = Volume {
        ciphertext: volume_ciphertext.clone(),
        key_version,
    };
    draft.put(key::dataset(&dataset.id), &dataset)?;
    draft.put(key::volume(&dataset.id), &volume)?;
    draft.put_index(key::dataset_name(&dataset.name), dataset.id.as_str());
    draft.put_index(
        key::dataset_owner(&dataset.owner, &dataset.name),
        dataset.id.as_str(),
    );
    let mut status = DatasetStatus::default();
    draft.dataset_event(&mut status, &dataset, EventKind::DatasetRegistered {})?;
    draft.finish_dataset(&status, dataset)
}

pub(super) fn amend<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    reference: &str,
    metadata: Option<&Metadata>,
    policy: Option<&Policy>,
) -> Result<Outcome, Failure> {
    let (mut dataset, mut status) = draft.own_dataset(reference)?;
    let mut kinds = Vec::new();
    if let Some(metadata) = metadata.filter(|metadata| **metadata != dataset.metadata) {
        text::metadata(metadata)?;
        draft.require_known(metadata)?;
        dataset.metadata = metadata.clone();
        kinds.push(EventKind::DatasetDescribed {});
    }
    if let Some(policy) = policy.filter(|policy| **policy != dataset.policy) {
        text::policy(policy)?;
        dataset.policy = policy.clone();
        kinds.push(EventKind::PolicyChanged {});
    }
    if kinds.is_empty() {
        return Err(Refusal::Unchanged {}.into());
    }
    draft.put(key::dataset(&dataset.id), &dataset)?;
    for kind in kinds {
        draft.dataset_event(&mut status, &dataset, kind)?;
    }
    draft.finish_dataset(&status, dataset)
}

pub(super) fn replace_volume<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    reference: &str,
    volume_ciphertext: &Ciphertext,
    key_version: u32,
) -> Result<Outcome, Failure> {
    let (dataset, mut status) = draft.own_dataset(reference)?;
    let place = key::volume(&dataset.id);
    let before: Volume = query::required(draft.state, &place)?;
    text::volume(volume_ciphertext, key_version, before.key_version)?;
    let volume = Volume {
        ciphertext: volume_ciphertext.clone(),
        key_version,
    };
    if volume == before {
        return Err(Refusal::Unchanged {}.into());
    }
    draft.put(place, &volume)?;
    draft.dataset_event(&mut status, &dataset, EventKind::VolumeReplaced {})?;
    draft.finish_dataset(&status, dataset)
}

pub(super) fn offer<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    reference: &str,
    to: Option<&str>,
) -> Result<Outcome, Failure> {
    let (dataset, mut status) = draft.own_dataset(reference)?;
    let to = match to {
        Some(to) => Some(
            Msp::new(to).map_err(|error| Refusal::invalid("to", format!("expected {}", error.expected)))?,
        ),
        None => None,
    };
    if to.as_ref() == Some(&dataset.owner) {
        return Err(Refusal::invalid("to", "expected another organisation than the owner").into());
    }
    let offer = to.clone().map(|to| Offer { to });
    if offer == status.offer {
        return Err(Refusal::Unchanged {}.into());
    }
    status.offer = offer;
    draft.dataset_event(&mut status, &dataset, EventKind::DatasetOffered { to })?;
    draft.finish_dataset(&status, dataset)
}

pub(super) fn take<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    reference: &str,
    volume_ciphertext: &Ciphertext,
    key_version: u32,
) -> Result<Outcome, Failure> {
    let (mut dataset, mut status) = draft.dataset(reference)?;
    let caller = draft.context.caller.clone();
    if status.offer.as_ref().map(|offer| &offer.to) != Some(&caller) {
        return Err(Refusal::NotOffered { to: caller.into() }.into());
    }
    draft.require_stands(&dataset.owner)?;
    refuse_leased(&dataset, &status)?;
    // Another owner's keys, another owner's versions.
    text::volume(volume_ciphertext, key_version, 1)?;
    let volume = Volume {
        ciphertext: volume_ciphertext.clone(),
        key_version,
    };
    draft.delete(key::dataset_owner(&dataset.owner, &dataset.name));
    draft.put_index(key::dataset_owner(&caller, &dataset.name), dataset.id.as_str());
    dataset.owner = caller;
    draft.put(key::dataset(&dataset.id), &dataset)?;
    draft.put(key::volume(&dataset.id), &volume)?;
    status.offer = None;
    draft.dataset_event(&mut status, &dataset, EventKind::DatasetTaken {})?;
    draft.finish_dataset(&status, dataset)
}

/// Retires a dataset. Its record and history stay; its name, and its volume's ciphertext, leave the state. Leases that are
/// still to be taken down by their clusters end as others do.
pub(super) fn remove<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    reference: &str,
    force: bool,
) -> Result<Outcome, Failure> {
    let (mut dataset, mut status) = draft.own_dataset(reference)?;
    if !force {
        refuse_leased(&dataset, &status)?;
    }
    dataset.retired_at_ms = Some(draft.context.timestamp_ms);
    status.offer = None;
    draft.put(key::dataset(&dataset.id), &dataset)?;
    draft.delete(key::volume(&dataset.id));
    draft.delete(key::dataset_name(&dataset.name));
    draft.delete(key::dataset_owner(&dataset.owner, &dataset.name));
    draft.dataset_event(&mut status, &dataset, EventKind::DatasetRetired {})?;
    end::all_of_retired(&mut draft, &mut status)?;
    draft.finish_dataset(&status, dataset)
}

fn refuse_leased(dataset: &Dataset, status: &DatasetStatus) -> Result<(), Refusal> {
    let waiting = status.line.first().map(|place| &place.lease);
    match status.holders.first().or(waiting) {
        Some(lease) => Err(Refusal::DatasetLeased {
            name: dataset.name.to_string(),
            lease: lease.to_string(),
        }),
        None => Ok(()),
    }
}

pub(super) fn approve_code<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    reference: &str,
    code: &Code,
) -> Result<Outcome, Failure> {
    text::code(code)?;
    let (dataset, mut status) = draft.own_dataset(reference)?;
    let place = key::code(&dataset.id, code);
    if draft.state.get(&place)?.is_some() {
        return Err(Refusal::Unchanged {}.into());
    }
    let approval = CodeApproval {
        dataset: dataset.id.clone(),
        code: code.clone(),
        at_ms: draft.context.timestamp_ms,
    };
    draft.put(place, &approval)?;
    draft.dataset_event(
        &mut status,
        &dataset,
        EventKind::CodeApproved { code: code.clone() },
    )?;
    draft.finish_dataset(&status, dataset)
}

pub(super) fn withdraw_code<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    reference: &str,
    code: &Code,
) -> Result<Outcome, Failure> {
    text::code(code)?;
    let (dataset, mut status) = draft.own_dataset(reference)?;
    let place = key::code(&dataset.id, code);
    if draft.state.get(&place)?.is_none() {
        return Err(Refusal::Unchanged {}.into());
    }
    draft.delete(place);
    draft.dataset_event(
        &mut status,
        &dataset,
        EventKind::CodeWithdrawn { code: code.clone() },
    )?;
    draft.finish_dataset(&status, dataset)
}

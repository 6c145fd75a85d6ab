//! Organisations: each joins, amends and suspends itself alone; the others suspend it only together.

use super::draft::Draft;
use super::{CommandResult, Failure, Outcome, text};
use crate::event::EventKind;
use crate::id::Msp;
use crate::limit;
use crate::record::{By, Consortium, Organisation, PublicKey, Suspension, Vote};
use crate::refusal::Refusal;
use crate::state::StateReader;

pub(super) fn join<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    broker: &str,
    keys: &[PublicKey],
) -> Result<Outcome, Failure> {
    text::broker(broker)?;
    text::keys(keys)?;
    let msp = draft.context.caller.clone();
    if draft.organisation(&msp)?.is_some() {
        return Err(Refusal::AlreadyJoined { msp: msp.into() }.into());
    }
    let mut consortium = draft.consortium();
    if consortium.joined >= limit::ORGANISATIONS {
        let counter = "the number of organisations".to_owned();
        return Err(Refusal::Exhausted { counter }.into());
    }
    consortium.joined = consortium.joined.saturating_add(1);
    consortium.standing.insert(msp.clone());
    draft.put_consortium(consortium)?;
    let mut organisation = Organisation {
        msp,
        broker: broker.to_owned(),
        keys: keys.to_vec(),
        joined_at_ms: draft.context.timestamp_ms,
        revision: 0,
        clusters: std::collections::BTreeSet::new(),
        suspended_by_itself: None,
        suspended_by_others: None,
        votes: Vec::new(),
    };
    draft.organisation_event(&mut organisation, EventKind::OrganisationJoined {})?;
    finish(draft, &organisation)
}

pub(super) fn amend<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    broker: Option<&str>,
    keys: Option<&[PublicKey]>,
) -> Result<Outcome, Failure> {
    let before = draft.own_organisation()?;
    let mut organisation = before.clone();
    if let Some(broker) = broker {
        text::broker(broker)?;
        broker.clone_into(&mut organisation.broker);
    }
    if let Some(keys) = keys {
        text::keys(keys)?;
        organisation.keys = keys.to_vec();
    }
    if organisation == before {
        return Err(Refusal::Unchanged {}.into());
    }
    draft.organisation_event(&mut organisation, EventKind::OrganisationAmended {})?;
    finish(draft, &organisation)
}

pub(super) fn suspend<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    reason: &str,
) -> Result<Outcome, Failure> {
    text::reason(reason)?;
    let mut organisation = draft.own_organisation()?;
    if organisation.suspended_by_itself.is_some() {
        return Err(Refusal::Unchanged {}.into());
    }
    organisation.suspended_by_itself = Some(suspension(&draft, reason));
    let kind = EventKind::OrganisationSuspended { by: By::Itself };
    draft.organisation_event(&mut organisation, kind)?;
    note_standing(&mut draft, &organisation)?;
    finish(draft, &organisation)
}

pub(super) fn resume<S: StateReader + ?Sized>(mut draft: Draft<'_, S>) -> Result<Outcome, Failure> {
    let mut organisation = draft.own_organisation()?;
    if organisation.suspended_by_itself.take().is_none() {
        return Err(Refusal::Unchanged {}.into());
    }
    let kind = EventKind::OrganisationResumed { by: By::Itself };
    draft.organisation_event(&mut organisation, kind)?;
    note_standing(&mut draft, &organisation)?;
    finish(draft, &organisation)
}

pub(super) fn vote<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    organisation: &str,
    suspend: bool,
    reason: &str,
) -> Result<Outcome, Failure> {
    text::reason(reason)?;
    let msp = Msp::new(organisation).map_err(|_| Refusal::OrganisationNotFound {})?;
    let voter = draft.context.caller.clone();
    if msp == voter {
        let reason = "expected another organisation than the caller's, which suspends itself alone";
        return Err(Refusal::invalid("organisation", reason).into());
    }
    let mut organisation = draft
        .organisation(&msp)?
        .ok_or(Refusal::OrganisationNotFound {})?;
    let had_voted = organisation.votes.iter().any(|vote| vote.by == voter);
    if had_voted != suspend {
        organisation.votes.retain(|vote| vote.by != voter);
        if suspend {
            organisation.votes.push(Vote {
                by: voter.clone(),
                at_ms: draft.context.timestamp_ms,
                reason: reason.to_owned(),
            });
        }
        let kind = EventKind::SuspensionVoted { voter, suspend };
        draft.organisation_event(&mut organisation, kind)?;
    }
    let by = By::Others;
    match (
        is_voted_out(&draft.consortium(), &organisation),
        organisation.suspended_by_others.is_some(),
    ) {
        (true, false) => {
            organisation.suspended_by_others = Some(suspension(&draft, reason));
            draft.organisation_event(&mut organisation, EventKind::OrganisationSuspended { by })?;
        }
        (false, true) => {
            organisation.suspended_by_others = None;
            draft.organisation_event(&mut organisation, EventKind::OrganisationResumed { by })?;
        }
        _ if had_voted == suspend => return Err(Refusal::Unchanged {}.into()),
        _ => {}
    }
    note_standing(&mut draft, &organisation)?;
    finish(draft, &organisation)
}

/// Whether more than half of the others that are not suspended themselves, and at least two, want it so. Votes of those who are
/// suspended by now do not count.
fn is_voted_out(consortium: &Consortium, organisation: &Organisation) -> bool {
    let others = consortium
        .standing
        .iter()
        .filter(|other| **other != organisation.msp);
    let counted = organisation
        .votes
        .iter()
        .filter(|vote| consortium.standing.contains(&vote.by));
    let needed = (others.count() / 2).saturating_add(1).max(limit::LEAST_VOTES);
    counted.count() >= needed
}

fn suspension<S: ?Sized>(draft: &Draft<'_, S>, reason: &str) -> Suspension {
    Suspension {
        at_ms: draft.context.timestamp_ms,
        reason: reason.to_owned(),
    }
}

/// Tells the commands to come how an organisation stands.
fn note_standing<S: StateReader + ?Sized>(
    draft: &mut Draft<'_, S>,
    organisation: &Organisation,
) -> Result<(), Failure> {
    let before = draft.consortium();
    let mut consortium = before.clone();
    if organisation.is_suspended() {
        consortium.standing.remove(&organisation.msp);
    } else {
        consortium.standing.insert(organisation.msp.clone());
    }
    if consortium != before {
        draft.put_consortium(consortium)?;
    }
    Ok(())
}

fn finish<S: StateReader + ?Sized>(
    draft: Draft<'_, S>,
    organisation: &Organisation,
) -> Result<Outcome, Failure> {
    let msp = organisation.msp.clone();
    draft.finish_organisation(organisation, CommandResult::Organisation { msp })
}

//! Who gets a dataset, and who waits: first come, first served, whatever the mode. A lease is granted only while nobody has the
//! dataset, or while all who have it share it and there is room; states decide that, never times.

use super::Failure;
use super::draft::{Draft, grown};
use super::lease::{later, time_exhausted};
use crate::event::EventKind;
use crate::key;
use crate::query;
use crate::record::{Dataset, DatasetStatus, EndCause, Grant, Lease, LeaseState, Mode, Place, Policy};
use crate::refusal::Refusal;
use crate::state::StateReader;

/// Whether a lease of this mode fits in beside those who have the dataset now.
fn fits(policy: &Policy, status: &DatasetStatus, mode: Mode) -> bool {
    match (status.mode, mode) {
        (None, _) => true,
        (Some(Mode::Shared), Mode::Shared) => {
            u32::try_from(status.holders.len()).is_ok_and(|holders| holders < policy.most_shared)
        }
        _ => false,
    }
}

/// Grants a lease that its owner has no objection to, or gives it a place in the line.
pub(super) fn place<S: StateReader + ?Sized>(
    draft: &Draft<'_, S>,
    policy: &Policy,
    status: &mut DatasetStatus,
    lease: &mut Lease,
) -> Result<EventKind, Failure> {
    if status.line.is_empty() && fits(policy, status, lease.mode) {
        return Ok(grant(draft.context.timestamp_ms, status, lease)?);
    }
    let waiting = u32::try_from(status.line.len()).unwrap_or(u32::MAX);
    if !lease.waits || policy.most_waiting == 0 {
        return Err(conflict(draft, status, lease)?.into());
    }
    if waiting >= policy.most_waiting {
        return Err(Refusal::LineFull {
            name: lease.dataset_name.to_string(),
            waiting,
        }
        .into());
    }
    lease.until_ms = later(draft.context.timestamp_ms, policy.place_seconds)?;
    lease.state = LeaseState::Waiting;
    status.line.push(Place {
        lease: lease.id.clone(),
        mode: lease.mode,
        until_ms: lease.until_ms,
    });
    Ok(EventKind::LeaseWaiting {})
}

/// The first lease in the way.
fn conflict<S: StateReader + ?Sized>(
    draft: &Draft<'_, S>,
    status: &DatasetStatus,
    lease: &Lease,
) -> Result<Refusal, Failure> {
    let in_the_way = status
        .holders
        .first()
        .or(status.line.first().map(|place| &place.lease));
    let Some(id) = in_the_way else {
        // Only a policy that has no room at all; its check came first.
        return Ok(Refusal::ModeNotAllowed {
            name: lease.dataset_name.to_string(),
        });
    };
    let held: Lease = query::required(draft.state, &key::lease(id))?;
    Ok(Refusal::LeaseConflict {
        name: lease.dataset_name.to_string(),
        lease_state: held.state,
        expires_at_ms: held.due_at_ms(),
    })
}

fn grant(now_ms: i64, status: &mut DatasetStatus, lease: &mut Lease) -> Result<EventKind, Refusal> {
    status.fencing_token = grown(status.fencing_token, "the dataset's fencing token")?;
    status.holders.push(lease.id.clone());
    status.mode = Some(lease.mode);
    lease.state = LeaseState::Active;
    lease.grant = Some(Grant {
        fencing_token: status.fencing_token,
        at_ms: now_ms,
        expires_at_ms: later(now_ms, lease.ttl_seconds)?,
        renewals: 0,
    });
    Ok(EventKind::LeaseGranted {})
}

/// Takes a lease from among those who have the dataset.
pub(super) fn leave(status: &mut DatasetStatus, lease: &Lease) {
    status.holders.retain(|holder| *holder != lease.id);
    if status.holders.is_empty() {
        status.mode = None;
    }
}

/// Lets those in who waited first. Places whose time is over by more than clocks may differ are taken from the line, and so is one
/// whose turn comes while its organisation, or the owner, is suspended: nobody stands in the way of those behind.
pub(super) fn advance<S: StateReader + ?Sized>(
    draft: &mut Draft<'_, S>,
    dataset: &Dataset,
    status: &mut DatasetStatus,
) -> Result<(), Failure> {
    let now_ms = draft.context.timestamp_ms;
    while let Some(first) = status.line.first().cloned() {
        let lapses_at_ms = first
            .until_ms
            .checked_add(draft.contract.end_margin_ms)
            .ok_or_else(time_exhausted)?;
        let lapsed = lapses_at_ms <= now_ms;
        if !lapsed && !fits(&dataset.policy, status, first.mode) {
            break;
        }
        status.line.remove(0);
        let before: Lease = query::required(draft.state, &key::lease(&first.lease))?;
        let mut lease = before.clone();
        let kind = if lapsed {
            super::end::close(draft.context, &mut lease, EndCause::Lapsed, None)
        } else if draft.stands(&dataset.owner) && draft.stands(&lease.cluster_msp) {
            grant(now_ms, status, &mut lease)?
        } else {
            super::end::close(draft.context, &mut lease, EndCause::Suspended, None)
        };
        draft.lease_event(status, Some(&before), &lease, kind)?;
    }
    Ok(())
}

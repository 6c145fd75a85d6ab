//! Every way in which a lease ends: its holder's, its owner's, time's. One that was mounted is taken down by its cluster first;
//! only when that is confirmed the next one is granted, whatever the clocks say.

use super::draft::Draft;
use super::lease::{of_holder, require_cluster, require_requested, time_exhausted};
use super::{Failure, Outcome, TxContext, line, text};
use crate::event::EventKind;
use crate::key;
use crate::limit;
use crate::query;
use crate::record::{Dataset, DatasetStatus, End, EndCause, Lease, LeaseState};
use crate::refusal::Refusal;
use crate::state::{self, StateReader};

pub(super) fn release<S: StateReader + ?Sized>(
    draft: Draft<'_, S>,
    lease: &str,
    subject: &str,
) -> Result<Outcome, Failure> {
    let lease = of_holder(&draft, lease, subject)?;
    end(draft, lease, EndCause::Released, None)
}

pub(super) fn revoke<S: StateReader + ?Sized>(
    draft: Draft<'_, S>,
    lease: &str,
    reason: &str,
) -> Result<Outcome, Failure> {
    text::reason(reason)?;
    let (lease, ..) = draft.lease_on_own(lease)?;
    end(draft, lease, EndCause::Revoked, Some(reason))
}

pub(super) fn deny<S: StateReader + ?Sized>(
    draft: Draft<'_, S>,
    lease: &str,
    reason: &str,
) -> Result<Outcome, Failure> {
    text::reason(reason)?;
    let (lease, ..) = draft.lease_on_own(lease)?;
    require_requested(&lease)?;
    end(draft, lease, EndCause::Denied, Some(reason))
}

pub(super) fn expire<S: StateReader + ?Sized>(draft: Draft<'_, S>, lease: &str) -> Result<Outcome, Failure> {
    let lease = draft.lease(lease)?;
    require_open(&lease)?;
    let from_ms = lease
        .due_at_ms()
        .checked_add(draft.contract.end_margin_ms)
        .ok_or_else(time_exhausted)?;
    if draft.context.timestamp_ms < from_ms {
        return Err(Refusal::NotExpired {
            from_ms,
            now_ms: draft.context.timestamp_ms,
        }
        .into());
    }
    let cause = match lease.state {
        LeaseState::Active => EndCause::Expired,
        _ => EndCause::Lapsed,
    };
    end(draft, lease, cause, None)
}

pub(super) fn confirm<S: StateReader + ?Sized>(draft: Draft<'_, S>, lease: &str) -> Result<Outcome, Failure> {
    let lease = draft.lease(lease)?;
    require_cluster(&draft, &lease)?;
    let (dataset, status) = draft.of_lease(&lease.dataset)?;
    ended(draft, lease, &dataset, status)
}

/// The owner's end record, for a cluster that is no more: it has had its time.
pub(super) fn declare<S: StateReader + ?Sized>(
    draft: Draft<'_, S>,
    lease: &str,
    reason: &str,
) -> Result<Outcome, Failure> {
    text::reason(reason)?;
    let (mut lease, dataset, status) = draft.lease_on_own(lease)?;
    if let Some(end) = lease.end.as_mut().filter(|_| lease.state == LeaseState::Ending) {
        let from_ms = end
            .at_ms
            .checked_add(limit::CONFIRMATION_MS)
            .and_then(|at_ms| at_ms.checked_add(draft.contract.end_margin_ms))
            .ok_or_else(time_exhausted)?;
        if draft.context.timestamp_ms < from_ms {
            return Err(Refusal::TooEarlyToDeclare {
                from_ms,
                now_ms: draft.context.timestamp_ms,
            }
            .into());
        }
        end.reason = Some(reason.to_owned());
    }
    ended(draft, lease, &dataset, status)
}

fn require_open(lease: &Lease) -> Result<(), Refusal> {
    match lease.state {
        LeaseState::Requested | LeaseState::Waiting | LeaseState::Active => Ok(()),
        lease_state @ (LeaseState::Ending | LeaseState::Ended) => {
            Err(Refusal::LeaseNotActive { lease_state })
        }
    }
}

/// Ends one lease, and lets others in where that made room.
fn end<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    before: Lease,
    cause: EndCause,
    reason: Option<&str>,
) -> Result<Outcome, Failure> {
    require_open(&before)?;
    let (dataset, mut status) = draft.of_lease(&before.dataset)?;
    let mut lease = before.clone();
    let kind = close(draft.context, &mut lease, cause, reason);
    status.line.retain(|place| place.lease != lease.id);
    draft.lease_event(&mut status, Some(&before), &lease, kind)?;
    // Whoever stood behind an exclusive lease that no longer waits may share with those who have it.
    line::advance(&mut draft, &dataset, &mut status)?;
    draft.finish_lease(&status, &lease)
}

/// Marks a lease as ending, or as ended if there is nothing of it to take down. Its owner's reason stays with it.
pub(super) fn close(
    context: &TxContext,
    lease: &mut Lease,
    cause: EndCause,
    reason: Option<&str>,
) -> EventKind {
    let was_active = lease.state == LeaseState::Active;
    lease.end = Some(End {
        cause,
        reason: reason.map(str::to_owned),
        at_ms: context.timestamp_ms,
        by: context.caller.clone(),
        confirmed_at_ms: (!was_active).then_some(context.timestamp_ms),
    });
    if was_active {
        lease.state = LeaseState::Ending;
        EventKind::LeaseEnding { cause }
    } else {
        lease.state = LeaseState::Ended;
        EventKind::LeaseEnded { cause }
    }
}

/// Nothing is left of a lease: the next ones come in.
fn ended<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    before: Lease,
    dataset: &Dataset,
    mut status: DatasetStatus,
) -> Result<Outcome, Failure> {
    if before.state != LeaseState::Ending {
        return Err(Refusal::LeaseNotEnding {
            lease_state: before.state,
        }
        .into());
    }
    if !status.holders.contains(&before.id) {
        let reason = format!("it does not name the ending lease {}", before.id);
        return Err(state::damaged(&key::dataset_status(&before.dataset), reason).into());
    }
    let mut lease = before.clone();
    lease.state = LeaseState::Ended;
    let Some(end) = &mut lease.end else {
        return Err(state::damaged(&key::lease(&lease.id), "an ending lease has no cause").into());
    };
    end.confirmed_at_ms = Some(draft.context.timestamp_ms);
    let cause = end.cause;
    line::leave(&mut status, &lease);
    draft.lease_event(
        &mut status,
        Some(&before),
        &lease,
        EventKind::LeaseEnded { cause },
    )?;
    line::advance(&mut draft, dataset, &mut status)?;
    draft.finish_lease(&status, &lease)
}

/// Ends what is left of a dataset that its owner has retired: those who have it, and those who wait.
pub(super) fn all_of_retired<S: StateReader + ?Sized>(
    draft: &mut Draft<'_, S>,
    status: &mut DatasetStatus,
) -> Result<(), Failure> {
    let waiting = std::mem::take(&mut status.line)
        .into_iter()
        .map(|place| place.lease);
    let leases: Vec<_> = status.holders.iter().cloned().chain(waiting).collect();
    for id in leases {
        let before: Lease = query::required(draft.state, &key::lease(&id))?;
        if before.state == LeaseState::Ending {
            continue;
        }
        let mut lease = before.clone();
        let kind = close(draft.context, &mut lease, EndCause::Retired, None);
        draft.lease_event(status, Some(&before), &lease, kind)?;
    }
    Ok(())
}

//! The life of a lease: granted to one person alone, ended by its holder or by time, over once its cluster says that nothing is
//! left. Only then is the next one granted, whatever the clocks say.

use super::dataset::bounded;
use super::draft::Draft;
use super::{Failure, Outcome};
use crate::command::MountReport;
use crate::event::EventKind;
use crate::id::{LeaseId, Subject};
use crate::record::{End, EndCause, Finding, Lease, LeaseState, Mount};
use crate::refusal::Refusal;
use crate::state::{self, StateReader};
use crate::{key, limit, query};

pub(super) fn grant<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    dataset: &str,
    subject: &str,
    ttl_seconds: Option<u64>,
) -> Result<Outcome, Failure> {
    let subject = Subject::new(subject)
        .map_err(|error| Refusal::invalid("subject", format!("expected {}", error.expected)))?;
    let (dataset, mut status) = draft.dataset(dataset)?;
    let ttl_seconds = ttl_seconds.unwrap_or(dataset.max_ttl_seconds);
    if !(limit::MIN_TTL_SECONDS..=dataset.max_ttl_seconds).contains(&ttl_seconds) {
        let reason = format!(
            "expected {} to {} seconds",
            limit::MIN_TTL_SECONDS,
            dataset.max_ttl_seconds
        );
        return Err(Refusal::invalid("ttl_seconds", reason).into());
    }
    if let Some(held) = &status.lease {
        let held: Lease = query::required(draft.state, &key::lease(held))?;
        return Err(Refusal::LeaseConflict {
            name: dataset.name.into(),
            lease_state: held.state,
            expires_at_ms: held.expires_at_ms,
        }
        .into());
    }
    let id = LeaseId::derive(&draft.context.tx_id);
    if draft.state.get(&key::lease(&id))?.is_some() {
        return Err(Refusal::TransactionReused {
            tx_id: draft.context.tx_id.to_string(),
        }
        .into());
    }
    let fencing_token = status
        .fencing_token
        .checked_add(1)
        .ok_or_else(|| Refusal::Exhausted {
            counter: "the dataset's fencing token".to_owned(),
        })?;
    let lease = Lease {
        id,
        dataset: dataset.id,
        dataset_name: dataset.name,
        owner: dataset.owner,
        subject,
        cluster_msp: draft.context.caller.clone(),
        fencing_token,
        granted_at_ms: draft.context.timestamp_ms,
        expires_at_ms: expiry(draft.context.timestamp_ms, ttl_seconds)?,
        max_ttl_seconds: dataset.max_ttl_seconds,
        state: LeaseState::Active,
        end: None,
        mount: Mount::Pending {},
    };
    draft.put_lease(None, &lease)?;
    status.fencing_token = fencing_token;
    status.lease = Some(lease.id.clone());
    draft.finish_lease(status, lease, EventKind::LeaseGranted {})
}

/// Another's lease and a lease that never was are refused alike: pseudonyms are public, so the caller must match as well.
pub(super) fn release<S: StateReader + ?Sized>(
    draft: Draft<'_, S>,
    lease: &str,
    subject: &str,
) -> Result<Outcome, Failure> {
    let lease = draft.lease(lease)?;
    if lease.subject.as_str() != subject || lease.cluster_msp != draft.context.caller {
        return Err(Refusal::LeaseNotFound {}.into());
    }
    end(draft, lease, EndCause::Released)
}

pub(super) fn expire<S: StateReader + ?Sized>(
    draft: Draft<'_, S>,
    lease: &str,
    end_margin_ms: i64,
) -> Result<Outcome, Failure> {
    let lease = draft.lease(lease)?;
    require_active(&lease)?;
    let from_ms = lease
        .expires_at_ms
        .checked_add(end_margin_ms)
        .ok_or_else(time_exhausted)?;
    if draft.context.timestamp_ms < from_ms {
        return Err(Refusal::NotExpired {
            from_ms,
            now_ms: draft.context.timestamp_ms,
        }
        .into());
    }
    end(draft, lease, EndCause::Expired)
}

fn end<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    before: Lease,
    cause: EndCause,
) -> Result<Outcome, Failure> {
    require_active(&before)?;
    let status = draft.status(&before.dataset)?;
    let mut lease = before.clone();
    lease.state = LeaseState::Ending;
    lease.end = Some(End {
        cause,
        at_ms: draft.context.timestamp_ms,
        by: draft.context.caller.clone(),
        confirmed_at_ms: None,
    });
    draft.put_lease(Some(&before), &lease)?;
    draft.finish_lease(status, lease, EventKind::LeaseEnding { cause })
}

pub(super) fn confirm_end<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    lease: &str,
) -> Result<Outcome, Failure> {
    let before = draft.lease(lease)?;
    require_cluster(&draft, &before)?;
    if before.state != LeaseState::Ending {
        return Err(Refusal::LeaseNotEnding {
            lease_state: before.state,
        }
        .into());
    }
    let mut status = draft.status(&before.dataset)?;
    if status.lease.as_ref() != Some(&before.id) {
        let reason = format!("it does not name the ending lease {}", before.id);
        return Err(state::damaged(&key::dataset_status(&before.dataset), reason).into());
    }
    let mut lease = before.clone();
    lease.state = LeaseState::Ended;
    match &mut lease.end {
        Some(end) => end.confirmed_at_ms = Some(draft.context.timestamp_ms),
        None => return Err(state::damaged(&key::lease(&lease.id), "an ending lease has no cause").into()),
    }
    draft.put_lease(Some(&before), &lease)?;
    status.lease = None;
    draft.finish_lease(status, lease, EventKind::LeaseEnded {})
}

pub(super) fn report_mount<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    lease: &str,
    report: &MountReport,
) -> Result<Outcome, Failure> {
    let (mount, finding, kind) = match report {
        MountReport::Ready {} => (Mount::Ready {}, None, EventKind::MountReady {}),
        MountReport::Failed { finding } => {
            check_finding(finding)?;
            let kind = EventKind::MountFailed {
                code: finding.code.clone(),
            };
            (
                Mount::Failed {
                    finding: finding.clone(),
                },
                Some(finding.clone()),
                kind,
            )
        }
    };
    let before = draft.lease(lease)?;
    require_cluster(&draft, &before)?;
    require_active(&before)?;
    if before.mount == mount {
        return Err(Refusal::MountUnchanged {}.into());
    }
    let mut status = draft.status(&before.dataset)?;
    let mut lease = before.clone();
    lease.mount = mount;
    draft.put_lease(Some(&before), &lease)?;
    status.finding = finding;
    draft.finish_lease(status, lease, kind)
}

fn require_active(lease: &Lease) -> Result<(), Refusal> {
    match lease.state {
        LeaseState::Active => Ok(()),
        lease_state => Err(Refusal::LeaseNotActive { lease_state }),
    }
}

fn require_cluster<S: ?Sized>(draft: &Draft<'_, S>, lease: &Lease) -> Result<(), Refusal> {
    if lease.cluster_msp == draft.context.caller {
        return Ok(());
    }
    Err(Refusal::NotCluster {
        cluster_msp: lease.cluster_msp.to_string(),
    })
}

fn check_finding(finding: &Finding) -> Result<(), Refusal> {
    let code = finding.code.as_bytes();
    let is_code = !code.is_empty()
        && code.len() <= limit::FINDING_CODE_CHARS
        && code
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_');
    if !is_code {
        let reason = "expected 1 to 64 lower-case letters, digits or underscores";
        return Err(Refusal::invalid("finding.code", reason));
    }
    bounded("finding.message", &finding.message, limit::FINDING_MESSAGE_CHARS)?;
    if finding.message.chars().any(char::is_control) {
        return Err(Refusal::invalid(
            "finding.message",
            "expected one line without control characters",
        ));
    }
    Ok(())
}

fn expiry(from_ms: i64, ttl_seconds: u64) -> Result<i64, Refusal> {
    i64::try_from(ttl_seconds)
        .ok()
        .and_then(|seconds| seconds.checked_mul(1_000))
        .and_then(|millis| from_ms.checked_add(millis))
        .ok_or_else(time_exhausted)
}

fn time_exhausted() -> Refusal {
    Refusal::Exhausted {
        counter: "the ledger's time".to_owned(),
    }
}

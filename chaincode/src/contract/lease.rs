//! Asking for a lease, the owner's approval, renewal, and what the node says of the volume.

use super::draft::Draft;
use super::{Failure, Outcome, cluster, line, text};
use crate::command::MountReport;
use crate::event::EventKind;
use crate::id::{DatasetId, Msp, Subject};
use crate::record::{Admission, Dataset, Lease, LeaseState, Mode, Mount, Policy};
use crate::refusal::Refusal;
use crate::state::StateReader;
use crate::{key, limit};

/// A lease as it was asked for.
pub(super) struct Asking<'a> {
    pub(super) dataset: &'a str,
    pub(super) subject: &'a str,
    pub(super) mode: Option<Mode>,
    pub(super) ttl_seconds: Option<u64>,
    pub(super) groups: &'a [String],
    pub(super) wait: bool,
    pub(super) cluster: Option<&'a str>,
}

impl Asking<'_> {
    pub(super) fn ask<S: StateReader + ?Sized>(self, mut draft: Draft<'_, S>) -> Result<Outcome, Failure> {
        let subject = subject(self.subject)?;
        text::groups(self.groups)?;
        let caller = &draft.context.caller;
        let holder = |dataset: &DatasetId| held_by(dataset, caller, &subject);
        let (dataset, mut status) = draft.dataset_and(self.dataset, |dataset| holder(dataset).to_vec())?;
        let places = holder(&dataset.id);
        draft.require_stands(&dataset.owner)?;
        let policy = &dataset.policy;
        let mode = self.mode.unwrap_or(if policy.exclusive {
            Mode::Exclusive
        } else {
            Mode::Shared
        });
        let ttl_seconds = ttl(policy, self.ttl_seconds)?;
        self.check_terms(&draft, &dataset, mode)?;
        let cluster = cluster::serving(&draft, self.cluster)?;
        let id = draft.lease_id();
        if draft.state.get(&key::lease(&id))?.is_some() {
            return Err(draft.transaction_reused().into());
        }
        let approved = !policy.approve_leases || draft.context.caller == dataset.owner;
        let now_ms = draft.context.timestamp_ms;
        let mut lease = Lease {
            id,
            number: super::draft::grown(status.asked, "the dataset's number of leases")?,
            dataset: dataset.id.clone(),
            dataset_name: dataset.name.clone(),
            owner: dataset.owner.clone(),
            subject,
            cluster_msp: draft.context.caller.clone(),
            cluster,
            mode,
            ttl_seconds,
            max_ttl_seconds: policy.max_ttl_seconds,
            asked_at_ms: now_ms,
            until_ms: later(now_ms, policy.place_seconds)?,
            waits: self.wait,
            grant: None,
            state: LeaseState::Requested,
            end: None,
            mount: Mount::Pending {},
        };
        let kind = if approved {
            line::place(&draft, policy, &mut status, &mut lease)?
        } else {
            EventKind::LeaseRequested {}
        };
        if let Some(held) = draft.state.get_many(&places)?.into_iter().flatten().next() {
            let held = draft.lease(&String::from_utf8_lossy(&held))?;
            return Err(Refusal::AlreadyLeased {
                lease: held.id.into(),
                lease_state: held.state,
            }
            .into());
        }
        status.asked = lease.number;
        draft.lease_event(&mut status, None, &lease, kind)?;
        draft.finish_lease(&status, &lease)
    }

    fn check_terms<S: ?Sized>(
        &self,
        draft: &Draft<'_, S>,
        dataset: &Dataset,
        mode: Mode,
    ) -> Result<(), Refusal> {
        let policy = &dataset.policy;
        let msp = &draft.context.caller;
        if let Admission::Only(organisations) = &policy.organisations
            && *msp != dataset.owner
            && !organisations.contains(msp)
        {
            return Err(Refusal::OrganisationNotAdmitted { msp: msp.to_string() });
        }
        if !policy.groups.is_empty() && !policy.groups.iter().any(|group| self.groups.contains(group)) {
            return Err(Refusal::GroupNotAdmitted {});
        }
        if !policy.allows(mode) {
            return Err(Refusal::ModeNotAllowed {
                name: dataset.name.to_string(),
            });
        }
        Ok(())
    }
}

/// Where a person's lease of a dataset is found, if they have one.
pub(super) fn held_by(dataset: &DatasetId, msp: &Msp, subject: &Subject) -> [String; 2] {
    [
        key::lease_of_holder(dataset, msp, subject),
        key::lease_of_holder_before(dataset, subject),
    ]
}

pub(super) fn approve<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    lease: &str,
) -> Result<Outcome, Failure> {
    let (before, dataset, mut status) = draft.lease_on_own(lease)?;
    require_requested(&before)?;
    if dataset.retired_at_ms.is_some() {
        return Err(Refusal::DatasetNotFound {}.into());
    }
    draft.require_stands(&before.cluster_msp)?;
    let mut lease = before.clone();
    let kind = line::place(&draft, &dataset.policy, &mut status, &mut lease)?;
    draft.lease_event(&mut status, Some(&before), &lease, kind)?;
    draft.finish_lease(&status, &lease)
}

pub(super) fn require_requested(lease: &Lease) -> Result<(), Refusal> {
    if lease.state == LeaseState::Requested {
        return Ok(());
    }
    Err(Refusal::LeaseNotRequested {
        lease_state: lease.state,
    })
}

/// Lasts so long from now on. Where somebody waits, nobody stays longer.
pub(super) fn renew<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    lease: &str,
    subject: &str,
    ttl_seconds: Option<u64>,
) -> Result<Outcome, Failure> {
    let before = of_holder(&draft, lease, subject)?;
    let (dataset, mut status) = draft.of_lease(&before.dataset)?;
    draft.require_stands(&dataset.owner)?;
    let now_ms = draft.context.timestamp_ms;
    let mut lease = before.clone();
    let Some(grant) = lease
        .grant
        .as_mut()
        .filter(|_| before.state == LeaseState::Active)
    else {
        return Err(Refusal::LeaseNotActive {
            lease_state: before.state,
        }
        .into());
    };
    if grant.expires_at_ms <= now_ms {
        return Err(Refusal::LeaseExpired {
            expires_at_ms: grant.expires_at_ms,
        }
        .into());
    }
    if !status.line.is_empty() {
        return Err(Refusal::RenewalWaitedFor {
            name: dataset.name.into(),
            expires_at_ms: grant.expires_at_ms,
        }
        .into());
    }
    let expires_at_ms = later(now_ms, ttl(&dataset.policy, ttl_seconds)?)?;
    if expires_at_ms <= grant.expires_at_ms {
        let reason = "expected more seconds than the lease lasts anyway";
        return Err(Refusal::invalid("ttl_seconds", reason).into());
    }
    grant.expires_at_ms = expires_at_ms;
    grant.renewals = grant.renewals.saturating_add(1);
    let kind = EventKind::LeaseRenewed { expires_at_ms };
    draft.lease_event(&mut status, Some(&before), &lease, kind)?;
    draft.finish_lease(&status, &lease)
}

pub(super) fn report_mount<S: StateReader + ?Sized>(
    mut draft: Draft<'_, S>,
    lease: &str,
    report: &MountReport,
) -> Result<Outcome, Failure> {
    let (mount, finding, kind) = match report {
        MountReport::Ready {} => (Mount::Ready {}, None, EventKind::MountReady {}),
        MountReport::Failed { finding } => {
            text::finding(finding)?;
            let kind = EventKind::MountFailed {
                code: finding.code.clone(),
            };
            let mount = Mount::Failed {
                finding: finding.clone(),
            };
            (mount, Some(finding.clone()), kind)
        }
    };
    let before = draft.lease(lease)?;
    require_cluster(&draft, &before)?;
    if before.state != LeaseState::Active {
        return Err(Refusal::LeaseNotActive {
            lease_state: before.state,
        }
        .into());
    }
    if before.mount == mount {
        return Err(Refusal::MountUnchanged {}.into());
    }
    let (_, mut status) = draft.of_lease(&before.dataset)?;
    let mut lease = before.clone();
    lease.mount = mount;
    status.finding = finding;
    draft.lease_event(&mut status, Some(&before), &lease, kind)?;
    draft.finish_lease(&status, &lease)
}

/// Another's lease and a lease that never was are refused alike: pseudonyms are public, so the caller must match as well.
pub(super) fn of_holder<S: StateReader + ?Sized>(
    draft: &Draft<'_, S>,
    lease: &str,
    subject: &str,
) -> Result<Lease, Failure> {
    let lease = draft.lease(lease)?;
    if lease.subject.as_str() != subject || lease.cluster_msp != draft.context.caller {
        return Err(Refusal::LeaseNotFound {}.into());
    }
    Ok(lease)
}

pub(super) fn require_cluster<S: ?Sized>(draft: &Draft<'_, S>, lease: &Lease) -> Result<(), Refusal> {
    if lease.cluster_msp == draft.context.caller {
        return Ok(());
    }
    Err(Refusal::NotCluster {
        cluster_msp: lease.cluster_msp.to_string(),
    })
}

pub(super) fn subject(text: &str) -> Result<Subject, Refusal> {
    Subject::new(text).map_err(|error| Refusal::invalid("subject", format!("expected {}", error.expected)))
}

fn ttl(policy: &Policy, asked: Option<u64>) -> Result<u64, Refusal> {
    let seconds = asked.unwrap_or(policy.max_ttl_seconds);
    if (limit::MIN_TTL_SECONDS..=policy.max_ttl_seconds).contains(&seconds) {
        return Ok(seconds);
    }
    let reason = format!(
        "expected {} to {} seconds",
        limit::MIN_TTL_SECONDS,
        policy.max_ttl_seconds
    );
    Err(Refusal::invalid("ttl_seconds", reason))
}

/// So many seconds after a time.
pub(super) fn later(from_ms: i64, seconds: u64) -> Result<i64, Refusal> {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| seconds.checked_mul(1_000))
        .and_then(|millis| from_ms.checked_add(millis))
        .ok_or_else(time_exhausted)
}

pub(super) fn time_exhausted() -> Refusal {
    Refusal::Exhausted {
        counter: "the ledger's time".to_owned(),
    }
}

//! The loop of the leader: observes, plans for every lease, lets steps run side by side, a few at a time. A lease that fails is
//! tried again after a jittered and growing while and holds no other up.

mod memory;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::act::{ActError, Executor, Outcome};
use super::health::Health;
use super::observe::Stores;
use super::plan::{Action, Home, Now, Observed, Standing, plan};
use crate::leases::{Lease, LeaseId, LeaseIndex, LeaseState, Mount};
use memory::{Finished, Memory, ProbeMemory};

/// An older view of leases decides nothing new.
const FRESH: Duration = Duration::from_secs(2);
/// What carries the label of a lease that a young view does not hold for this long is an orphan.
const ORPHAN_AFTER: Duration = Duration::from_secs(3);
/// Even without an event everything is looked at again: leases expire silently.
const TICK: Duration = Duration::from_secs(1);
/// Events come in bursts.
const BURST: Duration = Duration::from_millis(50);
/// Leases whose steps run at a time, and once more as many that are over.
const AT_A_TIME: usize = 16;
/// A step that takes longer has failed.
const STEP_DEADLINE: Duration = Duration::from_secs(20);
/// How long what runs may go on after the word to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Reconciles until `stop`, then lets what runs finish.
pub(super) async fn reconcile(
    executor: &Executor,
    index: &Arc<LeaseIndex>,
    stores: &Stores,
    wake: &Notify,
    health: &Health,
    stop: CancellationToken,
) {
    stores.wait_until_ready().await;
    let probes = Arc::new(Mutex::new(ProbeMemory::default()));
    let mut memory = Memory::default();
    let mut changes = index.changes();
    let mut tasks: JoinSet<Finished> = JoinSet::new();
    loop {
        pass(executor, index, stores, &probes, &mut memory, &mut tasks, health);
        tokio::select! {
            () = stop.cancelled() => break,
            () = wake.notified() => {}
            _ = changes.changed() => {}
            () = tokio::time::sleep(until_next(index, &memory)) => {}
            Some(ended) = tasks.join_next_with_id() => memory.settle(ended, health),
        }
        tokio::time::sleep(BURST).await;
        while let Some(ended) = tasks.try_join_next_with_id() {
            memory.settle(ended, health);
        }
    }
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("some steps did not end in time; the next leader takes them again");
    }
}

fn pass(
    executor: &Executor,
    index: &LeaseIndex,
    stores: &Stores,
    probes: &Arc<Mutex<ProbeMemory>>,
    memory: &mut Memory,
    tasks: &mut JoinSet<Finished>,
    health: &Health,
) {
    let at = Instant::now();
    let Some(broker_ms) = index.broker_now_ms(at) else {
        return;
    };
    let now = Now {
        broker_ms,
        fresh: index.age(at) <= FRESH,
    };

    let mut observed = {
        let mut probes = probes.lock().unwrap_or_else(PoisonError::into_inner);
        let observed = stores.observe(&mut *probes);
        probes.forget_gone();
        observed
    };
    let enforced = stores.enforced();
    let mut namespaces: BTreeMap<Box<str>, Vec<Box<str>>> = BTreeMap::new();
    for binding in index.bindings() {
        namespaces
            .entry(binding.subject.clone())
            .or_default()
            .push(binding.notebook.namespace.clone());
    }
    let mut leases = index.leases();
    // Ends come before beginnings where not all can run at a time.
    leases.sort_unstable_by_key(|lease| (lease.is_active(now.broker_ms), lease.expires_at_ms));
    health.sees(leases.len(), observed.len());
    let nothing = Observed::default();

    let known: HashSet<LeaseId> = leases.iter().map(|lease| lease.id).collect();
    memory.forget(|id| known.contains(&id), |id| observed.contains_key(&id), at);

    for lease in &leases {
        let seen = observed.get(&lease.id).unwrap_or(&nothing);
        let candidates = namespaces.get(&lease.subject).map_or(&[][..], Vec::as_slice);
        let home = home(candidates, seen, |namespace| enforced.contains(namespace));
        let actions = plan(Standing::Known { lease, home }, seen, now);
        let over = lease.state == LeaseState::Ending || !lease.is_active(now.broker_ms);
        start(
            executor,
            probes,
            memory,
            tasks,
            lease.id,
            Some(Arc::clone(lease)),
            over,
            actions,
            seen,
        );
    }
    observed.retain(|id, _| !known.contains(id));
    for (id, seen) in &observed {
        let certain = now.fresh && memory.unknown_for(*id, at) >= ORPHAN_AFTER;
        let standing = if certain {
            Standing::Unknown
        } else {
            Standing::Unsure
        };
        let actions = plan(standing, seen, now);
        start(executor, probes, memory, tasks, *id, None, true, actions, seen);
    }
}

/// Time to the next moment at which something changes by itself: a lease runs out, a pause ends; or a tick.
fn until_next(index: &LeaseIndex, memory: &Memory) -> Duration {
    let now = Instant::now();
    let broker_ms = index.broker_now_ms(now).unwrap_or_default();
    let expiry = index
        .leases()
        .iter()
        .filter(|lease| lease.is_active(broker_ms))
        .filter_map(|lease| u64::try_from(lease.expires_at_ms.saturating_sub(broker_ms)).ok())
        .min()
        .map(Duration::from_millis);
    let pause = memory.next_start(now).map(|until| until - now);
    expiry.into_iter().chain(pause).fold(TICK, Duration::min)
}

/// Where the claim belongs: where it is, if its holder still has that namespace, else the first of theirs that is enforced.
fn home<'a>(candidates: &'a [Box<str>], seen: &Observed, enforced: impl Fn(&str) -> bool) -> Home<'a> {
    let has_claim = |namespace: &str| seen.claims.iter().any(|claim| claim.namespace == namespace);
    let mut allowed: Vec<&str> = candidates
        .iter()
        .map(|n| &**n)
        .filter(|namespace| enforced(namespace))
        .collect();
    allowed.sort_unstable();
    if let Some(stays) = allowed.iter().find(|namespace| has_claim(namespace)) {
        return Home::Namespace(stays);
    }
    if let Some(first) = allowed.first() {
        return Home::Namespace(first);
    }
    let exposed = seen.claims.iter().any(|claim| !enforced(&claim.namespace));
    if candidates.is_empty() && !exposed {
        Home::Unbound
    } else {
        Home::Unenforced
    }
}

#[allow(clippy::too_many_arguments)]
fn start(
    executor: &Executor,
    probes: &Arc<Mutex<ProbeMemory>>,
    memory: &mut Memory,
    tasks: &mut JoinSet<Finished>,
    id: LeaseId,
    lease: Option<Arc<Lease>>,
    over: bool,
    actions: Vec<Action>,
    seen: &Observed,
) {
    if actions.is_empty() || !memory.may_start(id, over) {
        return;
    }
    // Beginnings may wait for a broker that does not answer; ends have places of their own.
    let places = if over { 2 * AT_A_TIME } else { AT_A_TIME };
    if tasks.len() >= places {
        return;
    }
    let probe_uid = seen
        .probe
        .as_ref()
        .map(|probe| probe.object.uid.clone())
        .unwrap_or_default();
    let executor = executor.clone();
    let probes = Arc::clone(probes);
    let handle = tasks.spawn(async move {
        let result = take_all(&executor, &probes, id, lease.as_deref(), &actions, &probe_uid).await;
        Finished {
            over,
            waits_for_pods: actions
                .iter()
                .any(|action| matches!(action, Action::EndPods { .. })),
            unmountable: lease.is_some_and(|lease| matches!(lease.mount, Mount::Failed(_))),
            result,
        }
    });
    memory.started(id, over, handle);
}

async fn take_all(
    executor: &Executor,
    probes: &Mutex<ProbeMemory>,
    id: LeaseId,
    lease: Option<&Lease>,
    actions: &[Action],
    probe_uid: &str,
) -> Result<Outcome, ActError> {
    let mut last = Outcome::Done;
    for action in actions {
        tracing::debug!(lease = %id, ?action, "next step");
        let skeleton = match action {
            Action::ReportReady => probes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .skeleton(probe_uid),
            _ => Vec::new(),
        };
        let step = executor.take(id, lease, action, &skeleton);
        match tokio::time::timeout(STEP_DEADLINE, step)
            .await
            .map_err(|_| ActError::TooSlow)??
        {
            Outcome::Read(output) => {
                let mut probes = probes.lock().unwrap_or_else(PoisonError::into_inner);
                probes.remember(probe_uid, output);
            }
            Outcome::LookAgainLater => return Ok(Outcome::LookAgainLater),
            Outcome::Done => last = Outcome::Done,
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Claim, Object};
    use super::*;

    fn with_claim(namespace: &str) -> Observed {
        let object = Object {
            uid: "u".into(),
            deleting: false,
        };
        Observed {
            claims: vec![Claim {
                namespace: namespace.into(),
                object,
                bound: true,
            }],
            ..Observed::default()
        }
    }

    #[test]
    fn a_claim_stays_where_it_is_and_goes_only_where_pods_are_enforced() {
        let enforced = |namespace: &str| namespace.starts_with("users");
        let both: [Box<str>; 2] = ["users-b".into(), "users-a".into()];
        let nothing = Observed::default();
        assert_eq!(home(&both, &nothing, enforced), Home::Namespace("users-a"));
        assert_eq!(
            home(&both, &with_claim("users-b"), enforced),
            Home::Namespace("users-b")
        );
        assert_eq!(
            home(&both, &with_claim("users-z"), enforced),
            Home::Namespace("users-a")
        );
        assert_eq!(home(&["open".into()], &nothing, enforced), Home::Unenforced);
        assert_eq!(home(&[], &with_claim("users-a"), enforced), Home::Unbound);
        assert_eq!(home(&[], &with_claim("open"), enforced), Home::Unenforced);
    }
}

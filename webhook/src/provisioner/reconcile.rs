//! The loop of the leader: observes, plans for every lease, lets steps run side by side, a few at a time. A lease that fails is
//! tried again after a jittered and growing while and holds no other up.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::act::{ActError, Executor, Outcome};
use super::health::Health;
use super::observe::{Probes, Stores};
use super::plan::{Action, Home, Now, Observed, Progress, Standing, plan};
use crate::leases::{Lease, LeaseId, LeaseIndex, LeaseState, Mount};
use crate::probe::Finding;

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

/// What is remembered between passes; all of it can be lost.
#[derive(Default)]
struct Memory {
    /// Leases with steps that run.
    busy: HashSet<LeaseId>,
    tasks: HashMap<Id, LeaseId>,
    /// When a lease may be looked at again, after how many failures, and whether it was over by then.
    pauses: HashMap<LeaseId, Pause>,
    unknown_since: HashMap<LeaseId, Instant>,
}

struct Pause {
    until: Instant,
    failures: u32,
    over: bool,
}

type ProbeOutput = Result<Vec<String>, Finding>;

/// What probes printed, and since when they run, by uid of their pod.
#[derive(Default)]
struct ProbeMemory {
    since: HashMap<String, Instant>,
    outputs: HashMap<String, ProbeOutput>,
    seen: HashSet<String>,
}

impl Probes for ProbeMemory {
    fn progress(&mut self, uid: &str, ended: bool, status: String) -> Progress {
        self.seen.insert(uid.to_owned());
        if let Some(output) = self.outputs.get(uid) {
            return Progress::Read(output.as_ref().map(|_| ()).map_err(Clone::clone));
        }
        if ended {
            return Progress::Ended;
        }
        // By our own clock: the API server's may differ.
        let age = self
            .since
            .entry(uid.to_owned())
            .or_insert_with(Instant::now)
            .elapsed();
        Progress::Running {
            age_seconds: i64::try_from(age.as_secs()).unwrap_or(i64::MAX),
            status,
        }
    }
}

impl ProbeMemory {
    fn forget_gone(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        self.since.retain(|uid, _| seen.contains(uid));
        self.outputs.retain(|uid, _| seen.contains(uid));
    }

    fn skeleton(&self, uid: &str) -> Vec<String> {
        self.outputs
            .get(uid)
            .and_then(|output| output.as_ref().ok())
            .cloned()
            .unwrap_or_default()
    }
}

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
            () = tokio::time::sleep(TICK) => {}
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

/// How the steps of one lease ended.
struct Finished {
    lease: LeaseId,
    over: bool,
    /// Pods were told to end: looking again at once would only ask the API server in vain.
    waits_for_pods: bool,
    /// The broker knows a finding: a new probe is no success yet.
    unmountable: bool,
    result: Result<Outcome, ActError>,
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
    memory
        .unknown_since
        .retain(|id, _| observed.contains_key(id) && !known.contains(id));
    memory
        .pauses
        .retain(|id, pause| known.contains(id) || observed.contains_key(id) || pause.until > at);

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
        let since = *memory.unknown_since.entry(*id).or_insert(at);
        let certain = now.fresh && at.duration_since(since) >= ORPHAN_AFTER;
        let standing = if certain {
            Standing::Unknown
        } else {
            Standing::Unsure
        };
        let actions = plan(standing, seen, now);
        start(executor, probes, memory, tasks, *id, None, true, actions, seen);
    }
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
    // Beginnings may wait for a broker that does not answer; ends have places of their own.
    let places = if over { 2 * AT_A_TIME } else { AT_A_TIME };
    if actions.is_empty() || memory.busy.contains(&id) || tasks.len() >= places {
        return;
    }
    // A pause from before the lease was over must not delay its end.
    if memory
        .pauses
        .get(&id)
        .is_some_and(|pause| pause.over == over && Instant::now() < pause.until)
    {
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
        let waits_for_pods = actions
            .iter()
            .any(|action| matches!(action, Action::EndPods { .. }));
        let unmountable = lease
            .as_ref()
            .is_some_and(|lease| matches!(lease.mount, Mount::Failed(_)));
        let result = take_all(&executor, &probes, id, lease.as_deref(), &actions, &probe_uid).await;
        Finished {
            lease: id,
            over,
            waits_for_pods,
            unmountable,
            result,
        }
    });
    memory.busy.insert(id);
    memory.tasks.insert(handle.id(), id);
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
                probes.outputs.insert(probe_uid.to_owned(), output);
            }
            Outcome::LookAgainLater => return Ok(Outcome::LookAgainLater),
            Outcome::Done => last = Outcome::Done,
        }
    }
    Ok(last)
}

impl Memory {
    fn settle(&mut self, ended: Result<(Id, Finished), tokio::task::JoinError>, health: &Health) {
        let (task, finished) = match ended {
            Ok((task, finished)) => (task, Some(finished)),
            Err(error) => (error.id(), None),
        };
        let Some(id) = self.tasks.remove(&task) else {
            return;
        };
        self.busy.remove(&id);
        let former = self.pauses.get(&id);
        let Some(Finished {
            lease,
            over,
            waits_for_pods,
            unmountable,
            result,
        }) = finished
        else {
            tracing::error!(lease = %id, "a step panicked; it is tried again");
            health.failed();
            self.pause(
                id,
                false,
                former.map_or(1, |p| p.failures + 1),
                Duration::from_secs(30),
            );
            return;
        };
        let failures = former
            .filter(|pause| pause.over == over)
            .map_or(0, |pause| pause.failures);
        match result {
            Ok(Outcome::LookAgainLater) => {
                // About 6 s, 12 s, … up to a minute: the owner may be repairing it.
                health.done();
                self.pause(lease, over, failures.max(4) + 1, Duration::from_secs(60));
            }
            Ok(_) => {
                health.done();
                let soon = Duration::from_millis(if waits_for_pods { 500 } else { 50 });
                let failures = if unmountable { failures } else { 0 };
                self.pauses.insert(
                    lease,
                    Pause {
                        until: Instant::now() + soon,
                        failures,
                        over,
                    },
                );
            }
            Err(ActError::NotLeading) => {}
            Err(error) => {
                tracing::warn!(%lease, %error, failures = failures + 1, "a step for the lease failed; it is tried again");
                health.failed();
                // What takes access away is not put off for long.
                self.pause(
                    lease,
                    over,
                    failures + 1,
                    Duration::from_secs(if over { 1 } else { 30 }),
                );
            }
        }
    }

    fn pause(&mut self, lease: LeaseId, over: bool, failures: u32, longest: Duration) {
        let grown = Duration::from_millis(250)
            .saturating_mul(1 << failures.min(10))
            .min(longest);
        let random = RandomState::new().hash_one(lease) % 1000;
        let jittered = grown / 2 + grown.mul_f64(random as f64 / 2000.0);
        self.pauses.insert(
            lease,
            Pause {
                until: Instant::now() + jittered,
                failures,
                over,
            },
        );
    }
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

    #[test]
    fn a_lease_that_is_over_is_not_put_off_by_its_earlier_failures() {
        let mut memory = Memory::default();
        let id = LeaseId::parse(&"ab".repeat(16)).unwrap();
        memory.pause(id, true, 20, Duration::from_secs(1));
        assert!(memory.pauses[&id].until <= Instant::now() + Duration::from_secs(1));
        memory.pause(id, false, 20, Duration::from_secs(30));
        assert!(memory.pauses[&id].until > Instant::now() + Duration::from_secs(10));
    }
}

//! What the loop remembers between passes: which leases have steps that run, which wait after a failure, what probes printed.
//! All of it can be lost with the process.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, Id, JoinError};

use crate::leases::LeaseId;
use crate::probe::Finding;
use crate::provisioner::act::{ActError, Outcome};
use crate::provisioner::health::Health;
use crate::provisioner::observe::Probes;
use crate::provisioner::plan::Progress;

/// After a success: the views follow in a moment.
const SOON: Duration = Duration::from_millis(50);
/// While pods end, asking more often would help nobody.
const PODS_END: Duration = Duration::from_millis(500);
/// An owner may be repairing the directory.
const LONGEST_LOOK: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What takes access away is not put off for long.
const LONGEST_PAUSE_OVER: Duration = Duration::from_secs(1);

/// Leases between passes.
#[derive(Default)]
pub(super) struct Memory {
    running: HashMap<LeaseId, Running>,
    tasks: HashMap<Id, LeaseId>,
    pauses: HashMap<LeaseId, Pause>,
    unknown_since: HashMap<LeaseId, Instant>,
}

struct Running {
    over: bool,
    abort: AbortHandle,
}

/// When a lease may be looked at again, after how many failures, and whether it was over by then.
struct Pause {
    until: Instant,
    failures: u32,
    over: bool,
}

/// How the steps of one lease ended.
pub(super) struct Finished {
    /// The lease was over when they began.
    pub(super) over: bool,
    /// Pods were told to end.
    pub(super) waits_for_pods: bool,
    /// The broker knows a finding: a new probe is no success yet.
    pub(super) unmountable: bool,
    pub(super) result: Result<Outcome, ActError>,
}

impl Memory {
    /// True if nothing runs for the lease and it need not wait. What began before the lease was over neither runs on nor
    /// puts its end off.
    pub(super) fn may_start(&self, id: LeaseId, over: bool) -> bool {
        if let Some(running) = self.running.get(&id) {
            if over && !running.over {
                running.abort.abort();
            }
            return false;
        }
        self.pauses
            .get(&id)
            .is_none_or(|pause| pause.over != over || Instant::now() >= pause.until)
    }

    pub(super) fn started(&mut self, id: LeaseId, over: bool, abort: AbortHandle) {
        self.tasks.insert(abort.id(), id);
        self.running.insert(id, Running { over, abort });
    }

    /// When the next pause ends.
    pub(super) fn next_start(&self, now: Instant) -> Option<Instant> {
        self.pauses
            .values()
            .map(|pause| pause.until)
            .filter(|until| *until > now)
            .min()
    }

    /// How long a young view has not held the lease, at `now`.
    pub(super) fn unknown_for(&mut self, id: LeaseId, now: Instant) -> Duration {
        now.duration_since(*self.unknown_since.entry(id).or_insert(now))
    }

    /// Drops what is of no use any more.
    pub(super) fn forget(
        &mut self,
        known: impl Fn(LeaseId) -> bool,
        observed: impl Fn(LeaseId) -> bool,
        now: Instant,
    ) {
        self.unknown_since.retain(|id, _| observed(*id) && !known(*id));
        self.pauses
            .retain(|id, pause| known(*id) || observed(*id) || pause.until > now);
    }

    /// Takes note of how steps ended and decides when the lease is looked at again.
    pub(super) fn settle(&mut self, ended: Result<(Id, Finished), JoinError>, health: &Health) {
        let task = ended.as_ref().map_or_else(JoinError::id, |(task, _)| *task);
        let Some(id) = self.tasks.remove(&task) else {
            return;
        };
        self.running.remove(&id);
        let former = self.pauses.get(&id).map(|pause| (pause.failures, pause.over));
        let failures = |over| {
            former
                .filter(|former| former.1 == over)
                .map_or(0, |former| former.0)
        };
        let Finished {
            over,
            waits_for_pods,
            unmountable,
            result,
        } = match ended {
            Ok((_, finished)) => finished,
            Err(error) if error.is_cancelled() => return,
            Err(_) => {
                tracing::error!(lease = %id, "a step panicked; it is tried again");
                health.failed();
                return self.pause(id, false, failures(false) + 1, LONGEST_PAUSE);
            }
        };
        match result {
            Ok(Outcome::LookAgainLater) => {
                // About 6 s, then 12 s, …
                health.done();
                self.pause(id, over, failures(over).max(4) + 1, LONGEST_LOOK);
            }
            Ok(_) => {
                health.done();
                let until = Instant::now() + if waits_for_pods { PODS_END } else { SOON };
                let failures = if unmountable { failures(over) } else { 0 };
                self.pauses.insert(
                    id,
                    Pause {
                        until,
                        failures,
                        over,
                    },
                );
            }
            Err(ActError::NotLeading) => {}
            Err(error) => {
                let failures = failures(over) + 1;
                tracing::warn!(lease = %id, %error, failures, "a step for the lease failed; it is tried again");
                health.failed();
                self.pause(
                    id,
                    over,
                    failures,
                    if over { LONGEST_PAUSE_OVER } else { LONGEST_PAUSE },
                );
            }
        }
    }

    fn pause(&mut self, id: LeaseId, over: bool, failures: u32, longest: Duration) {
        let grown = Duration::from_millis(250)
            .saturating_mul(1 << failures.min(10))
            .min(longest);
        let random = RandomState::new().hash_one(id) % 1000;
        let until = Instant::now() + grown / 2 + grown.mul_f64(random as f64 / 2000.0);
        self.pauses.insert(
            id,
            Pause {
                until,
                failures,
                over,
            },
        );
    }
}

type ProbeOutput = Result<Vec<String>, Finding>;

/// What probes printed, and since when they run, by uid of their pod.
#[derive(Default)]
pub(super) struct ProbeMemory {
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
    pub(super) fn remember(&mut self, uid: &str, output: ProbeOutput) {
        self.outputs.insert(uid.to_owned(), output);
    }

    /// Forgets pods that have not been asked about since the last call.
    pub(super) fn forget_gone(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        self.since.retain(|uid, _| seen.contains(uid));
        self.outputs.retain(|uid, _| seen.contains(uid));
    }

    pub(super) fn skeleton(&self, uid: &str) -> Vec<String> {
        self.outputs
            .get(uid)
            .and_then(|output| output.as_ref().ok())
            .cloned()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> LeaseId {
        LeaseId::parse(&"ab".repeat(16)).unwrap()
    }

    #[test]
    fn a_lease_that_is_over_is_not_put_off_by_its_earlier_failures() {
        let mut memory = Memory::default();
        memory.pause(id(), false, 20, LONGEST_PAUSE);
        assert!(!memory.may_start(id(), false));
        assert!(memory.may_start(id(), true));
        memory.pause(id(), true, 20, LONGEST_PAUSE_OVER);
        assert!(memory.pauses[&id()].until <= Instant::now() + LONGEST_PAUSE_OVER);
    }

    #[tokio::test]
    async fn what_hangs_for_a_lease_is_dropped_when_the_lease_is_over() {
        let mut memory = Memory::default();
        let mut tasks = tokio::task::JoinSet::new();
        let handle = tasks.spawn(std::future::pending::<Finished>());
        memory.started(id(), false, handle);
        assert!(!memory.may_start(id(), false));
        assert!(!memory.may_start(id(), true));
        let ended = tasks.join_next_with_id().await.unwrap();
        let health = Health::new(std::sync::Arc::default());
        memory.settle(ended, &health);
        assert!(memory.may_start(id(), true));
    }

    #[test]
    fn an_output_is_kept_as_long_as_its_pod_is_seen() {
        let mut probes = ProbeMemory::default();
        let progress = |probes: &mut ProbeMemory| probes.progress("u", true, String::new());
        assert_eq!(progress(&mut probes), Progress::Ended);
        probes.remember("u", Ok(vec!["a".into()]));
        probes.forget_gone();
        assert_eq!(progress(&mut probes), Progress::Read(Ok(())));
        assert_eq!(probes.skeleton("u"), ["a"]);
        probes.forget_gone();
        probes.forget_gone();
        assert_eq!(progress(&mut probes), Progress::Ended);
    }
}

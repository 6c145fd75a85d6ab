//! One replica leads: the holder of a `coordination.k8s.io` Lease.
//!
//! A candidate takes over when the record has not changed for its duration by the candidate's own clock, so clocks need not
//! agree. Every write is conditional on the version that was read. A leader that could not renew in time stops before anybody
//! else may start: [`Term::holds`] turns false by the leader's own clock, and its work is dropped. After a clean stop the
//! record names nobody and the next one starts at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How leadership is held.
#[derive(Debug, Clone)]
pub struct Election {
    /// Name of the Lease object.
    pub name: String,
    /// Who we are. A restarted process of the same pod may be the same one: the former is dead by then.
    pub identity: String,
    /// How long a record is good without renewal, for others.
    pub duration: Duration,
    /// How long it is good for its holder, less than `duration`.
    pub deadline: Duration,
    /// How often it is renewed, and looked at by candidates.
    pub period: Duration,
}

impl Election {
    /// Ten seconds, of which the holder trusts seven: a successor starts within twelve of a leader's death.
    #[must_use]
    pub fn new(name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            identity: identity.into(),
            duration: Duration::from_secs(10),
            deadline: Duration::from_secs(7),
            period: Duration::from_secs(2),
        }
    }
}

/// Leadership, as its holder may see it.
#[derive(Debug, Clone)]
pub struct Term {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    began: Instant,
    /// Milliseconds since `began`.
    good_until: AtomicU64,
}

impl Term {
    fn new(until: Instant) -> Self {
        let term = Self {
            shared: Arc::new(Shared {
                began: Instant::now(),
                good_until: AtomicU64::new(0),
            }),
        };
        term.extend(until);
        term
    }

    fn extend(&self, until: Instant) {
        let since = until.saturating_duration_since(self.shared.began).as_millis();
        self.shared
            .good_until
            .store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn good_until(&self) -> Instant {
        self.shared.began + Duration::from_millis(self.shared.good_until.load(Ordering::Acquire))
    }

    /// Nobody else leads now. To be asked before every write.
    #[must_use]
    pub fn holds(&self) -> bool {
        Instant::now() < self.good_until()
    }
}

/// What a candidate saw last, and since when.
struct Seen {
    version: Option<String>,
    since: Instant,
}

/// Campaigns and leads, again and again, until `shutdown`; `work` is dropped when leadership is lost and told to stop by its
/// token at shutdown, after which the record is given up. `leading` tells others.
pub async fn lead<W, F>(
    api: Api<Lease>,
    election: Election,
    leading: &AtomicBool,
    shutdown: CancellationToken,
    work: W,
) where
    W: Fn(Term, CancellationToken) -> F,
    F: Future<Output = ()>,
{
    let mut seen = Seen {
        version: None,
        since: Instant::now(),
    };
    while !shutdown.is_cancelled() {
        let asked = Instant::now();
        let Ok(acquired) = tokio::time::timeout(election.deadline, acquire(&api, &election, &mut seen)).await
        else {
            tracing::warn!(lease = %election.name, "the API server does not answer; trying again");
            continue;
        };
        match acquired {
            Ok(Some(record)) => {
                tracing::info!(identity = %election.identity, "this replica leads");
                leading.store(true, Ordering::Release);
                let term = Term::new(asked + election.deadline);
                let ended_in_time = serve_term(&api, &election, &term, record, &shutdown, &work).await;
                leading.store(false, Ordering::Release);
                if ended_in_time {
                    step_down(&api, &election).await;
                } else {
                    tracing::warn!(identity = %election.identity, "leadership is lost: it could not be renewed in time");
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, lease = %election.name, "cannot read or take the leader's lease; trying again")
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(election.period) => {}
        }
    }
}

/// Works and renews. True if the work ended by itself, false if leadership was lost.
async fn serve_term<W, F>(
    api: &Api<Lease>,
    election: &Election,
    term: &Term,
    record: Lease,
    shutdown: &CancellationToken,
    work: &W,
) -> bool
where
    W: Fn(Term, CancellationToken) -> F,
    F: Future<Output = ()>,
{
    let stop = shutdown.child_token();
    let renewing = async {
        let mut current = record;
        loop {
            tokio::time::sleep(election.period).await;
            let asked = Instant::now();
            match renew(api, election, &current).await {
                Ok(renewed) => {
                    current = renewed;
                    term.extend(asked + election.deadline);
                }
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => return,
                Err(error) => {
                    tracing::warn!(%error, lease = %election.name, "cannot renew leadership; trying again")
                }
            }
        }
    };
    // A renewal that hangs must not outlast the term.
    let running_out = async {
        while term.holds() {
            tokio::time::sleep_until(term.good_until()).await;
        }
    };
    tokio::select! {
        () = work(term.clone(), stop) => true,
        () = renewing => false,
        () = running_out => false,
    }
}

async fn acquire(api: &Api<Lease>, election: &Election, seen: &mut Seen) -> kube::Result<Option<Lease>> {
    let Some(current) = api.get_opt(&election.name).await? else {
        let fresh = Lease {
            metadata: ObjectMeta {
                name: Some(election.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(record(election, None)),
        };
        return won(api.create(&PostParams::default(), &fresh).await);
    };
    let version = current.metadata.resource_version.clone();
    if seen.version != version {
        *seen = Seen {
            version,
            since: Instant::now(),
        };
    }
    if !may_take(election, current.spec.as_ref(), seen.since.elapsed()) {
        return Ok(None);
    }
    let taken = Lease {
        spec: Some(record(election, current.spec.as_ref())),
        metadata: current.metadata,
    };
    won(api.replace(&election.name, &PostParams::default(), &taken).await)
}

/// Ours already, nobody's, or unchanged for as long as its holder said.
fn may_take(election: &Election, spec: Option<&LeaseSpec>, unchanged_for: Duration) -> bool {
    let holder = spec
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default();
    let said = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|s| u64::try_from(s).ok());
    let duration = said.map_or(election.duration, Duration::from_secs);
    holder.is_empty() || holder == election.identity || unchanged_for >= duration
}

/// Losing a race is no error.
fn won(result: kube::Result<Lease>) -> kube::Result<Option<Lease>> {
    match result {
        Ok(record) => Ok(Some(record)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

fn record(election: &Election, former: Option<&LeaseSpec>) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    let ours = former.is_some_and(|spec| spec.holder_identity.as_deref() == Some(&election.identity));
    let transitions = former.and_then(|spec| spec.lease_transitions).unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(election.identity.clone()),
        lease_duration_seconds: i32::try_from(election.duration.as_secs().max(1)).ok(),
        acquire_time: former
            .filter(|_| ours)
            .and_then(|spec| spec.acquire_time.clone())
            .or(Some(now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(if ours || former.is_none() {
            transitions
        } else {
            transitions.saturating_add(1)
        }),
        ..LeaseSpec::default()
    }
}

async fn renew(api: &Api<Lease>, election: &Election, current: &Lease) -> kube::Result<Lease> {
    let renewed = Lease {
        metadata: current.metadata.clone(),
        spec: Some(record(election, current.spec.as_ref())),
    };
    api.replace(&election.name, &PostParams::default(), &renewed)
        .await
}

async fn step_down(api: &Api<Lease>, election: &Election) {
    let give_up = async {
        let Some(mut current) = api.get_opt(&election.name).await? else {
            return Ok(());
        };
        let spec = current.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&election.identity) {
            spec.holder_identity = Some(String::new());
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            api.replace(&election.name, &PostParams::default(), &current)
                .await?;
        }
        Ok::<(), kube::Error>(())
    };
    let failed = match tokio::time::timeout(election.period, give_up).await {
        Ok(Ok(())) => return tracing::info!("leadership is given up"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(
        error = failed,
        "cannot give up leadership; the next leader has to wait for it to run out"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(10),
            lease_transitions: Some(4),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_record_is_taken_when_it_is_ours_nobodys_or_ran_out() {
        let election = Election::new("n", "me");
        let young = Duration::from_secs(9);
        assert!(may_take(&election, Some(&spec("me")), young));
        assert!(may_take(&election, Some(&spec("")), young));
        assert!(may_take(&election, None, young));
        assert!(!may_take(&election, Some(&spec("other")), young));
        assert!(may_take(&election, Some(&spec("other")), Duration::from_secs(10)));
    }

    #[test]
    fn transitions_count_new_holders_only() {
        let election = Election::new("n", "me");
        assert_eq!(record(&election, Some(&spec("me"))).lease_transitions, Some(4));
        assert_eq!(record(&election, Some(&spec("other"))).lease_transitions, Some(5));
        assert_eq!(record(&election, None).lease_transitions, Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_is_not_extended_ends_by_the_holders_own_clock() {
        let term = Term::new(Instant::now() + Duration::from_secs(7));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(term.holds());
        term.extend(Instant::now() + Duration::from_secs(7));
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(term.holds());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!term.holds());
    }
}

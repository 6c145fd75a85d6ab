//! How fast one person may ask: so many requests a second, and so many changes a minute, with a store of unused ones that they may
//! take at once. Whoever asks faster is told when to come again, and keeps nobody else out.
//!
//! Generic cell rate (ITU-T I.371), as the `governor` crate counts it. Each broker counts by itself, and anew when it starts.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::Args;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

/// After so many requests those who have not asked for a while are forgotten.
const FORGET_EVERY: u32 = 4_096;
/// For so many seconds a person's unused requests are kept.
const REQUESTS_KEPT: u32 = 4;
/// For so many minutes their unused changes are.
const CHANGES_KEPT: u32 = 4;

/// How fast one person may ask.
#[derive(Debug, Clone, Copy, Args)]
pub struct PaceArgs {
    /// Requests that one person may make each second, reads as well as changes; four times as many at once.
    #[arg(long, env = "LEASEHOLD_PERSON_REQUESTS_PER_SECOND", default_value = "50")]
    pub person_requests_per_second: NonZeroU32,
    /// Changes that one person may ask for each minute; four times as many at once. Each leaves some 3 kB in the audit and more on the ledger.
    #[arg(long, env = "LEASEHOLD_PERSON_CHANGES_PER_MINUTE", default_value = "60")]
    pub person_changes_per_minute: NonZeroU32,
}

type Limiter<C> = RateLimiter<String, DashMapStateStore<String>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// What each person has asked for of late, by pseudonym.
#[derive(Debug)]
pub struct Pace<C: Clock = DefaultClock> {
    requests: Limiter<C>,
    changes: Limiter<C>,
    clock: C,
    since_forgotten: AtomicU32,
}

impl Pace {
    /// Nobody has asked yet.
    #[must_use]
    pub fn new(args: PaceArgs) -> Self {
        Self::by(args, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Pace<C> {
    fn by(args: PaceArgs, clock: C) -> Self {
        let limiter = |quota: Quota, each: NonZeroU32, kept: u32| {
            let quota = quota
                .allow_burst(each.saturating_mul(NonZeroU32::MIN.saturating_add(kept.saturating_sub(1))));
            RateLimiter::new(quota, DashMapStateStore::default(), clock.clone())
        };
        let (requests, changes) = (args.person_requests_per_second, args.person_changes_per_minute);
        Self {
            requests: limiter(Quota::per_second(requests), requests, REQUESTS_KEPT),
            changes: limiter(Quota::per_minute(changes), changes, CHANGES_KEPT),
            clock,
            since_forgotten: AtomicU32::new(0),
        }
    }

    /// Takes one of a person's requests.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn request(&self, person: &str) -> Result<(), Duration> {
        if self.since_forgotten.fetch_add(1, Ordering::Relaxed) >= FORGET_EVERY {
            self.since_forgotten.store(0, Ordering::Relaxed);
            for limiter in [&self.requests, &self.changes] {
                limiter.retain_recent();
            }
        }
        self.take(&self.requests, person)
    }

    /// Takes one of a person's changes.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn change(&self, person: &str) -> Result<(), Duration> {
        self.take(&self.changes, person)
    }

    fn take(&self, limiter: &Limiter<C>, person: &str) -> Result<(), Duration> {
        let taken = limiter.check_key(&person.to_owned());
        taken.map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    fn pace(clock: &FakeRelativeClock) -> Pace<FakeRelativeClock> {
        let args = PaceArgs {
            person_requests_per_second: NonZeroU32::new(10).unwrap(),
            person_changes_per_minute: NonZeroU32::new(6).unwrap(),
        };
        Pace::by(args, clock.clone())
    }

    #[test]
    fn whoever_asks_too_fast_is_told_when_to_come_again_and_then_gets_it() {
        let clock = FakeRelativeClock::default();
        let pace = pace(&clock);
        assert_eq!((0..100).filter(|_| pace.request("a").is_ok()).count(), 40);
        let wait = pace.request("a").unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        clock.advance(wait);
        assert_eq!(pace.request("a"), Ok(()));
        assert!(pace.request("a").is_err(), "one for each tenth of a second");
    }

    #[test]
    fn changes_are_counted_apart_and_nobody_takes_anothers() {
        let clock = FakeRelativeClock::default();
        let pace = pace(&clock);
        assert_eq!((0..100).filter(|_| pace.change("a").is_ok()).count(), 24);
        assert_eq!(pace.change("a"), Err(Duration::from_secs(10)));
        assert_eq!((pace.request("a"), pace.change("b")), (Ok(()), Ok(())));
    }

    #[test]
    fn those_who_have_not_asked_for_a_while_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let pace = pace(&clock);
        for number in 0..FORGET_EVERY {
            pace.request(&number.to_string()).unwrap();
        }
        clock.advance(Duration::from_secs(60));
        for _ in 0..2 {
            pace.request("a").unwrap();
        }
        assert!(pace.requests.len() <= 2, "{}", pace.requests.len());
    }
}

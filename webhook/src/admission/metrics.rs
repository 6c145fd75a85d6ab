//! Counters by code and a histogram of durations, in Prometheus' text format. No label ever names a user or a dataset.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::Views;
use crate::review::{Reason, Stage, Verdict};

/// Upper bounds of the histogram's buckets, microseconds.
const BUCKETS: [u64; 12] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 50_000, 250_000, 1_000_000, 4_000_000,
];
const BAD_REQUESTS: [&str; 8] = [
    "malformed",
    "unsupported_version",
    "no_request",
    "too_large",
    "unsupported_media_type",
    "timeout",
    "overloaded",
    "connection",
];

/// What was decided since the start.
#[derive(Debug)]
pub struct Metrics {
    stages: [Decisions; 2],
    bad_requests: [AtomicU64; BAD_REQUESTS.len()],
}

#[derive(Debug)]
struct Decisions {
    untouched: AtomicU64,
    patched: AtomicU64,
    denied: Vec<AtomicU64>,
    buckets: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let decisions = || Decisions {
            untouched: AtomicU64::new(0),
            patched: AtomicU64::new(0),
            denied: Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            buckets: Default::default(),
            microseconds: AtomicU64::new(0),
        };
        Self {
            stages: [decisions(), decisions()],
            bad_requests: Default::default(),
        }
    }
}

impl Metrics {
    pub(super) fn decided(&self, stage: Stage, verdict: &Verdict, took: Duration) {
        let [mutating, validating] = &self.stages;
        let decisions = match stage {
            Stage::Mutating => mutating,
            Stage::Validating => validating,
        };
        match verdict {
            Verdict::Allow(patch) if patch.is_empty() => &decisions.untouched,
            Verdict::Allow(_) => &decisions.patched,
            Verdict::Deny(denial) => match decisions.denied.get(denial.reason as usize) {
                Some(counter) => counter,
                None => return,
            },
        }
        .fetch_add(1, Relaxed);
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        decisions.microseconds.fetch_add(microseconds, Relaxed);
        let bucket = BUCKETS.partition_point(|bound| *bound < microseconds);
        if let Some(counter) = decisions.buckets.get(bucket) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn bad_request(&self, code: &str) {
        let counters = BAD_REQUESTS.iter().zip(&self.bad_requests);
        if let Some((_, counter)) = counters.into_iter().find(|(known, _)| **known == code) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Everything, as `/metrics` shows it.
    #[must_use]
    pub fn render(&self, views: &Views) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = self.write(&mut text, views);
        text
    }

    fn write(&self, out: &mut String, views: &Views) -> std::fmt::Result {
        const REVIEWS: &str = "leasehold_webhook_reviews_total";
        const DURATION: &str = "leasehold_webhook_review_duration_seconds";
        writeln!(
            out,
            "# HELP {REVIEWS} Reviews by stage and outcome: untouched, patched, or the code of the refusal."
        )?;
        writeln!(out, "# TYPE {REVIEWS} counter")?;
        let stages = ["mutating", "validating"].into_iter().zip(&self.stages);
        for (stage, decisions) in stages.clone() {
            let refused = Reason::ALL
                .iter()
                .map(|reason| reason.code())
                .zip(&decisions.denied);
            for (code, counter) in [
                ("untouched", &decisions.untouched),
                ("patched", &decisions.patched),
            ]
            .into_iter()
            .chain(refused)
            {
                writeln!(
                    out,
                    "{REVIEWS}{{stage=\"{stage}\",code=\"{code}\"}} {}",
                    counter.load(Relaxed)
                )?;
            }
        }
        writeln!(
            out,
            "# HELP {DURATION} From the body's end to the answer, look-ups included."
        )?;
        writeln!(out, "# TYPE {DURATION} histogram")?;
        for (stage, decisions) in stages {
            let mut count = 0;
            let bounds = BUCKETS
                .iter()
                .map(|bound| (*bound as f64 / 1e6).to_string())
                .chain(["+Inf".to_owned()]);
            for (bound, bucket) in bounds.zip(&decisions.buckets) {
                count += bucket.load(Relaxed);
                writeln!(
                    out,
                    "{DURATION}_bucket{{stage=\"{stage}\",le=\"{bound}\"}} {count}"
                )?;
            }
            let seconds = decisions.microseconds.load(Relaxed) as f64 / 1e6;
            writeln!(out, "{DURATION}_sum{{stage=\"{stage}\"}} {seconds}")?;
            writeln!(out, "{DURATION}_count{{stage=\"{stage}\"}} {count}")?;
        }
        writeln!(
            out,
            "# HELP leasehold_webhook_bad_requests_total Bodies that were no AdmissionReview, by code."
        )?;
        writeln!(out, "# TYPE leasehold_webhook_bad_requests_total counter")?;
        for (code, counter) in BAD_REQUESTS.iter().zip(&self.bad_requests) {
            writeln!(
                out,
                "leasehold_webhook_bad_requests_total{{code=\"{code}\"}} {}",
                counter.load(Relaxed)
            )?;
        }
        let age = match views.leases.synced() {
            true => views.leases.age(Instant::now()).as_secs_f64().to_string(),
            false => "+Inf".into(),
        };
        writeln!(
            out,
            "# HELP leasehold_webhook_lease_view_age_seconds Time since the broker vouched for the lease view."
        )?;
        writeln!(out, "# TYPE leasehold_webhook_lease_view_age_seconds gauge")?;
        writeln!(out, "leasehold_webhook_lease_view_age_seconds {age}")?;
        writeln!(out, "# HELP leasehold_webhook_leases Leases in view.")?;
        writeln!(out, "# TYPE leasehold_webhook_leases gauge")?;
        writeln!(out, "leasehold_webhook_leases {}", views.leases.len())
    }
}

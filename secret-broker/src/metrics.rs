//! Counters in Prometheus' text format. No label ever names a person or a dataset.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// What the broker counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// REST answers by status class, 2xx to 5xx.
    rest: [AtomicU64; 4],
    /// Tokens that verified.
    pub tokens_accepted: AtomicU64,
    /// Tokens that did not.
    pub tokens_refused: AtomicU64,
    /// Operations that the ledger took.
    pub operations_succeeded: AtomicU64,
    /// Operations that the ledger refused.
    pub operations_failed: AtomicU64,
    /// Volumes decrypted for a provisioner.
    pub volumes_opened: AtomicU64,
    /// Whether every key-encryption key could be used when it was last tried.
    pub keys_usable: AtomicBool,
    /// Own datasets whose data key the key store lacked when it was held against the ledger.
    pub datasets_without_key: AtomicU64,
    /// Datasets whose data keys wait to be destroyed until the ledger has said so for long enough.
    pub destructions_waiting: AtomicU64,
    /// Those whose time has come and that are held back, since too many would go at once.
    pub destructions_held_back: AtomicU64,
    /// Lease streams open now.
    pub watchers: AtomicI64,
    /// Lease streams cut because they were too slow.
    pub watchers_cut: AtomicU64,
    /// Listeners to what the ledger commits that were cut because they were too slow.
    pub streams_cut: AtomicU64,
}

impl Metrics {
    /// Counts a REST answer.
    pub fn answered(&self, status: u16) {
        if let Some(counter) = usize::from(status / 100)
            .checked_sub(2)
            .and_then(|class| self.rest.get(class))
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The text that a scraper reads.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, i128)]| {
            let _infallible = writeln!(
                out,
                "# HELP leasehold_broker_{name} {help}\n# TYPE leasehold_broker_{name} {kind}"
            );
            for (labels, value) in samples {
                let _infallible = writeln!(out, "leasehold_broker_{name}{labels} {value}");
            }
        };
        let read = |counter: &AtomicU64| i128::from(counter.load(Ordering::Relaxed));
        let [c2, c3, c4, c5] = &self.rest;
        family(
            "rest_answers_total",
            "counter",
            "REST answers by class.",
            &[
                ("{class=\"2xx\"}", read(c2)),
                ("{class=\"3xx\"}", read(c3)),
                ("{class=\"4xx\"}", read(c4)),
                ("{class=\"5xx\"}", read(c5)),
            ],
        );
        family(
            "tokens_total",
            "counter",
            "Tokens by verdict.",
            &[
                ("{verdict=\"accepted\"}", read(&self.tokens_accepted)),
                ("{verdict=\"refused\"}", read(&self.tokens_refused)),
            ],
        );
        family(
            "operations_total",
            "counter",
            "Operations by ending.",
            &[
                ("{ending=\"succeeded\"}", read(&self.operations_succeeded)),
                ("{ending=\"failed\"}", read(&self.operations_failed)),
            ],
        );
        family(
            "volumes_opened_total",
            "counter",
            "Volumes decrypted for a provisioner.",
            &[("", read(&self.volumes_opened))],
        );
        family(
            "keys_usable",
            "gauge",
            "Whether every key-encryption key could be used when it was last tried.",
            &[("", i128::from(self.keys_usable.load(Ordering::Relaxed)))],
        );
        family(
            "datasets_without_key",
            "gauge",
            "Own datasets whose data key the key store lacks.",
            &[("", read(&self.datasets_without_key))],
        );
        family(
            "key_destructions",
            "gauge",
            "Datasets whose data keys are to be destroyed and are still here.",
            &[
                ("{state=\"waiting\"}", read(&self.destructions_waiting)),
                ("{state=\"held_back\"}", read(&self.destructions_held_back)),
            ],
        );
        family(
            "watchers",
            "gauge",
            "Open lease streams.",
            &[("", i128::from(self.watchers.load(Ordering::Relaxed)))],
        );
        family(
            "watchers_cut_total",
            "counter",
            "Lease streams cut because they were too slow.",
            &[("", read(&self.watchers_cut))],
        );
        family(
            "event_streams_cut_total",
            "counter",
            "Streams of events cut because they were too slow.",
            &[("", read(&self.streams_cut))],
        );
        out
    }
}

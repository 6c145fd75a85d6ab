//! What operators see: liveness, readiness and metrics on a plain port. No user appears in a metric.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;

/// Counts of spawns, and whether hubs can trust us yet.
#[derive(Debug, Default)]
pub struct Observations {
    ready: AtomicBool,
    spawns: Mutex<BTreeMap<&'static str, Spawns>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Spawns {
    count: u64,
    took: Duration,
}

impl Observations {
    /// Hubs can find our certificate.
    pub(crate) fn ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    pub(crate) fn spawn(&self, code: &'static str, took: Duration) {
        let mut spawns = self.spawns.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = spawns.entry(code).or_default();
        entry.count += 1;
        entry.took += took;
    }

    fn render(&self) -> String {
        let mut text = String::from(
            "# HELP leasehold_spawns_total Spawns by outcome.\n# TYPE leasehold_spawns_total counter\n",
        );
        let spawns = self.spawns.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (code, spawns) in &spawns {
            let _ = writeln!(text, "leasehold_spawns_total{{code=\"{code}\"}} {}", spawns.count);
        }
        text.push_str("# HELP leasehold_spawn_seconds_total Time taken.\n# TYPE leasehold_spawn_seconds_total counter\n");
        for (code, spawns) in &spawns {
            let _ = writeln!(
                text,
                "leasehold_spawn_seconds_total{{code=\"{code}\"}} {}",
                spawns.took.as_secs_f64()
            );
        }
        text
    }
}

/// The routes for kubelet and Prometheus.
pub(crate) fn router(observations: Arc<Observations>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(observations)
}

async fn readyz(State(observations): State<Arc<Observations>>) -> (StatusCode, &'static str) {
    if observations.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the CA certificate is not published yet",
        )
    }
}

async fn metrics(
    State(observations): State<Arc<Observations>>,
) -> ([(http::HeaderName, &'static str); 1], String) {
    (
        [(http::header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        observations.render(),
    )
}

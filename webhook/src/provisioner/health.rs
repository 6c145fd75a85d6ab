//! What the provisioner tells of itself on a plain port: `/livez`, `/readyz`, `/readyz/leader`, `/metrics`.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::leases::LeaseIndex;

/// Counters and flags of one replica.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) leading: AtomicBool,
    index: Arc<LeaseIndex>,
    leases: AtomicUsize,
    materialised: AtomicUsize,
    steps: AtomicU64,
    failures: AtomicU64,
}

impl Health {
    pub(super) fn new(index: Arc<LeaseIndex>) -> Self {
        Self {
            leading: AtomicBool::new(false),
            index,
            leases: AtomicUsize::new(0),
            materialised: AtomicUsize::new(0),
            steps: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// What the last pass found.
    pub(super) fn sees(&self, leases: usize, materialised: usize) {
        self.leases.store(leases, Ordering::Relaxed);
        self.materialised.store(materialised, Ordering::Relaxed);
    }

    /// The steps of a lease succeeded.
    pub(super) fn done(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// A step failed.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn metrics(&self) -> String {
        let age = self.index.age(Instant::now());
        let age = if self.index.synced() {
            age.as_secs_f64()
        } else {
            f64::INFINITY
        };
        let age = if age.is_infinite() {
            "+Inf".to_owned()
        } else {
            format!("{age:.3}")
        };
        let mut text = String::new();
        for (name, kind, help, value) in [
            (
                "leader",
                "gauge",
                "1 where this replica leads.",
                u8::from(self.leading.load(Ordering::Acquire)).to_string(),
            ),
            (
                "view_age_seconds",
                "gauge",
                "Time since the broker vouched for the view of leases.",
                age,
            ),
            (
                "leases",
                "gauge",
                "Leases that have not ended.",
                self.leases.load(Ordering::Relaxed).to_string(),
            ),
            (
                "materialised",
                "gauge",
                "Leases with objects in the cluster.",
                self.materialised.load(Ordering::Relaxed).to_string(),
            ),
            (
                "steps_total",
                "counter",
                "Plans that were carried out.",
                self.steps.load(Ordering::Relaxed).to_string(),
            ),
            (
                "failures_total",
                "counter",
                "Plans that failed and are tried again.",
                self.failures.load(Ordering::Relaxed).to_string(),
            ),
        ] {
            let name = format!("leasehold_provisioner_{name}");
            let _ = write!(
                text,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
            );
        }
        text
    }
}

/// Answers until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let said = |yes: bool| {
        if yes {
            (StatusCode::OK, "ok\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "no\n")
        }
    };
    let app = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move |State(health): State<Arc<Health>>| async move { said(health.index.synced()) }),
        )
        .route(
            "/readyz/leader",
            get(move |State(health): State<Arc<Health>>| async move {
                said(health.leading.load(Ordering::Acquire))
            }),
        )
        .route(
            "/metrics",
            get(|State(health): State<Arc<Health>>| async move { health.metrics() }),
        )
        .with_state(health);
    axum::serve(listener, app)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

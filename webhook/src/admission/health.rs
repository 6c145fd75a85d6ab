//! The plain port: `/livez`, `/readyz` (`?verbose` for details) and `/metrics`.
//!
//! Ready means: the API server's configuration trusts the certificate that is served. A stale lease view is no reason to be
//! unready: then reviews are answered with 429 and a sentence, which tells users more than a refused connection.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Admission;
use crate::certificates::ServingCertificate;
use crate::review::FRESH;

#[derive(Clone)]
struct Health {
    admission: Arc<Admission>,
    certificate: Arc<ServingCertificate>,
}

/// Serves until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    admission: Arc<Admission>,
    certificate: Arc<ServingCertificate>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route(
            "/metrics",
            get(async |State(health): State<Health>| {
                let text = health.admission.metrics().render(health.admission.views());
                ([("content-type", "text/plain; version=0.0.4")], text)
            }),
        )
        .with_state(Health {
            admission,
            certificate,
        });
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

async fn ready(State(health): State<Health>, RawQuery(query): RawQuery) -> (StatusCode, String) {
    let ready = health.certificate.is_ready();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut text = String::new();
    if query.is_some_and(|query| {
        query
            .split('&')
            .any(|part| part == "verbose" || part.starts_with("verbose="))
    }) {
        let leases = &health.admission.views().leases;
        let mark = |good: bool| if good { "+" } else { "-" };
        let age = leases.age(Instant::now());
        // Writing into a String cannot fail.
        let _ = writeln!(text, "[{}]certificate", mark(ready));
        let _ = match leases.synced() {
            true => writeln!(
                text,
                "[{}]leases: {} in view, vouched for {age:?} ago",
                mark(age <= FRESH),
                leases.len()
            ),
            false => writeln!(text, "[-]leases: nothing heard from the broker yet"),
        };
    }
    text.push_str(if ready {
        "ok\n"
    } else {
        "not ready: the API server does not trust our certificate yet\n"
    });
    (status, text)
}

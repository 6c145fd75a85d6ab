//! Liveness, readiness and metrics, over plain HTTP for the kubelet and a scraper.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::StatusCode;

use crate::broker::Broker;

/// `/livez`, `/readyz`, `/metrics`.
pub fn router(broker: &Arc<Broker>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route(
            "/metrics",
            get(|State(broker): State<Arc<Broker>>| async move { broker.metrics.render() }),
        )
        .with_state(Arc::clone(broker))
}

/// Ready when key store and ledger answer and the audit can be written. An issuer that is down is told but takes nobody else's service away, and
/// nor does a hardware module, without which the catalogue and leases go on.
async fn readyz(State(broker): State<Arc<Broker>>) -> impl IntoResponse {
    let store = broker.store.ping().await.map_err(|e| e.to_string());
    let ledger = broker.ledger.ready().await.map_err(|e| e.to_string());
    let audit = match broker.audit.is_well() {
        true => Ok(()),
        false => Err("what is decided cannot be recorded".to_owned()),
    };
    let mut text = String::new();
    let mut ready = !broker.shutdown.is_cancelled();
    for (name, outcome) in [("key store", store), ("ledger", ledger), ("audit", audit)] {
        match outcome {
            Ok(()) => text.push_str(&format!("[+] {name}\n")),
            Err(error) => {
                tracing::warn!(part = name, %error, "not ready");
                ready = false;
                text.push_str(&format!("[-] {name}\n"));
            }
        }
    }
    if !broker.metrics.keys_usable.load(Ordering::Relaxed) {
        text.push_str("[!] a key-encryption key could not be used; the log says which\n");
    }
    let missing = broker.metrics.datasets_without_key.load(Ordering::Relaxed);
    if missing > 0 {
        text.push_str(&format!(
            "[!] {missing} datasets lack their data key; the log names them\n"
        ));
    }
    let held_back = broker.metrics.destructions_held_back.load(Ordering::Relaxed);
    if held_back > 0 {
        text.push_str(&format!(
            "[!] the data keys of {held_back} datasets are due to be destroyed and held back: `keys doomed` lists them\n"
        ));
    }
    for issuer in broker.issuers.without_keys() {
        text.push_str(&format!("[!] issuer {issuer} has no key set yet\n"));
    }
    (
        if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        },
        text,
    )
}

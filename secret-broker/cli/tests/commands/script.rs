//! A broker that answers from a script, and the `leasehold` binary run against it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Path as Segment, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures::stream;
use serde_json::{Value, json};

pub const LEASE: &str = "00112233445566778899aabbccddeeff";
pub const OPERATION: &str = "7a1f7c1e-0000-4000-8000-000000000001";

/// How the broker of a test behaves, and what it saw.
#[derive(Default)]
pub struct Script {
    pub mount: &'static str,
    /// What is shown of the lease, where it is not active.
    pub lease: Option<Value>,
    /// What is listed of leases, where it is not an active one of the caller's.
    pub listed: Option<Value>,
    pub refusal: Option<Value>,
    pub failure: Option<Value>,
    pub drop_first_write: bool,
    pub never_finish: bool,
    pub seen: Vec<String>,
    pub bodies: Vec<Value>,
    pub keys: BTreeSet<String>,
    pub polls: usize,
}

type Shared = Arc<Mutex<Script>>;

pub fn problem(code: &str, status: u16, detail: &str, field: Option<&str>) -> Value {
    json!({"type": format!("urn:leasehold:problem:{code}"), "title": code, "status": status, "detail": detail, "field": field})
}

pub fn dataset() -> Value {
    json!({"id": "ab".repeat(32), "name": "uis-texts", "owner": "UiSMSP", "title": "Three\u{1b}[31m texts", "description": "d",
           "max_ttl_seconds": 86400, "created_at": 0, "lease_state": "free"})
}

pub fn lease(state: &str, mount: &str) -> Value {
    let finding = (mount == "failed")
        .then(|| json!({"code": "path_missing", "message": "/srv/leasehold/uis/gone is not on node n1"}));
    json!({"id": LEASE, "dataset_id": "ab".repeat(32), "dataset": "uis-texts", "owner": "UiSMSP", "subject": "5e",
           "state": state, "granted_at": 0, "expires_at": 4_102_444_800_i64, "fencing_token": 1, "mount": mount, "finding": finding})
}

pub fn operation(status: &str) -> Value {
    json!({"id": OPERATION, "kind": "lease", "status": status, "created_at": 0,
           "result": {"lease": LEASE, "dataset": "ab".repeat(32)}})
}

async fn gate(State(script): State<Shared>, request: Request, next: Next) -> Response {
    let intercepted = intercept(&mut script.lock().unwrap(), &request);
    if let Some(response) = intercepted {
        return response;
    }
    next.run(request).await
}

/// Notes what it saw; refuses, or breaks off, where the script says so.
fn intercept(script: &mut Script, request: &Request) -> Option<Response> {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let bearer = header("authorization").unwrap_or_default();
    script
        .seen
        .push(format!("{} {} {bearer}", request.method(), request.uri().path()));
    if let Some(key) = header("idempotency-key") {
        script.keys.insert(key);
        if std::mem::take(&mut script.drop_first_write) {
            // A body that breaks off: the client cannot know whether the write happened.
            let broken = stream::iter([Ok("{"), Err(std::io::Error::other("broken off"))]);
            return Some(Response::new(Body::from_stream(broken)));
        }
    }
    let refusal = script.refusal.as_ref()?;
    let status = StatusCode::from_u16(refusal["status"].as_u64().unwrap().try_into().unwrap()).unwrap();
    Some((status, Json(refusal.clone())).into_response())
}

async fn accept(State(script): State<Shared>, body: Bytes) -> (StatusCode, Json<Value>) {
    let body = serde_json::from_slice(&body).unwrap_or_default();
    script.lock().unwrap().bodies.push(body);
    (StatusCode::ACCEPTED, Json(operation("pending")))
}

/// Two pages: the client has to go on after the last that it saw.
async fn receipts(request: Request) -> Json<Value> {
    let query = request.uri().query().unwrap_or_default();
    assert!(query.contains(&format!("dataset={}", "ab".repeat(32))), "{query}");
    let receipt = |sequence| {
        json!({"sequence": sequence, "dataset": "ab".repeat(32), "version": sequence, "key_encryption_key": 1,
               "wrapped_sha256": "cd".repeat(32), "reason": "superseded", "ledger_height": 7, "destroyed_at": 0})
    };
    Json(match query.contains("after=1") {
        true => json!({"items": [receipt(2)]}),
        false => json!({"items": [receipt(1)], "next": "1"}),
    })
}

async fn poll(State(script): State<Shared>, Segment(id): Segment<String>) -> Json<Value> {
    assert_eq!(id, OPERATION);
    let mut script = script.lock().unwrap();
    script.polls += 1;
    Json(match &script.failure {
        Some(problem) => {
            let mut failed = operation("failed");
            failed["problem"] = problem.clone();
            failed
        }
        None if script.polls < 2 || script.never_finish => operation("running"),
        None => operation("succeeded"),
    })
}

pub struct Broker {
    pub url: String,
    pub script: Shared,
    pub directory: tempfile::TempDir,
}

pub async fn broker(script: Script) -> Broker {
    let script: Shared = Arc::new(Mutex::new(script));
    let one_lease = |State(script): State<Shared>| async move {
        let script = script.lock().unwrap();
        Json(
            script
                .lease
                .clone()
                .unwrap_or_else(|| lease("active", script.mount)),
        )
    };
    let line = || async {
        Json(json!({"items": [{"place": 1, "mode": "exclusive"},
                                {"place": 2, "mode": "shared", "kept_until": 4_102_444_800_i64, "lease": LEASE}]}))
    };
    let leases = |State(script): State<Shared>| async move {
        let listed = script.lock().unwrap().listed.clone();
        Json(json!({"items": [listed.unwrap_or_else(|| lease("active", "ready"))]}))
    };
    let skeleton =
        || async { Json(json!({"lease": LEASE, "dataset": "uis-texts", "directories": ["a", "a/b"]})) };
    let skeletons = || async {
        Json(
            json!({"skeletons": [{"lease": LEASE, "dataset": "uis-texts", "directories": ["a", "../../evil"]}]}),
        )
    };
    let me = || async {
        Json(
            json!({"issuer": "jupyterhub", "subject": "alice@example.com", "username": "alice@example.com",
                    "roles": ["researcher"], "organisation": "UiOMSP"}),
        )
    };
    let router = Router::new()
        .route("/v1/me", get(me))
        .route(
            "/v1/datasets",
            get(|| async { Json(json!({"items": [dataset()]})) }).post(accept),
        )
        .route(
            "/v1/datasets/{id}",
            get(|| async { Json(dataset()) }).delete(accept).patch(accept),
        )
        .route("/v1/datasets/{id}/line", get(line))
        .route("/v1/datasets/{id}/rotation", post(accept))
        .route("/v1/key-receipts", get(receipts))
        .route("/v1/leases", post(accept).get(leases))
        .route("/v1/leases/{id}", delete(accept).get(one_lease))
        .route("/v1/leases/{id}/renewal", post(accept))
        .route("/v1/leases/{id}/approval", post(accept))
        .route("/v1/leases/{id}/denial", post(accept))
        .route("/v1/leases/{id}/revocation", post(accept))
        .route("/v1/leases/{id}/declaration", post(accept))
        .route("/v1/leases/{id}/skeleton", get(skeleton))
        .route("/v1/skeletons", get(skeletons))
        .route("/v1/operations/{id}", get(poll))
        .layer(middleware::from_fn_with_state(script.clone(), gate))
        .with_state(script.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "the-token\n").unwrap();
    Broker {
        url,
        script,
        directory,
    }
}

impl Broker {
    pub async fn run(&self, arguments: &[&str]) -> Output {
        run(&self.url, self.directory.path(), arguments).await
    }

    /// What the last write said.
    pub fn last_body(&self) -> Value {
        self.script.lock().unwrap().bodies.last().unwrap().clone()
    }

    pub fn seen(&self) -> Vec<String> {
        self.script.lock().unwrap().seen.clone()
    }
}

pub async fn run(url: &str, directory: &Path, arguments: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .env_clear()
        .env("LEASEHOLD_URL", url)
        .env("LEASEHOLD_TOKEN_FILE", directory.join("token"))
        .env("HOME", directory)
        .args(arguments)
        .output()
        .await
        .unwrap()
}

pub fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub fn ready() -> Script {
    Script {
        mount: "ready",
        ..Script::default()
    }
}

//! The `leasehold` binary against a broker that answers from a script: what scripts and people see.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Path as Segment, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures::stream;
use serde_json::{Value, json};

const LEASE: &str = "00112233445566778899aabbccddeeff";
const OPERATION: &str = "7a1f7c1e-0000-4000-8000-000000000001";

/// How the broker of a test behaves, and what it saw.
#[derive(Default)]
struct Script {
    mount: &'static str,
    refusal: Option<Value>,
    failure: Option<Value>,
    drop_first_write: bool,
    never_finish: bool,
    seen: Vec<String>,
    keys: BTreeSet<String>,
    polls: usize,
}

type Shared = Arc<Mutex<Script>>;

fn problem(code: &str, status: u16, detail: &str, field: Option<&str>) -> Value {
    json!({"type": format!("urn:leasehold:problem:{code}"), "title": code, "status": status, "detail": detail, "field": field})
}

fn dataset() -> Value {
    json!({"id": "ab".repeat(32), "name": "uis-texts", "owner": "UiSMSP", "title": "Three\u{1b}[31m texts", "description": "d",
           "max_ttl_seconds": 86400, "created_at": 0, "lease_state": "free"})
}

fn lease(state: &str, mount: &str) -> Value {
    let finding = (mount == "failed")
        .then(|| json!({"code": "path_missing", "message": "/srv/leasehold/uis/gone is not on node n1"}));
    json!({"id": LEASE, "dataset_id": "ab".repeat(32), "dataset": "uis-texts", "owner": "UiSMSP", "subject": "5e",
           "state": state, "granted_at": 0, "expires_at": 4_102_444_800_i64, "fencing_token": 1, "mount": mount, "finding": finding})
}

fn operation(status: &str) -> Value {
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

async fn accept() -> (StatusCode, Json<Value>) {
    (StatusCode::ACCEPTED, Json(operation("pending")))
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

struct Broker {
    url: String,
    script: Shared,
    directory: tempfile::TempDir,
}

async fn broker(script: Script) -> Broker {
    let script: Shared = Arc::new(Mutex::new(script));
    let one_lease =
        |State(script): State<Shared>| async move { Json(lease("active", script.lock().unwrap().mount)) };
    let leases = || async { Json(json!({"items": [lease("active", "ready")]})) };
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
            get(|| async { Json(dataset()) }).delete(accept),
        )
        .route("/v1/leases", post(accept).get(leases))
        .route("/v1/leases/{id}", delete(accept).get(one_lease))
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
    async fn run(&self, arguments: &[&str]) -> Output {
        run(&self.url, self.directory.path(), arguments).await
    }

    fn seen(&self) -> Vec<String> {
        self.script.lock().unwrap().seen.clone()
    }
}

async fn run(url: &str, directory: &Path, arguments: &[&str]) -> Output {
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

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn ready() -> Script {
    Script {
        mount: "ready",
        ..Script::default()
    }
}

#[tokio::test]
async fn the_catalogue_prints_in_every_format() {
    let broker = broker(ready()).await;
    let table = broker.run(&["datasets", "list"]).await;
    let lines: Vec<_> = out(&table).lines().collect();
    assert!(lines[0].starts_with("NAME        OWNER    LEASE"), "{lines:?}");
    assert!(lines[1].starts_with("uis-texts   UiSMSP   free "), "{lines:?}");
    assert!(!out(&table).contains('\u{1b}'), "a title steered the terminal");
    assert!(out(&broker.run(&["datasets", "list", "-o", "wide"]).await).contains("LONGEST-LEASE"));
    assert_eq!(
        out(&broker.run(&["datasets", "list", "-o", "name"]).await),
        "dataset/uis-texts\n"
    );
    let json: Value =
        serde_json::from_str(out(&broker.run(&["datasets", "list", "-o", "json"]).await)).unwrap();
    assert_eq!(json["items"][0]["owner"], "UiSMSP");
    assert!(
        out(&broker.run(&["-o", "yaml", "datasets", "show", "uis-texts"]).await).contains("name: uis-texts")
    );
    assert!(out(&broker.run(&["datasets", "show", "uis-texts"]).await).contains("owner:"));
    assert!(out(&broker.run(&["whoami"]).await).contains("alice@example.com"));
    assert!(
        broker
            .seen()
            .iter()
            .all(|line| line.ends_with("Bearer the-token"))
    );
}

#[tokio::test]
async fn a_lease_waits_until_it_is_mountable_and_lays_the_skeleton() {
    let broker = broker(ready()).await;
    let unasked = broker.run(&["lease", "uis-texts", "--ttl", "2h"]).await;
    assert_eq!(code(&unasked), 0, "{}", err(&unasked));
    assert!(
        out(&unasked).contains(LEASE) && out(&unasked).contains("ready"),
        "{}",
        out(&unasked)
    );
    assert!(err(&unasked).contains("skeleton sync"), "{}", err(&unasked));
    assert!(
        !broker.directory.path().join("datasets").exists(),
        "directories were made unasked"
    );

    std::fs::create_dir(broker.directory.path().join("datasets")).unwrap();
    let leased = broker.run(&["lease", "uis-texts", "-o", "name"]).await;
    assert_eq!(out(&leased), format!("lease/{LEASE}\n"));
    assert!(broker.directory.path().join("datasets/uis-texts/a/b").is_dir());
    assert!(
        !err(&leased).contains('\u{1b}'),
        "progress was drawn on something that is no terminal"
    );
}

#[tokio::test]
async fn a_lease_that_cannot_be_mounted_exits_1_with_the_finding() {
    let broker = broker(Script {
        mount: "failed",
        ..Script::default()
    })
    .await;
    let output = broker.run(&["lease", "uis-texts"]).await;
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains("failed"));
    assert!(
        err(&output).contains("/srv/leasehold/uis/gone is not on node n1 (path_missing)"),
        "{}",
        err(&output)
    );
}

#[tokio::test]
async fn what_is_not_done_in_time_exits_4() {
    let pending = broker(Script {
        mount: "pending",
        ..Script::default()
    })
    .await;
    let output = pending.run(&["lease", "uis-texts", "--timeout", "1s"]).await;
    assert_eq!(code(&output), 4, "{}", err(&output));
    assert!(err(&output).contains(LEASE), "{}", err(&output));
    let running = broker(Script {
        never_finish: true,
        ..ready()
    })
    .await;
    let output = running.run(&["lease", "uis-texts", "--timeout", "1s"]).await;
    assert_eq!(code(&output), 4, "{}", err(&output));
    assert!(
        err(&output).contains(&format!("leasehold operation {OPERATION}")),
        "{}",
        err(&output)
    );
}

#[tokio::test]
async fn without_waiting_the_operation_is_printed() {
    let broker = broker(ready()).await;
    let output = broker
        .run(&["lease", "uis-texts", "--no-wait", "-o", "name"])
        .await;
    assert_eq!(out(&output), format!("operation/{OPERATION}\n"));
    let shown = broker.run(&["operation", OPERATION, "-o", "json"]).await;
    assert_eq!(
        serde_json::from_str::<Value>(out(&shown)).unwrap()["kind"],
        "lease"
    );
}

#[tokio::test]
async fn refusals_exit_1_with_detail_code_and_field() {
    let refusal = problem(
        "ttl_too_long",
        400,
        "a lease of uis-texts lasts at most 86400 s",
        Some("ttl_seconds"),
    );
    let broker = broker(Script {
        refusal: Some(refusal),
        ..ready()
    })
    .await;
    let output = broker.run(&["lease", "uis-texts", "--ttl", "20d"]).await;
    assert_eq!(code(&output), 1);
    assert_eq!(
        err(&output),
        "error: a lease of uis-texts lasts at most 86400 s (ttl_too_long)\nfield: ttl_seconds\n"
    );
    assert_eq!(out(&output), "");
}

#[tokio::test]
async fn a_failed_operation_is_a_refusal() {
    let conflict = problem("dataset_leased", 409, "uis-texts is leased until 12:00", None);
    let broker = broker(Script {
        failure: Some(conflict),
        ..ready()
    })
    .await;
    let output = broker.run(&["lease", "uis-texts"]).await;
    assert_eq!(
        (code(&output), err(&output)),
        (1, "error: uis-texts is leased until 12:00 (dataset_leased)\n")
    );
}

#[tokio::test]
async fn a_write_that_nobody_answered_is_sent_again_under_the_same_key() {
    let broker = broker(Script {
        drop_first_write: true,
        ..ready()
    })
    .await;
    let output = broker.run(&["lease", "uis-texts"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(
        broker
            .seen()
            .iter()
            .filter(|line| line.starts_with("POST /v1/leases"))
            .count(),
        2
    );
    assert_eq!(broker.script.lock().unwrap().keys.len(), 1);
}

#[tokio::test]
async fn a_lease_is_released_by_the_name_of_its_dataset() {
    let broker = broker(ready()).await;
    let output = broker.run(&["release", "uis-texts"]).await;
    assert_eq!(
        out(&output),
        format!("lease/{LEASE} of uis-texts released\n"),
        "{}",
        err(&output)
    );
    assert!(
        broker
            .seen()
            .iter()
            .any(|line| line.starts_with(&format!("DELETE /v1/leases/{LEASE} ")))
    );
    let unknown = broker.run(&["release", "other"]).await;
    assert_eq!(code(&unknown), 2);
    assert!(
        err(&unknown).contains("no active lease of other"),
        "{}",
        err(&unknown)
    );
}

#[tokio::test]
async fn a_dataset_is_registered_from_a_file_and_removed() {
    let broker = broker(ready()).await;
    let file = broker.directory.path().join("dataset.yaml");
    std::fs::write(
        &file,
        "name: uis-texts\ntitle: Texts\nvolume:\n  kind: local\n  path: /srv/leasehold/uis/texts\n  node: n1\n",
    )
    .unwrap();
    let output = broker
        .run(&["datasets", "register", "-f", file.to_str().unwrap(), "-o", "name"])
        .await;
    assert_eq!(out(&output), "dataset/uis-texts\n", "{}", err(&output));
    let output = broker.run(&["datasets", "remove", "uis-texts"]).await;
    assert_eq!(out(&output), "dataset/uis-texts removed\n", "{}", err(&output));
}

#[tokio::test]
async fn a_wrong_file_is_told_without_its_secrets() {
    let broker = broker(ready()).await;
    let file = broker.directory.path().join("dataset.yaml");
    for content in [
        "name: a\ntitle: {password: s3cr3t}\nvolume: {}\n",
        "name: a\ntitle: t\npassword: s3cr3t\nvolume: {}\n",
        "name: a\ntitle: t\nvolume: {password: s3cr3t, password: s3cr3t}\n",
        "s3cr3t",
        "volume: [s3cr3t\n",
        "name: a\ntitle: t\nmax_ttl_seconds: s3cr3t\nvolume: {}\n",
    ] {
        std::fs::write(&file, content).unwrap();
        let output = broker
            .run(&["datasets", "register", "-f", file.to_str().unwrap()])
            .await;
        assert_eq!(code(&output), 2, "{content}");
        assert!(!err(&output).contains("s3cr3t"), "{}", err(&output));
    }
    assert!(broker.seen().is_empty());
}

#[tokio::test]
async fn the_skeleton_is_synchronised_and_best_effort_never_fails() {
    let broker = broker(ready()).await;
    let home = broker.directory.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let home = home.to_str().unwrap();
    let strict = broker.run(&["skeleton", "sync", "--home", home]).await;
    assert_eq!(code(&strict), 1);
    assert!(err(&strict).contains("../../evil"), "{}", err(&strict));
    assert!(
        Path::new(home).join("datasets/uis-texts/a").is_dir(),
        "the sound directories are made all the same"
    );
    let lenient = broker
        .run(&["skeleton", "sync", "--home", home, "--best-effort"])
        .await;
    assert_eq!(code(&lenient), 0);
    assert!(
        err(&lenient).starts_with("warning: ") && err(&lenient).lines().count() == 1,
        "{}",
        err(&lenient)
    );

    let gone = run(
        "http://127.0.0.1:1",
        broker.directory.path(),
        &["skeleton", "sync", "--home", home],
    )
    .await;
    assert_eq!(code(&gone), 3, "{}", err(&gone));
    for url in ["http://127.0.0.1:1", "not a url", "http://example.org"] {
        let arguments = [
            "skeleton",
            "sync",
            "--home",
            home,
            "--best-effort",
            "--timeout",
            "2s",
        ];
        let output = run(url, broker.directory.path(), &arguments).await;
        assert_eq!(code(&output), 0, "{}", err(&output));
        assert!(err(&output).starts_with("warning: "), "{}", err(&output));
    }
}

#[tokio::test]
async fn wrong_usage_exits_2_and_says_what_to_set() {
    let broker = broker(ready()).await;
    for arguments in [
        &["datasets", "show", ".."][..],
        &["lease"],
        &["lease", "a", "--ttl", "2x"],
        &["fly"],
    ] {
        assert_eq!(code(&broker.run(arguments).await), 2, "{arguments:?}");
    }
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .env_clear()
        .arg("whoami")
        .output()
        .await
        .unwrap();
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("LEASEHOLD_URL"), "{}", err(&output));
    std::fs::remove_file(broker.directory.path().join("token")).unwrap();
    let output = broker.run(&["whoami"]).await;
    assert_eq!(code(&output), 2);
    assert!(
        err(&output).contains("cannot read the token from"),
        "{}",
        err(&output)
    );
    assert!(out(&broker.run(&["completion", "bash"]).await).contains("leasehold"));
    assert!(broker.seen().is_empty());
}

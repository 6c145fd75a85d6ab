//! JupyterHub: its tokens are shown to the broker, which asks it whose they are.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Fixture, eventually};
use crate::{Process, free_port, plain_client};

const SCOPE: &str = "access:services!service=leasehold";
const API_TOKEN: &str = "0123456789abcdef0123456789abcdef";
const CACHE_SECONDS: u64 = 2;

struct Hub {
    api: String,
    client: reqwest::Client,
    process: Process,
    _directory: tempfile::TempDir,
}

impl Hub {
    async fn start(venv: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("jupyterhub_config.py");
        std::fs::write(&config, include_str!("jupyterhub_config.py")).unwrap();
        let port = free_port().to_string();
        let mut command = Command::new(venv.join("bin/python3"));
        command
            .args(["-m", "jupyterhub", "--config"])
            .arg(&config)
            .current_dir(directory.path())
            .env("HUB_STATE", directory.path())
            .env("HUB_PORT", &port)
            .env("HUB_PUBLIC_PORT", free_port().to_string())
            .env("HUB_API_TOKEN", API_TOKEN);
        let process = Process::start(command, directory.path().join("hub.log"));
        let hub = Self {
            api: format!("http://127.0.0.1:{port}/hub/api"),
            client: plain_client(),
            process,
            _directory: directory,
        };
        let begun = Instant::now();
        eventually("JupyterHub to answer", async || {
            let answer = hub.client.get(format!("{}/", hub.api)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        println!("JupyterHub answers after {:.1?}", begun.elapsed());
        hub
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let request = self.client.request(method, format!("{}{path}", self.api));
        let request = request.header("authorization", format!("token {API_TOKEN}"));
        let answer = request.json(&body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// A new token of a user: its id and itself.
    async fn token(&self, user: &str, scopes: &[&str]) -> (String, String) {
        let path = format!("/users/{user}/tokens");
        let made = self.call(Method::POST, &path, json!({"scopes": scopes})).await;
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        (text("id"), text("token"))
    }
}

/// All of it. Yields how many promises were kept.
pub async fn run(venv: &Path) -> u32 {
    let mut hub = Hub::start(venv).await;
    let fixture = Fixture::start().await;
    let issuer = json!({
        "name": "jupyterhub", "kind": "jupyterhub", "api_url": hub.api, "cache_seconds": CACHE_SECONDS,
        "roles": [{"claim": "groups", "values": {"researchers": "researcher", "stewards": "steward"}}],
    });
    fixture
        .reconfigure(|config| config["issuers"].as_array_mut().unwrap().push(issuer))
        .await;
    for user in ["alice", "olga@example.com"] {
        hub.call(Method::POST, &format!("/users/{user}"), json!({})).await;
    }
    for (group, user) in [("researchers", "alice"), ("stewards", "olga@example.com")] {
        hub.call(Method::POST, &format!("/groups/{group}"), json!({}))
            .await;
        let path = format!("/groups/{group}/users");
        hub.call(Method::POST, &path, json!({"users": [user]})).await;
    }
    groups_of_the_hub_decide_who_may_what(&hub, &fixture).await;
    tokens_for_something_else_are_refused(&hub, &fixture).await;
    a_revoked_token_is_refused_and_a_hub_that_is_down_refuses_nobody(&mut hub, &fixture).await;
    3
}

async fn groups_of_the_hub_decide_who_may_what(hub: &Hub, fixture: &Fixture) {
    let scopes = [SCOPE, "read:users:groups!user"];
    for (user, role, group) in [
        ("alice", "researcher", "researchers"),
        ("olga@example.com", "steward", "stewards"),
    ] {
        let (_, token) = hub.token(user, &scopes).await;
        let me = fixture.call("GET", "/v1/me", &token, None).await.body;
        assert_eq!(
            (&me["issuer"], &me["subject"], &me["roles"], &me["groups"]),
            (
                &json!("jupyterhub"),
                &json!(user),
                &expected(role),
                &json!([group])
            ),
            "{me}"
        );
    }
    println!("test groups_of_the_hub_decide_who_may_what ... ok");
}

/// People of `hub_issuer` are researchers, since the hub vouches for them at spawns as well.
fn expected(role: &str) -> Value {
    match role {
        "researcher" => json!(["researcher"]),
        other => json!(["researcher", other]),
    }
}

async fn tokens_for_something_else_are_refused(hub: &Hub, fixture: &Fixture) {
    let (_, other) = hub.token("alice", &["access:services!service=another"]).await;
    let (_, narrow) = hub.token("alice", &["read:users:name!user"]).await;
    for (token, reason) in [
        (other.as_str(), "scope_missing"),
        (narrow.as_str(), "scope_missing"),
        (API_TOKEN, "hub_service"),
        ("ffffffffffffffffffffffffffffffff", "unknown_to_hub"),
    ] {
        let before = fixture.log().len();
        let refused = fixture.call("GET", "/v1/me", token, None).await;
        assert_eq!(
            (refused.status, refused.code()),
            (401, "unauthenticated"),
            "{reason}"
        );
        assert!(
            fixture.log()[before..].contains(&format!("\"{reason}\"")),
            "{reason}"
        );
    }
    println!("test tokens_for_something_else_are_refused ... ok");
}

async fn a_revoked_token_is_refused_and_a_hub_that_is_down_refuses_nobody(hub: &mut Hub, fixture: &Fixture) {
    let (id, token) = hub.token("alice", &[SCOPE]).await;
    let (_, kept) = hub.token("alice", &[SCOPE]).await;
    let status = async |token: &str| fixture.call("GET", "/v1/me", token, None).await.status;
    assert_eq!((status(&token).await, status(&kept).await), (200, 200));
    hub.call(Method::DELETE, &format!("/users/alice/tokens/{id}"), json!({}))
        .await;
    eventually("the revoked token to be refused", async || {
        (status(&token).await == 401).then_some(())
    })
    .await;
    assert_eq!(status(&kept).await, 200);
    hub.process.stop();
    eventually("the hub's silence to be told", async || {
        let answer = fixture.call("GET", "/v1/me", &kept, None).await;
        assert_ne!(answer.status, 401, "silence is no refusal");
        (answer.code() == "issuer_unavailable").then_some(())
    })
    .await;
    println!("test a_revoked_token_is_refused_and_a_hub_that_is_down_refuses_nobody ... ok");
}

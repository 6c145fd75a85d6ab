//! Keycloak: people log in there, its realm's roles and groups decide what they may here, and its keys are followed.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixture::{Fixture, eventually, registration};
use crate::{Process, free_port, plain_client};

const ADMINISTRATOR: (&str, &str) = ("administrator", "administrator-password");
/// Much longer than it takes on a slow machine.
const START: Duration = Duration::from_secs(600);

struct Keycloak {
    url: String,
    client: reqwest::Client,
    _process: Process,
    _directory: tempfile::TempDir,
}

impl Keycloak {
    /// A copy of its own, since a start writes into the distribution.
    async fn start(home: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("keycloak");
        let copied = Command::new("cp").arg("-r").args([home, &own]).status().unwrap();
        assert!(copied.success(), "could not copy {}", home.display());
        let import = own.join("data/import");
        std::fs::create_dir_all(&import).unwrap();
        std::fs::write(import.join("leasehold-realm.json"), include_str!("realm.json")).unwrap();
        let (port, management) = (free_port().to_string(), free_port().to_string());
        let mut command = Command::new("bash");
        command
            .arg(own.join("bin/kc.sh"))
            .args([
                "start-dev",
                "--import-realm",
                "--http-host",
                "127.0.0.1",
                "--http-port",
                &port,
            ])
            .args([
                "--http-management-port",
                &management,
                "--db",
                "dev-mem",
                "--cache",
                "local",
            ])
            .env("KC_BOOTSTRAP_ADMIN_USERNAME", ADMINISTRATOR.0)
            .env("KC_BOOTSTRAP_ADMIN_PASSWORD", ADMINISTRATOR.1)
            .env("JAVA_OPTS_APPEND", "-Xmx512m");
        let process = Process::start(command, directory.path().join("keycloak.log"));
        let keycloak = Self {
            url: format!("http://127.0.0.1:{port}"),
            client: plain_client(),
            _process: process,
            _directory: directory,
        };
        let begun = Instant::now();
        loop {
            let document = format!(
                "{}/realms/leasehold/.well-known/openid-configuration",
                keycloak.url
            );
            let answer = keycloak.client.get(document).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            assert!(begun.elapsed() < START, "Keycloak does not answer");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        println!("Keycloak answers after {:.1?}", begun.elapsed());
        keycloak
    }

    async fn log_in(&self, realm: &str, client: &str, (name, password): (&str, &str)) -> Value {
        let url = format!("{}/realms/{realm}/protocol/openid-connect/token", self.url);
        let form = format!(
            "grant_type=password&client_id={client}&username={name}&password={password}&scope=openid"
        );
        let request = self.client.post(url).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{name} could not log in: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn token(&self, name: &str) -> String {
        let password = format!("{name}-password");
        let tokens = self.log_in("leasehold", "leasehold", (name, &password)).await;
        tokens["access_token"].as_str().unwrap().to_owned()
    }

    /// Gives the realm a new signing key, as its administrator does.
    async fn rotate(&self) {
        let tokens = self.log_in("master", "admin-cli", ADMINISTRATOR).await;
        let component = json!({
            "name": "rotated", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider",
            "config": {"priority": ["500"], "algorithm": ["RS256"], "keySize": ["2048"]},
        });
        let url = format!("{}/admin/realms/leasehold/components", self.url);
        let request = self
            .client
            .post(url)
            .bearer_auth(tokens["access_token"].as_str().unwrap());
        let answer = request.json(&component).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 201, "{}", answer.text().await.unwrap());
    }
}

fn key_id(token: &str) -> String {
    let header = jsonwebtoken::decode_header(token).unwrap();
    header.kid.unwrap()
}

async fn roles(fixture: &Fixture, token: &str) -> Value {
    let me = fixture.call("GET", "/v1/me", token, None).await;
    assert_eq!(me.status, 200, "{}", me.body);
    me.body
}

/// All of it. Yields how many promises were kept.
pub async fn run(home: &Path) -> u32 {
    let keycloak = Keycloak::start(home).await;
    let fixture = Fixture::start().await;
    let issuer = json!({
        "name": "keycloak", "kind": "oidc", "issuer": format!("{}/realms/leasehold", keycloak.url), "audience": "leasehold",
        "algorithms": ["RS256"], "username_claim": "preferred_username", "groups_claim": "groups",
        "roles": [{"claim": "realm_access.roles", "values": {
            "leasehold-researcher": "researcher", "leasehold-steward": "steward", "leasehold-auditor": "auditor",
        }}],
    });
    fixture
        .reconfigure(|config| config["issuers"].as_array_mut().unwrap().push(issuer))
        .await;
    realm_roles_decide_who_may_what(&keycloak, &fixture).await;
    tokens_of_another_client_or_purpose_are_refused(&keycloak, &fixture).await;
    a_rotated_key_is_followed(&keycloak, &fixture).await;
    3
}

async fn realm_roles_decide_who_may_what(keycloak: &Keycloak, fixture: &Fixture) {
    let (alice, olga, bob) = (
        keycloak.token("alice").await,
        keycloak.token("olga").await,
        keycloak.token("bob").await,
    );
    let me = roles(fixture, &alice).await;
    assert_eq!(
        (&me["issuer"], &me["username"], &me["roles"], &me["groups"]),
        (
            &json!("keycloak"),
            &json!("alice"),
            &json!(["researcher"]),
            &json!(["/research/uis"])
        )
    );
    assert_eq!(roles(fixture, &olga).await["roles"], json!(["steward"]));
    assert_eq!(roles(fixture, &bob).await["roles"], json!([]));

    let register = async |token: &str| {
        fixture
            .call("POST", "/v1/datasets", token, Some(registration("texts")))
            .await
    };
    for token in [&alice, &bob] {
        assert_eq!(register(token).await.code(), "forbidden");
    }
    let accepted = register(&olga).await;
    assert_eq!(fixture.decided(&accepted, &olga).await["status"], "succeeded");
    fixture.lease("texts", &alice).await;
    assert_eq!(fixture.call("GET", "/v1/datasets", &bob, None).await.status, 403);
    println!("test realm_roles_decide_who_may_what ... ok");
}

async fn tokens_of_another_client_or_purpose_are_refused(keycloak: &Keycloak, fixture: &Fixture) {
    let alice = ("alice", "alice-password");
    let other = keycloak.log_in("leasehold", "other", alice).await;
    let own = keycloak.log_in("leasehold", "leasehold", alice).await;
    let master = keycloak.log_in("master", "admin-cli", ADMINISTRATOR).await;
    for (name, token, reason) in [
        (
            "another client's access token",
            &other["access_token"],
            "audience_missing",
        ),
        ("another client's ID token", &other["id_token"], "wrong_audience"),
        ("a refresh token", &own["refresh_token"], "algorithm_symmetric"),
        ("another realm's token", &master["access_token"], "unknown_issuer"),
    ] {
        let before = fixture.log().len();
        let refused = fixture.call("GET", "/v1/me", token.as_str().unwrap(), None).await;
        assert_eq!(refused.status, 401, "{name}");
        assert!(
            fixture.log()[before..].contains(&format!("\"{reason}\"")),
            "{name}: {reason}"
        );
    }
    // The ID token is what the hub hands over at a spawn: it has the roles too.
    let id_token = own["id_token"].as_str().unwrap();
    assert_eq!(roles(fixture, id_token).await["roles"], json!(["researcher"]));
    println!("test tokens_of_another_client_or_purpose_are_refused ... ok");
}

async fn a_rotated_key_is_followed(keycloak: &Keycloak, fixture: &Fixture) {
    let before = keycloak.token("alice").await;
    keycloak.rotate().await;
    let after = keycloak.token("alice").await;
    assert_ne!(key_id(&before), key_id(&after));
    eventually("the new key to be known", async || {
        (fixture.call("GET", "/v1/me", &after, None).await.status == 200).then_some(())
    })
    .await;
    // The realm still publishes the old one.
    assert_eq!(fixture.call("GET", "/v1/me", &before, None).await.status, 200);
    println!("test a_rotated_key_is_followed ... ok");
}

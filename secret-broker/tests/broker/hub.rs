//! Tokens of a JupyterHub, played by a server of the tests'. The real one is in the tests of `parties`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::fixture::{Fixture, eventually, registration};

const SCOPE: &str = "access:services!service=leasehold";
const CACHE_SECONDS: u64 = 2;

/// What the hub knows: users' models by their tokens.
#[derive(Default)]
struct Known {
    models: BTreeMap<String, Value>,
    /// Answers every question with this instead.
    broken: Option<(StatusCode, String)>,
    asked: Vec<String>,
}

struct FakeHub {
    url: String,
    known: Arc<Mutex<Known>>,
}

impl FakeHub {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hub/api", listener.local_addr().unwrap());
        let known = Arc::new(Mutex::new(Known::default()));
        let state = Arc::clone(&known);
        let answer = move |headers: HeaderMap| {
            let shown = headers["authorization"].to_str().unwrap().to_owned();
            let token = shown.strip_prefix("token ").unwrap().to_owned();
            let mut known = state.lock().unwrap();
            known.asked.push(token.clone());
            let answer = match (&known.broken, known.models.get(&token)) {
                (Some(broken), _) => broken.clone(),
                (None, Some(model)) => (StatusCode::OK, model.to_string()),
                (None, None) => (StatusCode::FORBIDDEN, json!({"status": 403}).to_string()),
            };
            std::future::ready(answer)
        };
        let router = Router::new().route("/hub/api/user", get(answer));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, known }
    }

    /// A new token of a user.
    fn token(&self, number: u32, model: Value) -> String {
        let token = format!("{number:032x}");
        self.known.lock().unwrap().models.insert(token.clone(), model);
        token
    }

    fn asked(&self) -> usize {
        self.known.lock().unwrap().asked.len()
    }
}

fn user(name: &str, scopes: &[&str], groups: &[&str]) -> Value {
    json!({"kind": "user", "name": name, "admin": false, "scopes": scopes, "groups": groups})
}

async fn with_hub() -> (Fixture, FakeHub) {
    let fixture = Fixture::start().await;
    let hub = FakeHub::start().await;
    let issuer = json!({
        "name": "jupyterhub", "kind": "jupyterhub", "api_url": hub.url, "cache_seconds": CACHE_SECONDS,
        "researchers": true, "roles": [{"claim": "groups", "values": {"stewards": "steward"}}],
    });
    fixture
        .reconfigure(|config| config["issuers"].as_array_mut().unwrap().push(issuer))
        .await;
    (fixture, hub)
}

async fn me(fixture: &Fixture, token: &str) -> (u16, String, Value) {
    let answer = fixture.call("GET", "/v1/me", token, None).await;
    (answer.status, answer.code().to_owned(), answer.body)
}

/// Calls until the answer is as expected.
async fn until(fixture: &Fixture, token: &str, status: u16) {
    eventually("the hub's new answer to count", async || {
        (me(fixture, token).await.0 == status).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_says_whose_a_token_is_and_is_not_asked_each_time() {
    let (fixture, hub) = with_hub().await;
    let token = hub.token(1, user("olga@example.com", &[SCOPE], &["stewards", "uis"]));
    let (status, _, shown) = me(&fixture, &token).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(
        (&shown["issuer"], &shown["subject"], &shown["username"]),
        (
            &json!("jupyterhub"),
            &json!("olga@example.com"),
            &json!("olga@example.com")
        )
    );
    assert_eq!(shown["roles"], json!(["researcher", "steward"]));
    assert_eq!(shown["groups"], json!(["stewards", "uis"]));
    let (start, before) = (Instant::now(), hub.asked());
    for _ in 0..30 {
        assert_eq!(me(&fixture, &token).await.0, 200);
    }
    let most = 1 + start.elapsed().as_secs() / CACHE_SECONDS;
    assert!(u64::try_from(hub.asked() - before).unwrap() <= most);
    let registered = fixture
        .call("POST", "/v1/datasets", &token, Some(registration("texts")))
        .await;
    assert_eq!(registered.status, 202);
    assert!(!fixture.log().contains(&token), "the token is in the log");

    // Whom the hub vouches for at a spawn is the same person.
    let mut hook = fixture.machine("leasehold-spawner-hook").await;
    hook.bind_service_accounts(crate::machines::bind_request(
        "olga@example.com",
        "uid-1",
        "uid-2",
    ))
    .await
    .unwrap();
    let notebook = fixture.cluster.account("hub", "nb-olga", "uid-1", "leasehold");
    let bound = me(&fixture, &fixture.cluster.sign(&notebook)).await.2;
    assert_eq!(
        (&bound["issuer"], &bound["subject"]),
        (&shown["issuer"], &shown["subject"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_the_scope_of_a_service_or_revoked_is_refused() {
    let (fixture, hub) = with_hub().await;
    let narrow = hub.token(1, user("alice", &["access:servers!server=alice/"], &[]));
    let other = hub.token(2, user("alice", &["access:services!service=other"], &[]));
    let service = hub.token(3, json!({"kind": "service", "name": "alice", "scopes": [SCOPE]}));
    let nameless = hub.token(4, user("", &[SCOPE], &[]));
    let unknown = format!("{:032x}", 99);
    for (token, reason) in [
        (&narrow, "scope_missing"),
        (&other, "scope_missing"),
        (&service, "hub_service"),
        (&nameless, "subject_malformed"),
        (&unknown, "unknown_to_hub"),
        (&"short".to_owned(), "not_a_token"),
    ] {
        let before = fixture.log().len();
        let (status, code, _) = me(&fixture, token).await;
        assert_eq!((status, code.as_str()), (401, "unauthenticated"), "{reason}");
        assert!(
            fixture.log()[before..].contains(&format!("\"{reason}\"")),
            "{reason}"
        );
    }
    // A refusal is kept as well: guesses do not become questions.
    let before = hub.asked();
    let start = Instant::now();
    for _ in 0..20 {
        me(&fixture, &unknown).await;
    }
    let most = 1 + start.elapsed().as_secs() / CACHE_SECONDS;
    assert!(u64::try_from(hub.asked() - before).unwrap() <= most);

    let token = hub.token(5, user("bob", &["access:services"], &[]));
    assert_eq!(me(&fixture, &token).await.0, 200);
    let revoked = Instant::now();
    hub.known.lock().unwrap().models.remove(&token);
    until(&fixture, &token, 401).await;
    assert!(revoked.elapsed() < Duration::from_secs(CACHE_SECONDS + 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_does_not_answer_properly_refuses_nobody_for_good() {
    let (fixture, hub) = with_hub().await;
    for (number, broken) in [
        (1, (StatusCode::INTERNAL_SERVER_ERROR, String::new())),
        (2, (StatusCode::FOUND, String::new())),
        (3, (StatusCode::OK, "<html>log in</html>".to_owned())),
        (4, (StatusCode::TOO_MANY_REQUESTS, String::new())),
    ] {
        let token = hub.token(number, user("alice", &[SCOPE], &[]));
        hub.known.lock().unwrap().broken = Some(broken);
        let before = fixture.log().len();
        let (status, code, _) = me(&fixture, &token).await;
        assert_eq!((status, code.as_str()), (503, "issuer_unavailable"));
        assert!(fixture.log()[before..].contains("\"hub_unavailable\""));
        hub.known.lock().unwrap().broken = None;
        // At once: nothing was kept.
        assert_eq!(me(&fixture, &token).await.0, 200);
    }
    assert_eq!(me(&fixture, &fixture.person("alice")).await.0, 200);
}

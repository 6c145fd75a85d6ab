//! Tokens that must not be believed: how each is made, and the reason that the audit gives.
//!
//! Callers learn one thing for all of them, 401 `unauthenticated`; the audit has the reason, and neither has the token.

mod claims;
mod form;
mod keys;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::fixture::{Fixture, registration};
use crate::issuer::Signer;
use crate::tokens::with;

/// What it is, the audit's reason, the token.
type Case = (&'static str, &'static str, String);

/// Where no connection may ever arrive: every address that a token names.
struct Canary {
    url: String,
    connections: Arc<AtomicUsize>,
    _listener: tokio::task::JoinHandle<()>,
}

impl Canary {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let listener = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self {
            url,
            connections,
            _listener: listener,
        }
    }
}

struct Forge<'a> {
    fixture: &'a Fixture,
    canary: &'a str,
    /// The provider's own key, as an attacker with an account has its signatures.
    signer: &'a Signer,
    /// A key of the attacker's under the provider's key id.
    stranger: Signer,
    good: Value,
}

impl Forge<'_> {
    fn header(&self, changes: Value) -> Value {
        with(
            json!({"alg": "ES256", "kid": self.signer.kid, "typ": "JWT"}),
            changes,
        )
    }

    /// Signed by the provider, with other claims.
    fn claims(&self, changes: Value) -> String {
        self.signer.sign(&with(self.good.clone(), changes))
    }

    /// Signed by the provider, under another header.
    fn headed(&self, changes: Value) -> String {
        self.signer.sign_as(&self.header(changes), &self.good)
    }

    /// Signed by the provider, with members' text in front of the claims'.
    fn prefixed(&self, members: &str) -> String {
        let claims = self.good.to_string().replacen('{', &format!("{{{members},"), 1);
        self.signer
            .sign_text(&self.header(json!({})).to_string(), &claims)
    }

    fn unsigned(&self, algorithm: &str, signature: &str) -> String {
        format!(
            "{}.{}.{signature}",
            URL_SAFE_NO_PAD.encode(self.header(json!({"alg": algorithm})).to_string()),
            URL_SAFE_NO_PAD.encode(self.good.to_string())
        )
    }

    /// A good token's text, with another signature.
    fn resigned(&self, signature: &[u8]) -> String {
        let token = self.signer.sign(&self.good);
        let (message, _) = token.rsplit_once('.').unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn hmac(&self, key: &[u8], header: Value) -> String {
        let signer = Signer {
            algorithm: Algorithm::HS256,
            key: EncodingKey::from_secret(key),
            ..self.signer.clone()
        };
        signer.sign_as(&self.header(header), &self.good)
    }

    fn all(&self) -> Vec<Case> {
        [
            self.bytes(),
            self.algorithms(),
            self.keys(),
            self.headers(),
            self.signatures(),
            self.issuers(),
            self.subjects_and_audiences(),
            self.times(),
            self.purposes(),
            self.accounts(),
        ]
        .concat()
    }
}

/// The reason of the refusal that the audit noted since.
fn noted(log: &str) -> String {
    let line = log
        .lines()
        .find(|line| line.contains("\"audit\"") && line.contains("\"authenticate\""))
        .unwrap_or_default();
    let event: Value = serde_json::from_str(line).unwrap_or_default();
    let found = event["reason"]
        .as_str()
        .or_else(|| event["fields"]["reason"].as_str());
    found.unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_tokens_are_refused_alike_and_the_audit_says_why_without_showing_them() {
    let fixture = Fixture::start().await;
    let canary = Canary::start().await;
    fixture.provider.publish(&Signer::rs256("provider-rsa"));
    // The published key is there before the first token asks for it.
    let rsa = Signer::rs256("provider-rsa").sign(&fixture.provider.person("alice"));
    crate::fixture::eventually("the RSA key to be known", async || {
        (fixture.call("GET", "/v1/me", &rsa, None).await.status == 200).then_some(())
    })
    .await;
    fixture.register("texts").await;
    let before = fixture.state().await;
    let forge = Forge {
        fixture: &fixture,
        canary: &canary.url,
        signer: &fixture.provider.signer,
        stranger: Signer::es256(&fixture.provider.signer.kid),
        good: fixture.provider.person("steward"),
    };
    let good = fixture
        .call("GET", "/v1/me", &forge.signer.sign(&forge.good), None)
        .await;
    assert_eq!(good.status, 200, "what is forged is good but for one thing");

    let cases = forge.all();
    let mut wrong = Vec::new();
    let mut answers = BTreeSet::new();
    for (name, reason, token) in &cases {
        let log_before = fixture.log().len();
        let answer = fixture
            .call("POST", "/v1/datasets", token, Some(registration("stolen")))
            .await;
        let mut body = answer.body;
        if let Some(body) = body.as_object_mut() {
            body.remove("instance");
        }
        answers.insert(format!("{} {body}", answer.status));
        let log = fixture.log();
        let noted = noted(&log[log_before..]);
        if answer.status != 401 || noted != *reason {
            wrong.push(format!(
                "{name}: expected {reason}, got {} {noted}",
                answer.status
            ));
        }
        let signature = token.rsplit('.').next().unwrap_or_default();
        assert!(
            signature.len() < 10 || !log.contains(signature),
            "{name}: the token is in the log"
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(answers.len(), 1, "each refusal reads the same: {answers:#?}");
    assert!(
        answers
            .iter()
            .all(|a| a.contains("urn:leasehold:problem:unauthenticated"))
    );
    let reasons: BTreeSet<_> = cases.iter().map(|(_, reason, _)| reason).collect();
    let names: BTreeSet<_> = cases.iter().map(|(name, ..)| name).collect();
    println!("{} hostile tokens, {} reasons", names.len(), reasons.len());
    assert!(names.len() == cases.len() && cases.len() >= 100 && reasons.len() >= 40);
    assert_eq!(
        canary.connections.load(Ordering::SeqCst),
        0,
        "an address of a token was connected to"
    );
    assert_eq!(fixture.state().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_token_in_one_header_or_none() {
    let fixture = Fixture::start().await;
    let token = fixture.person("steward");
    let me = || fixture.client().get(fixture.rest_url("/v1/me"));
    for request in [
        me(),
        me().header("authorization", &token),
        me().header("authorization", format!("Basic {token}")),
        me().header("authorization", "Bearer"),
        me().bearer_auth(&token).bearer_auth(&token),
    ] {
        let refused = fixture.send(request).await;
        assert_eq!((refused.status, refused.code()), (401, "unauthenticated"));
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
    }
    let known = me().header("authorization", format!("bearer {token}"));
    assert_eq!(fixture.send(known).await.status, 200);
}

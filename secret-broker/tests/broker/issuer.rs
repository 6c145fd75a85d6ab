//! An issuer of tokens: a key pair, a discovery document and a key set on a loopback port. Serves as OpenID provider and as the part of an
//! API server that publishes its ServiceAccount issuer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

/// A private key and the public form of it.
#[derive(Clone)]
pub struct Signer {
    pub kid: String,
    pub algorithm: Algorithm,
    pub key: EncodingKey,
    pub jwk: Value,
}

impl Signer {
    pub fn es256(kid: &str) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let point = pair.public_key_raw();
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
        });
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        Self {
            kid: kid.to_owned(),
            algorithm: Algorithm::ES256,
            key,
            jwk,
        }
    }

    pub fn rs256(kid: &str) -> Self {
        let key = EncodingKey::from_rsa_pem(include_bytes!("issuer-rsa-key.pem")).unwrap();
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap()).unwrap();
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        Self {
            kid: kid.to_owned(),
            algorithm: Algorithm::RS256,
            key,
            jwk,
        }
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(
            &json!({"alg": self.algorithm, "kid": self.kid, "typ": "JWT"}),
            claims,
        )
    }

    /// Signs under a header of the caller's choice.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        self.sign_bytes(header.as_bytes(), claims.as_bytes())
    }

    pub fn sign_bytes(&self, header: &[u8], claims: &[u8]) -> String {
        let message = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

struct Served {
    issuer: String,
    keys: Mutex<BTreeMap<String, Value>>,
    fetches: AtomicUsize,
    reviews: AtomicUsize,
    /// Uids of pods and accounts that were deleted.
    gone: Mutex<BTreeSet<String>>,
    /// Whether reviews are refused, as to whoever lacks the right.
    closed: AtomicBool,
    bearer: Option<String>,
}

/// A running issuer; ends with its runtime.
pub struct Issuer {
    pub url: String,
    pub name: String,
    pub signer: Signer,
    served: Arc<Served>,
    _server: tokio::task::JoinHandle<()>,
}

impl Issuer {
    /// Starts an issuer that calls itself `name`, or by its own address; asks for `bearer` where one is given.
    pub async fn start(signer: Signer, name: Option<&str>, bearer: Option<&str>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let name = name.unwrap_or(&url).to_owned();
        let served = Arc::new(Served {
            issuer: name.clone(),
            keys: Mutex::new(BTreeMap::from([(signer.kid.clone(), signer.jwk.clone())])),
            fetches: AtomicUsize::new(0),
            reviews: AtomicUsize::new(0),
            gone: Mutex::default(),
            closed: AtomicBool::new(false),
            bearer: bearer.map(str::to_owned),
        });
        let jwks_uri = format!("{url}/openid/v1/jwks");
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(|State(s): State<Arc<Served>>, headers: HeaderMap| async move {
                    s.allowed(&headers)?;
                    Ok::<_, StatusCode>(json!({"issuer": s.issuer, "jwks_uri": jwks_uri}).to_string())
                }),
            )
            .route(
                "/openid/v1/jwks",
                get(|State(s): State<Arc<Served>>, headers: HeaderMap| async move {
                    s.allowed(&headers)?;
                    // As an API server does, whose key set is of this type and of no other.
                    let takes = headers.get("accept").and_then(|value| value.to_str().ok());
                    if !takes.is_some_and(|types| types.contains("application/jwk-set+json")) {
                        return Err(StatusCode::NOT_ACCEPTABLE);
                    }
                    s.fetches.fetch_add(1, Ordering::SeqCst);
                    let keys: Vec<_> = s.keys.lock().unwrap().values().cloned().collect();
                    Ok::<_, StatusCode>(json!({ "keys": keys }).to_string())
                }),
            )
            .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review))
            .with_state(Arc::clone(&served));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            name,
            signer,
            served,
            _server: server,
        }
    }

    pub fn publish(&self, signer: &Signer) {
        self.served
            .keys
            .lock()
            .unwrap()
            .insert(signer.kid.clone(), signer.jwk.clone());
    }

    /// Deletes the pod or account with this uid.
    pub fn delete(&self, uid: &str) {
        self.served.gone.lock().unwrap().insert(uid.to_owned());
    }

    /// Whether the broker lacks the right to have tokens reviewed.
    pub fn close_reviews(&self, closed: bool) {
        self.served.closed.store(closed, Ordering::SeqCst);
    }

    /// How many tokens were reviewed.
    pub fn reviews(&self) -> usize {
        self.served.reviews.load(Ordering::SeqCst)
    }

    /// How often the key set was fetched.
    pub fn fetches(&self) -> usize {
        self.served.fetches.load(Ordering::SeqCst)
    }

    /// Good claims of a person.
    pub fn person(&self, sub: &str) -> Value {
        let now = now();
        json!({"iss": self.name, "sub": sub, "aud": "leasehold", "iat": now, "nbf": now, "exp": now + 600})
    }

    /// Good claims of a ServiceAccount's token for an audience.
    pub fn account(&self, namespace: &str, name: &str, uid: &str, audience: &str) -> Value {
        let now = now();
        json!({
            "iss": self.name, "sub": format!("system:serviceaccount:{namespace}:{name}"), "aud": [audience],
            "iat": now, "nbf": now, "exp": now + 600,
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": uid},
                "pod": {"name": "some-pod", "uid": "pod-uid"},
            },
        })
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.signer.sign(claims)
    }
}

/// A TokenReview as an API server answers it, for tokens whose signature is good.
async fn review(
    State(served): State<Arc<Served>>,
    headers: HeaderMap,
    body: String,
) -> Result<(StatusCode, String), StatusCode> {
    served.allowed(&headers)?;
    if served.closed.load(Ordering::SeqCst) {
        return Err(StatusCode::FORBIDDEN);
    }
    served.reviews.fetch_add(1, Ordering::SeqCst);
    let asked: Value = serde_json::from_str(&body).unwrap();
    let payload = asked["spec"]["token"]
        .as_str()
        .unwrap()
        .split('.')
        .nth(1)
        .unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    let bound = &claims["kubernetes.io"];
    let gone = served.gone.lock().unwrap();
    let is_gone = |object: &Value| object["uid"].as_str().is_some_and(|uid| gone.contains(uid));
    let status = if is_gone(&bound["serviceaccount"]) || is_gone(&bound["pod"]) {
        json!({"user": {}, "error": "[invalid bearer token, the bound object is gone]"})
    } else {
        json!({
            "authenticated": true, "audiences": asked["spec"]["audiences"],
            "user": {"username": claims["sub"], "uid": bound["serviceaccount"]["uid"]},
        })
    };
    let answer = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status});
    Ok((StatusCode::CREATED, answer.to_string()))
}

impl Served {
    fn allowed(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        let shown = headers
            .get("authorization")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        match &self.bearer {
            Some(token) if shown != format!("Bearer {token}") => Err(StatusCode::UNAUTHORIZED),
            _ => Ok(()),
        }
    }
}

pub fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

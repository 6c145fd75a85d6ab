//! Identities that an AWS load balancer adds to requests, with the tests' key endpoint in place of the region's.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use http::StatusCode;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::fixture::{Answer, Fixture};
use crate::issuer::{Signer, now};
use crate::tokens::with;

const ARN: &str =
    "arn:aws:elasticloadbalancing:eu-north-1:111122223333:loadbalancer/app/leasehold/0123456789abcdef";
const ISSUER: &str = "https://login.example.org/realms/uis";
const KEY: &str = "2f9c8a52-6b1d-4c3e-9a70-0d8f3a1b2c3d";

/// The endpoint: the public key under its id, and what was asked for.
struct Endpoint {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// The key as AWS serves it.
fn pem(signer: &Signer) -> String {
    let coordinate = |name: &str| {
        URL_SAFE_NO_PAD
            .decode(signer.jwk[name].as_str().unwrap())
            .unwrap()
    };
    let prefix = hex::decode("3059301306072a8648ce3d020106082a8648ce3d03010703420004").unwrap();
    let der = [prefix, coordinate("x"), coordinate("y")].concat();
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|l| std::str::from_utf8(l).unwrap())
        .collect();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        lines.join("\n")
    )
}

impl Endpoint {
    async fn start(signer: &Signer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (key, log) = (pem(signer), Arc::clone(&asked));
        let router = Router::new().route(
            "/{*key}",
            get(move |Path(id): Path<String>| {
                log.lock().unwrap().push(id.clone());
                let answer = if id == KEY {
                    Ok(key.clone())
                } else {
                    Err(StatusCode::NOT_FOUND)
                };
                std::future::ready(answer)
            }),
        );
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, asked }
    }
}

struct Site {
    fixture: Fixture,
    signer: Signer,
    endpoint: Endpoint,
}

impl Site {
    async fn start() -> Self {
        let fixture = Fixture::start().await;
        let signer = Signer::es256(KEY);
        let endpoint = Endpoint::start(&signer).await;
        let issuer = json!({
            "name": "front", "kind": "alb", "region": "eu-north-1", "signer": ARN, "issuer": ISSUER, "client": "leasehold",
            "keys_url": endpoint.url, "username_claim": "email",
            "roles": [{"claim": "groups", "values": {"lease": "researcher"}}], "groups_claim": "groups",
        });
        fixture
            .reconfigure(|config| config["issuers"].as_array_mut().unwrap().push(issuer))
            .await;
        Self {
            fixture,
            signer,
            endpoint,
        }
    }

    fn header(&self, changes: Value) -> Value {
        with(
            json!({"typ": "JWT", "kid": KEY, "alg": "ES256", "iss": ISSUER, "client": "leasehold", "signer": ARN, "exp": now() + 120}),
            changes,
        )
    }

    fn data(&self, signer: &Signer, header: Value, claims: Value) -> String {
        let claims = with(
            json!({"sub": "alice", "iss": ISSUER, "exp": now() + 120, "email": "alice@example.com", "groups": ["lease"]}),
            claims,
        );
        padded(signer, &self.header(header).to_string(), &claims.to_string())
    }

    async fn me(&self, data: &str) -> Answer {
        let request = self.fixture.client().get(self.fixture.rest_url("/v1/me"));
        self.fixture.send(request.header("x-amzn-oidc-data", data)).await
    }
}

/// Signs as balancers do: each part with padding, which is signed too.
fn padded(signer: &Signer, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE.encode(header), URL_SAFE.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &signer.key, signer.algorithm).unwrap();
    format!(
        "{message}.{}",
        URL_SAFE.encode(URL_SAFE_NO_PAD.decode(signature).unwrap())
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancers_person_comes_in_with_the_roles_of_the_claims() {
    let site = Site::start().await;
    let data = site.data(&site.signer, json!({}), json!({}));
    assert!(data.contains('='));
    for _ in 0..3 {
        let me = site.me(&data).await;
        assert_eq!(me.status, 200, "{}", me.body);
        assert_eq!(
            (
                &me.body["issuer"],
                &me.body["subject"],
                &me.body["username"],
                &me.body["roles"]
            ),
            (
                &json!("front"),
                &json!("alice"),
                &json!("alice@example.com"),
                &json!(["researcher"])
            )
        );
    }
    assert_eq!(
        *site.endpoint.asked.lock().unwrap(),
        [KEY],
        "the key is fetched once"
    );
    let nobody = site
        .me(&site.data(&site.signer, json!({}), json!({"groups": null})))
        .await;
    assert_eq!((nobody.status, &nobody.body["roles"]), (200, &json!([])));
    // Neither of two identities is chosen.
    let both = site.fixture.client().get(site.fixture.rest_url("/v1/me"));
    let both = both
        .bearer_auth(site.fixture.person("alice"))
        .header("x-amzn-oidc-data", &data);
    assert_eq!(site.fixture.send(both).await.status, 401);
    // A balancer's data is no bearer token.
    assert_eq!(site.fixture.call("GET", "/v1/me", &data, None).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_has_nothing_done_in_the_name_of_a_balancers_person() {
    let site = Site::start().await;
    let data = site.data(&site.signer, json!({}), json!({}));
    let host = site.fixture.rest_url("").replace("https://", "");
    let own = format!("https://{}", host.trim_end_matches('/'));
    for (name, value, status) in [
        ("sec-fetch-site", "cross-site", 401),
        ("sec-fetch-site", "same-site", 401),
        ("sec-fetch-site", "same-origin", 200),
        ("sec-fetch-site", "none", 200),
        ("origin", "https://evil.example.org", 401),
        ("origin", "null", 401),
        ("origin", &own, 200),
    ] {
        let request = site.fixture.client().get(site.fixture.rest_url("/v1/me"));
        let request = request.header("x-amzn-oidc-data", &data).header(name, value);
        let answer = site.fixture.send(request).await;
        assert_eq!(answer.status, status, "{name}: {value}");
    }
    // Nobody's browser sends a bearer token along.
    let request = site.fixture.client().get(site.fixture.rest_url("/v1/me"));
    let request = request
        .bearer_auth(site.fixture.person("alice"))
        .header("sec-fetch-site", "cross-site");
    assert_eq!(site.fixture.send(request).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_balancers_are_refused_each_with_its_reason_and_only_uuids_are_fetched() {
    let site = Site::start().await;
    let own = &site.signer;
    let stranger = Signer::es256(KEY);
    let rsa = Signer::rs256(KEY);
    let head = |changes: Value| site.data(own, changes, json!({}));
    let said = |changes: Value| site.data(own, json!({}), changes);
    let other_arn = ARN.replace("111122223333", "999988887777");
    let hmac = Signer {
        algorithm: Algorithm::HS256,
        key: jsonwebtoken::EncodingKey::from_secret(pem(own).as_bytes()),
        ..own.clone()
    };
    let other_key = "00000000-0000-4000-8000-000000000001";
    let good = head(json!({}));
    let cases = [
        (
            "another balancer of the region",
            "wrong_signer",
            head(json!({"signer": other_arn})),
        ),
        ("no signer", "wrong_signer", head(json!({"signer": null}))),
        (
            "signer in another case",
            "wrong_signer",
            head(json!({"signer": ARN.to_uppercase()})),
        ),
        ("another client", "wrong_client", head(json!({"client": "other"}))),
        ("no client", "wrong_client", head(json!({"client": null}))),
        (
            "another issuer",
            "unknown_issuer",
            head(json!({"iss": "https://evil.example.org"})),
        ),
        ("no issuer", "issuer_missing", head(json!({"iss": null}))),
        (
            "another issuer in the claims",
            "unknown_issuer",
            said(json!({"iss": "https://evil.example.org"})),
        ),
        ("expired", "expired", head(json!({"exp": now() - 120}))),
        ("no expiry", "expiry_missing", head(json!({"exp": null}))),
        (
            "expiry is text",
            "expiry_malformed",
            head(json!({"exp": "later"})),
        ),
        (
            "expired by its claims",
            "expired",
            said(json!({"exp": now() - 120})),
        ),
        (
            "kid is a path",
            "key_id_malformed",
            head(json!({"kid": "../../other-bucket/key"})),
        ),
        (
            "kid is an address",
            "key_id_malformed",
            head(json!({"kid": "@evil.example/key"})),
        ),
        (
            "kid is a UUID in capitals",
            "key_id_malformed",
            head(json!({"kid": KEY.to_uppercase()})),
        ),
        (
            "kid is a UUID without hyphens",
            "key_id_malformed",
            head(json!({"kid": KEY.replace('-', "")})),
        ),
        (
            "kid is a UUID in braces",
            "key_id_malformed",
            head(json!({"kid": format!("{{{KEY}}}")})),
        ),
        ("kid of no key", "unknown_key", head(json!({"kid": other_key}))),
        (
            "RS256",
            "algorithm_not_pinned",
            site.data(&rsa, json!({"alg": "RS256"}), json!({})),
        ),
        (
            "HS256 with the public key",
            "algorithm_symmetric",
            site.data(&hmac, json!({"alg": "HS256"}), json!({})),
        ),
        ("alg none", "algorithm_none", head(json!({"alg": "none"}))),
        (
            "a stranger's signature",
            "bad_signature",
            site.data(&stranger, json!({}), json!({})),
        ),
        (
            "without padding where it belongs",
            "padded_base64",
            good.replace('=', ""),
        ),
        ("no subject", "subject_missing", said(json!({"sub": null}))),
        (
            "a provider's own token, which has no padding",
            "padded_base64",
            site.fixture.person("alice"),
        ),
    ];
    for (name, reason, data) in &cases {
        let before = site.fixture.log().len();
        let refused = site.me(data).await;
        let log = site.fixture.log();
        assert_eq!(
            (refused.status, refused.code()),
            (401, "unauthenticated"),
            "{name}"
        );
        assert!(
            log[before..].contains(&format!("\"reason\":\"{reason}\"")),
            "{name}: expected {reason} in {}",
            log[before..]
                .lines()
                .find(|l| l.contains("\"audit\""))
                .unwrap_or_default()
        );
    }
    let mut asked = site.endpoint.asked.lock().unwrap().clone();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, [other_key, KEY]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_key_ids_causes_few_fetches_and_no_header_counts_without_a_balancer() {
    let site = Site::start().await;
    let start = std::time::Instant::now();
    for _ in 0..60 {
        let kid = uuid::Uuid::new_v4().to_string();
        let refused = site
            .me(&site.data(&site.signer, json!({"kid": kid}), json!({})))
            .await;
        assert!(matches!(refused.status, 401 | 503));
    }
    let most = 8 * (1 + start.elapsed().as_secs() / 10);
    let asked = u64::try_from(site.endpoint.asked.lock().unwrap().len()).unwrap();
    assert!(asked <= most, "{asked} fetches, at most {most}");

    let fixture = Fixture::start().await;
    let data = site.data(&site.signer, json!({}), json!({}));
    let me = || {
        fixture
            .client()
            .get(fixture.rest_url("/v1/me"))
            .header("x-amzn-oidc-data", &data)
    };
    assert_eq!(fixture.send(me()).await.status, 401);
    assert_eq!(
        fixture
            .send(me().bearer_auth(fixture.person("alice")))
            .await
            .status,
        200
    );
}

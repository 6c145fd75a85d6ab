//! Tokens that must not be believed, and those that must.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use leasehold_broker_wire::machines as wire;
use serde_json::{Value, json};
use tonic::Code;

use crate::fixture::{Fixture, eventually, registration};
use crate::issuer::{Signer, now};

fn with(mut claims: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(key);
        } else {
            claims[key] = value.clone();
        }
    }
    claims
}

fn hostile_tokens(fixture: &Fixture) -> Vec<(&'static str, &'static str, String)> {
    let (provider, signer) = (&fixture.provider, &fixture.provider.signer);
    let good = provider.person("steward");
    let header = |changes: Value| {
        with(
            json!({"alg": "ES256", "kid": "provider-1", "typ": "JWT"}),
            changes,
        )
    };
    let signed = |changes: Value| provider.sign(&with(good.clone(), changes));
    let unsigned = |header: Value| {
        format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(good.to_string())
        )
    };
    let stranger = Signer::es256("provider-1");
    let public_point = [
        vec![4],
        URL_SAFE_NO_PAD.decode(signer.jwk["x"].as_str().unwrap()).unwrap(),
        URL_SAFE_NO_PAD.decode(signer.jwk["y"].as_str().unwrap()).unwrap(),
    ]
    .concat();
    let hmac = Signer {
        algorithm: Algorithm::HS256,
        key: EncodingKey::from_secret(&public_point),
        ..signer.clone()
    };
    let hmac_of_jwk = Signer {
        algorithm: Algorithm::HS256,
        key: EncodingKey::from_secret(signer.jwk.to_string().as_bytes()),
        ..signer.clone()
    };
    let good_token = provider.sign(&good);
    let (message, signature) = good_token.rsplit_once('.').unwrap();
    let other_payload = {
        let (header, _) = message.split_once('.').unwrap();
        let payload = URL_SAFE_NO_PAD.encode(provider.person("somebody-else").to_string());
        format!("{header}.{payload}.{signature}")
    };
    let cluster = &fixture.cluster;
    let person_account = cluster.account("hub", "nb-alice", "uid-1", "leasehold");
    vec![
        ("expired", "expired", signed(json!({"exp": now() - 120}))),
        ("without expiry", "bad_claims", signed(json!({"exp": null}))),
        ("expiry is text", "bad_claims", signed(json!({"exp": "tomorrow"}))),
        ("not before tomorrow", "not_yet_valid", signed(json!({"nbf": now() + 3600}))),
        ("issued tomorrow", "not_yet_valid", signed(json!({"iat": now() + 3600}))),
        ("wrong audience", "wrong_audience", signed(json!({"aud": "somebody-else"}))),
        ("audience in another case", "wrong_audience", signed(json!({"aud": "Leasehold"}))),
        ("no audience", "bad_claims", signed(json!({"aud": null}))),
        ("wrong issuer", "unknown_issuer", signed(json!({"iss": "https://evil.example.org"}))),
        ("issuer with a final slash", "unknown_issuer", signed(json!({"iss": format!("{}/", provider.name)}))),
        ("another configured issuer's name", "algorithm_not_allowed", signed(json!({"iss": cluster.name}))),
        ("no issuer", "malformed", signed(json!({"iss": null}))),
        ("no subject", "bad_claims", signed(json!({"sub": null}))),
        ("empty subject", "bad_claims", signed(json!({"sub": ""}))),
        ("subject is a list", "bad_claims", signed(json!({"sub": ["steward"]}))),
        ("alg none", "algorithm_not_allowed", unsigned(header(json!({"alg": "none"})))),
        ("alg NONE with a signature", "algorithm_not_allowed", signer.sign_as(&header(json!({"alg": "NONE"})), &good)),
        ("unsigned", "bad_signature", unsigned(header(json!({})))),
        ("HS256 with the public key", "algorithm_not_allowed", hmac.sign_as(&header(json!({"alg": "HS256"})), &good)),
        ("HS256 with the public JWK", "algorithm_not_allowed", hmac_of_jwk.sign_as(&header(json!({"alg": "HS256"})), &good)),
        ("RS256 says the header, the key is EC", "algorithm_not_allowed", signer.sign_as(&header(json!({"alg": "RS256"})), &good)),
        ("a pinned-out algorithm", "algorithm_not_allowed", signer.sign_as(&header(json!({"alg": "ES384"})), &good)),
        ("signed by a stranger with our kid", "bad_signature", stranger.sign(&good)),
        ("unknown kid", "unknown_key", signer.sign_as(&header(json!({"kid": "provider-2"})), &good)),
        ("kid is a path", "unknown_key", signer.sign_as(&header(json!({"kid": "../../../../dev/null"})), &good)),
        ("no kid", "unknown_key", signer.sign_as(&header(json!({"kid": null})), &good)),
        (
            "brings its own key",
            "bad_signature",
            stranger.sign_as(&header(json!({"jwk": stranger.jwk, "jku": format!("{}/evil", provider.url), "x5u": "http://127.0.0.1:1/"})), &good),
        ),
        ("critical extension", "critical_header", signer.sign_as(&header(json!({"crit": ["exp"]})), &good)),
        ("duplicate alg", "malformed", signer.sign_text(r#"{"alg":"ES256","kid":"provider-1","alg":"ES256"}"#, &good.to_string())),
        (
            "duplicate sub",
            "malformed",
            signer.sign_text(&header(json!({})).to_string(), &good.to_string().replacen('{', r#"{"sub":"x","#, 1)),
        ),
        ("somebody else's payload", "bad_signature", other_payload),
        ("cut signature", "bad_signature", good_token[..good_token.len() - 6].to_owned()),
        ("a fourth part", "malformed", format!("{good_token}.x")),
        ("huge", "malformed", signed(json!({"padding": "x".repeat(30_000)}))),
        ("no token at all", "malformed", "hello".to_owned()),
        ("a machine's audience", "wrong_audience", cluster.sign(&cluster.account("hub", "nb-alice", "uid-1", "leasehold-broker"))),
        ("the API server's audience", "wrong_audience", cluster.sign(&with(person_account.clone(), json!({"aud": ["https://kubernetes.default.svc"]})))),
        ("two audiences", "wrong_audience", cluster.sign(&with(person_account.clone(), json!({"aud": ["leasehold", "leasehold-broker"]})))),
        ("an account without bound object", "bad_claims", cluster.sign(&with(person_account.clone(), json!({"kubernetes.io": null})))),
        ("sub and bound object differ", "bad_claims", cluster.sign(&with(person_account, json!({"sub": "system:serviceaccount:hub:nb-bob"})))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_tokens_are_refused_alike_and_the_log_says_why_without_showing_them() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    let before = fixture.state().await;
    let mut first = None;
    for (name, reason, token) in hostile_tokens(&fixture) {
        let log_before = fixture.log().len();
        let answer = fixture
            .call("POST", "/v1/datasets", &token, Some(registration("stolen")))
            .await;
        assert_eq!(
            (answer.status, answer.code()),
            (401, "unauthenticated"),
            "{name}: {}",
            answer.body
        );
        let mut body = answer.body;
        body.as_object_mut().unwrap().remove("instance");
        assert_eq!(
            *first.get_or_insert(body.clone()),
            body,
            "{name}: each refusal reads the same"
        );
        let log = fixture.log();
        let audit = log[log_before..]
            .lines()
            .find(|l| l.contains("\"audit\""))
            .unwrap_or_default()
            .to_owned();
        assert!(
            audit.contains(&format!("\"{reason}\"")),
            "{name}: expected {reason} in {audit}"
        );
        let signature = token.rsplit('.').next().unwrap_or_default();
        assert!(
            signature.len() < 10 || !log.contains(signature),
            "{name}: the token is in the log"
        );
    }
    assert_eq!(fixture.state().await, before);
    let missing = fixture
        .send(fixture.client().get(fixture.rest_url("/v1/me")))
        .await;
    assert_eq!(missing.status, 401);
    assert_eq!(missing.headers["www-authenticate"], "Bearer");
}

#[tokio::test(flavor = "multi_thread")]
async fn good_tokens_of_each_pinned_algorithm_are_accepted_and_rotated_keys_are_found() {
    let fixture = Fixture::start().await;
    let me = fixture
        .call("GET", "/v1/me", &fixture.person("steward"), None)
        .await;
    assert_eq!(me.status, 200);
    assert_eq!(me.body["issuer"], "provider");
    assert_eq!(me.body["roles"], json!(["researcher", "steward"]));
    assert_eq!(me.body["organisation"], "UiSMSP");
    let rotated = Signer::rs256("provider-rotated");
    fixture.provider.publish(&rotated);
    let token = rotated.sign(&fixture.provider.person("alice"));
    eventually("the rotated key to be found", async || {
        (fixture.call("GET", "/v1/me", &token, None).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unknown_key_ids_causes_few_fetches() {
    let fixture = Fixture::start().await;
    let (provider, before) = (&fixture.provider, fixture.provider.fetches());
    let start = Instant::now();
    for i in 0..100 {
        let header = json!({"alg": "ES256", "kid": format!("guess-{i}")});
        let token = provider.signer.sign_as(&header, &provider.person("alice"));
        assert_eq!(fixture.call("GET", "/v1/me", &token, None).await.status, 401);
    }
    // One for each pause of 5 s that the flood lasted, one that was due at its start, and one that the broker made by itself.
    let (fetches, lasted) = (provider.fetches() - before, start.elapsed());
    let most = 2 + lasted.as_secs() / 5;
    assert!(
        u64::try_from(fetches).unwrap() <= most,
        "{fetches} fetches in {lasted:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_no_machine_whatever_the_name_and_a_machine_is_no_person() {
    let fixture = Fixture::start().await;
    let name = "system:serviceaccount:leasehold-system:leasehold-provisioner";
    let provider = &fixture.provider;
    for audience in ["leasehold", "leasehold-broker"] {
        let token = provider.sign(&with(provider.person(name), json!({"aud": audience})));
        let mut client = fixture.machine_with(&token).await;
        let refused = client
            .open_volume(wire::OpenVolumeRequest {
                lease_id: "0".repeat(32),
            })
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    let own = fixture
        .cluster
        .account("leasehold-system", "leasehold-provisioner", "u", "leasehold");
    let token = fixture.cluster.sign(&own);
    let me = fixture.call("GET", "/v1/me", &token, None).await;
    assert_eq!((me.status, &me.body["roles"]), (200, &json!([])), "{}", me.body);
    assert_eq!(
        fixture.call("GET", "/v1/datasets", &token, None).await.status,
        403
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_provider_is_no_verdict_and_takes_nobody_else_down() {
    let fixture = Fixture::start().await;
    fixture.kill();
    let config = fixture.directory.path().join("config.yaml");
    let mut text: Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    text["issuers"].as_array_mut().unwrap().push(json!(
        {"name": "down", "kind": "oidc", "issuer": "http://127.0.0.1:9", "audience": "leasehold", "algorithms": ["ES256"]}
    ));
    std::fs::write(&config, text.to_string()).unwrap();
    fixture.run().await;
    let claims = with(
        fixture.provider.person("alice"),
        json!({"iss": "http://127.0.0.1:9"}),
    );
    let undecided = fixture
        .call("GET", "/v1/me", &fixture.provider.sign(&claims), None)
        .await;
    assert_eq!((undecided.status, undecided.code()), (503, "issuer_unavailable"));
    assert_eq!(
        fixture
            .call("GET", "/v1/me", &fixture.person("alice"), None)
            .await
            .status,
        200
    );
}

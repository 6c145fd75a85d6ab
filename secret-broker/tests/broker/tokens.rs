//! Tokens that must be believed, and what becomes of the rest of the service while some cannot be.

use std::time::Instant;

use leasehold_broker_wire::machines as wire;
use serde_json::{Value, json};
use tonic::Code;

use crate::fixture::{Fixture, eventually};
use crate::issuer::Signer;

/// Claims with some changed, or left out where the change is null.
pub fn with(mut claims: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(key);
        } else {
            claims[key] = value.clone();
        }
    }
    claims
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

// T13 of docs/security/model.md.
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
    let down = json!({"name": "down", "kind": "oidc", "issuer": "http://127.0.0.1:9", "audience": "leasehold", "algorithms": ["ES256"]});
    fixture
        .reconfigure(|config| config["issuers"].as_array_mut().unwrap().push(down))
        .await;
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

//! What people may do over REST.

use leasehold_broker_wire::machines as wire;
use serde_json::{Value, json};

use crate::fixture::{Fixture, eventually, registration};
use crate::machines::bind_request;
use crate::tokens::with;

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_is_registered_leased_released_and_removed() {
    let fixture = Fixture::start().await;
    let (steward, alice) = (fixture.person("steward"), fixture.person("alice"));
    let accepted = fixture
        .call("POST", "/v1/datasets", &steward, Some(registration("texts")))
        .await;
    assert_eq!(accepted.status, 202);
    assert_eq!(accepted.headers["retry-after"], "1");
    assert_eq!(
        accepted.headers["location"],
        format!("/v1/operations/{}", accepted.body["id"].as_str().unwrap())
    );
    let dataset = fixture.decided(&accepted, &steward).await["result"]["dataset"]
        .as_str()
        .unwrap()
        .to_owned();

    let shown = fixture.call("GET", "/v1/datasets/texts", &alice, None).await.body;
    assert_eq!(
        (&shown["id"], &shown["owner"], &shown["lease_state"]),
        (&json!(dataset), &json!("UiSMSP"), &json!("free"))
    );
    assert!(shown.get("volume").is_none());

    let lease = fixture.lease("texts", &alice).await;
    let mine = fixture
        .call("GET", &format!("/v1/leases/{lease}"), &alice, None)
        .await
        .body;
    assert_eq!(
        (&mine["state"], &mine["mount"], &mine["fencing_token"]),
        (&json!("active"), &json!("pending"), &json!(1))
    );
    let shown = fixture
        .call("GET", &format!("/v1/datasets/{dataset}"), &alice, None)
        .await
        .body;
    assert_eq!(shown["lease_state"], "leased");

    let leased = fixture.call("DELETE", "/v1/datasets/texts", &steward, None).await;
    let refused = fixture.decided(&leased, &steward).await;
    assert_eq!(refused["status"], "failed");
    assert_eq!(refused["problem"]["type"], "urn:leasehold:problem:dataset_leased");

    let released = fixture
        .call("DELETE", &format!("/v1/leases/{lease}"), &alice, None)
        .await;
    assert_eq!(fixture.decided(&released, &alice).await["status"], "succeeded");
    let mine = fixture
        .call("GET", &format!("/v1/leases/{lease}"), &alice, None)
        .await
        .body;
    assert_eq!(
        (&mine["state"], &mine["end_cause"]),
        (&json!("ending"), &json!("released"))
    );

    let mut provisioner = fixture.machine("leasehold-provisioner").await;
    provisioner
        .confirm_end(wire::ConfirmEndRequest {
            lease_id: lease.clone(),
        })
        .await
        .unwrap();
    let history = fixture
        .call("GET", "/v1/datasets/texts/history", &steward, None)
        .await
        .body;
    let events: Vec<_> = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["what"]["event"].clone())
        .collect();
    assert_eq!(
        json!(events),
        json!([
            "dataset_registered",
            "lease_granted",
            "lease_ending",
            "lease_ended"
        ])
    );
    let removed = fixture.call("DELETE", "/v1/datasets/texts", &steward, None).await;
    assert_eq!(fixture.decided(&removed, &steward).await["status"], "succeeded");
    assert_eq!(
        fixture
            .call("GET", "/v1/datasets/texts", &alice, None)
            .await
            .code(),
        "dataset_not_found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_under_the_same_key_is_one_operation() {
    let fixture = Fixture::start().await;
    let (steward, alice) = (fixture.person("steward"), fixture.person("alice"));
    fixture.register("texts").await;
    let ask = |body: Value, token: &str, key: &str| {
        let request = fixture
            .client()
            .post(fixture.rest_url("/v1/leases"))
            .bearer_auth(token)
            .json(&body);
        fixture.send(request.header("idempotency-key", key))
    };
    let body = json!({"dataset": "texts"});
    let first = ask(body.clone(), &alice, "key-1").await;
    assert_eq!(fixture.decided(&first, &alice).await["status"], "succeeded");
    // Also after it was decided, when a new request would be refused.
    let again = ask(body.clone(), &alice, "key-1").await;
    assert_eq!((again.status, &again.body["id"]), (202, &first.body["id"]));
    let other = ask(json!({"dataset": "texts", "ttl_seconds": 60}), &alice, "key-1").await;
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused"));
    let another = ask(body, &steward, "key-1").await;
    assert_eq!(another.code(), "lease_conflict", "a key is its caller's own");
    let path = format!("/v1/operations/{}", first.body["id"].as_str().unwrap());
    assert_eq!(
        fixture.call("GET", &path, &steward, None).await.status,
        404,
        "an operation is its submitter's own"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_acts_for_the_person_it_is_bound_to_by_uid() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    let notebook = |uid: &str| {
        fixture
            .cluster
            .sign(&fixture.cluster.account("hub", "nb-alice", uid, "leasehold"))
    };
    let unbound = fixture
        .call(
            "POST",
            "/v1/leases",
            &notebook("uid-1"),
            Some(json!({"dataset": "texts"})),
        )
        .await;
    assert_eq!((unbound.status, unbound.code()), (403, "forbidden"));
    let mut hook = fixture.machine("leasehold-spawner-hook").await;
    hook.bind_service_accounts(bind_request("alice@example.com", "uid-1", "uid-2"))
        .await
        .unwrap();
    let me = fixture.call("GET", "/v1/me", &notebook("uid-1"), None).await.body;
    assert_eq!(
        (&me["issuer"], &me["subject"], &me["username"], &me["roles"]),
        (
            &json!("jupyterhub"),
            &json!("alice@example.com"),
            &json!("alice@example.com"),
            &json!(["researcher"])
        )
    );
    let lease = fixture.lease("texts", &notebook("uid-1")).await;
    let recreated = fixture
        .call("GET", &format!("/v1/leases/{lease}"), &notebook("uid-9"), None)
        .await;
    assert_eq!(
        recreated.status, 404,
        "an account made anew under the same name is another"
    );
    let executor = fixture
        .cluster
        .sign(&fixture.cluster.account("hub", "wf-alice", "uid-2", "leasehold"));
    assert_eq!(
        fixture
            .call("GET", &format!("/v1/leases/{lease}"), &executor, None)
            .await
            .status,
        404
    );
    assert_eq!(
        fixture
            .call("GET", &format!("/v1/leases/{lease}"), &notebook("uid-1"), None)
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_come_from_configured_claims_and_a_notebook_has_those_of_its_start() {
    let fixture = Fixture::start().await;
    fixture
        .reconfigure(|config| {
            let provider = &mut config["issuers"][1];
            provider["researchers"] = json!(false);
            provider["groups_claim"] = json!("groups");
            provider["roles"] = json!([
                {"claim": "realm_access.roles",
                 "values": {"lease": "researcher", "data": "steward", "ops": "operator", "audit": "auditor"}},
            ]);
        })
        .await;
    let token = |sub: &str, roles: Value| {
        let claims = json!({"realm_access": {"roles": roles}, "groups": ["/research/uis"]});
        fixture.provider.sign(&with(fixture.provider.person(sub), claims))
    };
    let roles = async |token: &str| {
        let me = fixture.call("GET", "/v1/me", token, None).await;
        assert_eq!(me.status, 200, "{}", me.body);
        me.body["roles"].clone()
    };
    let all = token("alice", json!(["audit", "ops", "data", "lease", "other"]));
    let me = fixture.call("GET", "/v1/me", &all, None).await.body;
    assert_eq!(
        (&me["roles"], &me["groups"], &me["issuer"]),
        (
            &json!(["researcher", "steward", "operator", "auditor"]),
            &json!(["/research/uis"]),
            &json!("provider")
        )
    );
    // Neither without a role nor in one that may not lease is the catalogue open.
    for nothing in [json!([]), json!(["lease "]), json!(["ops", "audit"])] {
        let token = token("bob", nothing);
        let refused = fixture.call("GET", "/v1/datasets", &token, None).await;
        assert_eq!((refused.status, refused.code()), (403, "forbidden"));
    }
    let by_claim = fixture
        .call(
            "POST",
            "/v1/datasets",
            &token("nobody-listed", json!(["data"])),
            Some(registration("texts")),
        )
        .await;
    assert_eq!(by_claim.status, 202, "{}", by_claim.body);
    assert_eq!(
        roles(&token("steward", json!([]))).await,
        json!(["steward"]),
        "listed"
    );

    // The notebook of somebody without a role has none either.
    let mut hook = fixture.machine("leasehold-spawner-hook").await;
    let account = fixture.cluster.account("hub", "nb-alice", "uid-1", "leasehold");
    let notebook = fixture.cluster.sign(&account);
    for (told, expected) in [
        (json!([]), json!([])),
        (json!(["lease"]), json!(["researcher"])),
        (json!(["data"]), json!(["steward"])),
        (json!([]), json!([])),
    ] {
        let mut request = bind_request("alice@example.com", "uid-1", "uid-2");
        request.id_token = token("alice", told.clone());
        hook.bind_service_accounts(request).await.unwrap();
        assert_eq!(roles(&notebook).await, expected, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notebooks_token_is_good_no_longer_than_its_pod_and_account() {
    let fixture = Fixture::start().await;
    let mut hook = fixture.machine("leasehold-spawner-hook").await;
    hook.bind_service_accounts(bind_request("alice@example.com", "uid-1", "uid-2"))
        .await
        .unwrap();
    let cluster = &fixture.cluster;
    let in_pod = |pod: &str| {
        let mut account = cluster.account("hub", "nb-alice", "uid-1", "leasehold");
        account["kubernetes.io"]["pod"] = json!({"name": "jupyter-alice", "uid": pod});
        cluster.sign(&account)
    };
    let me = async |token: &str| {
        let answer = fixture.call("GET", "/v1/me", token, None).await;
        (answer.status, answer.code().to_owned())
    };
    let (first, second) = (in_pod("pod-1"), in_pod("pod-2"));
    assert_eq!((me(&first).await.0, me(&second).await.0), (200, 200));
    // The API server is not asked each time.
    let (start, before) = (std::time::Instant::now(), cluster.reviews());
    for _ in 0..20 {
        assert_eq!(me(&first).await.0, 200);
    }
    assert!(u64::try_from(cluster.reviews() - before).unwrap() <= 1 + start.elapsed().as_secs() / 10);

    cluster.delete("pod-1");
    eventually("the deleted pod's token to be refused", async || {
        (me(&first).await.0 == 401).then_some(())
    })
    .await;
    assert!(fixture.log().contains("\"bound_object_gone\""));
    assert_eq!(me(&second).await.0, 200, "another pod of the same account");
    cluster.delete("uid-1");
    let third = in_pod("pod-3");
    assert_eq!(
        me(&third).await,
        (401, "unauthenticated".to_owned()),
        "the account is gone"
    );

    // Without an answer there is no verdict, and it is not kept.
    let other = cluster.sign(&cluster.account("hub", "nb-bob", "uid-7", "leasehold"));
    cluster.close_reviews(true);
    assert_eq!(me(&other).await, (503, "issuer_unavailable".to_owned()));
    cluster.close_reviews(false);
    assert_eq!(me(&other).await.0, 200);
}

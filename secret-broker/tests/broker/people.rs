//! What people may and may not do over REST, and what stays unchanged when they may not.

use leasehold_broker_wire::machines as wire;
use serde_json::{Value, json};

use crate::fixture::{Fixture, registration};
use crate::machines::bind_request;

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
async fn what_is_refused_says_why_and_changes_nothing() {
    let fixture = Fixture::start().await;
    let (steward, alice, bob) = (
        fixture.person("steward"),
        fixture.person("alice"),
        fixture.person("bob"),
    );
    fixture.register("texts").await;
    let lease = fixture.lease("texts", &alice).await;
    let before = fixture.state().await;
    let volume = |path: &str| {
        let mut body = registration("other");
        body["volume"]["path"] = json!(path);
        body
    };
    let changed = |field: &str, value: Value| {
        let mut body = registration("other");
        body[field] = value;
        body
    };
    let unknown = "0".repeat(64);
    let cases = [
        (
            "a researcher registers",
            "POST",
            "/v1/datasets".to_owned(),
            &alice,
            Some(registration("other")),
            403,
            "forbidden",
            None,
        ),
        (
            "a path outside of the roots",
            "POST",
            "/v1/datasets".into(),
            &steward,
            Some(volume("/etc/shadow")),
            400,
            "invalid_field",
            Some("volume.path"),
        ),
        (
            "another owner's path",
            "POST",
            "/v1/datasets".into(),
            &steward,
            Some(volume("/srv/leasehold/uio/x")),
            400,
            "invalid_field",
            Some("volume.path"),
        ),
        (
            "a path with ..",
            "POST",
            "/v1/datasets".into(),
            &steward,
            Some(volume("/srv/leasehold/uis/../uio")),
            400,
            "invalid_field",
            Some("volume.path"),
        ),
        (
            "an unknown field",
            "POST",
            "/v1/datasets".into(),
            &steward,
            Some(changed("owner", json!("UiOMSP"))),
            400,
            "invalid_field",
            Some("owner"),
        ),
        (
            "a name that is none",
            "POST",
            "/v1/datasets".into(),
            &steward,
            Some(changed("name", json!("-Texts"))),
            400,
            "invalid_field",
            Some("name"),
        ),
        (
            "a number as title",
            "POST",
            "/v1/datasets".into(),
            &steward,
            Some(changed("title", json!(7))),
            400,
            "invalid_field",
            Some("title"),
        ),
        (
            "leases of a second",
            "POST",
            "/v1/datasets".into(),
            &steward,
            Some(changed("max_ttl_seconds", json!(1))),
            400,
            "invalid_field",
            Some("max_ttl_seconds"),
        ),
        (
            "an unknown dataset",
            "POST",
            "/v1/leases".into(),
            &bob,
            Some(json!({"dataset": "unknown"})),
            404,
            "dataset_not_found",
            None,
        ),
        (
            "an unknown id",
            "POST",
            "/v1/leases".into(),
            &bob,
            Some(json!({"dataset": unknown})),
            404,
            "dataset_not_found",
            None,
        ),
        (
            "a reference that is none",
            "POST",
            "/v1/leases".into(),
            &bob,
            Some(json!({"dataset": "../x"})),
            404,
            "dataset_not_found",
            None,
        ),
        (
            "a second lease of one's own",
            "POST",
            "/v1/leases".into(),
            &alice,
            Some(json!({"dataset": "texts"})),
            409,
            "lease_conflict",
            None,
        ),
        (
            "a double lease",
            "POST",
            "/v1/leases".into(),
            &bob,
            Some(json!({"dataset": "texts"})),
            409,
            "lease_conflict",
            None,
        ),
        (
            "for longer than allowed",
            "POST",
            "/v1/leases".into(),
            &bob,
            Some(json!({"dataset": "texts", "ttl_seconds": 7200})),
            400,
            "invalid_field",
            Some("ttl_seconds"),
        ),
        (
            "for somebody else",
            "POST",
            "/v1/leases".into(),
            &bob,
            Some(json!({"dataset": "texts", "user": "alice"})),
            400,
            "invalid_field",
            Some("user"),
        ),
        (
            "without a dataset",
            "POST",
            "/v1/leases".into(),
            &bob,
            Some(json!({})),
            400,
            "invalid_field",
            Some("dataset"),
        ),
        (
            "another's lease read",
            "GET",
            format!("/v1/leases/{lease}"),
            &bob,
            None,
            404,
            "not_found",
            None,
        ),
        (
            "another's lease released",
            "DELETE",
            format!("/v1/leases/{lease}"),
            &bob,
            None,
            404,
            "not_found",
            None,
        ),
        (
            "a steward releases",
            "DELETE",
            format!("/v1/leases/{lease}"),
            &steward,
            None,
            404,
            "not_found",
            None,
        ),
        (
            "a lease that never was",
            "DELETE",
            format!("/v1/leases/{}", "0".repeat(32)),
            &alice,
            None,
            404,
            "not_found",
            None,
        ),
        (
            "another's skeleton",
            "GET",
            format!("/v1/leases/{lease}/skeleton"),
            &steward,
            None,
            404,
            "not_found",
            None,
        ),
        (
            "a researcher removes",
            "DELETE",
            "/v1/datasets/texts".into(),
            &alice,
            None,
            403,
            "forbidden",
            None,
        ),
        (
            "a path that is none",
            "GET",
            "/v1/secrets".into(),
            &alice,
            None,
            404,
            "not_found",
            None,
        ),
        (
            "a method that is none",
            "PUT",
            "/v1/leases".into(),
            &alice,
            None,
            405,
            "method_not_allowed",
            None,
        ),
    ];
    for (name, method, path, token, body, status, code, field) in cases {
        let answer = fixture.call(method, &path, token, body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{name}: {}",
            answer.body
        );
        assert_eq!(answer.body["field"].as_str(), field, "{name}: {}", answer.body);
        assert_eq!(
            answer.headers["content-type"], "application/problem+json",
            "{name}"
        );
        assert!(!answer.body["detail"].as_str().unwrap().is_empty());
    }
    assert_eq!(fixture.state().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_read_strictly_and_within_bounds() {
    let fixture = Fixture::start().await;
    let token = fixture.person("steward");
    let post = |body: String, media_type: &'static str| {
        let request = fixture
            .client()
            .post(fixture.rest_url("/v1/leases"))
            .bearer_auth(&token);
        fixture.send(request.header("content-type", media_type).body(body))
    };
    let json_type = "application/json";
    for (body, media_type, status, code) in [
        (
            r#"{"dataset":"a","dataset":"b"}"#.to_owned(),
            json_type,
            400,
            "invalid_body",
        ),
        (r#"{"dataset":"a"} {}"#.to_owned(), json_type, 400, "invalid_body"),
        (r#"{"dataset":"#.to_owned(), json_type, 400, "invalid_body"),
        ("[".repeat(60_000), json_type, 400, "invalid_body"),
        (
            format!(r#"{{"dataset":"{}"}}"#, "a".repeat(70_000)),
            json_type,
            413,
            "body_too_large",
        ),
        (
            r#"{"dataset":"a"}"#.to_owned(),
            "text/plain",
            415,
            "unsupported_media_type",
        ),
    ] {
        let answer = post(body, media_type).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{}", answer.body);
    }
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

//! What people may not do over REST: each refusal says why, and changes nothing.

use serde_json::{Value, json};

use crate::fixture::{Fixture, registration};

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

//! Datasets that several people want: the line, renewals, sharing, and what their owner's stewards decide.

use leasehold_broker_wire::machines as wire;
use serde_json::{Value, json};

use crate::fixture::{Fixture, registration};
use crate::story;

/// Registers a dataset on these terms.
async fn register(fixture: &Fixture, name: &str, policy: Value) {
    let steward = fixture.person("steward");
    let mut dataset = registration(name);
    dataset["policy"] = policy;
    let accepted = fixture
        .call("POST", "/v1/datasets", &steward, Some(dataset))
        .await;
    let operation = fixture.decided(&accepted, &steward).await;
    assert_eq!(operation["status"], "succeeded", "{operation}");
}

/// A write that is accepted, and what became of it.
async fn write(fixture: &Fixture, method: &str, path: &str, token: &str, body: Option<Value>) -> Value {
    let accepted = fixture.call(method, path, token, body).await;
    fixture.decided(&accepted, token).await
}

/// Asks for a lease and yields its id.
async fn ask(fixture: &Fixture, token: &str, body: Value) -> String {
    let operation = write(fixture, "POST", "/v1/leases", token, Some(body)).await;
    assert_eq!(operation["status"], "succeeded", "{operation}");
    operation["result"]["lease"].as_str().unwrap().to_owned()
}

async fn show(fixture: &Fixture, lease: &str, token: &str) -> Value {
    let path = format!("/v1/leases/{lease}");
    fixture.call("GET", &path, token, None).await.body
}

async fn confirm_end(fixture: &Fixture, lease: &str) {
    let mut provisioner = fixture.machine("leasehold-provisioner").await;
    let request = wire::ConfirmEndRequest {
        lease_id: lease.to_owned(),
    };
    provisioner.confirm_end(request).await.unwrap();
}

fn code(operation: &Value) -> &str {
    let kind = operation["problem"]["type"].as_str().unwrap_or_default();
    kind.rsplit(':').next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_line_gets_the_dataset_when_its_turn_comes() {
    let fixture = Fixture::start().await;
    register(&fixture, "texts", json!({"most_waiting": 2})).await;
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| fixture.person(name));
    let first = ask(&fixture, &alice, json!({"dataset": "texts", "ttl_seconds": 600})).await;
    let mut told = story::watch(&fixture).await;
    assert_eq!(story::lease(&mut told).await.lease_id, first);

    let not_willing = fixture
        .call("POST", "/v1/leases", &bob, Some(json!({"dataset": "texts"})))
        .await;
    assert_eq!(not_willing.code(), "lease_conflict");
    let waits = json!({"dataset": "texts", "wait": true});
    let second = ask(&fixture, &bob, waits.clone()).await;
    let third = ask(&fixture, &carol, waits.clone()).await;
    let full = write(&fixture, "POST", "/v1/leases", &dave, Some(waits)).await;
    assert_eq!(code(&full), "line_full");

    let shown = show(&fixture, &third, &carol).await;
    assert_eq!(
        (&shown["state"], &shown["place"], &shown["granted_at"]),
        (&json!("waiting"), &json!(2), &json!(0))
    );
    let line = fixture
        .call("GET", "/v1/datasets/texts/line", &carol, None)
        .await
        .body;
    assert_eq!(line["items"][0]["place"], 1);
    assert_eq!(
        line["items"][0].get("lease"),
        None,
        "bob's is not carol's to know"
    );
    assert_eq!(line["items"][1]["lease"], json!(third));
    let steward = fixture.person("steward");
    let line = fixture
        .call("GET", "/v1/datasets/texts/line", &steward, None)
        .await
        .body;
    assert_eq!(line["items"][0]["lease"], json!(second));
    assert_eq!(
        fixture.call("GET", "/v1/datasets/texts", &dave, None).await.body["waiting"],
        2
    );

    let path = format!("/v1/leases/{first}/renewal");
    let renewed = write(&fixture, "POST", &path, &alice, Some(json!({}))).await;
    assert_eq!(code(&renewed), "renewal_waited_for");

    // Bob leaves the line; then it is carol's turn, as soon as nothing of alice's is left.
    let left = write(&fixture, "DELETE", &format!("/v1/leases/{second}"), &bob, None).await;
    assert_eq!(left["status"], "succeeded");
    assert_eq!(show(&fixture, &second, &bob).await["state"], "ended");
    let released = write(&fixture, "DELETE", &format!("/v1/leases/{first}"), &alice, None).await;
    assert_eq!(released["status"], "succeeded");
    assert_eq!(show(&fixture, &third, &carol).await["state"], "waiting");
    confirm_end(&fixture, &first).await;
    let shown = show(&fixture, &third, &carol).await;
    assert_eq!(
        (&shown["state"], &shown["fencing_token"], shown.get("place")),
        (&json!("active"), &json!(2), None)
    );
    // The cluster hears of a lease when it is granted, and of none before.
    let told = [
        story::lease(&mut told).await,
        story::lease(&mut told).await,
        story::lease(&mut told).await,
    ];
    let told = told
        .each_ref()
        .map(|lease| (lease.lease_id.as_str(), lease.state()));
    assert_eq!(
        told,
        [
            (first.as_str(), wire::LeaseState::Ending),
            (first.as_str(), wire::LeaseState::Ended),
            (third.as_str(), wire::LeaseState::Active),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_renews_a_lease_that_nobody_waits_for() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    let (alice, bob) = (fixture.person("alice"), fixture.person("bob"));
    let lease = ask(&fixture, &alice, json!({"dataset": "texts", "ttl_seconds": 600})).await;
    let mut told = story::watch(&fixture).await;
    let before = story::lease(&mut told).await.expires_at_ms;
    let path = format!("/v1/leases/{lease}/renewal");

    let shorter = fixture
        .call("POST", &path, &alice, Some(json!({"ttl_seconds": 60})))
        .await;
    assert_eq!(
        (shorter.status, &shorter.body["field"]),
        (400, &json!("ttl_seconds"))
    );
    // An account that is bound to nobody is no researcher, whatever it once was.
    let account = fixture.cluster.account("hub", "nb-alice", "uid-1", "leasehold");
    let unbound = fixture.cluster.sign(&account);
    let unbound = fixture.call("POST", &path, &unbound, Some(json!({}))).await;
    assert_eq!((unbound.status, unbound.code()), (403, "forbidden"));
    let foreign = fixture.call("POST", &path, &bob, Some(json!({}))).await;
    assert_eq!((foreign.status, foreign.code()), (404, "not_found"));
    let mistyped = fixture
        .call("POST", &path, &alice, Some(json!({"ttl": 60})))
        .await;
    assert_eq!((mistyped.status, mistyped.code()), (400, "invalid_field"));

    let renewed = write(&fixture, "POST", &path, &alice, Some(json!({}))).await;
    assert_eq!(
        (&renewed["kind"], &renewed["status"]),
        (&json!("renew"), &json!("succeeded"))
    );
    let after = story::lease(&mut told).await.expires_at_ms;
    assert!(
        after >= before + 2_900_000,
        "an hour from now instead of ten minutes"
    );
    assert_eq!(
        show(&fixture, &lease, &alice).await["expires_at"],
        json!(after / 1_000)
    );
    let at_once = fixture.call("POST", &path, &alice, Some(json!({}))).await;
    assert_eq!(
        (at_once.status, &at_once.body["field"]),
        (400, &json!("ttl_seconds")),
        "a renewal that brings nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_share_a_dataset_as_its_terms_say() {
    let fixture = Fixture::start().await;
    register(&fixture, "texts", json!({"most_shared": 2})).await;
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| fixture.person(name));
    let alone = json!({"dataset": "texts", "mode": "exclusive"});
    let alone = write(&fixture, "POST", "/v1/leases", &alice, Some(alone)).await;
    assert_eq!(code(&alone), "mode_not_allowed");
    for token in [&alice, &bob] {
        let lease = fixture.lease("texts", token).await;
        let shown = show(&fixture, &lease, token).await;
        assert_eq!(
            (&shown["state"], &shown["mode"]),
            (&json!("active"), &json!("shared"))
        );
    }
    let full = write(
        &fixture,
        "POST",
        "/v1/leases",
        &carol,
        Some(json!({"dataset": "texts"})),
    )
    .await;
    assert_eq!(code(&full), "lease_conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steward_revokes_a_lease_with_a_reason_that_its_holder_reads() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    let (alice, steward) = (fixture.person("alice"), fixture.person("steward"));
    let lease = fixture.lease("texts", &alice).await;
    let mut told = story::watch(&fixture).await;
    assert_eq!(story::lease(&mut told).await.state(), wire::LeaseState::Active);
    let path = format!("/v1/leases/{lease}/revocation");
    let reason = json!({"reason": "consent was withdrawn"});

    let by_holder = fixture.call("POST", &path, &alice, Some(reason.clone())).await;
    assert_eq!((by_holder.status, by_holder.code()), (403, "forbidden"));
    let without = fixture.call("POST", &path, &steward, Some(json!({}))).await;
    assert_eq!((without.status, &without.body["field"]), (400, &json!("reason")));
    let two_lines = json!({"reason": "one\ntwo"});
    let two_lines = write(&fixture, "POST", &path, &steward, Some(two_lines)).await;
    assert_eq!(two_lines["problem"]["field"], "reason");
    assert_eq!(show(&fixture, &lease, &alice).await["state"], "active");

    let revoked = write(&fixture, "POST", &path, &steward, Some(reason)).await;
    assert_eq!(revoked["status"], "succeeded", "{revoked}");
    let shown = show(&fixture, &lease, &alice).await;
    assert_eq!(
        (&shown["state"], &shown["end_cause"], &shown["end_reason"]),
        (
            &json!("ending"),
            &json!("revoked"),
            &json!("consent was withdrawn")
        )
    );
    let told = story::lease(&mut told).await;
    assert_eq!(
        (told.state(), told.end_cause.as_str()),
        (wire::LeaseState::Ending, "revoked")
    );
    let path = format!("/v1/leases/{lease}/declaration");
    let reason = json!({"reason": "the cluster is gone"});
    let declared = write(&fixture, "POST", &path, &steward, Some(reason)).await;
    assert_eq!(code(&declared), "too_early_to_declare");
    let unknown = format!("/v1/leases/{}/revocation", "0".repeat(32));
    let unknown = fixture
        .call("POST", &unknown, &steward, Some(json!({"reason": "none"})))
        .await;
    assert_eq!((unknown.status, unknown.code()), (404, "not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn amending_a_dataset_changes_what_is_said_and_leaves_the_rest() {
    let fixture = Fixture::start().await;
    register(
        &fixture,
        "texts",
        json!({"most_waiting": 3, "organisations": ["UiOMSP"]}),
    )
    .await;
    let (alice, steward) = (fixture.person("alice"), fixture.person("steward"));
    let path = "/v1/datasets/texts";
    let before = fixture.call("GET", path, &alice, None).await.body;
    assert_eq!(
        before["policy"],
        json!({"organisations": ["UiOMSP"], "exclusive": true, "most_shared": 0, "approve_leases": false,
               "most_waiting": 3, "place_seconds": 604_800})
    );

    let change = json!({"title": "Four texts", "max_ttl_seconds": 60, "policy": {"most_shared": 5, "organisations": ["*"]}});
    let by_researcher = fixture.call("PATCH", path, &alice, Some(change.clone())).await;
    assert_eq!((by_researcher.status, by_researcher.code()), (403, "forbidden"));
    for (wrong, field) in [
        (json!({"title": " "}), "title"),
        (json!({"max_ttl_seconds": 1}), "max_ttl_seconds"),
        (
            json!({"policy": {"organisations": ["*", "UiOMSP"]}}),
            "policy.organisations",
        ),
        (
            json!({"policy": {"organisations": ["no msp"]}}),
            "policy.organisations",
        ),
        (json!({"policy": {"groups": ["some"]}}), "policy.groups"),
        (json!({"volume": {"kind": "local"}}), "volume"),
    ] {
        let refused = fixture.call("PATCH", path, &steward, Some(wrong)).await;
        assert_eq!(
            (refused.status, &refused.body["field"]),
            (400, &json!(field)),
            "{}",
            refused.body
        );
    }
    let too_many = json!({"policy": {"most_shared": 65}});
    let too_many = write(&fixture, "PATCH", path, &steward, Some(too_many)).await;
    assert_eq!(too_many["problem"]["field"], "policy.most_shared");
    assert_eq!(fixture.call("GET", path, &alice, None).await.body, before);

    let amended = write(&fixture, "PATCH", path, &steward, Some(change)).await;
    assert_eq!(amended["status"], "succeeded", "{amended}");
    let mut expected = before;
    expected["title"] = json!("Four texts");
    expected["max_ttl_seconds"] = json!(60);
    expected["policy"]["most_shared"] = json!(5);
    expected["policy"]["organisations"] = json!(["*"]);
    assert_eq!(fixture.call("GET", path, &alice, None).await.body, expected);
    let nothing = write(&fixture, "PATCH", path, &steward, Some(json!({}))).await;
    assert_ne!(nothing["status"], "succeeded", "nothing was said");
}

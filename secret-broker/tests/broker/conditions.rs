//! Entity tags: what was read before is not sent again, and what has changed since is not overwritten.

use leasehold_chaincode::{Command, Metadata, Msp, TxId};
use leasehold_secret_broker::ledger::{Ledger, LedgerOptions, Submission};
use leasehold_secret_broker::store::Store;
use leasehold_secret_broker::store::claims::Room;
use leasehold_secret_broker::store::operations::NewOperation;
use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture, eventually};

async fn send(
    fixture: &Fixture,
    (method, path): (&str, &str),
    who: &str,
    headers: &[(&'static str, &str)],
    body: Option<Value>,
) -> Answer {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = fixture
        .client()
        .request(method, fixture.rest_url(path))
        .bearer_auth(fixture.person(who));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    fixture.send(request).await
}

fn tag(answer: &Answer) -> String {
    let tag = answer.headers["etag"].to_str().unwrap().to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "a strong one: {tag}");
    tag
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_has_is_not_sent_again_until_it_changes() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    let lease = fixture.lease("texts", &fixture.person("alice")).await;
    let lease = format!("/v1/leases/{lease}");
    let paths = [
        "/v1/datasets/texts",
        "/v1/datasets",
        "/v1/datasets?q=texts",
        "/v1/leases",
        &lease,
    ];
    let mut tags = Vec::new();
    for path in paths {
        let first = send(&fixture, ("GET", path), "alice", &[], None).await;
        assert_eq!(first.status, 200, "{path}");
        let tag = tag(&first);
        for had in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let again = send(&fixture, ("GET", path), "alice", &[("If-None-Match", &had)], None).await;
            assert_eq!((again.status, &again.body), (304, &Value::Null), "{path} {had}");
            assert_eq!(again.headers["etag"], tag.as_str());
        }
        for had in ["\"other\"", "nonsense"] {
            let again = send(&fixture, ("GET", path), "alice", &[("If-None-Match", had)], None).await;
            assert_eq!((again.status, &again.body), (200, &first.body), "{path} {had}");
        }
        tags.push(tag);
    }
    let released = send(&fixture, ("DELETE", &lease), "alice", &[], None).await;
    fixture.decided(&released, &fixture.person("alice")).await;
    let change = Some(json!({"title": "Other texts"}));
    let amended = send(&fixture, ("PATCH", paths[0]), "steward", &[], change).await;
    fixture.decided(&amended, &fixture.person("steward")).await;
    for (path, before) in paths.into_iter().zip(&tags) {
        let after = send(
            &fixture,
            ("GET", path),
            "alice",
            &[("If-None-Match", before)],
            None,
        )
        .await;
        assert_eq!(after.status, 200, "{path}");
        assert_ne!(&tag(&after), before, "{path}");
    }
    // Nobody learns from a tag what they may not see.
    let strangers = send(&fixture, ("GET", &lease), "bob", &[("If-None-Match", "*")], None).await;
    assert_eq!(strangers.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_what_has_changed_since_it_was_read_is_refused_with_the_present_tag() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    let steward = fixture.person("steward");
    let path = "/v1/datasets/texts";
    let read = send(&fixture, ("GET", path), "steward", &[], None).await;
    let first = tag(&read);
    let change = |title: &str| Some(json!({ "title": title }));
    let key = ("Idempotency-Key", "one");
    let accepted = send(
        &fixture,
        ("PATCH", path),
        "steward",
        &[("If-Match", &first), key],
        change("One"),
    )
    .await;
    let operation = fixture.decided(&accepted, &steward).await;
    assert_eq!(operation["status"], "succeeded", "{operation}");

    let second = tag(&send(&fixture, ("GET", path), "steward", &[], None).await);
    assert_ne!(first, second);
    let rotation = "/v1/datasets/texts/rotation";
    for (method, path, body) in [
        ("PATCH", path, change("Two")),
        ("DELETE", path, None),
        ("POST", rotation, None),
    ] {
        for tags in [
            first.clone(),
            format!("W/{second}"),
            format!("{first}, \"other\""),
        ] {
            let headers = [("If-Match", tags.as_str())];
            let refused = send(&fixture, (method, path), "steward", &headers, body.clone()).await;
            assert_eq!(
                (refused.status, refused.code()),
                (412, "precondition_failed"),
                "{method} {tags}"
            );
            assert_eq!(refused.body["etag"], json!(second));
            assert_eq!(tag(&refused), second);
        }
        for tags in ["", "x", "\"a", "\"a\" \"b\""] {
            let refused = send(
                &fixture,
                (method, path),
                "steward",
                &[("If-Match", tags)],
                body.clone(),
            )
            .await;
            assert_eq!(
                (refused.status, refused.code()),
                (400, "invalid_field"),
                "{method} {tags}"
            );
        }
    }
    // The same request is the same operation still; with another tag under the same key it is another one.
    let again = send(
        &fixture,
        ("PATCH", path),
        "steward",
        &[("If-Match", &first), key],
        change("One"),
    )
    .await;
    assert_eq!((again.status, &again.body["id"]), (202, &operation["id"]));
    let other = send(
        &fixture,
        ("PATCH", path),
        "steward",
        &[("If-Match", &second), key],
        change("One"),
    )
    .await;
    assert_eq!((other.status, other.code()), (422, "idempotency_key_reused"));

    let rotated = send(
        &fixture,
        ("POST", rotation),
        "steward",
        &[("If-Match", &second)],
        None,
    )
    .await;
    assert_eq!(fixture.decided(&rotated, &steward).await["status"], "succeeded");
    let any = send(
        &fixture,
        ("PATCH", path),
        "steward",
        &[("If-Match", "*")],
        change("Three"),
    )
    .await;
    assert_eq!(fixture.decided(&any, &steward).await["status"], "succeeded");
    let third = tag(&send(&fixture, ("GET", path), "steward", &[], None).await);
    let headers = [("If-Match", format!("{first}, {third}"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let removed = send(&fixture, ("DELETE", path), "steward", &headers, None).await;
    assert_eq!(fixture.decided(&removed, &steward).await["status"], "succeeded");
}

fn amendment(id: &str, dataset: &str, title: &str, expected_revision: u64) -> NewOperation {
    NewOperation {
        id: id.to_owned(),
        transaction_id: id.to_owned(),
        submitter: "a-submitter".to_owned(),
        command: Command::AmendDataset {
            dataset: dataset.to_owned(),
            metadata: Some(Metadata {
                title: title.to_owned(),
                ..Metadata::default()
            }),
            policy: None,
        },
        data_key: None,
        idempotency: None,
        expected_revision: Some(expected_revision),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_change_is_not_made_once_the_dataset_has_changed_and_one_that_was_made_is_not_denied() {
    let fixture = Fixture::start().await;
    let dataset = fixture.register("texts").await;
    fixture.kill();
    let [made, late, wrong] = [(); 3].map(|()| uuid::Uuid::new_v4().to_string());
    {
        let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
        // All were accepted when the dataset was new. The first was made right before the broker was killed.
        let first = amendment(&made, &dataset, "Made", 1);
        store.accept(&first).await.unwrap();
        store
            .accept(&amendment(&late, &dataset, "Late", 1))
            .await
            .unwrap();
        store
            .accept(&amendment(&wrong, &dataset, "Wrong", 7))
            .await
            .unwrap();
        let room = Room {
            most: 2,
            ..Room::default()
        };
        let now_ms = chrono::Utc::now().timestamp_millis();
        let claims = store.claim(&room, now_ms, 60_000).await.unwrap();
        assert_eq!(claims.operations.len(), 2);
        let options = LedgerOptions::new(fixture.data_dir().join("ledger.db"), Msp::new("UiSMSP").unwrap());
        let ledger = Ledger::open(options).await.unwrap();
        let tx_id = TxId::new(made.clone()).unwrap();
        let submission = Submission {
            tx_id,
            command: first.command,
        };
        ledger.submit(submission).await.unwrap();
        ledger.close().await;
        store.close().await;
    }
    fixture.run().await;
    eventually("all to be decided", async || {
        let metrics = fixture.metrics().await;
        (metrics.contains("ending=\"succeeded\"} 1") && metrics.contains("ending=\"failed\"} 2"))
            .then_some(())
    })
    .await;
    let shown = send(&fixture, ("GET", "/v1/datasets/texts"), "steward", &[], None).await;
    assert_eq!(shown.body["title"], "Made");
    fixture.kill();
    let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
    for (id, status) in [(&made, "succeeded"), (&late, "failed"), (&wrong, "failed")] {
        let operation = store.operation(id, "a-submitter").await.unwrap().unwrap();
        assert_eq!(operation.status, status, "{operation:?}");
        if status == "failed" {
            let problem = operation.problem.unwrap();
            assert_eq!(problem["status"], 412, "{problem}");
            assert_eq!(problem["type"], "urn:leasehold:problem:precondition_failed");
            assert_eq!(problem["etag"], json!(tag(&shown)));
        }
    }
    store.close().await;
}

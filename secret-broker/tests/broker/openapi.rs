//! The document that the broker serves is the one that is committed, and what it answers is what the document says.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::fixture::Fixture;

fn committed() -> Value {
    serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_committed_document_is_what_the_handlers_say_and_the_broker_serves() {
    let made: Value = serde_json::to_value(leasehold_secret_broker::api::document()).unwrap();
    assert!(
        made == committed(),
        "run `make openapi` and commit docs/openapi.json"
    );
    let fixture = Fixture::start().await;
    let url = fixture.rest_url("/openapi.json");
    let served: Value = fixture
        .client()
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(served == committed());
    let page = fixture
        .client()
        .get(fixture.rest_url("/docs/"))
        .send()
        .await
        .unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("swagger-ui"));
}

#[test]
fn every_operation_has_a_name_of_its_own_and_says_how_it_is_refused() {
    let document = committed();
    let mut names = std::collections::BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} is there twice");
            for status in ["401", "403", "404", "503"] {
                let media = &operation["responses"][status]["content"];
                assert!(
                    media["application/problem+json"].is_object(),
                    "{method} {path} {status}"
                );
            }
            if method != "get" {
                assert!(operation["responses"]["202"].is_object(), "{method} {path}");
            }
        }
    }
    assert!(names.len() >= 20);
}

/// By schemathesis, which reads the document and sends what may and what may not be sent.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs schemathesis; `make unit` installs and names it"]
async fn whatever_is_sent_the_broker_answers_as_its_document_says() {
    let tool = std::env::var_os("LEASEHOLD_SCHEMATHESIS").expect("the path of the schemathesis program");
    let fixture = Fixture::start().await;
    let dataset = fixture.register("texts").await;
    let lease = fixture.lease("texts", &fixture.person("alice")).await;
    let authority = fixture.directory.path().join("ca.pem");
    std::fs::write(&authority, fixture.authority()).unwrap();
    // What is there to be found, and what no document can say: which cursors and tags there are, that an Idempotency-Key was used before, where a volume may lie, which
    // terms contradict each other, and how long the dataset may be leased.
    let mut settings = format!(
        r#"
parameters = {{ "path.dataset" = "{dataset}", "path.lease" = "{lease}" }}

[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "412", "422", "429"]
"#
    );
    for operation in [
        "list_datasets",
        "list_leases",
        "register_dataset",
        "amend_dataset",
        "remove_dataset",
        "rotate_data_key",
        "request_lease",
        "renew_lease",
    ] {
        settings.push_str(&format!(
            r#"
[[operations]]
include-operation-id = "{operation}"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "412", "422", "429"]
"#
        ));
    }
    std::fs::write(fixture.directory.path().join("schemathesis.toml"), settings).unwrap();
    for person in ["steward", "alice"] {
        let output = Command::new(&tool)
            .arg("run")
            .arg(fixture.rest_url("/openapi.json"))
            .args(["--checks", "all", "--max-examples", "20"])
            // What is deleted goes when its operation succeeds, if it does.
            .args(["--exclude-checks", "use_after_free"])
            // Its answer does not end; `events` has what it answers.
            .args(["--exclude-operation-id", "stream_events"])
            .args([
                "--generation-deterministic",
                "--request-retries",
                "5",
                "--no-color",
            ])
            .arg("--tls-verify")
            .arg(&authority)
            .arg("--header")
            .arg(format!("Authorization: Bearer {}", fixture.person(person)))
            .current_dir(fixture.directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let turned_away = fixture.log().matches("is turned away").count();
        assert!(
            output.status.success(),
            "as {person}, {turned_away} connections turned away: {said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

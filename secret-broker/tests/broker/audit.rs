//! What the running broker records of its decisions, and what an auditor reads of it.

use std::process::{Command, Output};

use leasehold_broker_wire::machines as wire;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::fixture::{Fixture, eventually};
use crate::tokens::with;

fn command(fixture: &Fixture, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_leasehold-secret-broker"))
        .args(["audit", "--data-dir"])
        .arg(fixture.data_dir())
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn exported(fixture: &Fixture) -> Vec<Value> {
    lines(&command(fixture, &["export"]))
}

fn of<'a>(records: &'a [Value], verb: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["verb"] == verb).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_did_what_to_whose_data_is_on_disk_and_verifies_after_a_kill() {
    let fixture = Fixture::start().await;
    let alice = fixture.person("alice");
    let dataset = fixture.register("texts").await;
    let lease = fixture.lease("texts", &alice).await;
    let open = wire::OpenVolumeRequest {
        lease_id: lease.clone(),
    };
    let mut provisioner = fixture.machine("leasehold-provisioner").await;
    provisioner.open_volume(open).await.unwrap();
    // What was answered is on disk: nothing else is waited for.
    fixture.kill();
    let records = exported(&fixture);
    let [opened] = of(&records, "open_volume")[..] else {
        panic!("{records:#?}");
    };
    assert_eq!(opened["lease"], lease.as_str());
    assert_eq!(opened["object"], dataset.as_str());
    assert_eq!(opened["credential_opened"], true);
    assert_eq!(opened["decision"], "allowed");
    assert_eq!(opened["source"], "127.0.0.1");
    assert_eq!(
        opened["who"],
        "system:serviceaccount:leasehold-system:leasehold-provisioner"
    );
    let accepted = of(&records, "lease");
    assert!(
        accepted
            .iter()
            .any(|record| record["reason"] == "accepted" && record["request"].is_string()),
        "{records:#?}"
    );
    assert!(accepted.iter().any(|record| record["reason"] == "committed"));
    let text = serde_json::to_string(&records).unwrap();
    assert!(!text.contains("alice"), "people are pseudonyms");

    fixture.run().await;
    let verified = lines(&command(&fixture, &["verify"]));
    assert_eq!(verified[0]["sealed"], true, "beside the running broker");
    let again = exported(&fixture);
    assert_eq!(
        again[..records.len()],
        records[..],
        "nothing that was there changed"
    );
    assert_eq!(of(&again, "start").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_recorded_with_their_reason_and_a_flood_of_them_is_counted() {
    let fixture = Fixture::start().await;
    let alice = fixture.person("alice");
    for _ in 0..40 {
        let refused = fixture
            .call(
                "POST",
                "/v1/datasets",
                &alice,
                Some(crate::fixture::registration("texts")),
            )
            .await;
        assert_eq!(refused.status, 403);
        assert_eq!(fixture.call("GET", "/v1/me", "no token", None).await.status, 401);
    }
    fixture.terminate();
    let records = exported(&fixture);
    for (verb, reason) in [
        ("register_dataset", "role_missing"),
        ("authenticate", "not_three_parts"),
    ] {
        let refused: Vec<_> = of(&records, verb)
            .into_iter()
            .filter(|record| record["decision"] == "denied")
            .collect();
        let [first, rest] = refused[..] else {
            panic!("{verb}: {refused:#?}");
        };
        assert_eq!(first["reason"], reason);
        assert_eq!(first["source"], "127.0.0.1");
        assert_eq!(rest["repeated"], 39, "{rest:#}");
    }
    assert_eq!(of(&records, "stop").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_accepted_and_no_credential_leaves_while_nothing_can_be_recorded() {
    let fixture = Fixture::start().await;
    let (steward, alice) = (fixture.person("steward"), fixture.person("alice"));
    fixture.register("texts").await;
    let lease = fixture.lease("texts", &alice).await;
    let url = format!("sqlite:{}", fixture.data_dir().join("audit.db").display());
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    let away = "ALTER TABLE records RENAME TO elsewhere";
    sqlx::query(away).execute(&mut other).await.unwrap();

    let mut provisioner = fixture.machine("leasehold-provisioner").await;
    let open = || wire::OpenVolumeRequest {
        lease_id: lease.clone(),
    };
    let error = provisioner.open_volume(open()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
    let refused = fixture
        .call(
            "POST",
            "/v1/datasets",
            &steward,
            Some(crate::fixture::registration("scans")),
        )
        .await;
    assert_eq!((refused.status, refused.code()), (503, "audit_unavailable"));
    assert_eq!(fixture.readiness().await.0, 503);

    let back = "ALTER TABLE elsewhere RENAME TO records";
    sqlx::query(back).execute(&mut other).await.unwrap();
    eventually("the broker is ready again", async || {
        (fixture.readiness().await.0 == 200).then_some(())
    })
    .await;
    assert!(provisioner.open_volume(open()).await.is_ok());
    let records = exported(&fixture);
    assert_eq!(of(&records, "open_volume").len(), 1, "{records:#?}");
    assert!(records.iter().any(|record| record["reason"] == "audit_is_back"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_finds_what_was_changed_and_cut_off_from_the_command_line() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    fixture.terminate();
    let head = String::from_utf8(command(&fixture, &["head"]).stdout).unwrap();
    let head = head.trim();
    assert!(command(&fixture, &["verify", "--head", head]).status.success());
    let events = lines(&command(&fixture, &["export", "--format", "ocsf"]));
    assert!(events.iter().all(|event| event["class_uid"] == 6003));
    let started = lines(&command(
        &fixture,
        &["export", "--who", "broker", "--until", "2000-01-01T00:00:00Z"],
    ));
    assert!(started.is_empty());

    let url = format!("sqlite:{}", fixture.data_dir().join("audit.db").display());
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    for statement in [
        "DROP TRIGGER records_go_by_age",
        "DELETE FROM records WHERE number = (SELECT max(number) FROM records)",
    ] {
        sqlx::query(statement).execute(&mut other).await.unwrap();
    }
    assert!(
        command(&fixture, &["verify"]).status.success(),
        "what was cut off leaves no trace inside"
    );
    let found = command(&fixture, &["verify", "--head", head]);
    assert_eq!(found.status.code(), Some(1));
    assert!(String::from_utf8(found.stderr).unwrap().contains("cut off"));
    let wrong = command(&fixture, &["verify", "--head", "x"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn auditors_read_the_audit_page_by_page_and_nobody_else_does() {
    let fixture = Fixture::start().await;
    fixture
        .reconfigure(|config| {
            config["issuers"][1]["roles"] = json!([{"claim": "groups", "values": {"audit": "auditor"}}]);
        })
        .await;
    let (steward, alice) = (fixture.person("steward"), fixture.person("alice"));
    let auditor = {
        let claims = json!({"groups": ["audit"]});
        fixture
            .provider
            .sign(&with(fixture.provider.person("carol"), claims))
    };
    let dataset = fixture.register("texts").await;
    for token in [&steward, &alice] {
        let refused = fixture.call("GET", "/v1/audit", token, None).await;
        assert_eq!((refused.status, refused.code()), (403, "forbidden"));
    }
    let mut seen = Vec::new();
    let mut path = "/v1/audit?limit=2".to_owned();
    loop {
        let page = fixture.call("GET", &path, &auditor, None).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let items = page.body["items"].as_array().unwrap().clone();
        let read_last = items.iter().any(|record| record["verb"] == "read_audit");
        seen.extend(items);
        // Each reading is recorded, so that there is always one more.
        if read_last {
            break;
        }
        path = format!("/v1/audit?limit=2&after={}", page.body["next"].as_str().unwrap());
    }
    let numbers: Vec<_> = seen
        .iter()
        .map(|record| record["number"].as_u64().unwrap())
        .collect();
    assert!(
        numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{numbers:?}"
    );
    assert!(
        of(&seen, "read_audit")
            .iter()
            .any(|record| record["decision"] == "denied")
    );
    let about = format!("/v1/audit?object={dataset}");
    let about = fixture.call("GET", &about, &auditor, None).await.body;
    assert!(!about["items"].as_array().unwrap().is_empty());
    assert!(
        about["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|record| record["object"] == dataset.as_str())
    );
    for wrong in ["limit=0", "since=x", "surprise=1", "after=-1"] {
        let refused = fixture
            .call("GET", &format!("/v1/audit?{wrong}"), &auditor, None)
            .await;
        assert_eq!(
            (refused.status, refused.code()),
            (400, "invalid_field"),
            "{wrong}"
        );
    }
}

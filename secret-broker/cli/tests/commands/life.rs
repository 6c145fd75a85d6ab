//! A lease's life on the command line: waiting for it, keeping it, and what data stewards decide.

use serde_json::json;

use crate::script::{LEASE, Script, broker, code, err, lease, out, ready};

#[tokio::test]
async fn a_lease_that_is_not_granted_at_once_says_what_it_waits_for() {
    let mut waiting = lease("waiting", "pending");
    waiting["place"] = json!(2);
    for (shown, said) in [
        (waiting, "number 2 in the line for uis-texts"),
        (lease("requested", "pending"), "UiSMSP has to approve it"),
    ] {
        let broker = broker(Script {
            lease: Some(shown),
            ..ready()
        })
        .await;
        let output = broker
            .run(&["lease", "uis-texts", "--queue", "--mode", "shared"])
            .await;
        assert_eq!(code(&output), 4, "what comes after it must not run yet");
        assert!(out(&output).contains(LEASE), "{}", out(&output));
        assert!(err(&output).contains(said), "{}", err(&output));
        assert_eq!(
            broker.last_body(),
            json!({"dataset": "uis-texts", "ttl_seconds": null, "mode": "shared", "wait": true})
        );
        assert!(
            !broker.seen().iter().any(|request| request.contains("skeleton")),
            "there is no skeleton yet"
        );
    }
}

#[tokio::test]
async fn a_lease_is_renewed_by_the_name_of_its_dataset() {
    let broker = broker(ready()).await;
    let output = broker.run(&["renew", "uis-texts", "--ttl", "2h"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains(LEASE), "{}", out(&output));
    assert_eq!(broker.last_body(), json!({"ttl_seconds": 7200}));
    let path = format!("POST /v1/leases/{LEASE}/renewal ");
    assert!(broker.seen().iter().any(|request| request.starts_with(&path)));
}

#[tokio::test]
async fn stewards_approve_deny_and_revoke_by_the_id_of_the_lease() {
    let reason = json!({"reason": "no agreement"});
    for (command, path, said) in [
        (vec!["approve", LEASE], "approval", json!(null)),
        (
            vec!["deny", LEASE, "--reason", "no agreement"],
            "denial",
            reason.clone(),
        ),
        (
            vec!["revoke", LEASE, "--reason", "no agreement"],
            "revocation",
            reason.clone(),
        ),
        (
            vec!["declare-ended", LEASE, "--reason", "no agreement"],
            "declaration",
            reason,
        ),
    ] {
        let mut ended = lease("ended", "pending");
        ended["end_cause"] = json!(path);
        ended["end_reason"] = json!("no\u{1b}[2J agreement");
        let broker = broker(Script {
            lease: Some(ended),
            ..ready()
        })
        .await;
        let output = broker.run(&[command.clone(), vec!["-o", "wide"]].concat()).await;
        assert_eq!(code(&output), 0, "{}", err(&output));
        assert!(
            out(&output).contains(&format!("ended ({path})")),
            "{}",
            out(&output)
        );
        assert!(!out(&output).contains('\u{1b}'), "a reason steered the terminal");
        assert_eq!(broker.last_body(), said);
        let path = format!("POST /v1/leases/{LEASE}/{path} ");
        assert!(broker.seen().iter().any(|request| request.starts_with(&path)));
        let without = broker.run(&[command[0], LEASE, "--reason"]).await;
        assert_eq!(code(&without), 2, "a reason is words");
    }
}

#[tokio::test]
async fn a_dataset_is_amended_from_a_file() {
    let broker = broker(ready()).await;
    let file = broker.directory.path().join("change.yaml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "title: Four texts\npolicy:\n  most_shared: 5\n").unwrap();
    let output = broker
        .run(&["datasets", "amend", "uis-texts", "--file", path])
        .await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(
        broker.last_body(),
        json!({"title": "Four texts", "policy": {"most_shared": 5}})
    );
    std::fs::write(&file, "policy:\n  most_shard: 5\n").unwrap();
    let output = broker
        .run(&["datasets", "amend", "uis-texts", "--file", path])
        .await;
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("most_shard"), "{}", err(&output));
}

#[tokio::test]
async fn the_line_shows_places_and_whose_is_known() {
    let broker = broker(ready()).await;
    let table = broker.run(&["datasets", "line", "uis-texts"]).await;
    let lines: Vec<_> = out(&table).lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[1].starts_with("1 ") && lines[1].ends_with('-'), "{lines:?}");
    assert!(
        lines[2].contains("shared") && lines[2].ends_with(LEASE),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_steward_does_not_take_anothers_lease_for_their_own() {
    let mut anothers = lease("active", "ready");
    anothers["yours"] = json!(false);
    let broker = broker(Script {
        listed: Some(anothers),
        ..ready()
    })
    .await;
    let output = broker.run(&["release", "uis-texts"]).await;
    assert_eq!(code(&output), 2);
    assert!(
        err(&output).contains("you have no lease of uis-texts"),
        "{}",
        err(&output)
    );
}

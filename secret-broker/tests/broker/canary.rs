//! A random credential goes through everything that a volume goes through, and is found nowhere but where it must be.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use leasehold_broker_wire::machines as wire;
use serde_json::json;

use crate::fixture::{Fixture, eventually, files, registration};

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_in_no_file_no_log_line_and_no_rest_answer() {
    let fixture = Fixture::start().await;
    let (steward, alice) = (fixture.person("steward"), fixture.person("alice"));
    let mut random = [0_u8; 24];
    getrandom::fill(&mut random).unwrap();
    let canary = format!("canary-{}", hex::encode(random));

    let mut body = registration("texts");
    body["volume"]["credential"] = json!({"password": canary});
    let accepted = fixture
        .call("POST", "/v1/datasets", &steward, Some(body.clone()))
        .await;
    assert_eq!(fixture.decided(&accepted, &steward).await["status"], "succeeded");
    // Refused by the ledger, refused by the checks, refused by the parser: it must not slip into a message.
    let refused = fixture
        .call("POST", "/v1/datasets", &steward, Some(body.clone()))
        .await;
    assert_eq!(fixture.decided(&refused, &steward).await["status"], "failed");
    for spoilt in [
        json!({"kind": "local", "path": canary, "node": "n", "credential": {"password": canary}}),
        json!({"kind": canary}),
        json!({"kind": "local", canary.clone(): 1}),
        json!({"kind": "local", "path": "/srv/leasehold/uis/texts", "node": "n", "credential": {"password": [canary]}}),
        json!({"kind": "local", "path": "/srv/leasehold/uis/texts", "node": "n", "credential": canary}),
        json!(canary),
    ] {
        body["name"] = json!("other");
        body["volume"] = spoilt;
        assert_eq!(
            fixture
                .call("POST", "/v1/datasets", &steward, Some(body.clone()))
                .await
                .status,
            400
        );
    }

    let lease = fixture.lease("texts", &alice).await;
    let mut provisioner = fixture.machine("leasehold-provisioner").await;
    let open = || wire::OpenVolumeRequest {
        lease_id: lease.clone(),
    };
    let opened = provisioner.open_volume(open()).await.unwrap().into_inner();
    let volume: serde_json::Value = serde_json::from_slice(&opened.volume).unwrap();
    assert_eq!(
        volume["credential"]["password"], canary,
        "the provisioner gets it"
    );
    fixture.kill();
    fixture.run().await;
    let mut provisioner = fixture.machine("leasehold-provisioner").await;
    assert!(provisioner.open_volume(open()).await.is_ok());
    // Encrypted anew, wrapped anew, copied.
    let rotated = fixture
        .call("POST", "/v1/datasets/texts/rotation", &steward, None)
        .await;
    assert_eq!(fixture.decided(&rotated, &steward).await["status"], "succeeded");
    fixture.keys_done(&["rotate"]);
    eventually("the data key to be wrapped anew", async || {
        (fixture.wrapped_by() == [(1, 0), (2, 1)]).then_some(())
    })
    .await;
    fixture.keys_done(&["retire", "1", "--without-backup"]);
    let copy = fixture.directory.path().join("copy");
    fixture.keys_done(&["backup", "--to", copy.to_str().unwrap()]);
    let opened = provisioner.open_volume(open()).await.unwrap().into_inner();
    let volume: serde_json::Value = serde_json::from_slice(&opened.volume).unwrap();
    assert_eq!(volume["credential"]["password"], canary);
    for path in [
        "/v1/datasets",
        "/v1/datasets/texts",
        "/v1/datasets/texts/history",
        "/v1/leases",
        "/v1/me",
        "/v1/skeletons",
    ] {
        fixture.call("GET", path, &steward, None).await;
        fixture.call("GET", path, &alice, None).await;
    }
    let released = fixture
        .call("DELETE", &format!("/v1/leases/{lease}"), &alice, None)
        .await;
    fixture.decided(&released, &alice).await;
    provisioner
        .confirm_end(wire::ConfirmEndRequest {
            lease_id: lease.clone(),
        })
        .await
        .unwrap();
    let removed = fixture.call("DELETE", "/v1/datasets/texts", &steward, None).await;
    assert_eq!(fixture.decided(&removed, &steward).await["status"], "succeeded");
    let receipts = eventually("the key to be destroyed", async || {
        let receipts = fixture.call("GET", "/v1/key-receipts", &steward, None).await.body;
        let receipts = receipts["items"].as_array().unwrap().clone();
        (receipts.len() == 3).then_some(receipts)
    })
    .await;
    let reasons: Vec<_> = receipts.iter().map(|r| r["reason"].as_str().unwrap()).collect();
    assert_eq!(
        reasons,
        ["unused", "superseded", "retired"],
        "the second registration was refused"
    );

    let forms = [
        canary.clone(),
        hex::encode(&canary),
        STANDARD.encode(&canary),
        STANDARD_NO_PAD.encode(&canary),
        URL_SAFE_NO_PAD.encode(&canary),
    ];
    let mut searched = 0;
    for path in files(fixture.directory.path()) {
        let bytes = std::fs::read(&path).unwrap();
        for form in &forms {
            let found = bytes.windows(form.len()).any(|window| window == form.as_bytes());
            assert!(!found, "the credential is in {}", path.display());
        }
        searched += 1;
    }
    assert!(
        searched >= 6,
        "databases, keys, certificate, log, configuration: {searched} files"
    );
    assert!(fixture.log().lines().count() > 100, "the log was written in full");
    for answer in fixture.answers.lock().unwrap().iter() {
        assert!(
            forms.iter().all(|form| !answer.contains(form)),
            "the credential is in an answer: {answer}"
        );
    }
}

//! What machines may and may not do over gRPC.

use std::time::Instant;

use futures::StreamExt as _;
use leasehold_broker_wire::machines as wire;
use leasehold_broker_wire::machines::watch_leases_response::Change;
use serde_json::json;
use tonic::{Code, Streaming};

use crate::fixture::{Fixture, PATIENCE, eventually};

pub fn bind_request(username: &str, notebook: &str, executor: &str) -> wire::BindServiceAccountsRequest {
    let account = |name: &str, uid: &str| {
        Some(wire::ServiceAccount {
            namespace: "hub".into(),
            name: name.into(),
            uid: uid.into(),
        })
    };
    wire::BindServiceAccountsRequest {
        id_token: String::new(),
        username: username.into(),
        notebook: account("nb-alice", notebook),
        executor: account("wf-alice", executor),
        home: Some(wire::Home {
            claim: "claim-alice".into(),
            sub_path: String::new(),
            mount_path: "/home/jovyan".into(),
        }),
    }
}

async fn next(stream: &mut Streaming<wire::WatchLeasesResponse>) -> wire::WatchLeasesResponse {
    tokio::time::timeout(PATIENCE, stream.next())
        .await
        .expect("a message in time")
        .expect("no end")
        .unwrap()
}

/// The next change that is no heartbeat.
async fn change(stream: &mut Streaming<wire::WatchLeasesResponse>) -> Change {
    loop {
        match next(stream).await.change.unwrap() {
            Change::Heartbeat(_) => {}
            change => return change,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_stream_shows_all_there_is_then_every_change_and_a_heartbeat() {
    let fixture = Fixture::start().await;
    let alice = fixture.person("alice");
    fixture.register("texts").await;
    let lease = fixture.lease("texts", &alice).await;
    let mut hook = fixture.machine("leasehold-spawner-hook").await;
    let subject = hook
        .bind_service_accounts(bind_request("bob", "uid-1", "uid-2"))
        .await
        .unwrap()
        .into_inner()
        .subject;

    let mut webhook = fixture.machine("leasehold-webhook").await;
    let mut stream = webhook
        .watch_leases(wire::WatchLeasesRequest {})
        .await
        .unwrap()
        .into_inner();
    let Change::Binding(binding) = change(&mut stream).await else {
        panic!("expected a binding")
    };
    assert_eq!(
        (binding.subject, binding.notebook.unwrap().uid),
        (subject, "uid-1".to_owned())
    );
    let Change::Lease(shown) = change(&mut stream).await else {
        panic!("expected a lease")
    };
    assert_eq!(
        (
            shown.lease_id.as_str(),
            shown.state(),
            shown.dataset_name.as_str()
        ),
        (lease.as_str(), wire::LeaseState::Active, "texts")
    );
    assert!(matches!(change(&mut stream).await, Change::Bookmark(_)));

    let mut last = Instant::now();
    for _ in 0..4 {
        let message = next(&mut stream).await;
        assert!(matches!(message.change, Some(Change::Heartbeat(_))));
        assert!((chrono::Utc::now().timestamp_millis() - message.now_ms).abs() < 30_000);
        assert!(last.elapsed() < PATIENCE, "a heartbeat took {:?}", last.elapsed());
        last = Instant::now();
    }
    let before = next(&mut stream).await.revision;
    let released = fixture
        .call("DELETE", &format!("/v1/leases/{lease}"), &alice, None)
        .await;
    fixture.decided(&released, &alice).await;
    let Change::Lease(shown) = change(&mut stream).await else {
        panic!("expected the release")
    };
    assert_eq!(
        (shown.state(), shown.end_cause.as_str()),
        (wire::LeaseState::Ending, "released")
    );
    hook.bind_service_accounts(bind_request("bob", "uid-3", "uid-4"))
        .await
        .unwrap();
    let Change::BindingRemoved(removed) = change(&mut stream).await else {
        panic!("expected a removal")
    };
    assert_eq!(removed.notebook_uid, "uid-1");
    assert!(
        matches!(change(&mut stream).await, Change::Binding(b) if b.notebook.as_ref().unwrap().uid == "uid-3")
    );
    assert!(next(&mut stream).await.revision > before);
}

// T4 of docs/security/model.md.
#[tokio::test(flavor = "multi_thread")]
async fn each_method_is_for_its_machine_alone() {
    let fixture = Fixture::start().await;
    for (name, allowed) in [
        ("leasehold-webhook", ["watch", "resolve"].as_slice()),
        ("leasehold-provisioner", &["watch", "open", "report", "confirm"]),
        ("leasehold-spawner-hook", &["bind"]),
        ("somebody-else", &[]),
    ] {
        let mut client = fixture.machine(name).await;
        let lease_id = "0".repeat(32);
        let outcomes = [
            (
                "watch",
                client.watch_leases(wire::WatchLeasesRequest {}).await.err(),
            ),
            (
                "resolve",
                client
                    .resolve_mounts(wire::ResolveMountsRequest {
                        notebook_uid: "x".into(),
                    })
                    .await
                    .err(),
            ),
            (
                "open",
                client
                    .open_volume(wire::OpenVolumeRequest {
                        lease_id: lease_id.clone(),
                    })
                    .await
                    .err(),
            ),
            (
                "report",
                client
                    .report_mount(wire::ReportMountRequest {
                        lease_id: lease_id.clone(),
                        ..Default::default()
                    })
                    .await
                    .err(),
            ),
            (
                "confirm",
                client
                    .confirm_end(wire::ConfirmEndRequest { lease_id })
                    .await
                    .err(),
            ),
            (
                "bind",
                client
                    .bind_service_accounts(bind_request("x", "u1", "u2"))
                    .await
                    .err(),
            ),
        ];
        for (method, error) in outcomes {
            let denied = error.is_some_and(|status| status.code() == Code::PermissionDenied);
            assert_eq!(!denied, allowed.contains(&method), "{name} calls {method}");
        }
    }
}

// T7 of docs/security/model.md.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_opens_for_the_provisioner_while_its_lease_is_active_and_never_after() {
    let fixture = Fixture::start().await;
    let alice = fixture.person("alice");
    let dataset = fixture.register("texts").await;
    let lease = fixture.lease("texts", &alice).await;
    let mut provisioner = fixture.machine("leasehold-provisioner").await;
    let open = || wire::OpenVolumeRequest {
        lease_id: lease.clone(),
    };
    let opened = provisioner.open_volume(open()).await.unwrap().into_inner();
    let volume: serde_json::Value = serde_json::from_slice(&opened.volume).unwrap();
    assert_eq!(
        volume,
        json!({"kind": "local", "path": "/srv/leasehold/uis/texts", "node": "node-1"})
    );
    assert!(fixture.log().contains("open_volume"), "opening is audited");

    let report = |directories: &[&str]| wire::ReportMountRequest {
        lease_id: lease.clone(),
        mount: wire::MountState::Ready.into(),
        skeleton: directories.iter().map(|d| (*d).to_owned()).collect(),
        ..Default::default()
    };
    assert_eq!(
        provisioner
            .report_mount(report(&["../up"]))
            .await
            .unwrap_err()
            .code(),
        Code::InvalidArgument
    );
    provisioner
        .report_mount(report(&["b", "a", "a/c"]))
        .await
        .unwrap();
    provisioner
        .report_mount(report(&["b", "a", "a/c"]))
        .await
        .unwrap();
    let skeleton = fixture
        .call("GET", &format!("/v1/leases/{lease}/skeleton"), &alice, None)
        .await
        .body;
    assert_eq!(
        skeleton,
        json!({"lease": lease, "dataset": "texts", "directories": ["a", "a/c", "b"]})
    );
    let all = fixture.call("GET", "/v1/skeletons", &alice, None).await.body;
    assert_eq!(all, json!({"skeletons": [skeleton]}));
    let shown = fixture
        .call("GET", &format!("/v1/leases/{lease}"), &alice, None)
        .await
        .body;
    assert_eq!(shown["mount"], "ready");

    let released = fixture
        .call("DELETE", &format!("/v1/leases/{lease}"), &alice, None)
        .await;
    fixture.decided(&released, &alice).await;
    assert_eq!(
        provisioner.open_volume(open()).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    let skeleton = fixture
        .call("GET", &format!("/v1/leases/{lease}/skeleton"), &alice, None)
        .await;
    assert_eq!(skeleton.code(), "lease_not_active");
    let waiting = fixture
        .call("POST", "/v1/leases", &alice, Some(json!({"dataset": dataset})))
        .await;
    assert_eq!(
        waiting.code(),
        "lease_conflict",
        "the next lease waits for the confirmed end"
    );
    for _ in 0..2 {
        provisioner
            .confirm_end(wire::ConfirmEndRequest {
                lease_id: lease.clone(),
            })
            .await
            .unwrap();
    }
    assert_eq!(
        provisioner.open_volume(open()).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    let next = fixture.lease("texts", &alice).await;
    assert_ne!(next, lease);
    let shown = fixture
        .call("GET", &format!("/v1/leases/{next}"), &alice, None)
        .await
        .body;
    assert_eq!(shown["fencing_token"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_mount_is_told_to_holder_and_catalogue() {
    let fixture = Fixture::start().await;
    let alice = fixture.person("alice");
    fixture.register("texts").await;
    let lease = fixture.lease("texts", &alice).await;
    let mut provisioner = fixture.machine("leasehold-provisioner").await;
    let report = wire::ReportMountRequest {
        lease_id: lease.clone(),
        mount: wire::MountState::Failed.into(),
        code: "path_missing".into(),
        message: "the directory is not on its node".into(),
        skeleton: Vec::new(),
    };
    provisioner.report_mount(report).await.unwrap();
    let shown = fixture
        .call("GET", &format!("/v1/leases/{lease}"), &alice, None)
        .await
        .body;
    assert_eq!(
        (&shown["mount"], &shown["finding"]["code"]),
        (&json!("failed"), &json!("path_missing"))
    );
    let shown = fixture.call("GET", "/v1/datasets/texts", &alice, None).await.body;
    assert_eq!(shown["finding"]["message"], "the directory is not on its node");
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_resolve_for_the_bound_account_and_a_uid_never_changes_hands() {
    let fixture = Fixture::start().await;
    let alice = fixture.person("alice");
    fixture.register("texts").await;
    let lease = fixture.lease("texts", &alice).await;
    let mut hook = fixture.machine("leasehold-spawner-hook").await;
    // With a token the person is who the token says, not who the hub says.
    let mut request = bind_request("alice@example.com", "uid-1", "uid-2");
    request.id_token = alice.clone();
    hook.bind_service_accounts(request).await.unwrap();
    let mut webhook = fixture.machine("leasehold-webhook").await;
    let mut resolve = async |uid: &str| {
        webhook
            .resolve_mounts(wire::ResolveMountsRequest {
                notebook_uid: uid.into(),
            })
            .await
            .unwrap()
            .into_inner()
    };
    let mounts = eventually_found(&mut resolve, "uid-1").await;
    assert_eq!(mounts.leases[0].lease_id, lease);
    assert_eq!(mounts.binding.unwrap().executor.unwrap().uid, "uid-2");
    for uid in ["uid-2", "uid-unknown"] {
        let nothing = resolve(uid).await;
        assert!(nothing.binding.is_none() && nothing.leases.is_empty(), "{uid}");
    }
    for (notebook, executor) in [("uid-1", "uid-9"), ("uid-9", "uid-2"), ("uid-2", "uid-9")] {
        let stolen = hook
            .bind_service_accounts(bind_request("mallory", notebook, executor))
            .await
            .unwrap_err();
        assert_eq!(stolen.code(), Code::AlreadyExists);
    }
    assert_eq!(resolve("uid-1").await.leases.len(), 1);
    let mut expired = bind_request("alice@example.com", "uid-1", "uid-2");
    let mut claims = fixture.provider.person("alice");
    claims["exp"] = json!(1);
    expired.id_token = fixture.provider.sign(&claims);
    assert_eq!(
        hook.bind_service_accounts(expired).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

async fn eventually_found(
    resolve: &mut impl AsyncFnMut(&str) -> wire::ResolveMountsResponse,
    uid: &str,
) -> wire::ResolveMountsResponse {
    let start = Instant::now();
    loop {
        let mounts = resolve(uid).await;
        if !mounts.leases.is_empty() {
            return mounts;
        }
        assert!(start.elapsed() < PATIENCE, "waited for the view to show a lease");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_ending_from_its_expiry_on_also_after_a_restart() {
    let fixture = Fixture::start().await;
    let alice = fixture.person("alice");
    fixture.register("texts").await;
    let body = json!({"dataset": "texts", "ttl_seconds": 10});
    let accepted = fixture.call("POST", "/v1/leases", &alice, Some(body)).await;
    let operation = fixture.decided(&accepted, &alice).await;
    let lease = operation["result"]["lease"].as_str().unwrap().to_owned();
    fixture.kill();
    fixture.run().await;
    let mut webhook = fixture.machine("leasehold-webhook").await;
    let mut stream = webhook
        .watch_leases(wire::WatchLeasesRequest {})
        .await
        .unwrap()
        .into_inner();
    let ending = async {
        loop {
            if let Change::Lease(shown) = change(&mut stream).await {
                assert_eq!(shown.lease_id, lease);
                if shown.state() == wire::LeaseState::Ending {
                    break shown;
                }
            }
        }
    };
    // That the broker looks at the very moment is shown where it decides how long it sleeps.
    let ended = tokio::time::timeout(PATIENCE, ending)
        .await
        .expect("the lease is ending in time");
    let late_ms = chrono::Utc::now().timestamp_millis() - ended.expires_at_ms;
    assert!(late_ms >= 0, "{late_ms} ms after expiry");
    assert_eq!(ended.end_cause, "expired");
    eventually("the provisioner to be refused", async || {
        let mut provisioner = fixture.machine("leasehold-provisioner").await;
        let refused = provisioner
            .open_volume(wire::OpenVolumeRequest {
                lease_id: lease.clone(),
            })
            .await;
        (refused.unwrap_err().code() == Code::FailedPrecondition).then_some(())
    })
    .await;
}

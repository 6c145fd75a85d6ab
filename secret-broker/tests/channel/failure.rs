//! Peers and the ordering service fail: nothing is granted on the strength of an old view, and all goes on when they are back.

use std::time::{Duration, Instant};

use leasehold_broker_wire::machines as wire;
use leasehold_broker_wire::machines::watch_leases_response::Change;
use leasehold_chaincode::{Command, Msp, TxId};
use leasehold_secret_broker::fabric::Channel;
use leasehold_secret_broker::ledger::Submission;
use serde_json::json;
use tonic::Code;

use crate::consortium::{Consortium, Terms, profile};
use crate::fixture::{Fixture, PATIENCE, eventually};
use crate::story::{change, heartbeat, lease, message, watch};

pub async fn bound(broker: &Fixture) {
    let account = |name: &str, uid: &str| {
        Some(wire::ServiceAccount {
            namespace: "hub".into(),
            name: name.into(),
            uid: uid.into(),
        })
    };
    let mut hook = broker.machine("leasehold-spawner-hook").await;
    let request = wire::BindServiceAccountsRequest {
        id_token: String::new(),
        username: "alice".into(),
        notebook: account("nb-alice", "uid-1"),
        executor: account("wf-alice", "uid-2"),
        home: Some(wire::Home {
            claim: "claim-alice".into(),
            sub_path: String::new(),
            mount_path: "/home/jovyan".into(),
        }),
    };
    hook.bind_service_accounts(request).await.unwrap();
}

pub async fn mounts(broker: &Fixture) -> Result<usize, Code> {
    let mut webhook = broker.machine("leasehold-webhook").await;
    let request = wire::ResolveMountsRequest {
        notebook_uid: "uid-1".into(),
    };
    let answer = webhook.resolve_mounts(request).await;
    answer
        .map(|answer| answer.into_inner().leases.len())
        .map_err(|status| status.code())
}

/// Mounts that are resolved; where the peer was not heard of for a moment it is asked again.
pub async fn resolved_mounts(broker: &Fixture) -> usize {
    eventually("mounts to be resolved", async || match mounts(broker).await {
        Err(Code::Unavailable) => None,
        resolved => Some(resolved.unwrap()),
    })
    .await
}

/// What the peer said before vouches for the view for 1.5 seconds more.
pub async fn refuses_mounts(broker: &Fixture) {
    eventually("mounts to be refused", async || {
        (mounts(broker).await == Err(Code::Unavailable)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_peer_answers_nothing_is_granted_and_what_happened_meanwhile_is_heard_later() {
    let consortium = Consortium::start(Terms::default()).await;
    let uis = consortium.broker("UiSMSP", &[0]).await;
    let uio = consortium.broker("UiOMSP", &[1]).await;
    // A majority without the first.
    let _third = consortium.broker("UiBMSP", &[2]).await;
    uio.register("texts").await;
    let alice = uis.person("alice");
    eventually("the dataset to be seen", async || {
        let seen = uis.call("GET", "/v1/datasets/texts", &alice, None).await;
        (seen.status == 200).then_some(())
    })
    .await;
    let mut stream = watch(&uis).await;
    while !matches!(message(&mut stream).await, Change::Heartbeat(_)) {}
    bound(&uis).await;
    assert!(matches!(
        change(&mut stream, PATIENCE).await,
        Some(Change::Binding(_))
    ));
    let id = uis.lease("texts", &alice).await;
    assert_eq!(lease(&mut stream).await.lease_id, id);
    heartbeat(&mut stream).await;
    assert_eq!(
        resolved_mounts(&uis).await,
        0,
        "alice of the provider is not alice of the hub"
    );

    consortium.peers()[0].kill();
    eventually("the broker not to be ready", async || {
        let (status, text) = uis.readiness().await;
        (status == 503 && text.contains("[-] ledger")).then_some(())
    })
    .await;
    refuses_mounts(&uis).await;
    let asked = uis
        .call("POST", "/v1/leases", &alice, Some(json!({ "dataset": "texts" })))
        .await;
    assert_eq!((asked.status, asked.code()), (503, "unavailable"));
    let mut provisioner = uis.machine("leasehold-provisioner").await;
    let opened = provisioner
        .open_volume(wire::OpenVolumeRequest { lease_id: id.clone() })
        .await;
    assert_eq!(opened.unwrap_err().code(), Code::Unavailable);
    // What was sent before lies in the stream.
    let soon = Duration::from_millis(100);
    while tokio::time::timeout(soon, message(&mut stream)).await.is_ok() {}
    let silent = tokio::time::timeout(Duration::from_millis(1_500), heartbeat(&mut stream)).await;
    assert!(
        silent.is_err(),
        "a heartbeat vouched for a view that nobody knows to be right"
    );

    // Meanwhile the owner revokes the lease, over its own peer.
    let owner = Channel::open(&profile(&uio), &Msp::new("UiOMSP").unwrap())
        .await
        .unwrap();
    let revoke = Submission {
        tx_id: TxId::new("revoke").unwrap(),
        command: Command::Revoke {
            lease: id.clone(),
            reason: "no longer".to_owned(),
        },
    };
    owner.submit(&revoke, None).await.unwrap();
    consortium.peers()[0].restart().unwrap();
    let back = Instant::now();
    match message(&mut stream).await {
        Change::Lease(lease) => {
            assert_eq!(
                (lease.lease_id.as_str(), lease.state()),
                (id.as_str(), wire::LeaseState::Ending)
            );
        }
        other => panic!("before what was missed came {other:?}"),
    }
    heartbeat(&mut stream).await;
    println!("a heartbeat came {:.1?} after the peer was back", back.elapsed());
    uis.ready().await;
    assert_eq!(resolved_mounts(&uis).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_takes_over_without_a_gap() {
    let consortium = Consortium::start(Terms::default()).await;
    let uis = consortium.broker("UiSMSP", &[0, 1, 2]).await;
    let alice = uis.person("alice");
    let mut stream = watch(&uis).await;
    for round in 0..3 {
        let name = format!("texts-{round}");
        uis.register(&name).await;
        let id = uis.lease(&name, &alice).await;
        assert_eq!(lease(&mut stream).await.lease_id, id);
        consortium.peers()[0].close_gateway();
        let released = uis
            .call("DELETE", &format!("/v1/leases/{id}"), &alice, None)
            .await;
        assert_eq!(uis.decided(&released, &alice).await["status"], "succeeded");
        let told = lease(&mut stream).await;
        assert_eq!((told.state(), told.lease_id), (wire::LeaseState::Ending, id));
        heartbeat(&mut stream).await;
        consortium.peers()[0].restart().unwrap();
    }
}

/// The gateways of the others are in its profile, and their peers know all there is.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_organisations_peer_answers_for_the_own_one() {
    let consortium = Consortium::start(Terms::default()).await;
    let uis = consortium.broker("UiSMSP", &[1, 0, 2]).await;
    uis.register("texts").await;
    let alice = uis.person("alice");
    let id = uis.lease("texts", &alice).await;
    consortium.peers()[0].kill();
    eventually("the broker not to be ready", async || {
        let (status, text) = uis.readiness().await;
        (status == 503 && text.contains("[-] ledger")).then_some(())
    })
    .await;
    let mut provisioner = uis.machine("leasehold-provisioner").await;
    let request = wire::OpenVolumeRequest { lease_id: id };
    let opened = provisioner.open_volume(request.clone()).await;
    assert_eq!(opened.unwrap_err().code(), Code::Unavailable);
    refuses_mounts(&uis).await;
    consortium.peers()[0].restart().unwrap();
    uis.ready().await;
    provisioner.open_volume(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_ordering_service_accepted_work_waits_and_then_happens_once() {
    let consortium = Consortium::start(Terms::default()).await;
    let uis = consortium.broker("UiSMSP", &[0, 1]).await;
    uis.register("texts").await;
    let alice = uis.person("alice");
    consortium.network.set_orderer_down(true);
    let accepted = uis
        .call("POST", "/v1/leases", &alice, Some(json!({ "dataset": "texts" })))
        .await;
    assert_eq!(accepted.status, 202);
    eventually("the broker to say that it cannot submit", async || {
        uis.log().contains("could not decide an operation").then_some(())
    })
    .await;
    let location = accepted.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(
        uis.call("GET", &location, &alice, None).await.body["status"],
        "running"
    );
    assert_eq!(uis.readiness().await.0, 200, "questions are still answered");
    consortium.network.set_orderer_down(false);
    assert_eq!(uis.decided(&accepted, &alice).await["status"], "succeeded");
    assert_eq!(consortium.happened("lease_granted"), 1);
}

/// The answer to a submission gets lost: the transaction is ordered, and the broker does not hear of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_submission_whose_answer_is_lost_happens_once() {
    let consortium = Consortium::start(Terms::default()).await;
    let uis = consortium.broker("UiSMSP", &[0]).await;
    uis.register("texts").await;
    consortium.peers()[0].faults().lose_submit_answers(1);
    let alice = uis.person("alice");
    uis.lease("texts", &alice).await;
    assert_eq!(consortium.happened("lease_granted"), 1);
}

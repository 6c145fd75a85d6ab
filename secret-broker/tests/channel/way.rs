//! What the broker does on a channel while nothing fails.

use std::time::Duration;

use leasehold_broker_wire::machines as wire;
use leasehold_broker_wire::machines::watch_leases_response::Change;
use serde_json::json;

use crate::consortium::{Consortium, Terms};
use crate::fixture::{eventually, registration};
use crate::story::{self, change, lease, watch};

#[tokio::test(flavor = "multi_thread")]
async fn two_organisations_lease_each_others_datasets_over_a_channel() {
    let consortium = Consortium::start(Terms::default()).await;
    let uis = consortium.broker("UiSMSP", &[0, 1]).await;
    let uio = consortium.broker("UiOMSP", &[1, 0]).await;
    story::a_dataset_goes_its_way(&uis, &uio, "texts").await;
    story::what_one_registers_the_other_finds(&uis, &uio).await;
    for round in 0..3 {
        story::of_two_who_race_one_gets_it(&uis, &uio, &format!("race-{round}")).await;
    }
    let log = uis.log();
    let own = log
        .lines()
        .filter(|line| !line.contains("\"TRACE\"") && !line.contains("\"DEBUG\""));
    assert!(
        !own.clone().any(|line| line.contains("PRIVATE KEY")),
        "a key in the log"
    );
}

/// The ledger is one, and so is the organisation; each cluster has a provisioner of its own, which knows nothing of the other's claims.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_told_of_its_own_leases_only_and_serves_no_others() {
    let consortium = Consortium::start(Terms::default()).await;
    let east = consortium.broker_of("UiSMSP", "east", &[0]).await;
    let west = consortium.broker_of("UiSMSP", "west", &[0]).await;
    east.register("texts").await;
    let alice = east.person("alice");
    let (mut here, mut there) = (watch(&east).await, watch(&west).await);
    let id = east.lease("texts", &alice).await;
    assert_eq!(lease(&mut here).await.lease_id, id);
    let told = |change: &Change| matches!(change, Change::Lease(_));
    while let Some(change) = change(&mut there, Duration::from_millis(500)).await {
        assert!(!told(&change), "{change:?}");
    }
    // Nor does one that starts now find it.
    west.kill();
    west.run().await;
    let mut there = watch(&west).await;
    while let Some(change) = change(&mut there, Duration::from_millis(500)).await {
        assert!(!told(&change), "{change:?}");
    }
    let mut foreign = west.machine("leasehold-provisioner").await;
    let request = wire::OpenVolumeRequest { lease_id: id.clone() };
    let opened = foreign.open_volume(request.clone()).await;
    assert_eq!(opened.unwrap_err().code(), tonic::Code::NotFound);
    let mut provisioner = east.machine("leasehold-provisioner").await;
    provisioner.open_volume(request).await.unwrap();

    let released = east
        .call("DELETE", &format!("/v1/leases/{id}"), &alice, None)
        .await;
    assert_eq!(east.decided(&released, &alice).await["status"], "succeeded");
    assert_eq!(lease(&mut here).await.state(), wire::LeaseState::Ending);
    let request = wire::ConfirmEndRequest { lease_id: id };
    let confirmed = foreign.confirm_end(request.clone()).await;
    assert_eq!(confirmed.unwrap_err().code(), tonic::Code::NotFound);
    provisioner.confirm_end(request).await.unwrap();
    assert_eq!(lease(&mut here).await.state(), wire::LeaseState::Ended);
}

/// The lease is of no use from its expiry on; that it is over is on the ledger when no clock can be wrong about it any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_ended_by_time_when_the_margin_is_over_too() {
    let end_margin_ms = 15_000;
    let consortium = Consortium::start(Terms {
        end_margin_ms,
        ..Terms::default()
    })
    .await;
    let uis = consortium.broker("UiSMSP", &[0]).await;
    let steward = uis.person("steward");
    let mut short = registration("texts");
    short["max_ttl_seconds"] = json!(10);
    let accepted = uis.call("POST", "/v1/datasets", &steward, Some(short)).await;
    assert_eq!(uis.decided(&accepted, &steward).await["status"], "succeeded");
    let mut stream = watch(&uis).await;
    let alice = uis.person("alice");
    let id = uis.lease("texts", &alice).await;
    let granted = lease(&mut stream).await;
    assert_eq!(
        (granted.lease_id.as_str(), granted.state()),
        (id.as_str(), wire::LeaseState::Active)
    );
    let path = format!("/v1/leases/{id}");
    let expires_ms = uis.call("GET", &path, &alice, None).await.body["expires_at"]
        .as_i64()
        .unwrap()
        * 1_000;
    eventually("the lease to expire", async || {
        (chrono::Utc::now().timestamp_millis() > expires_ms + 1_000).then_some(())
    })
    .await;
    assert_eq!(
        uis.call("GET", &path, &alice, None).await.body["state"],
        "active",
        "the margin is not over"
    );
    let mut provisioner = uis.machine("leasehold-provisioner").await;
    let opened = provisioner
        .open_volume(wire::OpenVolumeRequest { lease_id: id.clone() })
        .await;
    assert_eq!(
        opened.unwrap_err().code(),
        tonic::Code::FailedPrecondition,
        "of no use any more"
    );
    let ending = lease(&mut stream).await;
    assert_eq!(
        (ending.state(), ending.end_cause.as_str()),
        (wire::LeaseState::Ending, "expired")
    );
    let now_ms = chrono::Utc::now().timestamp_millis();
    assert!(
        now_ms >= expires_ms + end_margin_ms - 1_000,
        "{} ms after its expiry",
        now_ms - expires_ms
    );
    assert_eq!(consortium.happened("lease_ending"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_certificate_is_no_administrators_says_what_is_missing() {
    let consortium = Consortium::start(Terms::default()).await;
    let profile = consortium.profile("UiSMSP", &[0]);
    let client = fabric_sim::Client::new("UiSMSP", "member").unwrap();
    std::fs::write(profile.with_file_name("UiSMSP-tls.crt"), client.pem).unwrap();
    std::fs::write(profile.with_file_name("UiSMSP-tls.key"), client.key).unwrap();
    let organisation = leasehold_chaincode::Msp::new("UiSMSP").unwrap();
    let channel = leasehold_secret_broker::fabric::Channel::open(&profile, &organisation)
        .await
        .unwrap();
    let submission = leasehold_secret_broker::ledger::Submission {
        tx_id: leasehold_chaincode::TxId::new("join").unwrap(),
        command: leasehold_chaincode::Command::JoinConsortium {
            broker: "https://broker".to_owned(),
            keys: Vec::new(),
        },
    };
    let refused = channel.submit(&submission, None).await.unwrap_err();
    assert!(refused.to_string().contains("administrator"), "{refused}");
}

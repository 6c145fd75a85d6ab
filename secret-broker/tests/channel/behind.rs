//! Own peers of which one is behind, and streams that have much to make up for: a view is not vouched for before it is the newest.

use std::time::Duration;

use leasehold_broker_wire::machines as wire;
use leasehold_broker_wire::machines::watch_leases_response::Change;
use leasehold_chaincode::{Command, Msp, TxId};
use leasehold_secret_broker::fabric::Channel;
use leasehold_secret_broker::ledger::Submission;

use crate::consortium::{Consortium, Terms, profile};
use crate::failure::{bound, mounts};
use crate::fixture::{Fixture, eventually};
use crate::story::{Stream, heartbeat, lease, message, watch};

/// Two peers of the organisation whose broker is tested, and one of the owner's.
async fn two_own_peers() -> Consortium {
    Consortium::start(Terms {
        organisations: ["UiSMSP", "UiSMSP", "UiOMSP"],
        ..Terms::default()
    })
    .await
}

/// A lease of the owner's dataset.
async fn leased(owner: &Fixture, other: &Fixture) -> String {
    owner.register("texts").await;
    let alice = other.person("alice");
    eventually("the dataset to be seen", async || {
        let seen = other.call("GET", "/v1/datasets/texts", &alice, None).await;
        (seen.status == 200).then_some(())
    })
    .await;
    other.lease("texts", &alice).await
}

/// The owner ends a lease, over its own peer.
async fn revoke(owner: &Fixture, lease: &str) {
    let channel = Channel::open(&profile(owner), &Msp::new("UiOMSP").unwrap())
        .await
        .unwrap();
    let revoke = Submission {
        tx_id: TxId::new("revoke").unwrap(),
        command: Command::Revoke {
            lease: lease.to_owned(),
            reason: "no longer".to_owned(),
        },
    };
    channel.submit(&revoke, None).await.unwrap();
}

/// The states of a lease that were told before the first heartbeat.
async fn before_a_heartbeat(stream: &mut Stream, id: &str) -> Vec<wire::LeaseState> {
    let mut told = Vec::new();
    loop {
        match message(stream).await {
            Change::Heartbeat(_) => return told,
            Change::Lease(lease) if lease.lease_id == id => told.push(lease.state()),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_starts_believes_the_own_peer_that_has_most_and_not_the_preferred_one() {
    let consortium = two_own_peers().await;
    let uio = consortium.broker("UiOMSP", &[2]).await;
    let uis = consortium.broker("UiSMSP", &[0, 1]).await;
    let id = leased(&uio, &uis).await;
    uis.kill();
    consortium.peers()[0].hold_back(true);
    revoke(&uio, &id).await;
    uis.run().await;
    let mut stream = watch(&uis).await;
    assert_eq!(
        before_a_heartbeat(&mut stream, &id).await,
        [wire::LeaseState::Ending]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_peer_that_gets_no_more_blocks_is_left_for_one_that_does() {
    let consortium = two_own_peers().await;
    let uio = consortium.broker("UiOMSP", &[2]).await;
    let uis = consortium.broker("UiSMSP", &[0, 1]).await;
    let id = leased(&uio, &uis).await;
    let mut stream = watch(&uis).await;
    assert_eq!(lease(&mut stream).await.state(), wire::LeaseState::Active);
    consortium.peers()[0].hold_back(true);
    revoke(&uio, &id).await;
    let told = lease(&mut stream).await;
    assert_eq!((told.state(), told.lease_id), (wire::LeaseState::Ending, id));
    heartbeat(&mut stream).await;
}

/// The second of two own peers is behind, by blocks of which no follower ever hears.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_without_events_keeps_no_mounts_back() {
    let consortium = two_own_peers().await;
    consortium.peers()[1].hold_back(true);
    for _ in 0..2 {
        consortium.network.submit_block(Vec::new());
    }
    let uis = consortium.broker("UiSMSP", &[2, 1, 0]).await;
    bound(&uis).await;
    eventually("mounts to be answered", async || {
        mounts(&uis).await.is_ok().then_some(())
    })
    .await;
    heartbeat(&mut watch(&uis).await).await;
}

/// Longer than a stream must have stood to be believed.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_vouched_for_while_a_stream_makes_up_for_what_was_missed() {
    let consortium = Consortium::start(Terms::default()).await;
    let uis = consortium.broker("UiSMSP", &[0]).await;
    let uio = consortium.broker("UiOMSP", &[1]).await;
    // A majority without the first.
    let _third = consortium.broker("UiBMSP", &[2]).await;
    let id = leased(&uio, &uis).await;
    consortium.peers()[0].kill();
    eventually("the broker not to be ready", async || {
        (uis.readiness().await.0 == 503).then_some(())
    })
    .await;
    for number in 0..12 {
        uio.register(&format!("missed-{number}")).await;
    }
    revoke(&uio, &id).await;
    let mut stream = watch(&uis).await;
    consortium.peers()[0]
        .faults()
        .slow_events(Duration::from_millis(250));
    consortium.peers()[0].restart().unwrap();
    let told = before_a_heartbeat(&mut stream, &id).await;
    assert_eq!(told, [wire::LeaseState::Active, wire::LeaseState::Ending]);
}

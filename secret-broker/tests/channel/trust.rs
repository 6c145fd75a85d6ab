//! Peers that are behind, silent or not honest: whom the broker believes, and for how long.

use std::time::{Duration, Instant};

use leasehold_broker_wire::machines as wire;
use leasehold_broker_wire::machines::watch_leases_response::Change;
use leasehold_chaincode::{ClusterName, LeaseState, Msp, PageRequest};
use leasehold_secret_broker::fabric::Channel;
use leasehold_secret_broker::ledgers::BrokerLedger;
use leasehold_secret_broker::store::Store;
use leasehold_secret_broker::view::View;
use serde_json::json;

use crate::consortium::{Consortium, Terms, profile};
use crate::failure::{bound, mounts, refuses_mounts, resolved_mounts};
use crate::fixture::{Fixture, PATIENCE, eventually};
use crate::story::{change, heartbeat, lease, watch};

/// The stream is at the second peer, since the preferred one is up and behind; then the second one is silent, and its connection stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_at_which_the_stream_is_not_vouches_for_nothing() {
    let consortium = Consortium::start(Terms::default()).await;
    let uis = consortium.broker("UiSMSP", &[0, 1]).await;
    let uio = consortium.broker("UiOMSP", &[1]).await;
    bound(&uis).await;
    let mut stream = watch(&uis).await;
    consortium.peers()[0].hold_back(true);
    consortium.peers()[0].close_gateway();
    // What it knows of from the other peer, and its own does not have.
    uio.register("texts").await;
    heartbeat(&mut stream).await;
    consortium.peers()[0].restart().unwrap();
    let steward = uis.person("steward");
    eventually("the own peer to answer questions", async || {
        let listed = uis.call("GET", "/v1/datasets", &steward, None).await;
        (listed.status == 200).then_some(())
    })
    .await;
    eventually("mounts to be answered", async || {
        mounts(&uis).await.is_ok().then_some(())
    })
    .await;
    consortium.peers()[1].faults().stall(true);
    refuses_mounts(&uis).await;
    // Nor does the own one, as long as it has less than what was told.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        assert!(mounts(&uis).await.is_err(), "after {:.1?}", begun.elapsed());
    }
    consortium.peers()[0].hold_back(false);
    eventually("mounts to be answered", async || {
        mounts(&uis).await.is_ok().then_some(())
    })
    .await;
    consortium.peers()[1].faults().stall(false);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_goes_back_to_the_own_peer_when_that_is_well_again() {
    let consortium = Consortium::start(Terms::default()).await;
    let uis = consortium.broker("UiSMSP", &[0, 1]).await;
    let alice = uis.person("alice");
    bound(&uis).await;
    let mut stream = watch(&uis).await;
    assert!(matches!(
        change(&mut stream, PATIENCE).await,
        Some(Change::Binding(_))
    ));
    for round in 0..2 {
        let name = format!("texts-{round}");
        uis.register(&name).await;
        consortium.peers()[0].close_gateway();
        let id = uis.lease(&name, &alice).await;
        assert_eq!(lease(&mut stream).await.lease_id, id);
        let before = uis.log().len();
        consortium.peers()[0].restart().unwrap();
        eventually("the stream to go back", async || {
            let log = uis.log();
            log[before..]
                .contains("a preferred peer is well again")
                .then_some(())
        })
        .await;
        // What the other one does from now on is of no account.
        consortium.peers()[1].faults().stall(true);
        let released = uis
            .call("DELETE", &format!("/v1/leases/{id}"), &alice, None)
            .await;
        // Once, and nothing else before it.
        let told = lease(&mut stream).await;
        assert_eq!((told.state(), told.lease_id), (wire::LeaseState::Ending, id));
        heartbeat(&mut stream).await;
        assert_eq!(resolved_mounts(&uis).await, 0);
        consortium.peers()[1].faults().stall(false);
        assert_eq!(uis.decided(&released, &alice).await["status"], "succeeded");
    }
}

async fn ledger(broker: &Fixture) -> BrokerLedger {
    let organisation = Msp::new("UiSMSP").unwrap();
    BrokerLedger::Fabric(Channel::open(&profile(broker), &organisation).await.unwrap())
}

/// Two peers of one organisation, of which the second does not know of a lease.
#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_of_one_state_is_answered_by_one_peer_or_not_at_all() {
    let consortium = Consortium::start(Terms {
        organisations: ["UiSMSP", "UiSMSP", "UiOMSP"],
        ..Terms::default()
    })
    .await;
    let uis = consortium.broker("UiSMSP", &[0, 1]).await;
    uis.register("texts").await;
    consortium.peers()[1].hold_back(true);
    uis.lease("texts", &uis.person("alice")).await;
    let ledger = ledger(&uis).await;
    let page = PageRequest::default();
    let (mut reading, _) = ledger.one_state().await.unwrap();
    let active = reading.leases_in(LeaseState::Active, &page).await.unwrap();
    assert_eq!(active.items.len(), 1);
    consortium.peers()[0].close_gateway();
    reading.leases_in(LeaseState::Active, &page).await.unwrap_err();
    reading.is_settled().await.unwrap_err();
    let (mut reading, _) = ledger.one_state().await.unwrap();
    let active = reading.leases_in(LeaseState::Active, &page).await.unwrap();
    assert!(active.items.is_empty(), "the other peer's state, whole");
    assert!(reading.is_settled().await.unwrap());
    consortium.network.submit_block(Vec::new());
    assert!(reading.is_settled().await.unwrap(), "it did not take that block");
    consortium.peers()[1].hold_back(false);
    assert!(!reading.is_settled().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_not_loaded_while_the_ledger_changes_under_it() {
    let consortium = Consortium::start(Terms::default()).await;
    let uis = consortium.broker("UiSMSP", &[0]).await;
    uis.register("texts").await;
    uis.lease("texts", &uis.person("alice")).await;
    let ledger = ledger(&uis).await;
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("broker.db")).await.unwrap();
    let load = View::load(
        Msp::new("UiSMSP").unwrap(),
        ClusterName::new("main").unwrap(),
        &ledger,
        &store,
        std::sync::Arc::default(),
    );
    let mut load = std::pin::pin!(load);
    let blocks = async {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            consortium.network.submit_block(Vec::new());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        loaded = &mut load => panic!("it was loaded from several states: {:?}", loaded.map(|(_, height)| height)),
        () = blocks => {}
    }
    let (_, height) = load.await.unwrap();
    let newest = consortium.network.blocks().len();
    assert_eq!(usize::try_from(height).unwrap(), newest);
}

/// One organisation's peers refuse what the contract does not.
#[tokio::test(flavor = "multi_thread")]
async fn no_other_organisations_refusal_ends_an_operation() {
    let consortium = Consortium::start(Terms::default()).await;
    let uis = consortium.broker("UiSMSP", &[0]).await;
    uis.register("texts").await;
    let alice = uis.person("alice");
    let refusal = r#"{"code":"lease_conflict","message":"the dataset is leased"}"#;
    consortium.peers()[1].refuse(Some((409, refusal)));
    consortium.peers()[2].kill();
    let accepted = uis
        .call("POST", "/v1/leases", &alice, Some(json!({ "dataset": "texts" })))
        .await;
    assert_eq!(accepted.status, 202);
    eventually("the broker to say who refuses", async || {
        let log = uis.log();
        (log.contains("so that nothing is decided") && log.contains("UiOMSP")).then_some(())
    })
    .await;
    let location = accepted.headers["location"].to_str().unwrap().to_owned();
    let operation = uis.call("GET", &location, &alice, None).await.body;
    assert_eq!(operation["status"], "running", "{operation}");
    // Whoever else may endorse does.
    consortium.peers()[2].restart().unwrap();
    assert_eq!(uis.decided(&accepted, &alice).await["status"], "succeeded");
    assert_eq!(consortium.happened("lease_granted"), 1);
}

/// Nobody has signed the answer that a rotation was committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_that_another_one_replaced_on_a_channel_waits_for_the_delay() {
    const DELAY: &str = "LEASEHOLD_KEY_DESTRUCTION_DELAY_SECONDS";
    let consortium = Consortium::start(Terms::default()).await;
    let mut fixture = consortium.broker("UiSMSP", &[0]).await;
    fixture.terminate();
    fixture.set(DELAY, "86400");
    fixture.run().await;
    let dataset = fixture.register("texts").await;
    let steward = fixture.person("steward");
    let rotated = fixture
        .call("POST", "/v1/datasets/texts/rotation", &steward, None)
        .await;
    assert_eq!(fixture.decided(&rotated, &steward).await["status"], "succeeded");
    // Nor at a start, where the ledger is looked at as well.
    fixture.terminate();
    fixture.run().await;
    let [waits] = fixture.keys_done(&["doomed"]).try_into().unwrap();
    let waits: serde_json::Value = waits;
    assert_eq!(
        (&waits["dataset"], &waits["reason"], &waits["before_version"]),
        (&json!(dataset), &json!("superseded"), &json!(2))
    );
    assert!(waits["transaction"].is_string());
    assert!(has_key(&fixture, &dataset, 1).await && has_key(&fixture, &dataset, 2).await);
    fixture.terminate();
    fixture.set(DELAY, "0");
    fixture.run().await;
    eventually("the old key to be destroyed", async || {
        (!has_key(&fixture, &dataset, 1).await).then_some(())
    })
    .await;
    assert!(has_key(&fixture, &dataset, 2).await);
}

async fn has_key(fixture: &Fixture, dataset: &str, version: u32) -> bool {
    let store = Store::open(&fixture.data_dir().join("broker.db")).await.unwrap();
    let key = store.data_key(dataset, version).await.unwrap();
    store.close().await;
    key.is_some()
}

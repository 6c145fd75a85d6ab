//! Events: from a checkpoint, and at another peer.

use super::{Real, run};
use crate::served::PATIENCE;
use fabric_gateway_client::{Contract, Event, Events, Start};
use fabric_network::ORGANISATIONS;
use futures::future::join_all;
use serde_json::json;
use std::collections::HashSet;
use tokio::time::timeout;

async fn emit(contract: &Contract, name: &str) {
    contract
        .submit(&run(&json!([["event", name, "payload"]])))
        .await
        .unwrap();
}

async fn next(events: &mut Events) -> Event {
    timeout(PATIENCE, events.next())
        .await
        .expect("no event came")
        .unwrap()
}

pub async fn events_go_on_after_a_checkpoint(real: &Real) {
    let contract = real.contract(&ORGANISATIONS);
    let names = ["one", "two", "three", "four", "five"];
    join_all(names.map(async |name| emit(&contract, name).await)).await;
    let mut events = contract.events(Start::Block(0));
    let mut all = Vec::new();
    for _ in names {
        all.push(next(&mut events).await);
    }
    let came: HashSet<_> = all.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(came, HashSet::from(names));
    for (place, event) in all.iter().enumerate() {
        let mut rest = contract.events(Start::After(event.checkpoint()));
        for expected in &all[place + 1..] {
            assert_eq!(next(&mut rest).await, *expected);
        }
    }
    let mut new = contract.events(Start::Next);
    let (event, ()) = tokio::join!(next(&mut new), async {
        // Whether the stream is open cannot be seen: one of these comes after it is.
        for _ in 0..5 {
            emit(&contract, "new").await;
        }
    });
    assert_eq!(event.name, "new");
}

pub async fn events_go_on_at_another_peer(real: &mut Real) {
    let writer = real.contract(&["Org2"]);
    let reader = real.contract(&["Org1", "Org2"]);
    emit(&writer, "before").await;
    let mut events = reader.events(Start::Block(0));
    while next(&mut events).await.name != "before" {}
    emit(&writer, "first").await;
    assert_eq!(next(&mut events).await.name, "first");
    real.network.kill("Org1").await.unwrap();
    for name in ["second", "third"] {
        emit(&writer, name).await;
        assert_eq!(next(&mut events).await.name, name);
    }
    real.network.start_again("Org1").await.unwrap();
    emit(&writer, "fourth").await;
    assert_eq!(next(&mut events).await.name, "fourth");
}

//! Clients that submit without a pause while servers are killed and organisations come and go.

use super::{LOOK_AGAIN, Real, evaluate, run, user_of};
use crate::served::PATIENCE;
use fabric_gateway_client::{
    Contract, Events, ProposalError, Start, TransactionError, TransactionId, ValidationCode,
};
use fabric_network::{ORDERER, ORGANISATIONS};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// What a client was told of its transactions: key and id.
#[derive(Default)]
struct Told {
    committed: Vec<(String, TransactionId)>,
    unknown: Vec<String>,
    /// Why others certainly did not take effect.
    failed: Vec<String>,
}

async fn load(contract: Contract, client: usize, stop: CancellationToken) -> Told {
    let mut told = Told::default();
    for number in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let key = format!("load-{client}-{number}");
        let steps = json!([["put", key, "1"], ["event", "load", key]]);
        match contract.submit(&run(&steps)).await {
            Ok(committed) => told.committed.push((key, committed.transaction_id)),
            Err(error) if error.unknown_outcome().is_some() => told.unknown.push(key),
            Err(error) => told.failed.push(error.to_string()),
        }
    }
    told
}

/// The number of blocks in which load was committed, seen by the events.
async fn some_load(events: &mut Events, what: &str) {
    let first = timeout(Duration::from_secs(60), events.next());
    let mut block = first.await.expect(what).unwrap().block;
    for _ in 0..3 {
        let before = block;
        while block == before {
            block = timeout(Duration::from_secs(60), events.next())
                .await
                .expect(what)
                .unwrap()
                .block;
        }
    }
}

pub async fn nothing_is_lost_or_doubled_while_servers_are_killed(real: &mut Real) {
    let gateway = real.gateway(&ORGANISATIONS);
    let stop = CancellationToken::new();
    let mut clients = JoinSet::new();
    for client in 0..6 {
        let contract = gateway.contract(real.network.channel(), "probe");
        clients.spawn(load(contract, client, stop.clone()));
    }
    let begun = Instant::now();
    let all = gateway.contract(real.network.channel(), "probe");
    let mut events = all.events(Start::Next);
    for server in ["Org1", "Org2", ORDERER] {
        some_load(&mut events, "load before a server is killed").await;
        let killed = Instant::now();
        real.network.kill(server).await.unwrap();
        if server != ORDERER {
            some_load(&mut events, "load while a peer is gone").await;
            println!(
                "{server} killed: load went on after at most {:?}",
                killed.elapsed()
            );
        }
        real.network.start_again(server).await.unwrap();
        let again = Instant::now();
        some_load(&mut events, "load after the server is back").await;
        println!(
            "{server} started again: four blocks of load after {:?}",
            again.elapsed()
        );
    }
    stop.cancel();
    let told = all_told(clients).await;
    println!(
        "under load for {:?}: {} committed, {} unknown, {} certainly not: {:?}",
        begun.elapsed(),
        told.committed.len(),
        told.unknown.len(),
        told.failed.len(),
        told.failed
    );
    assert!(told.committed.len() > 20, "hardly any load");
    each_counts_once(real, &told).await;
}

async fn all_told(mut clients: JoinSet<Told>) -> Told {
    let mut told = Told::default();
    while let Some(client) = clients.join_next().await {
        let client = client.unwrap();
        told.committed.extend(client.committed);
        told.unknown.extend(client.unknown);
        told.failed.extend(client.failed);
    }
    told
}

/// At every peer, each that was acknowledged is there once, and each of unknown outcome once at most.
async fn each_counts_once(real: &Real, told: &Told) {
    for organisation in ORGANISATIONS {
        let gateway = real.gateway(&[organisation]);
        let contract = gateway.contract(real.network.channel(), "probe");
        // Each peer has come as far as the last that was acknowledged.
        for (_, id) in &told.committed {
            let status = gateway.commit_status(real.network.channel(), id).await.unwrap();
            assert_eq!(status.code, ValidationCode::VALID);
        }
        let keys = told.committed.iter().map(|(key, _)| key);
        let steps: Value = keys.map(|key| json!(["history", key])).collect();
        let answers = evaluate(&contract, steps).await;
        for ((key, _), history) in told.committed.iter().zip(answers.as_array().unwrap()) {
            assert_eq!(history.as_array().unwrap().len(), 1, "{key} at {organisation}");
        }
        let steps: Value = told.unknown.iter().map(|key| json!(["history", key])).collect();
        for history in evaluate(&contract, steps).await.as_array().unwrap() {
            assert!(history.as_array().unwrap().len() <= 1);
        }
    }
}

pub async fn a_fourth_organisation_joins_and_leaves_while_others_work(real: &mut Real) {
    let gateway = real.gateway(&ORGANISATIONS);
    let stop = CancellationToken::new();
    let mut clients = JoinSet::new();
    for client in 0..2 {
        let contract = gateway.contract(real.network.channel(), "probe");
        clients.spawn(load(contract, 100 + client, stop.clone()));
    }
    let start = Instant::now();
    real.network.add("Org4", &[&real.chaincode]).await.unwrap();
    println!("Org4 joined after {:?}", start.elapsed());

    let own = real
        .gateway(&["Org4"])
        .acting_as(user_of(&real.network, "Org4").await);
    let own = own.contract(real.network.channel(), "probe");
    // Its chaincode is asked for when gossip has found its peer.
    let steps = json!([["put", "of four", "1"], ["who"]]);
    let call = run(&steps).organisations(["Org4MSP", "Org1MSP", "Org2MSP"]);
    let committed = timeout(PATIENCE, async {
        loop {
            match own.submit(&call).await {
                Ok(committed) => return committed,
                Err(error) if error.unknown_outcome().is_none() => sleep(LOOK_AGAIN).await,
                Err(error) => panic!("{error}: {}", real.network.logs()),
            }
        }
    })
    .await
    .expect("the fourth organisation committed nothing");
    let answers: Value = serde_json::from_slice(&committed.result).unwrap();
    assert_eq!(answers[1][0], "Org4MSP");
    assert_eq!(evaluate(&own, json!([["get", "of four"]])).await[0], "1");
    println!("Org4 committed after {:?}", start.elapsed());

    let removing = Instant::now();
    let user = user_of(&real.network, "Org4").await;
    real.network.remove("Org4").await.unwrap();
    println!("Org4 left after {:?}", removing.elapsed());
    let stranger = real.gateway(&["Org1"]).acting_as(user);
    let stranger = stranger.contract(real.network.channel(), "probe");
    timeout(PATIENCE, async {
        // Until the block that says so has come.
        while stranger.evaluate(&run(&json!([["get", "a"]]))).await.is_ok() {
            sleep(LOOK_AGAIN).await;
        }
    })
    .await
    .expect("who has left is still served");
    let error = stranger
        .submit(&run(&json!([["put", "a", "2"]])))
        .await
        .unwrap_err();
    assert!(
        matches!(error, TransactionError::Proposal(ProposalError::Rejected(_))),
        "{error:?}"
    );
    let contract = real.contract(&ORGANISATIONS);
    contract
        .submit(&run(&json!([["put", "after", "1"]])))
        .await
        .unwrap();
    stop.cancel();
    let told = all_told(clients).await;
    println!(
        "meanwhile {} committed, {} unknown, {} certainly not: {:?}",
        told.committed.len(),
        told.unknown.len(),
        told.failed.len(),
        told.failed
    );
    assert!(!told.committed.is_empty());
    each_counts_once(real, &told).await;
}

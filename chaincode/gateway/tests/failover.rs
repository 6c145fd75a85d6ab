//! The client over the gateways of a **simulated** network whose peers are killed, come back, lose answers or give none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/bench.rs"]
mod bench;
#[path = "../../shim/tests/support/probe.rs"]
mod probe;
#[path = "../../shim/tests/support/served.rs"]
mod served;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bench::{Bench, get, put, run, until};
use fabric_gateway_client::{
    CommitStatusError, Contract, Deadlines, ProposalError, Retry, SubmitError, TransactionError,
    TransactionId, ValidationCode,
};
use fabric_sim::ValidationCode as Simulated;
use futures::future::join_all;
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_killed_peer_is_passed_over_and_used_again_when_it_is_back() {
    let mut bench = Bench::start().await;
    let contract = bench.contract();
    put(&contract, "a", "1").await.unwrap();
    bench.peers[0].kill();
    put(&contract, "a", "2").await.unwrap();
    assert_eq!(get(&contract, "a").await.unwrap(), "2");
    bench.peers[0].restart().unwrap();
    bench.peers[1].kill();
    put(&contract, "a", "3").await.unwrap();
    assert_eq!(get(&contract, "a").await.unwrap(), "3");
}

#[tokio::test]
async fn without_any_peer_it_is_certain_that_nothing_was_submitted() {
    let mut bench = Bench::start().await;
    let contract = bench.hurried(Deadlines {
        submit: Duration::from_millis(300),
        ..Deadlines::default()
    });
    let endorsed = contract.endorse(&run(&json!([["put", "a", "1"]]))).await.unwrap();
    all_are_killed(&mut bench, &contract).await;
    let error = endorsed.submit().await.unwrap_err();
    assert!(matches!(error, SubmitError::Unavailable { .. }), "{error:?}");
    assert!(TransactionError::from(error).unknown_outcome().is_none());
    bench.peers[1].restart().unwrap();
    bench.peers[2].restart().unwrap();
    endorsed.submit().await.unwrap();
    assert!(endorsed.commit_status().await.unwrap().code.is_valid());
}

/// The connection that endorsed may die with the request on it; from now on there is none.
async fn all_are_killed(bench: &mut Bench, contract: &Contract) {
    for peer in &mut bench.peers {
        peer.kill();
    }
    until("every connection to be gone", async || {
        matches!(
            contract.evaluate(&run(&json!([]))).await,
            Err(ProposalError::Unavailable(_))
        )
    })
    .await;
}

/// The time of the call is over while connections are still being opened.
#[tokio::test]
async fn to_a_peer_that_takes_no_connection_it_is_certain_that_nothing_was_submitted() {
    let mut bench = Bench::start().await;
    let contract = bench.hurried(Deadlines {
        submit: Duration::from_secs(1),
        ..Deadlines::default()
    });
    let endorsed = contract.endorse(&run(&json!([["put", "a", "1"]]))).await.unwrap();
    all_are_killed(&mut bench, &contract).await;
    // Two wait to be accepted, and Linux lets no third one in.
    let mut full = Vec::new();
    for peer in &bench.peers {
        let address = peer.address().parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1).unwrap();
        let first = TcpStream::connect(address).await.unwrap();
        let second = TcpStream::connect(address).await.unwrap();
        full.push((listener, first, second));
    }
    let error = endorsed.submit().await.unwrap_err();
    assert!(matches!(error, SubmitError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("no connection within"), "{error}");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_the_transaction_counts_once() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    bench.peers[0].faults().lose_submit_answers(1);
    bench.peers[1].faults().lose_submit_answers(1);
    let committed = contract.submit(&run(&json!([["put", "a", "1"]]))).await.unwrap();
    let id = committed.transaction_id.as_str();
    assert_eq!(bench.valid(id), 1);
    let duplicates = async || {
        let blocks = bench.network.blocks();
        let all = blocks.iter().flat_map(|block| &block.transactions);
        all.filter(|(_, code)| *code == Simulated::DuplicateTxid).count() == 2
    };
    until("the transaction to be ordered three times", duplicates).await;
    let history = contract.evaluate(&run(&json!([["history", "a"]]))).await.unwrap();
    let history: serde_json::Value = serde_json::from_slice(&history).unwrap();
    assert_eq!(history[0].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_transaction_whose_answers_are_lost_has_an_unknown_outcome_that_can_be_asked_for() {
    let bench = Bench::start().await;
    let contract = bench.hurried(Deadlines {
        submit: Duration::from_secs(5),
        ..Deadlines::default()
    });
    for peer in &bench.peers {
        peer.faults().lose_submit_answers(1000);
    }
    let error = contract
        .submit(&run(&json!([["put", "a", "1"]])))
        .await
        .unwrap_err();
    let id = error.unknown_outcome().expect("the outcome is unknown").clone();
    assert!(error.to_string().contains(id.as_str()), "{error}");
    let status = bench.gateway().commit_status("channel", &id).await.unwrap();
    assert_eq!(status.code, ValidationCode::VALID);
    assert_eq!(bench.valid(id.as_str()), 1);
}

#[tokio::test]
async fn a_transaction_whose_outcome_is_unknown_is_never_run_again() {
    let bench = Bench::start().await;
    let contract = bench.hurried(Deadlines {
        submit: Duration::from_secs(5),
        ..Deadlines::default()
    });
    for peer in &bench.peers {
        peer.faults().lose_submit_answers(1000);
    }
    let retry = Retry {
        runs: 5,
        first: Duration::from_millis(1),
        most: Duration::from_millis(1),
    };
    let call = run(&json!([["put", "a", "1"]]));
    let error = contract.submit_idempotent(&call, &retry).await.unwrap_err();
    let id = error.unknown_outcome().expect("the outcome is unknown");
    bench.gateway().commit_status("channel", id).await.unwrap();
    let blocks = bench.network.blocks();
    let mut all = blocks.iter().flat_map(|block| &block.transactions);
    assert!(all.all(|(transaction, _)| transaction.txid == id.as_str()));
}

#[tokio::test]
async fn a_peer_that_gives_no_answer_is_left_for_the_next_one() {
    let bench = Bench::start().await;
    let contract = bench.hurried(Deadlines {
        attempt: Duration::from_secs(1),
        ..Deadlines::default()
    });
    bench.peers[0].faults().hang(1);
    put(&contract, "a", "1").await.unwrap();
    bench.peers[0].faults().hang(0);
    assert_eq!(get(&contract, "a").await.unwrap(), "1");
}

/// The calls that reached the peer are counted, however long the others took on a slow machine.
#[tokio::test]
async fn of_many_calls_one_waits_for_a_peer_that_gives_no_answer() {
    const SHORTEST_REST: Duration = Duration::from_millis(500);
    const MOST: usize = 1_000_000;
    let bench = Bench::start().await;
    let attempt = Duration::from_secs(2);
    let contract = bench.hurried(Deadlines {
        attempt,
        ..Deadlines::default()
    });
    let start = Instant::now();
    bench.peers[0].faults().hang(MOST);
    get(&contract, "a").await.unwrap();
    // Over several of its rests.
    let mut all = 1;
    while start.elapsed() < attempt * 3 {
        let calls = (0..20).map(async |_| get(&contract, "a").await.unwrap());
        all += join_all(calls).await.len();
    }
    let waited = MOST - bench.peers[0].faults().left_to_hang();
    let rests = start.elapsed().as_millis() / SHORTEST_REST.as_millis();
    assert!(
        waited >= 2 && waited as u128 <= rests + 1,
        "{waited} of {all} calls waited in {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn no_call_lasts_longer_than_its_deadline() {
    let bench = Bench::start().await;
    let short = Duration::from_millis(150);
    let call = run(&json!([["put", "a", "1"]]));
    let contract = bench.hurried(Deadlines {
        // So that it is sent, however slow the machine is.
        submit: Duration::from_secs(2),
        commit: short,
        ..Deadlines::default()
    });
    let endorsed = contract.endorse(&call).await.unwrap();
    let contract = bench.hurried(Deadlines {
        evaluate: short,
        endorse: short,
        ..Deadlines::default()
    });
    for peer in &bench.peers {
        peer.faults().hang(1000);
    }
    let start = Instant::now();
    let error = contract.evaluate(&call).await.unwrap_err();
    assert!(matches!(error, ProposalError::Deadline { .. }), "{error:?}");
    let error = contract.endorse(&call).await.unwrap_err();
    assert!(matches!(error, ProposalError::Deadline { .. }), "{error:?}");
    let error = endorsed.submit().await.unwrap_err();
    assert!(matches!(error, SubmitError::OutcomeUnknown { .. }), "{error:?}");
    let error = endorsed.commit_status().await.unwrap_err();
    assert!(matches!(error, CommitStatusError::Deadline { .. }), "{error:?}");
    let usual = Deadlines::default();
    let least = [usual.evaluate, usual.endorse, usual.submit, usual.commit]
        .into_iter()
        .min();
    assert!(
        Some(start.elapsed()) < least,
        "all of them took {:?}, and none by its usual deadline less than {least:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_transaction_waits_for_an_orderer_that_restarts() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let endorsed = contract.endorse(&run(&json!([["put", "a", "1"]]))).await.unwrap();
    bench.network.set_orderer_down(true);
    let submitting = tokio::spawn({
        let endorsed = endorsed.clone();
        async move { endorsed.submit().await }
    });
    let (hurried, call) = (
        bench.hurried(Deadlines {
            submit: Duration::from_secs(2),
            ..Deadlines::default()
        }),
        run(&json!([["put", "b", "1"]])),
    );
    let error = hurried.submit(&call).await.unwrap_err();
    // A gateway cannot tell whether an orderer that failed took the transaction.
    assert!(error.unknown_outcome().is_some(), "{error:?}");
    assert!(!submitting.is_finished());
    bench.network.set_orderer_down(false);
    submitting.await.unwrap().unwrap();
    assert!(endorsed.commit_status().await.unwrap().code.is_valid());
}

/// What a client was told of its transactions.
#[derive(Default)]
struct Told {
    committed: Vec<TransactionId>,
    unknown: Vec<TransactionId>,
}

async fn load(
    contract: Contract,
    client: usize,
    acknowledged: Arc<AtomicUsize>,
    stop: CancellationToken,
) -> Told {
    let mut told = Told::default();
    for number in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let call = run(&json!([["put", format!("{client}-{number}"), "1"]]));
        match contract.submit(&call).await {
            Ok(committed) => {
                told.committed.push(committed.transaction_id);
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            Err(error) => told.unknown.extend(error.unknown_outcome().cloned()),
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_and_orderer_come_and_go_under_load_and_no_acknowledged_transaction_is_lost_or_doubled() {
    let mut bench = Bench::start().await;
    let gateway = bench.gateway();
    let stop = CancellationToken::new();
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let contract = gateway.contract("channel", "probe");
        clients.spawn(load(contract, client, Arc::clone(&acknowledged), stop.clone()));
    }
    let height = |bench: &Bench| bench.network.blocks().len();
    for round in 0..6 {
        let before = height(&bench);
        until("blocks under load", async || height(&bench) > before + 3).await;
        bench.peers[round % 3].kill();
        let before = height(&bench);
        until("blocks without a peer", async || height(&bench) > before + 3).await;
        bench.network.set_orderer_down(true);
        bench.peers[round % 3].restart().unwrap();
        bench.network.set_orderer_down(false);
    }
    until("fifty acknowledged transactions", async || {
        acknowledged.load(Ordering::SeqCst) > 50
    })
    .await;
    stop.cancel();
    while let Some(told) = clients.join_next().await {
        let told = told.unwrap();
        for id in &told.committed {
            assert_eq!(bench.valid(id.as_str()), 1, "{id}");
        }
        for id in &told.unknown {
            assert!(bench.valid(id.as_str()) <= 1, "{id}");
        }
    }
}

/// A gateway has whoever knows most of an organisation answer; here it is this peer, whatever it knows.
#[tokio::test]
async fn one_peer_that_is_asked_itself_answers_from_its_own_state_and_nobody_in_its_stead() {
    let mut bench = Bench::start().await;
    let contract = bench.contract();
    put(&contract, "a", "old").await.unwrap();
    bench.peers[1].hold_back(true);
    put(&contract, "a", "new").await.unwrap();
    let peers = bench.gateway().peers();
    let call = run(&json!([["get", "a"]]));
    for (place, value, blocks) in [(0, "new", 3), (1, "old", 2)] {
        let answer = peers[place].query("channel", "probe", &call).await.unwrap();
        assert_eq!(answer, format!("[\"{value}\"]"));
        let height = peers[place].height("channel").await.unwrap();
        assert_eq!(
            (height.blocks, height.msp_id),
            (blocks, format!("Org{}MSP", place + 1))
        );
    }
    let refused = run(&json!([["refuse", "no"]]));
    let error = peers[0].query("channel", "probe", &refused).await.unwrap_err();
    assert!(matches!(error, ProposalError::Refused(_)), "{error:?}");
    let error = peers[0]
        .query("channel", "probe", &run(&json!([["panic"]])))
        .await
        .unwrap_err();
    assert!(matches!(error, ProposalError::Failed(_)), "{error:?}");
    bench.peers[1].kill();
    let error = peers[1].query("channel", "probe", &call).await.unwrap_err();
    assert!(matches!(error, ProposalError::Unavailable(_)), "{error:?}");
}

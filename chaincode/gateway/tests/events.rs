//! Events from the gateways of a **simulated** network: in their order, none twice, none left out.
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

use bench::{Bench, PATIENCE, run};
use std::time::Duration;

use fabric_gateway_client::{Contract, Deadlines, Event, Events, EventsError, Start};
use futures::FutureExt as _;
use futures::future::join_all;
use serde_json::json;
use tokio::time::timeout;

async fn emit(contract: &Contract, name: &str) {
    contract
        .submit(&run(&json!([["event", name, format!("of {name}")]])))
        .await
        .unwrap();
}

async fn next(events: &mut Events) -> Result<Event, EventsError> {
    timeout(PATIENCE, events.next()).await.expect("no event came")
}

async fn names(events: &mut Events, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        names.push(next(events).await.unwrap().name);
    }
    names
}

#[tokio::test]
async fn events_come_from_a_block_on_and_go_on_after_a_checkpoint() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    for name in ["one", "two", "three", "four"] {
        emit(&contract, name).await;
    }
    let mut events = contract.events(Start::Block(0));
    let first = next(&mut events).await.unwrap();
    assert_eq!((first.name.as_str(), &first.payload[..]), ("one", &b"of one"[..]));
    let second = next(&mut events).await.unwrap();
    drop(events);
    let mut events = contract.events(Start::After(second.checkpoint()));
    assert_eq!(names(&mut events, 2).await, ["three", "four"]);
    emit(&contract, "five").await;
    assert_eq!(names(&mut events, 1).await, ["five"]);
    let mut events = contract.events(Start::Block(second.block));
    assert_eq!(names(&mut events, 2).await, ["two", "three"]);
}

#[tokio::test]
async fn a_checkpoint_in_the_middle_of_a_block_leaves_the_rest_of_it() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let endorsed = join_all((0..6).map(|number| {
        let call = run(&json!([["event", number.to_string(), ""]]));
        let contract = contract.clone();
        async move { contract.endorse(&call).await.unwrap() }
    }))
    .await;
    join_all(endorsed.iter().map(async |endorsed| {
        endorsed.submit().await.unwrap();
        endorsed.commit_status().await.unwrap()
    }))
    .await;
    let mut events = contract.events(Start::Block(0));
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(next(&mut events).await.unwrap());
    }
    for place in 0..5 {
        let mut events = contract.events(Start::After(all[place].checkpoint()));
        for expected in &all[place + 1..] {
            assert_eq!(next(&mut events).await.unwrap(), *expected);
        }
    }
}

#[tokio::test]
async fn events_of_invalid_transactions_and_of_other_chaincodes_do_not_come() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let call = |name: &str| run(&json!([["get", "a"], ["put", "a", name], ["event", name, ""]]));
    let (won, lost) = (
        contract.endorse(&call("won")).await.unwrap(),
        contract.endorse(&call("lost")).await.unwrap(),
    );
    for endorsed in [&won, &lost] {
        endorsed.submit().await.unwrap();
        endorsed.commit_status().await.unwrap();
    }
    emit(&contract, "last").await;
    let mut events = contract.events(Start::Block(0));
    assert_eq!(names(&mut events, 2).await, ["won", "last"]);
    let mut others = bench
        .gateway()
        .contract("channel", "other")
        .events(Start::Block(0));
    assert!(others.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_stream_goes_on_at_another_peer_with_none_twice_and_none_left_out() {
    let mut bench = Bench::start().await;
    let contract = bench.contract();
    let mut events = contract.events(Start::Block(0));
    let mut expected = Vec::new();
    for round in 0..6 {
        for number in 0..3 {
            let name = format!("{round}-{number}");
            emit(&contract, &name).await;
            expected.push(name);
        }
        // One of three has been read when the peer dies.
        let place = round * 3;
        assert_eq!(names(&mut events, 1).await, expected[place..=place]);
        bench.peers[round % 3].kill();
        assert_eq!(names(&mut events, 2).await, expected[place + 1..]);
        bench.peers[round % 3].restart().unwrap();
    }
}

#[tokio::test]
async fn an_event_that_is_waited_for_in_vain_is_not_lost() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let mut events = contract.events(Start::Block(0));
    for name in ["one", "two"] {
        // Dropped while it waits, several times over.
        for _ in 0..3 {
            assert!(events.next().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        emit(&contract, name).await;
        assert_eq!(names(&mut events, 1).await, [name]);
    }
}

#[tokio::test]
async fn new_events_only_are_told_of_as_a_gap_where_the_stream_breaks_before_the_first() {
    let mut bench = Bench::start().await;
    let contract = bench.contract();
    emit(&contract, "before").await;
    let mut events = contract.events(Start::Next);
    let waiting = tokio::spawn(async move {
        loop {
            match events.next().await {
                // Connections that were never made broke too often in a row; nothing was asked for yet.
                Err(EventsError::Unavailable(_)) => {}
                first => return (events, first),
            }
        }
    });
    // The peer has the request when its stream is counted among its connections; a killed one breaks it. A connection that broke
    // before moves the stream to the next peer.
    let mut turns = (0..bench.peers.len()).cycle();
    bench::until("the stream to break", async || {
        let place = turns.next().unwrap();
        bench.peers[place].restart().is_ok() && waiting.is_finished()
    })
    .await;
    let (_, first) = waiting.await.unwrap();
    assert!(matches!(first, Err(EventsError::Gap)), "{first:?}");
}

#[tokio::test]
async fn without_peers_the_caller_hears_of_it_and_may_ask_again() {
    let mut bench = Bench::start().await;
    let contract = bench.contract();
    emit(&contract, "one").await;
    let mut events = contract.events(Start::Block(0));
    assert_eq!(names(&mut events, 1).await, ["one"]);
    for peer in &mut bench.peers {
        peer.kill();
    }
    let error = next(&mut events).await.unwrap_err();
    assert!(matches!(error, EventsError::Unavailable(_)), "{error:?}");
    for peer in &mut bench.peers {
        peer.restart().unwrap();
    }
    emit(&contract, "two").await;
    assert_eq!(names(&mut events, 1).await, ["two"]);
}

/// A connection that is dead without a word looks like one on which nothing happens, until its peer is asked something else.
#[tokio::test]
async fn a_stream_of_a_peer_that_fails_otherwise_is_left_for_another() {
    let bench = Bench::start().await;
    let contract = bench.contract();
    let mut events = contract.events(Start::Block(0));
    assert!(events.stands().is_none(), "nothing was asked for yet");
    emit(&contract, "one").await;
    assert_eq!(names(&mut events, 1).await, ["one"]);
    assert!(events.stands().is_some());
    bench.peers[0].faults().hang(1000);
    let hurried = bench.gateway().with_deadlines(Deadlines {
        attempt: Duration::from_secs(1),
        ..Deadlines::default()
    });
    // The same peers in the same gateway: what one client of it learns the others know.
    let stream_of_hurried = &mut hurried.contract("channel", "probe").events(Start::Block(0));
    assert_eq!(names(stream_of_hurried, 1).await, ["one"]);
    // A stream that stands is not left. A peer's failure counts for a moment, and for longer with each one after it.
    bench::until("the failure of its peer to count", async || {
        let asked = hurried.contract("channel", "probe");
        asked.evaluate(&run(&json!([["who"]]))).await.unwrap();
        let fails = stream_of_hurried.stands().is_none();
        stream_of_hurried.leave_failed_peer();
        fails
    })
    .await;
    bench.peers[0].faults().hang(0);
    emit(&contract, "two").await;
    assert_eq!(
        names(stream_of_hurried, 1).await,
        ["two"],
        "none twice, none left out"
    );
    assert!(stream_of_hurried.stands().is_some());
}

/// The peers that are asked one by one, and not what a gateway made of several.
#[tokio::test]
async fn a_stream_goes_back_to_the_preferred_peer_with_none_twice_and_none_left_out() {
    let mut bench = Bench::start().await;
    let contract = bench.contract();
    let mut events = contract.events(Start::Block(0));
    let address = |events: &Events| events.peer().map(|peer| peer.address().to_owned());
    for round in 0..3 {
        let emit = async |number: u32| emit(&contract, &format!("{round}-{number}")).await;
        let expected = |numbers: std::ops::Range<u32>| numbers.map(|number| format!("{round}-{number}"));
        emit(0).await;
        assert_eq!(names(&mut events, 1).await, expected(0..1).collect::<Vec<_>>());
        assert_eq!(address(&events), Some(bench.peers[0].address()));
        assert!(events.better_peer().is_none(), "it is at the best");
        bench.peers[0].close_gateway();
        emit(1).await;
        assert_eq!(names(&mut events, 1).await, expected(1..2).collect::<Vec<_>>());
        assert_eq!(address(&events), Some(bench.peers[1].address()));
        bench.peers[0].restart().unwrap();
        bench::until("the preferred peer to be well", async || {
            match events.better_peer() {
                Some(peer) => {
                    peer.address() == bench.peers[0].address() && peer.height("channel").await.is_ok()
                }
                None => false,
            }
        })
        .await;
        // Two come in one block or two; one of them has been read when the stream is moved.
        tokio::join!(emit(2), emit(3));
        let mut told = names(&mut events, 1).await;
        events.open_anew();
        emit(4).await;
        told.extend(names(&mut events, 2).await);
        told.sort();
        assert_eq!(told, expected(2..5).collect::<Vec<_>>());
        assert_eq!(address(&events), Some(bench.peers[0].address()));
    }
    assert!(events.next().now_or_never().is_none(), "nothing comes twice");
}

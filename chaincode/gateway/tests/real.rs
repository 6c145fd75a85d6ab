//! The client against real peers of Fabric, where `LEASEHOLD_FABRIC_BIN` names them: that the simulated gateways are right, and that
//! nothing is lost or doubled while peers and the orderer are killed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "../../shim/tests/support/probe.rs"]
mod probe;
#[path = "../../shim/tests/support/served.rs"]
mod served;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fabric_gateway_client::{
    Call, CommitStatusError, Config, Contract, CredentialFiles, Credentials, Deadlines, Event, Gateway, Peer,
    ProposalError, Retry, Start, SubmitError, TransactionError, TransactionId, ValidationCode,
};
use fabric_network::{Binaries, Chaincode, Network, ORDERER, ORGANISATIONS, SKIPPED};
use fabric_shim::Limits;
use futures::future::join_all;
use serde_json::{Value, json};
use served::{PATIENCE, Served};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

struct Real {
    network: Network,
    chaincode: Chaincode,
    credentials: Credentials,
}

impl Real {
    /// The peers of these organisations, in this order.
    fn config(&self, organisations: &[&str]) -> Config {
        let peer = |name: &&str| {
            let peer = self.network.peer(name).unwrap();
            Peer::tls(peer.address, std::fs::read(peer.roots).unwrap())
        };
        Config::new(organisations.iter().map(peer).collect())
    }

    fn gateway(&self, organisations: &[&str]) -> Gateway {
        Gateway::new(self.config(organisations), self.credentials.clone()).unwrap()
    }

    /// Over all peers, with these deadlines.
    fn contract_within(&self, deadlines: Deadlines) -> Contract {
        let config = Config {
            deadlines,
            ..self.config(&ORGANISATIONS)
        };
        let gateway = Gateway::new(config, self.credentials.clone()).unwrap();
        gateway.contract(self.network.channel(), "probe")
    }

    fn contract(&self, organisations: &[&str]) -> Contract {
        self.gateway(organisations)
            .contract(self.network.channel(), "probe")
    }
}

async fn user_of(network: &Network, organisation: &str) -> Credentials {
    let user = network.user(organisation).unwrap();
    let files = CredentialFiles {
        msp_id: user.msp_id,
        certificate: user.certificate,
        key: user.key,
    };
    files.read().await.unwrap()
}

fn run(steps: &Value) -> Call {
    Call::new("run").argument(steps.to_string())
}

async fn evaluate(contract: &Contract, steps: Value) -> Value {
    let answer = contract.evaluate(&run(&steps)).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

/// Not a test of the usual harness: what is skipped must not be counted as passed.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some(binaries) = Binaries::find().unwrap() else {
        println!("{SKIPPED}");
        return;
    };
    let start = Instant::now();
    let network = Network::start(binaries).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let chaincode = network.package("probe", &address, None).await.unwrap();
    let served = Served::on(listener, chaincode.package_id.clone(), Limits::default(), None);
    network.deploy(&chaincode, &[]).await.unwrap();
    let credentials = user_of(&network, "Org1").await;
    let version = network.version().await.unwrap();
    println!(
        "real Fabric {version}: chaincode defined after {:?}",
        start.elapsed()
    );
    let mut real = Real {
        network,
        chaincode,
        credentials,
    };
    macro_rules! promise {
        ($name:ident, $real:expr) => {
            $name($real).await;
            println!(
                "test {} ... ok, after {:?}",
                stringify!($name),
                start.elapsed()
            );
        };
    }
    promise!(
        what_is_submitted_is_seen_and_a_refusal_has_the_chaincodes_words,
        &real
    );
    promise!(of_twelve_transactions_on_one_key_one_counts, &real);
    promise!(conflicts_are_run_again_where_the_caller_says_so, &real);
    promise!(a_transaction_that_is_submitted_again_counts_once, &real);
    promise!(a_transaction_that_is_proposed_again_counts_once, &real);
    promise!(
        without_an_orderer_the_outcome_is_unknown_until_it_is_back,
        &mut real
    );
    promise!(events_go_on_after_a_checkpoint, &real);
    promise!(events_go_on_at_another_peer, &mut real);
    promise!(nothing_is_lost_or_doubled_while_servers_are_killed, &mut real);
    promise!(
        a_fourth_organisation_joins_and_leaves_while_others_work,
        &mut real
    );
    real.network.stop().await.unwrap();
    served.ask_to_stop();
    served.ended().await.unwrap();
}

async fn what_is_submitted_is_seen_and_a_refusal_has_the_chaincodes_words(real: &Real) {
    let contract = real.contract(&ORGANISATIONS);
    let steps = json!([["put", "a", "1"], ["who"], ["transient", "t"]]);
    let call = run(&steps).transient("t", "secret");
    // The first commits while gossip still finds the peers.
    let committed = timeout(PATIENCE, async {
        loop {
            match contract.submit(&call).await {
                Ok(committed) => return committed,
                Err(TransactionError::Proposal(ProposalError::Rejected(_) | ProposalError::Failed(_))) => {
                    sleep(LOOK_AGAIN).await;
                }
                Err(error) => panic!("{error}: {}", real.network.logs()),
            }
        }
    })
    .await
    .expect("nothing was committed");
    let answers: Value = serde_json::from_slice(&committed.result).unwrap();
    assert_eq!(answers[1][0], "Org1MSP");
    assert_eq!(answers[2], "secret");
    let answers = evaluate(&contract, json!([["get", "a"], ["history", "a"]])).await;
    assert_eq!(answers[0], "1");
    let status = real
        .gateway(&["Org2"])
        .commit_status(real.network.channel(), &committed.transaction_id)
        .await
        .unwrap();
    assert_eq!(
        (status.block, status.code),
        (committed.block, ValidationCode::VALID)
    );

    let refused = run(&json!([["refuse", "not today, thanks"]]));
    for error in [
        contract.evaluate(&refused).await.unwrap_err(),
        contract.endorse(&refused).await.unwrap_err(),
    ] {
        match error {
            ProposalError::Refused(refusal) => {
                assert_eq!(
                    (refusal.status, refusal.message.as_str()),
                    (403, "not today, thanks")
                );
            }
            other => panic!("{other:?}"),
        }
    }
    for error in [
        contract.evaluate(&run(&json!([["panic"]]))).await.unwrap_err(),
        contract.endorse(&run(&json!([["panic"]]))).await.unwrap_err(),
    ] {
        assert!(matches!(error, ProposalError::Failed(_)), "{error:?}");
    }
    let absent = real
        .gateway(&ORGANISATIONS)
        .contract(real.network.channel(), "absent");
    let error = absent.evaluate(&refused).await.unwrap_err();
    assert!(matches!(error, ProposalError::Rejected(_)), "{error:?}");
    let elsewhere = real.gateway(&ORGANISATIONS).contract("elsewhere", "probe");
    let error = elsewhere.submit(&refused).await.unwrap_err();
    assert!(
        matches!(error, TransactionError::Proposal(ProposalError::Rejected(_))),
        "{error:?}"
    );
    let answer = contract
        .evaluate(&run(&json!([["answer_bytes", "20000000"]])))
        .await
        .unwrap();
    assert!(answer.len() > 20_000_000);
}

fn contested(number: usize) -> Call {
    run(&json!([
        ["get", "contested"],
        ["put", "contested", number.to_string()]
    ]))
}

async fn of_twelve_transactions_on_one_key_one_counts(real: &Real) {
    let contract = real.contract(&ORGANISATIONS);
    // All on the same state, however slow the machine is; then all at once.
    let endorsed =
        join_all((0..12).map(async |number| contract.endorse(&contested(number)).await.unwrap())).await;
    let codes = join_all(endorsed.iter().map(async |endorsed| {
        endorsed.submit().await.unwrap();
        endorsed.commit_status().await.unwrap().code
    }))
    .await;
    let count = |wanted| codes.iter().filter(|code| **code == wanted).count();
    assert_eq!(count(ValidationCode::VALID), 1, "{codes:?}");
    assert_eq!(count(ValidationCode::MVCC_READ_CONFLICT), 11, "{codes:?}");
    let done = join_all((12..24).map(async |number| contract.submit(&contested(number)).await)).await;
    assert!(done.iter().any(Result::is_ok), "{done:?}");
    let others = done.iter().filter_map(|done| done.as_ref().err());
    assert!(others.clone().all(TransactionError::is_conflict), "{done:?}");
    println!(
        "of twelve submitted in one call each, {} did not count",
        others.count()
    );
}

async fn conflicts_are_run_again_where_the_caller_says_so(real: &Real) {
    let contract = real.contract(&ORGANISATIONS);
    let retry = Retry {
        runs: 100,
        first: Duration::from_millis(200),
        most: Duration::from_secs(1),
    };
    let done =
        join_all((0..6).map(async |number| contract.submit_idempotent(&contested(number), &retry).await));
    for done in done.await {
        done.unwrap();
    }
}

async fn a_transaction_that_is_submitted_again_counts_once(real: &Real) {
    let contract = real.contract(&ORGANISATIONS);
    let endorsed = contract
        .endorse(&run(&json!([["put", "again", "1"]])))
        .await
        .unwrap();
    // In one block, perhaps, and certainly in a later one.
    let (first, second) = tokio::join!(endorsed.submit(), endorsed.submit());
    first.and(second).unwrap();
    let status = endorsed.commit_status().await.unwrap();
    assert_eq!(status.code, ValidationCode::VALID);
    endorsed.submit().await.unwrap();
    let after = contract
        .submit(&run(&json!([["put", "after", "1"]])))
        .await
        .unwrap();
    assert!(after.block > status.block);
    assert_eq!(endorsed.commit_status().await.unwrap(), status);
    let history = evaluate(&contract, json!([["history", "again"]])).await;
    assert_eq!(history[0].as_array().unwrap().len(), 1);
}

/// As after a crash between submission and block, of which the second run knows nothing but the nonce.
async fn a_transaction_that_is_proposed_again_counts_once(real: &Real) {
    let contract = real.contract(&ORGANISATIONS);
    let (nonce, call) = ([7; 24], run(&json!([["put", "proposed", "1"]])));
    let first = contract.endorse_under(nonce, &call).await.unwrap();
    let second = contract.endorse_under(nonce, &call).await.unwrap();
    assert_eq!(first.transaction_id(), &contract.transaction_id(&nonce));
    assert_eq!(first.transaction_id(), second.transaction_id());
    first.submit().await.unwrap();
    let status = first.commit_status().await.unwrap();
    assert_eq!(status.code, ValidationCode::VALID);
    second.submit().await.unwrap();
    let after = contract
        .submit(&run(&json!([["put", "after", "2"]])))
        .await
        .unwrap();
    assert!(after.block > status.block);
    assert_eq!(second.commit_status().await.unwrap(), status);
    let error = contract.endorse_under(nonce, &call).await.unwrap_err();
    assert!(error.is_duplicate(), "{error:?}");
    let height = real.gateway(&ORGANISATIONS).height(real.network.channel()).await;
    assert!(height.unwrap() > status.block);
    let history = evaluate(&contract, json!([["history", "proposed"]])).await;
    assert_eq!(history[0].as_array().unwrap().len(), 1);
}

async fn without_an_orderer_the_outcome_is_unknown_until_it_is_back(real: &mut Real) {
    let contract = real.contract_within(Deadlines {
        submit: Duration::from_secs(2),
        commit: Duration::from_secs(2),
        ..Deadlines::default()
    });
    let endorsed = contract
        .endorse(&run(&json!([["put", "patient", "1"]])))
        .await
        .unwrap();
    real.network.kill(ORDERER).await.unwrap();
    let error = endorsed.submit().await.unwrap_err();
    assert!(matches!(error, SubmitError::OutcomeUnknown { .. }), "{error:?}");
    let error = endorsed.commit_status().await.unwrap_err();
    assert!(matches!(error, CommitStatusError::Deadline { .. }), "{error:?}");
    real.network.start_again(ORDERER).await.unwrap();
    timeout(PATIENCE, async {
        while endorsed.submit().await.is_err() {
            sleep(LOOK_AGAIN).await;
        }
    })
    .await
    .expect("the orderer did not come back");
    let gateway = real.gateway(&ORGANISATIONS);
    let status = gateway.commit_status(real.network.channel(), endorsed.transaction_id());
    assert_eq!(status.await.unwrap().code, ValidationCode::VALID);
    let history = evaluate(&contract, json!([["history", "patient"]])).await;
    assert_eq!(history[0].as_array().unwrap().len(), 1);
}

async fn emit(contract: &Contract, name: &str) {
    contract
        .submit(&run(&json!([["event", name, "payload"]])))
        .await
        .unwrap();
}

async fn next(events: &mut fabric_gateway_client::Events) -> Event {
    timeout(PATIENCE, events.next())
        .await
        .expect("no event came")
        .unwrap()
}

async fn events_go_on_after_a_checkpoint(real: &Real) {
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

async fn events_go_on_at_another_peer(real: &mut Real) {
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
async fn some_load(events: &mut fabric_gateway_client::Events, what: &str) {
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

async fn nothing_is_lost_or_doubled_while_servers_are_killed(real: &mut Real) {
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

async fn a_fourth_organisation_joins_and_leaves_while_others_work(real: &mut Real) {
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

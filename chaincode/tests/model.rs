//! Random commands of several organisations and people, at random times, against a model that is too simple to be wrong.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/attempt.rs"]
mod attempt;
#[path = "support/bench.rs"]
mod bench;
#[path = "support/consortium.rs"]
mod consortium;
#[path = "support/model.rs"]
mod model;

use attempt::{Attempt, CLUSTERS, MSPS, Play, command, plays};
use bench::{Bench, join, msp, register_cluster};
use leasehold_chaincode::{
    CONTRACT_VERSION, Command, Contract, EventKind, Lease, LeaseState, MemoryState, Mode, Outcome,
    PageRequest, Role, TraceId, TxContext, TxId, query,
};
use model::Model;
use proptest::prelude::*;

/// Whoever has a dataset alone has it alone, by the index that everybody reads and by the records themselves.
fn nobody_shares_an_exclusive_lease(state: &MemoryState, model: &Model) {
    for dataset in &model.datasets {
        let holders = query::holders(state, &dataset.id.parse().unwrap()).unwrap();
        let exclusive = holders
            .iter()
            .filter(|lease| lease.mode == Mode::Exclusive)
            .count();
        assert!(exclusive == 0 || holders.len() == 1, "{holders:?}");
        for lease in &holders {
            assert!(matches!(lease.state, LeaseState::Active | LeaseState::Ending));
        }
    }
}

fn agree(state: &MemoryState, model: &Model) {
    let all = PageRequest::default();
    for lease in &model.leases {
        let found = query::lease(state, &lease.id.parse().unwrap()).unwrap().unwrap();
        assert_eq!(
            (found.state, found.due_at_ms(), found.fencing_token()),
            (lease.state, lease.due_ms, lease.token)
        );
        let cluster = found.cluster.as_ref().map(ToString::to_string);
        assert_eq!(cluster.as_deref(), Some(CLUSTERS[lease.cluster]));
        let mine = query::leases_of(state, &found.subject, Some(lease.state), &all).unwrap();
        assert_eq!(mine.items.iter().filter(|held| held.id == found.id).count(), 1);
        let due = query::leases_due(state, lease.state, lease.due_ms, &all).unwrap();
        assert_eq!(due.items.iter().filter(|due| due.id == found.id).count(), 1);
        let told = query::lease_history(state, &found.id, &all).unwrap().items;
        let granted = told.iter().any(|entry| entry.kind == EventKind::LeaseGranted {});
        assert_eq!(granted, lease.token > 0);
        let ended = told
            .iter()
            .any(|entry| matches!(entry.kind, EventKind::LeaseEnded { .. }));
        assert_eq!(ended, lease.state == LeaseState::Ended);
    }
    let catalogue = query::datasets(state, &all).unwrap().items;
    assert_eq!(catalogue.len(), model.names.len());
    let ids =
        |leases: &[usize]| -> Vec<String> { leases.iter().map(|at| model.leases[*at].id.clone()).collect() };
    for dataset in &model.datasets {
        let id = dataset.id.parse().unwrap();
        let entry = query::dataset(state, &leasehold_chaincode::DatasetRef::Id(id))
            .unwrap()
            .unwrap();
        let status = &entry.status;
        assert_eq!(entry.dataset.retired_at_ms.is_some(), dataset.retired);
        assert_eq!(status.fencing_token, dataset.token);
        let line: Vec<_> = status.line.iter().map(|place| place.lease.to_string()).collect();
        assert_eq!(line, ids(&dataset.line));
        let holders: Vec<_> = status.holders.iter().map(ToString::to_string).collect();
        assert_eq!(holders, ids(&dataset.holders));
        let history = query::history(state, &entry.dataset.id, &all).unwrap().items;
        let revisions: Vec<_> = history.iter().map(|entry| entry.revision).collect();
        let expected: Vec<_> = (1..=dataset.transitions).collect();
        assert_eq!(revisions, expected, "history without gaps");
        let leases = query::leases_on(state, &entry.dataset.id, &all).unwrap().items;
        let numbers: Vec<_> = leases.iter().map(|lease| lease.number).collect();
        assert_eq!(numbers, (1..=status.asked).collect::<Vec<_>>());
        let mut tokens: Vec<_> = leases
            .iter()
            .map(Lease::fencing_token)
            .filter(|token| *token > 0)
            .collect();
        tokens.sort_unstable();
        assert_eq!(
            tokens,
            (1..=dataset.token).collect::<Vec<_>>(),
            "tokens only grow, each is one lease's"
        );
    }
}

/// What everybody sees of organisations, clusters and traces.
fn agree_on_organisations(state: &MemoryState, model: &Model) {
    let all = PageRequest::default();
    let mut standing = 0;
    for (organisation, name) in model.organisations.iter().zip(MSPS) {
        let found = query::organisation(state, &msp(name)).unwrap();
        assert_eq!(found.is_some(), organisation.joined);
        let Some(found) = found else { continue };
        standing += usize::from(organisation.stands());
        assert_eq!(found.is_suspended(), !organisation.stands());
        assert_eq!(found.suspended_by_others.is_some(), organisation.by_others);
        assert_eq!(found.broker, attempt::BROKERS[organisation.broker]);
        let clusters: Vec<_> = found.clusters.iter().map(ToString::to_string).collect();
        let expected: Vec<_> = organisation.in_service.iter().map(|at| CLUSTERS[*at]).collect();
        assert_eq!(clusters, expected);
        let registered = query::clusters(state, &msp(name), &all).unwrap().items;
        let keyed: Vec<_> = registered
            .iter()
            .map(|cluster| !cluster.keys.is_empty())
            .collect();
        assert_eq!(keyed, organisation.clusters.values().copied().collect::<Vec<_>>());
        let history = query::organisation_history(state, &msp(name), &all)
            .unwrap()
            .items;
        let revisions: Vec<_> = history.iter().map(|entry| entry.revision).collect();
        assert_eq!(revisions, (1..=organisation.transitions).collect::<Vec<_>>());
    }
    assert_eq!(query::consortium(state).unwrap().standing.len(), standing);
    assert_eq!(
        query::traces(state, &all).unwrap().items.len(),
        model.traces.len()
    );
    for ((organisation, key), (person, _)) in &model.traces {
        let id = TraceId::derive(&msp(MSPS[*organisation]), &key.to_string());
        let trace = query::trace(state, &id).unwrap().unwrap();
        let subject = attempt::person(*person).parse().unwrap();
        let theirs = query::traces_of(state, &subject, &all).unwrap().items;
        assert_eq!(theirs.iter().filter(|other| **other == trace).count(), 1);
    }
}

/// Three of the organisations have joined, each with a cluster.
fn begin(contract: Contract) -> (Bench, Model) {
    let mut bench = Bench::empty(contract.end_margin_ms);
    bench.role = Role::Administrator;
    let mut model = Model {
        margin_ms: contract.end_margin_ms,
        ..Model::default()
    };
    for (at, name) in MSPS.iter().enumerate().take(3) {
        bench.accepted(name, &join());
        bench.accepted(name, &register_cluster(CLUSTERS[0]));
        bench.accepted(
            name,
            &Command::AmendOrganisation {
                broker: Some(attempt::BROKERS[0].to_owned()),
                keys: None,
            },
        );
        let organisation = &mut model.organisations[at];
        organisation.joined = true;
        organisation.clusters.insert(0, false);
        organisation.in_service.insert(0);
        organisation.transitions = 3;
    }
    (bench, model)
}

/// A transaction that was accepted.
type Taken = (TxContext, Command, Outcome);

fn play(play: &Play) -> (MemoryState, Vec<Taken>) {
    let contract = if play.with_margin {
        Contract::FABRIC
    } else {
        Contract::EMBEDDED
    };
    let (mut bench, mut model) = begin(contract);
    let mut taken = Vec::new();
    model.right_ms = bench.now_ms;
    for step in &play.steps {
        model.right_ms += step.seconds * 1_000;
        let (msp, attempt) = step.tried(&model);
        bench.now_ms = model.right_ms + play.clocks_ms[msp];
        let command = command(&model, &attempt);
        let reused = match &attempt {
            Attempt::Lease(ask) => ask.again.and_then(|back| model.recent(back)),
            _ => None,
        };
        let tx_id = reused.map_or_else(
            || bench.next_tx_id(),
            |at| TxId::new(model.leases[at].tx_id.clone()).unwrap(),
        );
        let expected = model.step(msp, bench.now_ms, &attempt);
        let before = bench.state.clone();
        match bench.execute_under(reused.is_some().then_some(&tx_id), MSPS[msp], &command) {
            Ok(outcome) => {
                assert_eq!(expected, Ok(()), "accepted: {step:?}");
                for dataset in model.datasets.iter_mut().filter(|dataset| dataset.id.is_empty()) {
                    dataset.id = bench::dataset_of(&outcome).into();
                }
                for lease in model.leases.iter_mut().filter(|lease| lease.id.is_empty()) {
                    lease.id = bench::lease_of(&outcome);
                    lease.tx_id = tx_id.to_string();
                }
                taken.push((bench.context(&tx_id, MSPS[msp]), command, outcome));
            }
            Err(refusal) => {
                assert_eq!(expected, Err(refusal.code()), "refused: {step:?}");
                assert_eq!(bench.state, before, "a refused command writes nothing");
            }
        }
        nobody_shares_an_exclusive_lease(&bench.state, &model);
    }
    agree(&bench.state, &model);
    agree_on_organisations(&bench.state, &model);
    (bench.state, taken)
}

/// As a ledger does that verifies itself: only what was accepted, from the same beginning.
fn replay(play: &Play, taken: &[Taken]) -> MemoryState {
    let contract = if play.with_margin {
        Contract::FABRIC
    } else {
        Contract::EMBEDDED
    };
    let (Bench { mut state, .. }, _) = begin(contract);
    for (context, command, expected) in taken {
        let again = contract.replay(CONTRACT_VERSION, &state, context, command);
        assert_eq!(again.as_ref(), Ok(expected));
        state.apply(&expected.writes);
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_contract_does_what_the_model_does_and_does_it_again(steps in plays()) {
        let (once, taken) = play(&steps);
        let (again, _) = play(&steps);
        assert_eq!(once, again, "the same commands lead to the same bytes");
        assert_eq!(replay(&steps, &taken), once, "what was accepted leads there without what was refused");
    }

    #[test]
    fn no_text_panics_the_reader_of_commands(text in ".{0,200}") {
        let _ = serde_json::from_str::<Command>(&text);
        let _ = leasehold_chaincode::DatasetRef::parse(&text);
    }
}

/// More by `LEASEHOLD_SOAK_CASES`.
fn cases() -> u32 {
    std::env::var("LEASEHOLD_SOAK_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200)
}

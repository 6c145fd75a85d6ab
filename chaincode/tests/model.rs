//! Random commands of several organisations and people, at random times, against a model that is too simple to be wrong.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/bench.rs"]
mod bench;
#[path = "support/model.rs"]
mod model;

use bench::{Bench, finding, register_with};
use leasehold_chaincode::{
    Command, EventKind, Lease, LeaseState, MemoryState, Mode, MountReport, PageRequest, query,
};
use model::{Attempt, Model, TTL_SECONDS};
use proptest::prelude::*;

const NAMES: [&str; 3] = ["texts", "scans", "waves"];
const MSPS: [&str; 2] = ["UiSMSP", "UiOMSP"];
const PEOPLE: usize = 4;

#[derive(Debug, Clone)]
struct Step {
    msp: usize,
    /// Clocks of several submitters do not agree: time also goes back.
    seconds: i64,
    attempt: Attempt,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || 0..NAMES.len();
    let recent = || 0usize..6;
    let person = || 0..PEOPLE;
    let mode = prop_oneof![Just(Mode::Exclusive), Just(Mode::Shared)];
    let attempt = prop_oneof![
        3 => (name(), 0usize..3).prop_map(|(name, policy)| Attempt::Register(name, policy)),
        1 => (name(), any::<bool>()).prop_map(|(name, force)| Attempt::Remove(name, force)),
        12 => (name(), person(), mode, any::<bool>())
            .prop_map(|(name, person, mode, wait)| Attempt::Lease(name, person, mode, wait)),
        3 => recent().prop_map(Attempt::Approve),
        1 => recent().prop_map(Attempt::Deny),
        2 => (recent(), person()).prop_map(|(lease, who)| Attempt::Renew(lease, who)),
        4 => (recent(), person()).prop_map(|(lease, who)| Attempt::Release(lease, who)),
        2 => recent().prop_map(Attempt::Revoke),
        4 => recent().prop_map(Attempt::Expire),
        10 => recent().prop_map(Attempt::Confirm),
        1 => recent().prop_map(Attempt::Declare),
        2 => (recent(), any::<bool>()).prop_map(|(lease, ready)| Attempt::Report(lease, ready)),
    ];
    let seconds = prop_oneof![20 => -30i64..60, 1 => 3_000i64..8_000];
    let step = (0..MSPS.len(), seconds, attempt).prop_map(|(msp, seconds, attempt)| Step {
        msp,
        seconds,
        attempt,
    });
    prop::collection::vec(step, 1..120)
}

fn command(model: &Model, attempt: &Attempt) -> Command {
    let lease = |back: usize| {
        model
            .recent(back)
            .map_or_else(|| "0".repeat(32), |at| model.leases[at].id.clone())
    };
    let reason = "because".to_owned();
    match *attempt {
        Attempt::Register(name, policy) => register_with(NAMES[name], model::policy(policy)),
        Attempt::Remove(name, force) => Command::RemoveDataset {
            dataset: NAMES[name].to_owned(),
            force,
        },
        Attempt::Lease(name, who, mode, wait) => Command::Lease {
            dataset: NAMES[name].to_owned(),
            subject: person(who),
            mode: Some(mode),
            ttl_seconds: Some(TTL_SECONDS),
            groups: Vec::new(),
            wait,
            cluster: None,
        },
        Attempt::Approve(back) => Command::ApproveLease { lease: lease(back) },
        Attempt::Deny(back) => Command::DenyLease {
            lease: lease(back),
            reason,
        },
        Attempt::Renew(back, who) => Command::Renew {
            lease: lease(back),
            subject: person(who),
            ttl_seconds: None,
        },
        Attempt::Release(back, who) => Command::Release {
            lease: lease(back),
            subject: person(who),
        },
        Attempt::Revoke(back) => Command::Revoke {
            lease: lease(back),
            reason,
        },
        Attempt::Expire(back) => Command::Expire { lease: lease(back) },
        Attempt::Confirm(back) => Command::ConfirmEnd { lease: lease(back) },
        Attempt::Declare(back) => Command::DeclareEnded {
            lease: lease(back),
            reason,
        },
        Attempt::Report(back, ready) => Command::ReportMount {
            lease: lease(back),
            report: report(ready),
        },
    }
}

fn person(who: usize) -> String {
    format!("{who:02x}").repeat(32)
}

fn report(ready: bool) -> MountReport {
    if ready {
        MountReport::Ready {}
    } else {
        MountReport::Failed {
            finding: finding("path_missing"),
        }
    }
}

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

fn play(steps: &[Step]) -> MemoryState {
    let (mut bench, mut model) = (Bench::new(), Model::default());
    for step in steps {
        bench.now_ms += step.seconds * 1_000;
        let command = command(&model, &step.attempt);
        let expected = model.step(step.msp, bench.now_ms, &step.attempt);
        let before = bench.state.clone();
        match bench.execute(MSPS[step.msp], &command) {
            Ok(outcome) => {
                assert_eq!(expected, Ok(()), "accepted: {step:?}");
                for dataset in model.datasets.iter_mut().filter(|dataset| dataset.id.is_empty()) {
                    dataset.id = bench::dataset_of(&outcome).into();
                }
                for lease in model.leases.iter_mut().filter(|lease| lease.id.is_empty()) {
                    lease.id = bench::lease_of(&outcome);
                }
            }
            Err(refusal) => {
                assert_eq!(expected, Err(refusal.code()), "refused: {step:?}");
                assert_eq!(bench.state, before, "a refused command writes nothing");
            }
        }
        nobody_shares_an_exclusive_lease(&bench.state, &model);
    }
    agree(&bench.state, &model);
    bench.state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_contract_does_what_the_model_does_and_does_it_again(steps in steps()) {
        let once = play(&steps);
        let again = play(&steps);
        assert_eq!(once, again, "the same commands lead to the same bytes");
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

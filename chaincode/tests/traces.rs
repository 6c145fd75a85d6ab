//! What people did with data and models, by digest, for ever.

#[path = "support/bench.rs"]
mod bench;

use bench::{Bench, alice, bob, msp, record_trace, refusal_code as code, release};
use leasehold_chaincode::{
    Action, ActionKind, Code, Command, CommandResult, Digest, EventKind, HashType, PageRequest, Pod,
    Resource, Role, StateError, StateReader, TraceId, Write, key, query,
};

fn digest() -> Digest {
    Digest {
        hash_type: HashType::Sha256,
        value: "ab".repeat(32),
    }
}

fn run(lease: &str) -> Action {
    Action::Run {
        lease: lease.to_owned(),
        pods: vec![Pod {
            uid: "b7c1".to_owned(),
            code: Code {
                image_sha256: "12".repeat(32),
                command_sha256: "34".repeat(32),
            },
        }],
        results: vec![Resource {
            id: "counts".to_owned(),
            digest: digest(),
        }],
    }
}

#[test]
fn what_ran_under_a_lease_is_found_from_every_side_and_by_one_id() {
    let mut bench = Bench::new();
    let all = PageRequest::default();
    let dataset = bench.registered("UiSMSP", "texts");
    bench.role = Role::Member;
    let lease = bench.leased("UiOMSP", "texts", &alice(), 60);
    let outcome = bench.accepted("UiOMSP", &record_trace("one", &alice(), run(&lease)));
    let id = TraceId::derive(&msp("UiOMSP"), "one");
    assert_eq!(outcome.result, CommandResult::Trace { id: id.clone() });
    let action = ActionKind::Run;
    assert_eq!(
        outcome.events[0].kind,
        EventKind::TraceRecorded {
            trace: id.clone(),
            action
        }
    );
    let trace = query::trace(&bench.state, &id).unwrap().unwrap();
    assert_eq!(
        (trace.organisation.as_str(), trace.at_ms),
        ("UiOMSP", bench.now_ms)
    );
    assert_eq!(trace.action, run(&lease));
    let state = &bench.state;
    for (side, found) in [
        ("all", query::traces(state, &all)),
        ("dataset", query::traces_on(state, &dataset, &all)),
        ("person", query::traces_of(state, &alice().parse().unwrap(), &all)),
        ("organisation", query::traces_by(state, &msp("UiOMSP"), &all)),
        ("action", query::traces_with(state, ActionKind::Run, &all)),
        ("lease", query::traces_under(state, &lease.parse().unwrap(), &all)),
    ] {
        assert_eq!(found.unwrap().items, std::slice::from_ref(&trace), "{side}");
    }
    for found in [
        query::traces_of(state, &bob().parse().unwrap(), &all),
        query::traces_by(state, &msp("UiSMSP"), &all),
        query::traces_with(state, ActionKind::UseDatasets, &all),
    ] {
        assert_eq!(found.unwrap().items, []);
    }
}

#[test]
fn a_trace_is_recorded_once_and_never_changed() {
    let mut bench = Bench::new();
    bench.registered("UiSMSP", "texts");
    let lease = bench.leased("UiOMSP", "texts", &alice(), 60);
    bench.accepted("UiOMSP", &record_trace("one", &alice(), run(&lease)));
    let before = bench.state.clone();
    bench.now_ms += 1_000;
    let again = bench.refused("UiOMSP", &record_trace("one", &alice(), run(&lease)));
    assert_eq!(again.code(), "unchanged", "the same again is the same");
    let models = Action::UseModels {
        application: "viewer".to_owned(),
        models: vec!["m".to_owned()],
    };
    for (person, action) in [(bob(), models.clone()), (alice(), models)] {
        let other = bench.refused("UiOMSP", &record_trace("one", &person, action));
        assert_eq!(other.code(), "trace_key_used", "a key is one trace");
    }
    assert_eq!(bench.state, before);
}

#[test]
fn only_whoever_had_the_lease_says_what_ran_under_it() {
    let mut bench = Bench::new();
    let policy = leasehold_chaincode::Policy {
        approve_leases: true,
        ..leasehold_chaincode::Policy::exclusive(3_600)
    };
    bench.registered_with("UiSMSP", "texts", policy);
    let lease = bench.asked("UiOMSP", "texts", &alice(), leasehold_chaincode::Mode::Exclusive);
    let mine = record_trace("one", &alice(), run(&lease));
    assert_eq!(
        code(&mut bench, "UiOMSP", &mine),
        "lease_not_active",
        "nothing ran before the grant"
    );
    bench.accepted("UiSMSP", &Command::ApproveLease { lease: lease.clone() });
    for (caller, person) in [("UiSMSP", alice()), ("UiOMSP", bob())] {
        let others = record_trace("one", &person, run(&lease));
        assert_eq!(code(&mut bench, caller, &others), "lease_not_found");
    }
    bench.accepted("UiOMSP", &release(&lease, &alice()));
    bench.accepted("UiOMSP", &mine);
}

/// A reader that counts what is asked of it.
struct Counting<'a>(&'a leasehold_chaincode::MemoryState, std::cell::Cell<usize>);

impl StateReader for Counting<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.1.set(self.1.get() + 1);
        self.0.get(key)
    }

    fn range(&self, start: &str, end: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, StateError> {
        let found = self.0.range(start, end, limit)?;
        self.1.set(self.1.get() + found.len());
        Ok(found)
    }
}

#[test]
fn no_question_about_traces_reads_more_than_it_answers() {
    let mut bench = Bench::new();
    for number in 0..200 {
        let action = Action::UseModels {
            application: "viewer".to_owned(),
            models: vec!["m".to_owned()],
        };
        let person = if number == 150 { bob() } else { alice() };
        bench.accepted("UiSMSP", &record_trace(&number.to_string(), &person, action));
    }
    let reader = Counting(&bench.state, std::cell::Cell::new(0));
    let found = query::traces_of(&reader, &bob().parse().unwrap(), &PageRequest::default()).unwrap();
    assert_eq!(
        (found.items.len(), reader.1.get()),
        (1, 2),
        "the index entry and the trace"
    );
    reader.1.set(0);
    let page = PageRequest {
        after: None,
        limit: 10,
    };
    let found = query::traces(&reader, &page).unwrap();
    assert!(found.next.is_some());
    assert_eq!(reader.1.get(), 11 + 10);
}

#[test]
fn what_a_trace_writes_is_bounded_by_what_it_names() {
    let mut bench = Bench::new();
    let datasets: Vec<_> = (0..64)
        .map(|number| bench.registered("UiSMSP", &format!("d{number}")).to_string())
        .collect();
    let outcome = bench.accepted(
        "UiOMSP",
        &record_trace("one", &alice(), Action::UseDatasets { datasets, tool: None }),
    );
    assert_eq!(outcome.writes.len(), 64 + 5);
    let id = TraceId::derive(&msp("UiOMSP"), "one");
    let place = key::trace(&id);
    assert!(
        outcome
            .writes
            .iter()
            .any(|write| matches!(write, Write::Put { key, .. } if *key == place))
    );
}

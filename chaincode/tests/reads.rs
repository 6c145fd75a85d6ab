//! No question looks at everything: what is read for a page does not grow with what there is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/bench.rs"]
mod bench;

use bench::{Bench, alice, msp, person, record_trace, register_cluster, shared};
use leasehold_chaincode::{
    Action, ActionKind, Code, Command, DatasetId, LeaseId, LeaseState, MemoryState, Mode, PageRequest,
    Question, Role, StateError, StateReader, TraceId, limit,
};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// A state that counts the keys and pairs that are read of it.
struct Counting<'a>(&'a MemoryState, Cell<usize>);

impl Counting<'_> {
    fn count(&self, read: usize) {
        self.1.set(self.1.get() + read);
    }
}

impl StateReader for Counting<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.count(1);
        self.0.get(key)
    }

    fn range(&self, start: &str, end: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, StateError> {
        let pairs = self.0.range(start, end, limit)?;
        self.count(pairs.len());
        Ok(pairs)
    }
}

macro_rules! kinds {
    ($($kind:ident)*) => {
        const KINDS: &[&str] = &[$(stringify!($kind)),*];

        /// Does not compile where one is missing.
        fn kind(question: &Question) -> &'static str {
            match question {
                $(Question::$kind { .. } => stringify!($kind),)*
            }
        }
    };
}

kinds! {
    Dataset Datasets DatasetsOf Volume Lease Holders CodeApproval CodeApprovals LeasesOf LeasesIn LeasesDue LeasesOn History
    LeaseHistory Consortium Organisation Organisations Cluster Clusters OrganisationHistory Trace Traces TracesOn TracesOf TracesBy
    TracesWith TracesUnder
}

struct World {
    bench: Bench,
    texts: DatasetId,
    lease: LeaseId,
}

/// So many of everything that grows without bound, about the same dataset, person, lease and organisation; of what is bounded as many
/// as there may be, where that is fewer.
fn world(size: usize) -> World {
    let mut bench = Bench::new();
    bench.role = Role::Administrator;
    for number in 0..size {
        let name = format!("c{number}");
        bench.accepted("UiSMSP", &register_cluster(&name));
        bench.accepted("UiSMSP", &Command::RetireCluster { name });
        bench.registered("UiSMSP", &format!("d{number}"));
        bench.leased("UiOMSP", &format!("d{number}"), &person(7), 60);
    }
    let most_shared = u32::try_from(size).unwrap().min(limit::MOST_SHARED);
    let texts = bench.registered_with("UiSMSP", "texts", shared(most_shared, 0));
    let mut held = Vec::new();
    for number in 0..size {
        let subject = format!("{number:064x}");
        let lease = bench.asked("UiOMSP", "texts", &subject, Mode::Shared);
        held.push((lease, subject));
        if held.len() > most_shared as usize - 1 && number + 1 < size {
            let (lease, subject) = held.remove(0);
            bench.ended("UiOMSP", &lease, &subject);
        }
        bench.accepted("UiSMSP", &approve(number));
    }
    let (lease, subject) = held[0].clone();
    for number in 0..size {
        bench.now_ms += 1_000;
        let renewed = bench::renew(&lease, &subject, 3_600);
        bench.accepted("UiOMSP", &renewed);
        bench.accepted(
            "UiOMSP",
            &record_trace(&number.to_string(), &subject, run(&lease)),
        );
        let used = Action::UseDatasets {
            datasets: vec![texts.to_string()],
            tool: None,
        };
        bench.accepted("UiOMSP", &record_trace(&format!("u{number}"), &alice(), used));
    }
    for number in 0..size.min(limit::ORGANISATIONS as usize - 4) {
        bench.accepted(&format!("Org{number}"), &bench::join());
    }
    World {
        bench,
        texts,
        lease: lease.parse().unwrap(),
    }
}

fn code(number: usize) -> Code {
    Code {
        image_sha256: format!("{number:064x}"),
        command_sha256: "34".repeat(32),
    }
}

fn approve(number: usize) -> Command {
    Command::ApproveCode {
        dataset: "texts".to_owned(),
        code: code(number),
    }
}

fn run(lease: &str) -> Action {
    Action::Run {
        lease: lease.to_owned(),
        pods: vec![leasehold_chaincode::Pod {
            uid: "a".to_owned(),
            code: code(0),
        }],
        results: Vec::new(),
    }
}

fn questions(world: &World, page: &PageRequest) -> Vec<Question> {
    let (dataset, lease, page) = (world.texts.clone(), world.lease.clone(), || page.clone());
    let (one, two) = (msp("UiSMSP"), msp("UiOMSP"));
    let holder = || person(7).parse().unwrap();
    let now_ms = world.bench.now_ms + 86_400_000;
    let active = LeaseState::Active;
    let mut questions = vec![
        Question::Dataset {
            dataset: dataset.clone().into(),
        },
        Question::Datasets { page: page() },
        Question::DatasetsOf {
            owner: one.clone(),
            page: page(),
        },
        Question::Volume {
            dataset: dataset.clone(),
        },
        Question::Lease { lease: lease.clone() },
        Question::CodeApproval {
            dataset: dataset.clone(),
            code: code(1),
        },
        Question::CodeApprovals {
            dataset: dataset.clone(),
            page: page(),
        },
        Question::LeasesOf {
            subject: holder(),
            state: None,
            page: page(),
        },
        Question::LeasesOf {
            subject: holder(),
            state: Some(active),
            page: page(),
        },
        Question::LeasesIn {
            state: active,
            page: page(),
        },
        Question::LeasesDue {
            state: active,
            now_ms,
            page: page(),
        },
        Question::LeasesOn {
            dataset: dataset.clone(),
            page: page(),
        },
        Question::History {
            dataset: dataset.clone(),
            page: page(),
        },
        Question::LeaseHistory {
            lease: lease.clone(),
            page: page(),
        },
        Question::Consortium {},
        Question::Organisation { msp: one.clone() },
        Question::Organisations { page: page() },
        Question::Cluster {
            msp: one.clone(),
            name: "c1".parse().unwrap(),
        },
        Question::Clusters {
            msp: one.clone(),
            page: page(),
        },
        Question::OrganisationHistory {
            msp: one,
            page: page(),
        },
        Question::Trace {
            trace: TraceId::derive(&two, "1"),
        },
        Question::Traces { page: page() },
        Question::TracesOn {
            dataset: dataset.clone(),
            page: page(),
        },
        Question::TracesOf {
            subject: alice().parse().unwrap(),
            page: page(),
        },
        Question::TracesBy {
            organisation: two,
            page: page(),
        },
        Question::TracesWith {
            action: ActionKind::Run,
            page: page(),
        },
        Question::TracesUnder { lease, page: page() },
    ];
    questions.push(Question::Holders { dataset });
    questions
}

#[test]
fn a_page_costs_the_same_reads_however_much_there_is() {
    let (few, many) = (world(10), world(1_000));
    let page = PageRequest {
        after: None,
        limit: 5,
    };
    let mut asked = BTreeSet::new();
    let mut table = BTreeMap::new();
    for (of_few, of_many) in questions(&few, &page).into_iter().zip(questions(&many, &page)) {
        let reads = [(&few, &of_few), (&many, &of_many)].map(|(world, question)| {
            let state = Counting(&world.bench.state, Cell::new(0));
            question.answer(&state).unwrap();
            state.1.get()
        });
        asked.insert(kind(&of_few));
        table.insert(format!("{of_few:?}"), reads);
        let [few, many] = reads;
        if kind(&of_few) == "Holders" {
            // All of them, at most so many.
            assert!(many <= 1 + limit::MOST_SHARED as usize, "{of_few:?}: {many} keys");
            continue;
        }
        assert!(few > 0);
        // A page, one more to know whether it is the last, and two records for each entry.
        assert!(many <= 3 * (page.limit + 1), "{of_few:?}: {many} keys");
        assert_eq!(few, many, "{of_few:?}");
    }
    let missing: Vec<_> = KINDS.iter().filter(|kind| !asked.contains(*kind)).collect();
    assert!(missing.is_empty(), "not counted: {missing:?}");
}

//! Random commands of several organisations and people, at random times, against a model that is too simple to be wrong.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/bench.rs"]
mod bench;

use bench::{Bench, alice, bob, finding, register};
use leasehold_chaincode::{
    Command, EndCause, EventKind, LeaseState, MemoryState, MountReport, PageRequest, query,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const NAMES: [&str; 3] = ["texts", "scans", "waves"];
const MSPS: [&str; 2] = ["UiSMSP", "UiOMSP"];
const TTL_SECONDS: u64 = 60;

/// What somebody tries. Leases are named by the order of their granting, so that most attempts concern one that exists.
#[derive(Debug, Clone)]
enum Attempt {
    Register(usize),
    Remove(usize),
    Lease(usize, bool),
    Release(usize, bool),
    Expire(usize),
    Confirm(usize),
    Report(usize, bool),
}

#[derive(Debug, Clone)]
struct Step {
    msp: usize,
    /// Clocks of several submitters do not agree: time also goes back.
    seconds: i64,
    attempt: Attempt,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let recent = 0usize..4;
    let attempt = prop_oneof![
        2 => (0..NAMES.len()).prop_map(Attempt::Register),
        1 => (0..NAMES.len()).prop_map(Attempt::Remove),
        6 => (0..NAMES.len(), any::<bool>()).prop_map(|(name, who)| Attempt::Lease(name, who)),
        4 => (recent.clone(), any::<bool>()).prop_map(|(lease, who)| Attempt::Release(lease, who)),
        4 => recent.clone().prop_map(Attempt::Expire),
        6 => recent.clone().prop_map(Attempt::Confirm),
        2 => (recent, any::<bool>()).prop_map(|(lease, ready)| Attempt::Report(lease, ready)),
    ];
    let step = (0..MSPS.len(), -30i64..60, attempt).prop_map(|(msp, seconds, attempt)| Step {
        msp,
        seconds,
        attempt,
    });
    prop::collection::vec(step, 1..80)
}

#[derive(Debug, Clone)]
struct ModelDataset {
    id: String,
    owner: String,
    token: u64,
    /// Index of the lease that keeps others out.
    lease: Option<usize>,
    transitions: u64,
}

#[derive(Debug, Clone)]
struct ModelLease {
    id: String,
    dataset: String,
    msp: String,
    subject: String,
    expires_at_ms: i64,
    state: LeaseState,
    ready: Option<bool>,
}

#[derive(Default)]
struct Model {
    live: BTreeMap<String, ModelDataset>,
    retired: Vec<ModelDataset>,
    leases: Vec<ModelLease>,
}

impl Model {
    /// Index of the lease that is the `back`-th from the newest.
    fn recent(&self, back: usize) -> Option<usize> {
        self.leases.len().checked_sub(back + 1)
    }

    fn command(&self, attempt: &Attempt) -> Command {
        let id = |back: &usize| {
            self.recent(*back)
                .map_or_else(|| "0".repeat(32), |at| self.leases[at].id.clone())
        };
        match attempt {
            Attempt::Register(name) => register(NAMES[*name]),
            Attempt::Remove(name) => Command::RemoveDataset {
                dataset: NAMES[*name].to_owned(),
            },
            Attempt::Lease(name, who) => Command::Lease {
                dataset: NAMES[*name].to_owned(),
                subject: person(*who),
                ttl_seconds: Some(TTL_SECONDS),
            },
            Attempt::Release(back, who) => Command::Release {
                lease: id(back),
                subject: person(*who),
            },
            Attempt::Expire(back) => Command::Expire { lease: id(back) },
            Attempt::Confirm(back) => Command::ConfirmEnd { lease: id(back) },
            Attempt::Report(back, ready) => Command::ReportMount {
                lease: id(back),
                report: report(*ready),
            },
        }
    }

    /// The code of the refusal that the rules demand, or none; the model then makes the step itself.
    fn step(&mut self, msp: &str, now_ms: i64, attempt: &Attempt) -> Option<&'static str> {
        match attempt {
            Attempt::Register(name) => self
                .live
                .contains_key(NAMES[*name])
                .then_some("dataset_name_taken"),
            Attempt::Remove(name) => match self.live.get(NAMES[*name]) {
                None => Some("dataset_not_found"),
                Some(dataset) if dataset.owner != msp => Some("not_owner"),
                Some(dataset) if dataset.lease.is_some() => Some("dataset_leased"),
                Some(_) => {
                    let mut dataset = self.live.remove(NAMES[*name]).unwrap();
                    dataset.transitions += 1;
                    self.retired.push(dataset);
                    None
                }
            },
            Attempt::Lease(name, _) => match self.live.get(NAMES[*name]) {
                None => Some("dataset_not_found"),
                Some(dataset) if dataset.lease.is_some() => Some("lease_conflict"),
                Some(_) => None,
            },
            Attempt::Release(back, who) => {
                let Some(at) = self.recent(*back) else {
                    return Some("lease_not_found");
                };
                let lease = &self.leases[at];
                if lease.msp != msp || lease.subject != person(*who) {
                    return Some("lease_not_found");
                }
                self.end(at)
            }
            Attempt::Expire(back) => {
                let Some(at) = self.recent(*back) else {
                    return Some("lease_not_found");
                };
                let lease = &self.leases[at];
                if lease.state == LeaseState::Active && now_ms < lease.expires_at_ms {
                    return Some("not_expired");
                }
                self.end(at)
            }
            Attempt::Confirm(back) => {
                let Some(at) = self.recent(*back) else {
                    return Some("lease_not_found");
                };
                let lease = &mut self.leases[at];
                if lease.msp != msp {
                    return Some("not_cluster");
                }
                if lease.state != LeaseState::Ending {
                    return Some("lease_not_ending");
                }
                lease.state = LeaseState::Ended;
                let dataset = self.live.get_mut(&lease.dataset).unwrap();
                dataset.lease = None;
                dataset.transitions += 1;
                None
            }
            Attempt::Report(back, ready) => {
                let Some(at) = self.recent(*back) else {
                    return Some("lease_not_found");
                };
                let lease = &mut self.leases[at];
                if lease.msp != msp {
                    return Some("not_cluster");
                }
                if lease.state != LeaseState::Active {
                    return Some("lease_not_active");
                }
                if lease.ready == Some(*ready) {
                    return Some("mount_unchanged");
                }
                lease.ready = Some(*ready);
                self.live.get_mut(&lease.dataset).unwrap().transitions += 1;
                None
            }
        }
    }

    fn end(&mut self, at: usize) -> Option<&'static str> {
        let lease = &mut self.leases[at];
        if lease.state != LeaseState::Active {
            return Some("lease_not_active");
        }
        lease.state = LeaseState::Ending;
        self.live.get_mut(&lease.dataset).unwrap().transitions += 1;
        None
    }

    fn learn(&mut self, msp: &str, now_ms: i64, attempt: &Attempt, id: String) {
        match attempt {
            Attempt::Register(name) => {
                let dataset = ModelDataset {
                    id,
                    owner: msp.to_owned(),
                    token: 0,
                    lease: None,
                    transitions: 1,
                };
                self.live.insert(NAMES[*name].to_owned(), dataset);
            }
            Attempt::Lease(name, who) => {
                let dataset = self.live.get_mut(NAMES[*name]).unwrap();
                dataset.lease = Some(self.leases.len());
                dataset.token += 1;
                dataset.transitions += 1;
                self.leases.push(ModelLease {
                    id,
                    dataset: NAMES[*name].to_owned(),
                    msp: msp.to_owned(),
                    subject: person(*who),
                    expires_at_ms: now_ms + i64::try_from(TTL_SECONDS).unwrap() * 1_000,
                    state: LeaseState::Active,
                    ready: None,
                });
            }
            _ => {}
        }
    }
}

fn person(who: bool) -> String {
    if who { alice() } else { bob() }
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

/// At most one lease of each dataset is active or ending, by the index that everybody reads and by the records themselves.
fn nobody_shares_an_exclusive_lease(state: &MemoryState) {
    let all = PageRequest::default();
    let mut kept = BTreeMap::new();
    for in_state in [LeaseState::Active, LeaseState::Ending] {
        for lease in query::leases_in(state, in_state, &all).unwrap().items {
            assert_eq!(lease.state, in_state);
            let other = kept.insert(lease.dataset.clone(), lease.id.clone());
            assert_eq!(other, None, "two leases of {}", lease.dataset);
            assert_eq!(query::active_lease(state, &lease.dataset).unwrap(), Some(lease));
        }
    }
}

fn agree(state: &MemoryState, model: &Model) {
    nobody_shares_an_exclusive_lease(state);
    let all = PageRequest::default();
    for lease in &model.leases {
        let found = query::lease(state, &lease.id.parse().unwrap()).unwrap().unwrap();
        assert_eq!(
            (found.state, found.expires_at_ms),
            (lease.state, lease.expires_at_ms)
        );
        let mine = query::leases_of(state, &lease.subject.parse().unwrap(), Some(lease.state), &all).unwrap();
        assert_eq!(mine.items.iter().filter(|held| held.id == found.id).count(), 1);
    }
    let catalogue = query::datasets(state, &all).unwrap().items;
    assert_eq!(catalogue.len(), model.live.len());
    for (name, dataset) in &model.live {
        let entry = catalogue
            .iter()
            .find(|entry| entry.dataset.name.as_str() == name)
            .unwrap();
        assert_eq!(entry.status.fencing_token, dataset.token);
        let held = dataset.lease.map(|at| model.leases[at].id.clone());
        assert_eq!(entry.status.lease.clone().map(String::from), held);
    }
    for dataset in model.live.values().chain(&model.retired) {
        let history = query::history(state, &dataset.id.parse().unwrap(), &all)
            .unwrap()
            .items;
        let revisions: Vec<_> = history.iter().map(|entry| entry.revision).collect();
        assert_eq!(
            revisions,
            (1..=dataset.transitions).collect::<Vec<_>>(),
            "history without gaps"
        );
        let leases = query::leases_on(state, &dataset.id.parse().unwrap(), &all)
            .unwrap()
            .items;
        let tokens: Vec<_> = leases.iter().map(|lease| lease.fencing_token).collect();
        assert_eq!(
            tokens,
            (1..=dataset.token).collect::<Vec<_>>(),
            "tokens only grow"
        );
        for lease in leases {
            let told = query::lease_history(state, &lease.id, &all).unwrap().items;
            assert_eq!(
                told.first().map(|entry| &entry.kind),
                Some(&EventKind::LeaseGranted {})
            );
            let ended = told.iter().any(|entry| entry.kind == EventKind::LeaseEnded {});
            assert_eq!(ended, lease.state == LeaseState::Ended);
            if let Some(end) = lease.end {
                assert!(end.cause == EndCause::Released || end.at_ms >= lease.expires_at_ms);
            }
        }
    }
}

fn play(steps: &[Step]) -> MemoryState {
    let (mut bench, mut model) = (Bench::new(), Model::default());
    for step in steps {
        bench.now_ms += step.seconds * 1_000;
        let (msp, now_ms) = (MSPS[step.msp], bench.now_ms);
        let command = model.command(&step.attempt);
        let expected = model.step(msp, now_ms, &step.attempt);
        let before = bench.state.clone();
        match bench.execute(msp, &command) {
            Ok(outcome) => {
                assert_eq!(expected, None, "accepted: {step:?}");
                let id = match outcome.event.lease {
                    Some(lease) => lease.into(),
                    None => outcome.event.dataset.into(),
                };
                model.learn(msp, now_ms, &step.attempt, id);
            }
            Err(refusal) => {
                assert_eq!(expected, Some(refusal.code()), "refused: {step:?}");
                assert_eq!(bench.state, before, "a refused command writes nothing");
            }
        }
        nobody_shares_an_exclusive_lease(&bench.state);
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

//! What is tried at random: who tries it, when, and the command that it is.
#![allow(clippy::indexing_slicing, reason = "a test fails by panicking")]

use crate::bench::{P256, a_key, finding, record_trace, register_with};
use crate::model::{self, Model, TTL_SECONDS};
use leasehold_chaincode::{Action, Code, Command, KeyAlgorithm, Mode, MountReport, Pod};
use proptest::prelude::*;

pub const NAMES: [&str; 3] = ["texts", "scans", "waves"];
pub const MSPS: [&str; 4] = ["UiSMSP", "UiOMSP", "NTNUMSP", "UiBMSP"];
pub const CLUSTERS: [&str; 2] = ["main", "second"];
pub const BROKERS: [&str; 2] = ["https://a.example", "https://b.example:8443"];
const PEOPLE: usize = 4;

/// What somebody tries. Leases are named by how many were asked for since, so that most attempts concern one that exists.
#[derive(Debug, Clone)]
pub enum Attempt {
    Register(usize, usize),
    Remove(usize, bool),
    Lease(Ask),
    Approve(usize),
    Deny(usize),
    Renew(usize, usize),
    Release(usize, usize),
    Revoke(usize),
    Expire(usize),
    Confirm(usize),
    Declare(usize),
    Report(usize, bool),
    Join,
    Amend(usize),
    Suspend,
    Resume,
    Vote(usize, bool),
    RegisterCluster(usize, bool),
    RetireCluster(usize),
    Trace(usize, usize, Did),
}

#[derive(Debug, Clone)]
pub struct Ask {
    pub name: usize,
    pub person: usize,
    pub mode: Mode,
    pub wait: bool,
    pub cluster: Option<usize>,
    /// Under the transaction id of an earlier lease.
    pub again: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub enum Did {
    Use(usize),
    Update(usize),
    Run(usize),
}

#[derive(Debug, Clone)]
pub struct Step {
    pub msp: usize,
    /// How much later it is than at the step before.
    pub seconds: i64,
    pub attempt: Attempt,
    /// What only a lease's holder may do is tried by that one.
    pub by_holder: bool,
}

impl Step {
    /// Who tries what, as things stand. At random few would ever give a lease back, and nobody's turn in the line would come.
    pub fn tried(&self, model: &Model) -> (usize, Attempt) {
        let (Attempt::Release(back, _) | Attempt::Renew(back, _) | Attempt::Confirm(back)) = self.attempt
        else {
            return (self.msp, self.attempt.clone());
        };
        let Some(lease) = model.recent(back).filter(|_| self.by_holder) else {
            return (self.msp, self.attempt.clone());
        };
        let lease = &model.leases[lease];
        let attempt = match self.attempt {
            Attempt::Release(..) => Attempt::Release(back, lease.person),
            Attempt::Renew(..) => Attempt::Renew(back, lease.person),
            _ => self.attempt.clone(),
        };
        (lease.msp, attempt)
    }
}

/// Steps on a ledger whose submitters' clocks are wrong by so much, each by its own.
#[derive(Debug, Clone)]
pub struct Play {
    pub with_margin: bool,
    pub clocks_ms: [i64; MSPS.len()],
    pub steps: Vec<Step>,
}

pub fn plays() -> impl Strategy<Value = Play> {
    let minutes: i64 = 15 * 60 * 1_000;
    let clock = move || -minutes..=minutes;
    let clocks = (clock(), clock(), clock(), clock());
    (any::<bool>(), clocks, prop::collection::vec(steps(), 1..120)).prop_map(
        |(with_margin, (a, b, c, d), steps)| Play {
            with_margin,
            clocks_ms: [a, b, c, d],
            steps,
        },
    )
}

fn steps() -> impl Strategy<Value = Step> {
    let seconds = prop_oneof![20 => 0i64..15, 1 => 1_500i64..8_000];
    let by_holder = prop_oneof![4 => Just(true), 1 => Just(false)];
    (0..MSPS.len(), seconds, attempts(), by_holder).prop_map(|(msp, seconds, attempt, by_holder)| Step {
        msp,
        seconds,
        attempt,
        by_holder,
    })
}

fn attempts() -> impl Strategy<Value = Attempt> {
    let name = || 0..NAMES.len();
    let recent = || 0usize..6;
    let person = || 0..PEOPLE;
    let of_leases = prop_oneof![
        3 => (name(), 0usize..3).prop_map(|(name, policy)| Attempt::Register(name, policy)),
        1 => (name(), any::<bool>()).prop_map(|(name, force)| Attempt::Remove(name, force)),
        12 => ask().prop_map(Attempt::Lease),
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
    let of_organisations = prop_oneof![
        2 => Just(Attempt::Join),
        1 => (0..BROKERS.len()).prop_map(Attempt::Amend),
        4 => Just(Attempt::Suspend),
        3 => Just(Attempt::Resume),
        4 => (0..MSPS.len(), any::<bool>()).prop_map(|(msp, suspend)| Attempt::Vote(msp, suspend)),
        2 => (0..CLUSTERS.len(), any::<bool>()).prop_map(|(cluster, keyed)| Attempt::RegisterCluster(cluster, keyed)),
        1 => (0..CLUSTERS.len()).prop_map(Attempt::RetireCluster),
    ];
    let did = prop_oneof![
        name().prop_map(Did::Use),
        name().prop_map(Did::Update),
        recent().prop_map(Did::Run)
    ];
    let traces = (0usize..4, person(), did).prop_map(|(key, who, did)| Attempt::Trace(key, who, did));
    prop_oneof![10 => of_leases, 3 => of_organisations, 1 => traces]
}

fn ask() -> impl Strategy<Value = Ask> {
    let mode = prop_oneof![Just(Mode::Exclusive), Just(Mode::Shared)];
    let cluster = prop_oneof![3 => Just(None), 1 => (0..CLUSTERS.len()).prop_map(Some)];
    let again = prop_oneof![20 => Just(None), 1 => (0usize..6).prop_map(Some)];
    let wait = prop_oneof![3 => Just(true), 1 => Just(false)];
    (0..NAMES.len(), 0..PEOPLE, mode, wait, cluster, again).prop_map(
        |(name, person, mode, wait, cluster, again)| Ask {
            name,
            person,
            mode,
            wait,
            cluster,
            again,
        },
    )
}

/// The command of an attempt, as things stand.
pub fn command(model: &Model, attempt: &Attempt) -> Command {
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
        Attempt::Lease(ref ask) => Command::Lease {
            dataset: NAMES[ask.name].to_owned(),
            subject: person(ask.person),
            mode: Some(ask.mode),
            ttl_seconds: Some(TTL_SECONDS),
            groups: Vec::new(),
            wait: ask.wait,
            cluster: ask.cluster.map(|cluster| CLUSTERS[cluster].to_owned()),
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
        Attempt::Join => Command::JoinConsortium {
            broker: BROKERS[0].to_owned(),
            keys: Vec::new(),
        },
        Attempt::Amend(broker) => Command::AmendOrganisation {
            broker: Some(BROKERS[broker].to_owned()),
            keys: None,
        },
        Attempt::Suspend => Command::SuspendOrganisation { reason },
        Attempt::Resume => Command::ResumeOrganisation {},
        Attempt::Vote(msp, suspend) => Command::VoteOnSuspension {
            organisation: MSPS[msp].to_owned(),
            suspend,
            reason,
        },
        Attempt::RegisterCluster(cluster, keyed) => Command::RegisterCluster {
            name: CLUSTERS[cluster].to_owned(),
            keys: if keyed {
                vec![a_key("a", KeyAlgorithm::P256, P256)]
            } else {
                Vec::new()
            },
        },
        Attempt::RetireCluster(cluster) => Command::RetireCluster {
            name: CLUSTERS[cluster].to_owned(),
        },
        Attempt::Trace(key, who, did) => {
            let action = action(did, model.dataset_id(did), lease);
            record_trace(&key.to_string(), &person(who), action)
        }
    }
}

fn action(did: Did, dataset: String, lease: impl Fn(usize) -> String) -> Action {
    match did {
        Did::Use(_) => Action::UseDatasets {
            datasets: vec![dataset],
            tool: None,
        },
        Did::Update(_) => Action::UpdateDataset {
            dataset,
            details: "a file more".to_owned(),
            resources: Vec::new(),
        },
        Did::Run(back) => Action::Run {
            lease: lease(back),
            pods: vec![Pod {
                uid: "a".to_owned(),
                code: Code {
                    image_sha256: "12".repeat(32),
                    command_sha256: "34".repeat(32),
                },
            }],
            results: Vec::new(),
        },
    }
}

pub fn person(who: usize) -> String {
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

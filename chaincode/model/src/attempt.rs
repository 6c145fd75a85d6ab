//! What is tried at random: who tries it, and when.

use crate::dataset::Volume;
use crate::model::Model;
use leasehold_chaincode::{LeaseState, Mode};
use proptest::prelude::*;

pub(crate) const NAMES: usize = 3;
/// The organisations. Three have joined when a history begins.
pub const MSPS: [&str; 4] = ["UiSMSP", "UiOMSP", "NTNUMSP", "UiBMSP"];
pub(crate) const CLUSTERS: usize = 2;
pub(crate) const BROKERS: usize = 2;
pub(crate) const PEOPLE: usize = 4;
pub(crate) const POLICIES: usize = 5;
pub(crate) const DESCRIPTIONS: usize = 3;
pub(crate) const CODES: usize = 2;
/// Leases that attempts are about: so many of the newest.
const RECENT: usize = 6;

/// What somebody tries. Leases are named by how many were asked for since, so that most attempts concern one that exists.
#[derive(Debug, Clone)]
pub(crate) enum Attempt {
    Register(usize, usize),
    Describe(usize, Option<usize>, Option<usize>),
    Replace(usize, Volume),
    Offer(usize, Option<usize>),
    Take(usize, Volume),
    Remove(usize, bool),
    /// Approves it, or withdraws the approval.
    Code(usize, usize, bool),
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
pub(crate) struct Ask {
    pub(crate) name: usize,
    pub(crate) person: usize,
    pub(crate) mode: Mode,
    pub(crate) wait: bool,
    pub(crate) in_group: bool,
    pub(crate) cluster: Option<usize>,
    /// Under the transaction id of an earlier lease.
    pub(crate) again: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Did {
    Create(usize),
    Update(usize),
    Use(usize),
    Train(usize),
    UseModel(usize),
    Run(usize),
}

impl Did {
    /// Name of the dataset that it was done with.
    pub(crate) fn dataset(self) -> Option<usize> {
        match self {
            Self::Create(name) | Self::Update(name) | Self::Use(name) | Self::Train(name) => Some(name),
            Self::UseModel(_) | Self::Run(_) => None,
        }
    }

    /// Whether only the dataset's owner may say so.
    pub(crate) fn is_owners(self) -> bool {
        matches!(self, Self::Create(_) | Self::Update(_))
    }

    pub(crate) fn word(self) -> String {
        match self {
            Self::Create(_) => "create".to_owned(),
            Self::Update(_) => "update".to_owned(),
            Self::Use(_) => "use".to_owned(),
            Self::Train(_) => "train".to_owned(),
            Self::UseModel(which) => format!("model {which}"),
            Self::Run(_) => "run".to_owned(),
        }
    }
}

/// Something that somebody does.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) msp: usize,
    /// How much later it is than at the step before.
    pub(crate) seconds: i64,
    pub(crate) attempt: Attempt,
    /// What only a lease's holder or a dataset's owner may do is tried by that one.
    pub(crate) by_right: bool,
}

impl Step {
    /// Who tries what, as things stand. At random most would be refused, and nobody's turn in the line would come: of what is recent
    /// one is taken that the attempt may be about, and whoever has the right to it tries.
    pub(crate) fn tried(&self, model: &Model) -> (usize, Attempt) {
        let aimed = self.by_right.then(|| self.aimed(model)).flatten();
        aimed.unwrap_or_else(|| (self.msp, self.attempt.clone()))
    }

    fn aimed(&self, model: &Model) -> Option<(usize, Attempt)> {
        use LeaseState::{Active, Ending, Requested, Waiting};
        let lease = |back, states: &[LeaseState]| {
            let recent = (back..back + RECENT).map(|back| back % RECENT);
            let mut known = recent.filter_map(|back| Some((back, &model.leases[model.recent(back)?])));
            known.find(|(_, lease)| states.contains(&lease.state))
        };
        let of_owner = |back, states: &[LeaseState], attempt: fn(usize) -> Attempt| {
            let (back, lease) = lease(back, states)?;
            Some((model.datasets[lease.dataset].owner, attempt(back)))
        };
        let named = |name| {
            let mut names = (name..name + NAMES).map(|name| name % NAMES);
            names.find_map(|name| Some((name, &model.datasets[model.named(name).ok()?])))
        };
        let of_dataset = |name, attempt: &dyn Fn(usize) -> Attempt| {
            let (name, dataset) = named(name)?;
            Some((dataset.owner, attempt(name)))
        };
        let stands = || {
            (self.msp..self.msp + MSPS.len())
                .map(|msp| msp % MSPS.len())
                .find(|msp| model.stands(*msp))
        };
        match self.attempt {
            Attempt::Register(..) | Attempt::RegisterCluster(..) | Attempt::Vote(..) => {
                Some((stands()?, self.attempt.clone()))
            }
            Attempt::Lease(ref ask) => {
                let (name, _) = named(ask.name)?;
                let ask = Ask { name, ..ask.clone() };
                Some((stands()?, Attempt::Lease(ask)))
            }
            Attempt::Approve(back) => of_owner(back, &[Requested], Attempt::Approve),
            Attempt::Deny(back) => of_owner(back, &[Requested], Attempt::Deny),
            Attempt::Revoke(back) => of_owner(back, &[Requested, Waiting, Active], Attempt::Revoke),
            Attempt::Declare(back) => of_owner(back, &[Ending], Attempt::Declare),
            Attempt::Renew(back, _) => {
                let (back, lease) = lease(back, &[Active])?;
                Some((lease.msp, Attempt::Renew(back, lease.person)))
            }
            Attempt::Release(back, _) => {
                let (back, lease) = lease(back, &[Requested, Waiting, Active])?;
                Some((lease.msp, Attempt::Release(back, lease.person)))
            }
            Attempt::Report(back, ready) => {
                let (back, lease) = lease(back, &[Active])?;
                Some((lease.msp, Attempt::Report(back, ready)))
            }
            Attempt::Expire(back) => {
                let (back, _) = lease(back, &[Requested, Waiting, Active])?;
                Some((self.msp, Attempt::Expire(back)))
            }
            Attempt::Confirm(back) => {
                let (back, lease) = lease(back, &[Ending])?;
                Some((lease.msp, Attempt::Confirm(back)))
            }
            Attempt::Trace(key, _, Did::Run(back)) => {
                let (back, lease) = lease(back, &[Active, Ending])?;
                Some((lease.msp, Attempt::Trace(key, lease.person, Did::Run(back))))
            }
            Attempt::Trace(key, who, Did::Create(name)) => {
                of_dataset(name, &|name| Attempt::Trace(key, who, Did::Create(name)))
            }
            Attempt::Trace(key, who, Did::Update(name)) => {
                of_dataset(name, &|name| Attempt::Trace(key, who, Did::Update(name)))
            }
            Attempt::Describe(name, said, terms) => {
                of_dataset(name, &|name| Attempt::Describe(name, said, terms))
            }
            Attempt::Replace(name, volume) => of_dataset(name, &|name| Attempt::Replace(name, volume)),
            Attempt::Offer(name, to) => of_dataset(name, &|name| Attempt::Offer(name, to)),
            Attempt::Code(name, code, approved) => {
                let (name, dataset) = named(name)?;
                let code = dataset
                    .codes
                    .first()
                    .copied()
                    .filter(|_| !approved)
                    .unwrap_or(code);
                Some((dataset.owner, Attempt::Code(name, code, approved)))
            }
            Attempt::Remove(name, force) => of_dataset(name, &|name| Attempt::Remove(name, force)),
            Attempt::Take(name, volume) => {
                let mut names = (name..name + NAMES).map(|name| name % NAMES);
                names.find_map(|name| {
                    let to = model.datasets[model.named(name).ok()?].offered?;
                    Some((to, Attempt::Take(name, volume)))
                })
            }
            Attempt::Resume => {
                let suspended = |msp: &usize| model.organisations[*msp].by_itself;
                Some(((0..MSPS.len()).find(suspended)?, Attempt::Resume))
            }
            Attempt::Join => {
                let outside = |msp: &usize| !model.organisations[*msp].joined;
                Some(((0..MSPS.len()).find(outside)?, Attempt::Join))
            }
            Attempt::Amend(_) | Attempt::Suspend | Attempt::RetireCluster(_) | Attempt::Trace(..) => None,
        }
    }
}

/// A history that is still to be played, by submitters whose clocks are wrong by so much, each by its own.
#[derive(Debug, Clone)]
pub struct Play {
    /// Whether it is played by the rules for ledgers whose submitters choose the time.
    pub with_margin: bool,
    pub(crate) clocks_ms: [i64; MSPS.len()],
    pub(crate) steps: Vec<Step>,
}

/// Draws histories of up to 119 commands.
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
    let by_right = prop_oneof![4 => Just(true), 1 => Just(false)];
    (0..MSPS.len(), seconds, attempts(), by_right).prop_map(|(msp, seconds, attempt, by_right)| Step {
        msp,
        seconds,
        attempt,
        by_right,
    })
}

fn attempts() -> impl Strategy<Value = Attempt> {
    let recent = || 0..RECENT;
    let person = || 0..PEOPLE;
    let of_leases = prop_oneof![
        12 => ask().prop_map(Attempt::Lease),
        3 => recent().prop_map(Attempt::Approve),
        2 => recent().prop_map(Attempt::Deny),
        2 => (recent(), person()).prop_map(|(lease, who)| Attempt::Renew(lease, who)),
        4 => (recent(), person()).prop_map(|(lease, who)| Attempt::Release(lease, who)),
        2 => recent().prop_map(Attempt::Revoke),
        4 => recent().prop_map(Attempt::Expire),
        6 => recent().prop_map(Attempt::Confirm),
        2 => recent().prop_map(Attempt::Declare),
        2 => (recent(), any::<bool>()).prop_map(|(lease, ready)| Attempt::Report(lease, ready)),
    ];
    let of_organisations = prop_oneof![
        2 => Just(Attempt::Join),
        1 => (0..BROKERS).prop_map(Attempt::Amend),
        1 => Just(Attempt::Suspend),
        3 => Just(Attempt::Resume),
        3 => (0..MSPS.len(), prop::bool::weighted(0.4)).prop_map(|(msp, suspend)| Attempt::Vote(msp, suspend)),
        2 => (0..CLUSTERS, any::<bool>()).prop_map(|(cluster, keyed)| Attempt::RegisterCluster(cluster, keyed)),
        1 => (0..CLUSTERS).prop_map(Attempt::RetireCluster),
    ];
    let traces = (0usize..4, person(), did()).prop_map(|(key, who, did)| Attempt::Trace(key, who, did));
    prop_oneof![14 => of_leases, 5 => of_datasets(), 3 => of_organisations, 2 => traces]
}

fn of_datasets() -> impl Strategy<Value = Attempt> {
    let name = || 0..NAMES;
    let policy = || 0..POLICIES;
    let volume = || (0usize..2, 0u32..4).prop_map(|(which, key_version)| Volume { which, key_version });
    let to = prop_oneof![4 => (0..MSPS.len()).prop_map(Some), 1 => Just(None)];
    let described = (
        name(),
        prop::option::of(0..DESCRIPTIONS),
        prop::option::weighted(0.3, policy()),
    );
    prop_oneof![
        4 => (name(), policy()).prop_map(|(name, policy)| Attempt::Register(name, policy)),
        1 => (name(), any::<bool>()).prop_map(|(name, force)| Attempt::Remove(name, force)),
        2 => described.prop_map(|(name, description, policy)| Attempt::Describe(name, description, policy)),
        1 => (name(), volume()).prop_map(|(name, volume)| Attempt::Replace(name, volume)),
        2 => (name(), to).prop_map(|(name, to)| Attempt::Offer(name, to)),
        3 => (name(), volume()).prop_map(|(name, volume)| Attempt::Take(name, volume)),
        2 => (name(), 0..CODES, any::<bool>()).prop_map(|(name, code, approved)| Attempt::Code(name, code, approved)),
    ]
}

fn did() -> impl Strategy<Value = Did> {
    let name = || 0..NAMES;
    prop_oneof![
        1 => name().prop_map(Did::Create),
        1 => name().prop_map(Did::Update),
        1 => name().prop_map(Did::Use),
        1 => name().prop_map(Did::Train),
        1 => (0usize..2).prop_map(Did::UseModel),
        2 => (0..RECENT).prop_map(Did::Run),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let mode = prop_oneof![Just(Mode::Exclusive), Just(Mode::Shared)];
    let cluster = prop_oneof![3 => Just(None), 1 => (0..CLUSTERS).prop_map(Some)];
    let again = prop_oneof![20 => Just(None), 1 => (0..RECENT).prop_map(Some)];
    let often = || prop_oneof![3 => Just(true), 1 => Just(false)];
    (0..NAMES, 0..PEOPLE, mode, often(), often(), cluster, again).prop_map(
        |(name, person, mode, wait, in_group, cluster, again)| Ask {
            name,
            person,
            mode,
            wait,
            in_group,
            cluster,
            again,
        },
    )
}

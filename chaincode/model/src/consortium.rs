//! The simple contract's organisations and clusters.

use crate::attempt::{Attempt, MSPS};
use crate::model::{Model, Verdict};
use leasehold_chaincode::Standing;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Default)]
pub(crate) struct Organisation {
    pub(crate) joined: bool,
    pub(crate) by_itself: bool,
    pub(crate) by_others: bool,
    pub(crate) votes: BTreeSet<usize>,
    pub(crate) broker: usize,
    /// Whether it has a key, of each that was ever registered.
    pub(crate) clusters: BTreeMap<usize, bool>,
    pub(crate) in_service: BTreeSet<usize>,
    pub(crate) transitions: u64,
}

impl Organisation {
    pub(crate) fn stands(&self) -> bool {
        self.joined && !self.by_itself && !self.by_others
    }
}

fn needed(attempt: &Attempt) -> Standing {
    match attempt {
        Attempt::Join => Standing::Any,
        Attempt::Register(..)
        | Attempt::Offer(..)
        | Attempt::Take(..)
        | Attempt::Code(_, _, true)
        | Attempt::Lease(_)
        | Attempt::Approve(_)
        | Attempt::Renew(..)
        | Attempt::Vote(..)
        | Attempt::RegisterCluster(..) => Standing::NotSuspended,
        _ => Standing::Joined,
    }
}

impl Model {
    pub(crate) fn stands(&self, msp: usize) -> bool {
        self.organisations[msp].stands()
    }

    pub(crate) fn require_stands(&self, msp: usize) -> Verdict {
        if self.stands(msp) {
            Ok(())
        } else {
            Err("organisation_suspended")
        }
    }

    pub(crate) fn require_standing(&self, msp: usize, attempt: &Attempt) -> Verdict {
        match needed(attempt) {
            Standing::Any => Ok(()),
            _ if !self.organisations[msp].joined => Err("organisation_not_joined"),
            Standing::Joined => Ok(()),
            Standing::NotSuspended => self.require_stands(msp),
        }
    }

    /// The cluster that serves a lease.
    pub(crate) fn serving(&self, msp: usize, cluster: Option<usize>) -> Result<usize, &'static str> {
        let clusters = &self.organisations[msp].in_service;
        match (cluster, clusters.len()) {
            (Some(cluster), _) if clusters.contains(&cluster) => Ok(cluster),
            (Some(_), _) | (None, 0) => Err("cluster_not_found"),
            (None, 1) => clusters.first().copied().ok_or("cluster_not_found"),
            (None, _) => Err("invalid_field"),
        }
    }

    pub(crate) fn of_organisation(&mut self, msp: usize, attempt: &Attempt) -> Verdict {
        let organisation = &mut self.organisations[msp];
        match *attempt {
            Attempt::Join if organisation.joined => return Err("already_joined"),
            Attempt::Join => organisation.joined = true,
            Attempt::Amend(broker) if organisation.broker == broker => return Err("unchanged"),
            Attempt::Amend(broker) => organisation.broker = broker,
            Attempt::Suspend if organisation.by_itself => return Err("unchanged"),
            Attempt::Suspend => organisation.by_itself = true,
            Attempt::Resume if !organisation.by_itself => return Err("unchanged"),
            Attempt::Resume => organisation.by_itself = false,
            Attempt::RegisterCluster(cluster, keyed) => {
                let before = organisation.clusters.insert(cluster, keyed);
                let is_new = organisation.in_service.insert(cluster);
                if before == Some(keyed) && !is_new {
                    return Err("unchanged");
                }
            }
            Attempt::RetireCluster(cluster) => {
                if !organisation.in_service.remove(&cluster) {
                    return Err("cluster_not_found");
                }
            }
            Attempt::Vote(target, suspend) => return self.vote(msp, target, suspend),
            ref other => return self.trace(msp, other),
        }
        organisation.transitions += 1;
        Ok(())
    }

    fn vote(&mut self, msp: usize, target: usize, suspend: bool) -> Verdict {
        if msp == target {
            return Err("invalid_field");
        }
        if !self.organisations[target].joined {
            return Err("organisation_not_found");
        }
        let standing: BTreeSet<_> = (0..MSPS.len())
            .filter(|other| *other != target && self.stands(*other))
            .collect();
        let organisation = &mut self.organisations[target];
        let mut transitions = 0;
        let changed = if suspend {
            organisation.votes.insert(msp)
        } else {
            organisation.votes.remove(&msp)
        };
        transitions += u64::from(changed);
        let counted = organisation.votes.intersection(&standing).count();
        let voted_out = counted >= 2 && counted * 2 > standing.len();
        transitions += u64::from(voted_out != organisation.by_others);
        organisation.by_others = voted_out;
        organisation.transitions += transitions;
        if transitions == 0 {
            Err("unchanged")
        } else {
            Ok(())
        }
    }
}

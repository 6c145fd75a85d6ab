//! The simple contract's datasets: registered, described, moved, handed over, retired, and which code may run on them.

use crate::attempt::Attempt;
use crate::model::{Model, Verdict};
use leasehold_chaincode::{LeaseState, Mode};
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
pub(crate) struct Dataset {
    pub(crate) id: String,
    pub(crate) owner: usize,
    pub(crate) description: usize,
    pub(crate) policy: usize,
    pub(crate) volume: Volume,
    pub(crate) offered: Option<usize>,
    pub(crate) codes: BTreeSet<usize>,
    pub(crate) retired: bool,
    pub(crate) token: u64,
    pub(crate) transitions: u64,
    /// Indexes of leases.
    pub(crate) holders: Vec<usize>,
    pub(crate) line: Vec<usize>,
}

/// Which ciphertext, and the version of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) which: usize,
    pub(crate) key_version: u32,
}

impl Volume {
    pub(crate) const FIRST: Self = Self {
        which: 0,
        key_version: 1,
    };
}

impl Model {
    pub(crate) fn of_dataset(&mut self, msp: usize, now_ms: i64, attempt: &Attempt) -> Option<Verdict> {
        Some(match *attempt {
            Attempt::Register(name, policy) => self.register(msp, name, policy),
            Attempt::Describe(name, description, policy) => self.describe(msp, name, description, policy),
            Attempt::Replace(name, volume) => self.replace(msp, name, volume),
            Attempt::Offer(name, to) => self.offer(msp, name, to),
            Attempt::Take(name, volume) => self.take(msp, name, volume),
            Attempt::Remove(name, force) => self.remove(msp, now_ms, name, force),
            Attempt::Code(name, code, approved) => self.code(msp, name, code, approved),
            _ => return None,
        })
    }

    fn register(&mut self, msp: usize, name: usize, policy: usize) -> Verdict {
        if self.names.contains_key(&name) {
            return Err("dataset_name_taken");
        }
        self.names.insert(name, self.datasets.len());
        self.datasets.push(Dataset {
            id: String::new(),
            owner: msp,
            description: 0,
            policy,
            volume: Volume::FIRST,
            offered: None,
            codes: BTreeSet::new(),
            retired: false,
            token: 0,
            transitions: 1,
            holders: Vec::new(),
            line: Vec::new(),
        });
        Ok(())
    }

    /// The dataset that has the name now.
    pub(crate) fn named(&self, name: usize) -> Result<usize, &'static str> {
        self.names.get(&name).copied().ok_or("dataset_not_found")
    }

    fn own(&mut self, msp: usize, name: usize) -> Result<&mut Dataset, &'static str> {
        let dataset = self.named(name)?;
        let dataset = &mut self.datasets[dataset];
        if dataset.owner == msp {
            Ok(dataset)
        } else {
            Err("not_owner")
        }
    }

    fn describe(
        &mut self,
        msp: usize,
        name: usize,
        description: Option<usize>,
        policy: Option<usize>,
    ) -> Verdict {
        let dataset = self.own(msp, name)?;
        let mut changes = 0;
        for (field, new) in [
            (&mut dataset.description, description),
            (&mut dataset.policy, policy),
        ] {
            if let Some(new) = new.filter(|new| new != field) {
                *field = new;
                changes += 1;
            }
        }
        dataset.transitions += changes;
        if changes == 0 { Err("unchanged") } else { Ok(()) }
    }

    fn replace(&mut self, msp: usize, name: usize, volume: Volume) -> Verdict {
        let dataset = self.own(msp, name)?;
        if volume.key_version < dataset.volume.key_version {
            return Err("invalid_field");
        }
        if volume == dataset.volume {
            return Err("unchanged");
        }
        dataset.volume = volume;
        dataset.transitions += 1;
        Ok(())
    }

    fn offer(&mut self, msp: usize, name: usize, to: Option<usize>) -> Verdict {
        let dataset = self.own(msp, name)?;
        if to == Some(msp) {
            return Err("invalid_field");
        }
        if to == dataset.offered {
            return Err("unchanged");
        }
        dataset.offered = to;
        dataset.transitions += 1;
        Ok(())
    }

    fn take(&mut self, msp: usize, name: usize, volume: Volume) -> Verdict {
        let at = self.named(name)?;
        if self.datasets[at].offered != Some(msp) {
            return Err("not_offered");
        }
        self.require_stands(self.datasets[at].owner)?;
        let dataset = &mut self.datasets[at];
        if !dataset.is_free() {
            return Err("dataset_leased");
        }
        if volume.key_version < 1 {
            return Err("invalid_field");
        }
        dataset.owner = msp;
        dataset.volume = volume;
        dataset.offered = None;
        dataset.transitions += 1;
        Ok(())
    }

    fn code(&mut self, msp: usize, name: usize, code: usize, approved: bool) -> Verdict {
        let dataset = self.own(msp, name)?;
        let changed = if approved {
            dataset.codes.insert(code)
        } else {
            dataset.codes.remove(&code)
        };
        if !changed {
            return Err("unchanged");
        }
        dataset.transitions += 1;
        Ok(())
    }

    fn remove(&mut self, msp: usize, now_ms: i64, name: usize, force: bool) -> Verdict {
        let at = self.named(name)?;
        let dataset = self.own(msp, name)?;
        if !(force || dataset.is_free()) {
            return Err("dataset_leased");
        }
        dataset.retired = true;
        dataset.offered = None;
        dataset.transitions += 1;
        self.names.remove(&name);
        for waiting in std::mem::take(&mut self.datasets[at].line) {
            self.leases[waiting].state = LeaseState::Ended;
            self.happened(waiting);
        }
        for holder in self.datasets[at].holders.clone() {
            if self.leases[holder].state == LeaseState::Active {
                self.leases[holder].state = LeaseState::Ending;
                self.leases[holder].ended_ms = now_ms;
                self.happened(holder);
            }
        }
        Ok(())
    }

    pub(crate) fn fits(&self, dataset: usize, mode: Mode) -> bool {
        let dataset = &self.datasets[dataset];
        let room = crate::command::policy(dataset.policy).most_shared as usize;
        let shared = |at: &usize| self.leases[*at].mode == Mode::Shared;
        dataset.holders.is_empty()
            || mode == Mode::Shared && dataset.holders.iter().all(shared) && dataset.holders.len() < room
    }
}

impl Dataset {
    fn is_free(&self) -> bool {
        self.holders.is_empty() && self.line.is_empty()
    }
}

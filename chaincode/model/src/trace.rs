//! The simple contract's traces.

use crate::attempt::{Attempt, Did};
use crate::model::{Model, Verdict};
use leasehold_chaincode::LeaseState;
use std::collections::BTreeMap;

/// What was recorded, by whom and under which key: by which person, and what.
pub(crate) type Traces = BTreeMap<(usize, usize), (usize, String)>;

impl Model {
    /// Id of the dataset that has the name now, of what was done with one.
    pub(crate) fn dataset_id(&self, did: Did) -> String {
        let Some(name) = did.dataset() else {
            return String::new();
        };
        let at = self.names.get(&name);
        at.map_or_else(|| "0".repeat(64), |at| self.datasets[*at].id.clone())
    }

    pub(crate) fn trace(&mut self, msp: usize, attempt: &Attempt) -> Verdict {
        let Attempt::Trace(key, person, did) = *attempt else {
            return Err("no such attempt");
        };
        let about = match did {
            Did::Run(back) => self
                .recent(back)
                .map_or_else(String::new, |at| self.leases[at].id.clone()),
            _ => self.dataset_id(did),
        };
        let what = format!("{} {about}", did.word());
        match self.traces.get(&(msp, key)) {
            Some(before) if *before == (person, what.clone()) => return Err("unchanged"),
            Some(_) => return Err("trace_key_used"),
            None => {}
        }
        if let Some(name) = did.dataset() {
            let at = self.named(name)?;
            if did.is_owners() && self.datasets[at].owner != msp {
                return Err("not_owner");
            }
        }
        if let Did::Run(back) = did {
            let at = self.held(msp, back, person)?;
            let waits = matches!(self.leases[at].state, LeaseState::Requested | LeaseState::Waiting);
            if waits || self.leases[at].token == 0 {
                return Err("lease_not_active");
            }
        }
        self.traces.insert((msp, key), (person, what));
        Ok(())
    }
}

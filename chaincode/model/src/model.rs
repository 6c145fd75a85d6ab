//! A contract that is too simple to be wrong: lists that are looked through, no keys, no indexes, no bytes.

use crate::attempt::{Ask, Attempt, MSPS};
use crate::command::{TTL_MS, policy};
use crate::consortium::Organisation;
use crate::dataset::Dataset;
use crate::trace::Traces;
use leasehold_chaincode::{Admission, LeaseState, Mode, limit};
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) id: String,
    pub(crate) dataset: usize,
    pub(crate) msp: usize,
    pub(crate) person: usize,
    pub(crate) mode: Mode,
    pub(crate) waits: bool,
    pub(crate) state: LeaseState,
    /// When it lapses or expires.
    pub(crate) due_ms: i64,
    pub(crate) ended_ms: i64,
    pub(crate) token: u64,
    pub(crate) ready: Option<bool>,
    pub(crate) cluster: usize,
    /// The transaction that asked for it.
    pub(crate) tx_id: String,
    /// That transaction's time.
    pub(crate) asked_ms: i64,
    /// When it was granted or renewed by a clock that is right.
    pub(crate) granted_ms: i64,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) names: BTreeMap<usize, usize>,
    pub(crate) datasets: Vec<Dataset>,
    pub(crate) leases: Vec<Lease>,
    pub(crate) organisations: [Organisation; MSPS.len()],
    pub(crate) traces: Traces,
    /// How long after its time anybody may end a lease.
    pub(crate) margin_ms: i64,
    /// The time by a clock that is right.
    pub(crate) right_ms: i64,
}

pub(crate) type Verdict = Result<(), &'static str>;

impl Model {
    /// Index of the lease that is the `back`-th from the newest.
    pub(crate) fn recent(&self, back: usize) -> Option<usize> {
        self.leases.len().checked_sub(back + 1)
    }

    fn lease(&self, back: usize) -> Result<usize, &'static str> {
        self.recent(back).ok_or("lease_not_found")
    }

    /// Makes a step, or says with which code it is refused. New things have no id yet.
    pub(crate) fn step(&mut self, msp: usize, now_ms: i64, attempt: &Attempt) -> Verdict {
        self.require_standing(msp, attempt)?;
        if let Some(verdict) = self.of_dataset(msp, now_ms, attempt) {
            return verdict;
        }
        match *attempt {
            Attempt::Lease(ref ask) => self.ask(msp, now_ms, ask),
            Attempt::Approve(back) => {
                let at = self.owned(msp, back)?;
                if self.leases[at].state != LeaseState::Requested {
                    return Err("lease_not_requested");
                }
                if self.datasets[self.leases[at].dataset].retired {
                    return Err("dataset_not_found");
                }
                self.require_stands(self.leases[at].msp)?;
                self.place(now_ms, at)
            }
            Attempt::Deny(back) => {
                let at = self.owned(msp, back)?;
                if self.leases[at].state != LeaseState::Requested {
                    return Err("lease_not_requested");
                }
                self.end(now_ms, at)
            }
            Attempt::Renew(back, person) => {
                let at = self.held(msp, back, person)?;
                let lease = &self.leases[at];
                self.require_stands(self.datasets[lease.dataset].owner)?;
                if lease.state != LeaseState::Active {
                    return Err("lease_not_active");
                }
                if lease.due_ms <= now_ms {
                    return Err("lease_expired");
                }
                if !self.datasets[lease.dataset].line.is_empty() {
                    return Err("renewal_waited_for");
                }
                if now_ms + TTL_MS <= lease.due_ms {
                    return Err("invalid_field");
                }
                self.leases[at].due_ms = now_ms + TTL_MS;
                self.leases[at].granted_ms = self.right_ms;
                self.happened(at);
                Ok(())
            }
            Attempt::Release(back, person) => {
                let at = self.held(msp, back, person)?;
                self.end(now_ms, at)
            }
            Attempt::Revoke(back) => {
                let at = self.owned(msp, back)?;
                self.end(now_ms, at)
            }
            Attempt::Expire(back) => {
                let at = self.lease(back)?;
                let lease = &self.leases[at];
                if is_open(lease) && now_ms < lease.due_ms + self.margin_ms {
                    return Err("not_expired");
                }
                if lease.state == LeaseState::Active && self.margin_ms > 0 {
                    let lasted_ms = self.right_ms - lease.granted_ms;
                    assert!(
                        lasted_ms >= TTL_MS,
                        "ended after {lasted_ms} ms, whatever the clocks say"
                    );
                }
                self.end(now_ms, at)
            }
            Attempt::Confirm(back) => {
                let at = self.lease(back)?;
                if self.leases[at].msp != msp {
                    return Err("not_cluster");
                }
                self.ended(now_ms, at)
            }
            Attempt::Declare(back) => {
                let at = self.owned(msp, back)?;
                let lease = &self.leases[at];
                if lease.state == LeaseState::Ending
                    && now_ms < lease.ended_ms + limit::CONFIRMATION_MS + self.margin_ms
                {
                    return Err("too_early_to_declare");
                }
                self.ended(now_ms, at)
            }
            Attempt::Report(back, ready) => {
                let at = self.lease(back)?;
                let lease = &mut self.leases[at];
                if lease.msp != msp {
                    return Err("not_cluster");
                }
                if lease.state != LeaseState::Active {
                    return Err("lease_not_active");
                }
                if lease.ready == Some(ready) {
                    return Err("mount_unchanged");
                }
                lease.ready = Some(ready);
                self.happened(at);
                Ok(())
            }
            ref other => self.of_organisation(msp, other),
        }
    }

    fn owned(&self, msp: usize, back: usize) -> Result<usize, &'static str> {
        let at = self.lease(back)?;
        if self.datasets[self.leases[at].dataset].owner == msp {
            Ok(at)
        } else {
            Err("not_owner")
        }
    }

    pub(crate) fn held(&self, msp: usize, back: usize, person: usize) -> Result<usize, &'static str> {
        let at = self.lease(back)?;
        let lease = &self.leases[at];
        if (lease.msp, lease.person) == (msp, person) {
            Ok(at)
        } else {
            Err("lease_not_found")
        }
    }

    pub(crate) fn happened(&mut self, at: usize) {
        self.datasets[self.leases[at].dataset].transitions += 1;
    }

    fn ask(&mut self, msp: usize, now_ms: i64, ask: &Ask) -> Verdict {
        let dataset = self.named(ask.name)?;
        let (mode, person) = (ask.mode, ask.person);
        self.require_stands(self.datasets[dataset].owner)?;
        let policy = policy(self.datasets[dataset].policy);
        if let Admission::Only(organisations) = &policy.organisations
            && self.datasets[dataset].owner != msp
            && !organisations.iter().any(|other| other.as_str() == MSPS[msp])
        {
            return Err("organisation_not_admitted");
        }
        if !policy.groups.is_empty() && !ask.in_group {
            return Err("group_not_admitted");
        }
        let allowed = match mode {
            Mode::Exclusive => policy.exclusive,
            Mode::Shared => policy.most_shared > 0,
        };
        if !allowed {
            return Err("mode_not_allowed");
        }
        let cluster = self.serving(msp, ask.cluster)?;
        // At another time it is another lease's id: that no transaction counts twice is the ledgers' to see to.
        let reused = ask.again.and_then(|back| self.recent(back));
        if reused.is_some_and(|at| self.leases[at].asked_ms == now_ms) {
            return Err("transaction_reused");
        }
        let before = (self.datasets[dataset].clone(), self.leases.len());
        let at = self.leases.len();
        self.leases.push(Lease {
            id: String::new(),
            dataset,
            msp,
            person,
            mode,
            waits: ask.wait,
            state: LeaseState::Requested,
            due_ms: now_ms + TTL_MS,
            ended_ms: 0,
            token: 0,
            ready: None,
            cluster,
            tx_id: String::new(),
            asked_ms: now_ms,
            granted_ms: 0,
        });
        let placed = if policy.approve_leases && self.datasets[dataset].owner != msp {
            self.happened(at);
            Ok(())
        } else {
            self.place(now_ms, at)
        };
        let has_one = self.leases[..at].iter().any(|lease| {
            (lease.dataset, lease.msp, lease.person) == (dataset, msp, person)
                && lease.state != LeaseState::Ended
        });
        let verdict = placed.and(if has_one { Err("already_leased") } else { Ok(()) });
        if verdict.is_err() {
            self.datasets[dataset] = before.0;
            self.leases.truncate(before.1);
        }
        verdict
    }

    fn place(&mut self, now_ms: i64, at: usize) -> Verdict {
        let (of, mode) = (self.leases[at].dataset, self.leases[at].mode);
        let most = policy(self.datasets[of].policy).most_waiting as usize;
        if self.datasets[of].line.is_empty() && self.fits(of, mode) {
            self.grant(now_ms, at);
            return Ok(());
        }
        if !self.leases[at].waits || most == 0 {
            return Err("lease_conflict");
        }
        if self.datasets[of].line.len() >= most {
            return Err("line_full");
        }
        self.leases[at].state = LeaseState::Waiting;
        self.leases[at].due_ms = now_ms + TTL_MS;
        self.datasets[of].line.push(at);
        self.happened(at);
        Ok(())
    }

    fn grant(&mut self, now_ms: i64, at: usize) {
        let of = self.leases[at].dataset;
        self.datasets[of].token += 1;
        self.datasets[of].holders.push(at);
        let lease = &mut self.leases[at];
        lease.state = LeaseState::Active;
        lease.token = self.datasets[of].token;
        lease.due_ms = now_ms + TTL_MS;
        lease.granted_ms = self.right_ms;
        self.happened(at);
    }

    fn end(&mut self, now_ms: i64, at: usize) -> Verdict {
        if !is_open(&self.leases[at]) {
            return Err("lease_not_active");
        }
        let lease = &mut self.leases[at];
        lease.ended_ms = now_ms;
        lease.state = match lease.state {
            LeaseState::Active => LeaseState::Ending,
            _ => LeaseState::Ended,
        };
        let of = lease.dataset;
        self.datasets[of].line.retain(|waiting| *waiting != at);
        self.happened(at);
        self.advance(now_ms, of);
        Ok(())
    }

    fn ended(&mut self, now_ms: i64, at: usize) -> Verdict {
        if self.leases[at].state != LeaseState::Ending {
            return Err("lease_not_ending");
        }
        self.leases[at].state = LeaseState::Ended;
        let of = self.leases[at].dataset;
        self.datasets[of].holders.retain(|holder| *holder != at);
        self.happened(at);
        self.advance(now_ms, of);
        Ok(())
    }

    fn advance(&mut self, now_ms: i64, of: usize) {
        while let Some(&first) = self.datasets[of].line.first() {
            let may_have = self.stands(self.datasets[of].owner) && self.stands(self.leases[first].msp);
            let fits = self.fits(of, self.leases[first].mode);
            if self.leases[first].due_ms + self.margin_ms <= now_ms || fits && !may_have {
                self.datasets[of].line.remove(0);
                self.leases[first].state = LeaseState::Ended;
                self.happened(first);
            } else if fits {
                self.datasets[of].line.remove(0);
                self.grant(now_ms, first);
            } else {
                return;
            }
        }
    }
}

fn is_open(lease: &Lease) -> bool {
    !matches!(lease.state, LeaseState::Ending | LeaseState::Ended)
}

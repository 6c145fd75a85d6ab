//! What to do next for one lease, from what the broker and the cluster say. Pure: no clock, no I/O, no memory of its own.
//!
//! The order of making is such that a kill anywhere is found again: probe pod (its output is kept until the broker has it),
//! Secret, claim, then the volume that names the claim's uid, then the report. The order of ending is pods and claim together
//! (a claim that is being deleted admits no new pod through the scheduler), then volume, Secret, confirmation.

use crate::leases::{Lease, LeaseState, Mount};
use crate::probe::{Code, Finding};

/// A probe that has not ended by then is given up and tried again.
pub const PROBE_DEADLINE_SECONDS: i64 = 60;

/// What the cluster has for one lease, under its name and label.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Claims of this name, in any namespace.
    pub claims: Vec<Claim>,
    /// The PersistentVolume.
    pub volume: Option<Volume>,
    /// The Secret with the volume's details.
    pub secret: Option<Object>,
    /// The probe pod.
    pub probe: Option<Probe>,
    /// Pods that are marked as dataset pods and hold the claim.
    pub holders: Vec<Holder>,
}

impl Observed {
    /// Nothing of the lease is in the cluster.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An object by uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its uid.
    pub uid: String,
    /// It is being deleted.
    pub deleting: bool,
}

/// The claim of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Where it is.
    pub namespace: String,
    /// Uid and deletion.
    pub object: Object,
    /// Bound to its volume.
    pub bound: bool,
}

/// A pod that holds the claim of a lease.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Being deleted, with this grace in seconds.
    pub ends_within: Option<i64>,
}

/// The volume of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Uid and deletion.
    pub object: Object,
    /// Uid of the only claim that it binds to.
    pub claim_uid: String,
}

/// The probe of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Uid and deletion.
    pub object: Object,
    /// How far it is.
    pub progress: Progress,
}

/// How far a probe is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Not ended.
    Running {
        /// Since it was made.
        age_seconds: i64,
        /// What the node says meanwhile.
        status: String,
    },
    /// Ended; its output has not been read.
    Ended,
    /// Ended and read.
    Read(Result<(), Finding>),
}

/// Where the claim of an active lease belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home<'a> {
    /// The holder's namespace.
    Namespace(&'a str),
    /// Nobody is bound to the lease's subject just now. What there is stays; new pods are refused by the webhook.
    Unbound,
    /// The holder's namespace is not, or no longer, marked as one that is enforced. No claim may be there.
    Unenforced,
}

/// What is known of the lease.
#[derive(Debug, Clone, Copy)]
pub enum Standing<'a> {
    /// The broker's view holds it.
    Known {
        /// The lease.
        lease: &'a Lease,
        /// Where its claim belongs.
        home: Home<'a>,
    },
    /// The broker's view is young and does not hold it: what the cluster has of it is an orphan.
    Unknown,
    /// Nothing can be said.
    Unsure,
}

/// The broker's clock and how young its view is.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Broker's clock, milliseconds.
    pub broker_ms: i64,
    /// The view is younger than two seconds. An older one decides no more than what no later word can undo: that a lease is
    /// ending, or that its time is over.
    pub fresh: bool,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Opens the volume's details, checks them, starts a probe on the node.
    StartProbe,
    /// Reads what the probe printed.
    ReadProbe,
    /// Removes the probe pod.
    DropProbe {
        /// Its uid.
        uid: String,
    },
    /// Tells the broker that the volume can't be mounted, and looks again after a while.
    ReportFailed(Finding),
    /// Waits for longer, since a finding that the broker already has still holds.
    LookAgainLater,
    /// Writes the volume's details into a Secret of the system namespace.
    CreateSecret,
    /// Makes the claim.
    CreateClaim {
        /// In the holder's namespace.
        namespace: String,
    },
    /// Makes the volume, for this claim only.
    CreateVolume {
        /// The claim's namespace.
        namespace: String,
        /// The claim's uid.
        claim_uid: String,
    },
    /// Tells the broker that the claim can be mounted, with the skeleton.
    ReportReady,
    /// Deletes every pod that holds the claim.
    EndPods {
        /// Those that the views have.
        known: Vec<Holder>,
        /// Where to search for others.
        namespaces: Vec<String>,
    },
    /// Deletes the claim.
    DeleteClaim {
        /// Its namespace.
        namespace: String,
        /// Its uid.
        uid: String,
    },
    /// Deletes the volume.
    DeleteVolume {
        /// Its uid.
        uid: String,
    },
    /// Deletes the Secret.
    DeleteSecret {
        /// Its uid.
        uid: String,
    },
    /// Tells the broker that nothing is left, after having looked once more.
    ConfirmEnd,
}

/// The next steps, in order. Empty: nothing to do, or something to wait for.
#[must_use]
pub fn plan(standing: Standing<'_>, observed: &Observed, now: Now) -> Vec<Action> {
    match standing {
        Standing::Known { lease, .. } if !lease.is_active(now.broker_ms) => {
            let mut actions = take_down(observed);
            // Time alone ends access; only the broker's word ends the lease.
            if observed.is_empty() && lease.state == LeaseState::Ending && now.fresh {
                actions.push(Action::ConfirmEnd);
            }
            actions
        }
        Standing::Unknown if now.fresh => take_down(observed),
        Standing::Known {
            lease,
            home: Home::Namespace(namespace),
        } if now.fresh => set_up(lease, namespace, observed),
        Standing::Known {
            home: Home::Unenforced,
            ..
        } if now.fresh => take_down(observed),
        Standing::Known { .. } | Standing::Unknown | Standing::Unsure => Vec::new(),
    }
}

fn set_up(lease: &Lease, namespace: &str, observed: &Observed) -> Vec<Action> {
    let (here, elsewhere): (Vec<&Claim>, Vec<&Claim>) = observed
        .claims
        .iter()
        .partition(|claim| claim.namespace == namespace);
    if !elsewhere.is_empty() {
        let holders: Vec<Holder> = observed
            .holders
            .iter()
            .filter(|pod| pod.namespace != namespace)
            .cloned()
            .collect();
        return remove_claims(&elsewhere, &holders);
    }
    // The probe's output is needed as long as the broker has not heard of it, and again where everything starts anew.
    if lease.mount != Mount::Ready || observed.secret.is_none() {
        match probed(lease, observed.probe.as_ref()) {
            Probed::Passed => {}
            Probed::Not(actions) => return actions,
        }
    }
    let mut actions = Vec::new();
    match &observed.secret {
        None => actions.push(Action::CreateSecret),
        Some(secret) if secret.deleting => return actions,
        Some(_) => {}
    }
    let Some(claim) = here.first() else {
        actions.push(Action::CreateClaim {
            namespace: namespace.to_owned(),
        });
        return actions;
    };
    if claim.object.deleting {
        return actions;
    }
    match &observed.volume {
        None => actions.push(Action::CreateVolume {
            namespace: namespace.to_owned(),
            claim_uid: claim.object.uid.clone(),
        }),
        Some(volume) if volume.object.deleting => {}
        Some(volume) if volume.claim_uid != claim.object.uid => {
            actions.push(Action::DeleteVolume {
                uid: volume.object.uid.clone(),
            });
        }
        Some(_) if !claim.bound => {}
        Some(_) if lease.mount != Mount::Ready => actions.push(Action::ReportReady),
        Some(_) => actions.extend(drop_probe(observed)),
    }
    actions
}

enum Probed {
    Passed,
    Not(Vec<Action>),
}

fn probed(lease: &Lease, probe: Option<&Probe>) -> Probed {
    let failed = |finding: &Finding, uid: &str| {
        let known = matches!(&lease.mount, Mount::Failed(message) if **message == *finding.message);
        let report = if known {
            Action::LookAgainLater
        } else {
            Action::ReportFailed(finding.clone())
        };
        Probed::Not(vec![Action::DropProbe { uid: uid.to_owned() }, report])
    };
    match probe {
        None => Probed::Not(vec![Action::StartProbe]),
        Some(Probe { object, .. }) if object.deleting => Probed::Not(Vec::new()),
        Some(Probe { object, progress }) => match progress {
            Progress::Running { age_seconds, .. } if *age_seconds < PROBE_DEADLINE_SECONDS => {
                Probed::Not(Vec::new())
            }
            Progress::Running { status, .. } => {
                let message = format!(
                    "the node that holds the dataset did not look at it within {PROBE_DEADLINE_SECONDS} s ({status}); the operator has to see to the node"
                );
                failed(&Finding::new(Code::ProbeFailed, message), &object.uid)
            }
            Progress::Ended => Probed::Not(vec![Action::ReadProbe]),
            Progress::Read(Ok(())) => Probed::Passed,
            Progress::Read(Err(finding)) => failed(finding, &object.uid),
        },
    }
}

fn take_down(observed: &Observed) -> Vec<Action> {
    let mut actions: Vec<Action> = drop_probe(observed).into_iter().collect();
    let claims: Vec<&Claim> = observed.claims.iter().collect();
    if !claims.is_empty() || !observed.holders.is_empty() {
        actions.extend(remove_claims(&claims, &observed.holders));
        return actions;
    }
    if let Some(volume) = &observed.volume {
        if !volume.object.deleting {
            actions.push(Action::DeleteVolume {
                uid: volume.object.uid.clone(),
            });
        }
        return actions;
    }
    if let Some(secret) = &observed.secret
        && !secret.deleting
    {
        actions.push(Action::DeleteSecret {
            uid: secret.uid.clone(),
        });
    }
    actions
}

fn remove_claims(claims: &[&Claim], holders: &[Holder]) -> Vec<Action> {
    let mut namespaces: Vec<String> = claims
        .iter()
        .map(|claim| claim.namespace.clone())
        .chain(holders.iter().map(|pod| pod.namespace.clone()))
        .collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    // Claims first: from then on the scheduler places no further pod with it.
    let delete = claims.iter().filter(|claim| !claim.object.deleting);
    let delete = delete.map(|claim| Action::DeleteClaim {
        namespace: claim.namespace.clone(),
        uid: claim.object.uid.clone(),
    });
    let known = holders.to_vec();
    delete.chain([Action::EndPods { known, namespaces }]).collect()
}

fn drop_probe(observed: &Observed) -> Option<Action> {
    let probe = observed.probe.as_ref().filter(|probe| !probe.object.deleting)?;
    Some(Action::DropProbe {
        uid: probe.object.uid.clone(),
    })
}

#[cfg(test)]
mod tests;

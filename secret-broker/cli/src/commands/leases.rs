//! A lease's life, as its holder and the dataset's owner lead it.

use std::time::Duration;

use leasehold_broker_client::people::LeasesWanted;
use leasehold_broker_wire::rest::{Lease, Operation, Reason, RenewLease, RequestLease};

use super::{Session, new_key, result, sent};
use crate::args::{Format, Waiting};
use crate::failure::Failure;
use crate::output::{self, LEASE};
use crate::progress::Progress;

impl Session<'_> {
    pub(super) async fn leases(&mut self, wanted: &LeasesWanted) -> Result<(), Failure> {
        let leases = self.broker.leases(wanted).await?;
        Ok(output::list(
            self.out,
            self.format,
            &leases,
            &LEASE,
            "You hold no leases.",
        )?)
    }

    pub(super) async fn lease(&mut self, request: &RequestLease, waiting: Waiting) -> Result<(), Failure> {
        let key = new_key();
        let operation = sent(|| self.broker.lease(request, &key)).await?;
        let what = format!("a lease of {}", request.dataset);
        let Some(operation) = self.finished(operation, waiting, &what).await? else {
            return Ok(());
        };
        let id = result(&operation, "lease").ok_or_else(|| {
            Failure::Usage(format!(
                "operation {} granted a lease without an id; see `leasehold leases`",
                operation.id
            ))
        })?;
        let lease = {
            let mut progress = Progress::new(self.err);
            progress.say(&format!("waiting for {} to be mountable", request.dataset));
            self.broker.wait_for_mount(id, self.patience).await?
        };
        output::row(self.out, self.format, &lease, &LEASE)?;
        if let Some(what_next) = still_to_come(&lease) {
            return Err(Failure::NotYet(what_next));
        }
        mountable(&lease)?;
        let skeleton = self.broker.skeleton(id).await?;
        self.lay_in_own_home(&skeleton)
    }

    pub(super) async fn release(&mut self, lease: &str, waiting: Waiting) -> Result<(), Failure> {
        let id = self.own(lease).await?;
        let key = new_key();
        let operation = sent(|| self.broker.release(&id, &key)).await?;
        let Some(_) = self
            .finished(operation, waiting, &format!("lease {id} to be released"))
            .await?
        else {
            return Ok(());
        };
        let lease = self.broker.lease_by_id(&id).await?;
        match self.format {
            Format::Table | Format::Wide => writeln!(self.out, "lease/{id} of {} released", lease.dataset)?,
            _ => output::row(self.out, self.format, &lease, &LEASE)?,
        }
        Ok(())
    }

    pub(super) async fn renew(
        &mut self,
        lease: &str,
        ttl: Option<Duration>,
        waiting: Waiting,
    ) -> Result<(), Failure> {
        let id = self.own(lease).await?;
        let renewal = RenewLease {
            ttl_seconds: ttl.map(|ttl| ttl.as_secs()),
        };
        let key = new_key();
        let operation = sent(|| self.broker.renew(&id, &renewal, &key)).await?;
        self.say_what_became(operation, waiting, &id, "to be renewed")
            .await
    }

    pub(super) async fn approve(&mut self, id: &str, waiting: Waiting) -> Result<(), Failure> {
        let key = new_key();
        let operation = sent(|| self.broker.approve(id, &key)).await?;
        self.say_what_became(operation, waiting, id, "to be approved")
            .await
    }

    pub(super) async fn deny(&mut self, id: &str, reason: String, waiting: Waiting) -> Result<(), Failure> {
        let (reason, key) = (Reason { reason }, new_key());
        let operation = sent(|| self.broker.deny(id, &reason, &key)).await?;
        self.say_what_became(operation, waiting, id, "to be denied").await
    }

    pub(super) async fn revoke(&mut self, id: &str, reason: String, waiting: Waiting) -> Result<(), Failure> {
        let (reason, key) = (Reason { reason }, new_key());
        let operation = sent(|| self.broker.revoke(id, &reason, &key)).await?;
        self.say_what_became(operation, waiting, id, "to be revoked")
            .await
    }

    pub(super) async fn declare_ended(
        &mut self,
        id: &str,
        reason: String,
        waiting: Waiting,
    ) -> Result<(), Failure> {
        let (reason, key) = (Reason { reason }, new_key());
        let operation = sent(|| self.broker.declare_ended(id, &reason, &key)).await?;
        self.say_what_became(operation, waiting, id, "to be declared ended")
            .await
    }

    /// Waits for a change of a lease, if wanted, and shows the lease as it is then.
    async fn say_what_became(
        &mut self,
        operation: Operation,
        waiting: Waiting,
        id: &str,
        what: &str,
    ) -> Result<(), Failure> {
        let what = format!("lease {id} {what}");
        if self.finished(operation, waiting, &what).await?.is_none() {
            return Ok(());
        }
        let lease = self.broker.lease_by_id(id).await?;
        Ok(output::row(self.out, self.format, &lease, &LEASE)?)
    }

    /// The id of one of the caller's own leases.
    async fn own(&self, reference: &str) -> Result<String, Failure> {
        if is_lease_id(reference) {
            return Ok(reference.to_owned());
        }
        // By name, which the list has as well where no dataset is called by it any longer.
        let wanted = LeasesWanted {
            dataset: Some(reference.to_owned()),
            state: None,
        };
        which_lease(reference, &self.broker.leases(&wanted).await?)
    }
}

/// What is to come before a lease can be mounted, where it is not a matter of moments.
fn still_to_come(lease: &Lease) -> Option<String> {
    let dataset = &lease.dataset;
    match (lease.state.as_str(), lease.place) {
        ("requested", _) => Some(format!(
            "{} has to approve it; `leasehold leases` shows when it has",
            lease.owner
        )),
        ("waiting", Some(place)) => Some(format!(
            "you are number {place} in the line for {dataset}; `leasehold leases` shows when it is yours"
        )),
        ("waiting", None) => Some(format!(
            "you wait for {dataset}; `leasehold leases` shows when it is yours"
        )),
        _ => None,
    }
}

fn mountable(lease: &Lease) -> Result<(), Failure> {
    let (dataset, id) = (lease.dataset.clone(), lease.id.clone());
    if lease.state != "active" {
        return Err(Failure::Ended { dataset, lease: id });
    }
    match lease.mount.as_str() {
        "failed" => Err(Failure::Unmountable {
            dataset,
            lease: id,
            finding: lease.finding.as_ref().map_or_else(
                || "the node gave no reason".to_owned(),
                |finding| format!("{} ({})", finding.message, finding.code),
            ),
        }),
        _ => Ok(()),
    }
}

/// The caller's one lease of a dataset, by name or id, that is not over.
fn which_lease(reference: &str, leases: &[Lease]) -> Result<String, Failure> {
    let mut open = leases.iter().filter(|lease| {
        lease.yours
            && matches!(lease.state.as_str(), "requested" | "waiting" | "active")
            && (lease.dataset == reference || lease.dataset_id == reference)
    });
    match (open.next(), open.next()) {
        (Some(lease), None) => Ok(lease.id.clone()),
        (Some(_), Some(_)) => Err(Failure::Usage(format!(
            "{reference} has several leases; name one by its id (`leasehold leases`)"
        ))),
        (None, _) => Err(Failure::Usage(format!(
            "you have no lease of {reference} (`leasehold leases`)"
        ))),
    }
}

fn is_lease_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

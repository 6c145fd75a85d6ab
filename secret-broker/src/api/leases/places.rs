//! Where leases stand in the lines of their datasets. A line is as long as its dataset's terms allow, 100 places at most.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use leasehold_chaincode::{DatasetId, DatasetRef, Lease as LedgerLease, LeaseId, LeaseState};

use crate::api::problem::ApiProblem;
use crate::broker::Broker;

/// From 1.
pub fn numbered(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX).saturating_add(1)
}

/// Where leases stand in the lines of their datasets; each line is read once.
#[derive(Default)]
pub struct Places(HashMap<DatasetId, Vec<LeaseId>>);

impl Places {
    /// The lease's place; none when it is in no line, or no longer.
    ///
    /// # Errors
    /// A problem where the ledger cannot be read.
    pub async fn of(&mut self, broker: &Broker, lease: &LedgerLease) -> Result<Option<u64>, ApiProblem> {
        if lease.state != LeaseState::Waiting {
            return Ok(None);
        }
        let line = match self.0.entry(lease.dataset.clone()) {
            Entry::Occupied(line) => line.into_mut(),
            Entry::Vacant(line) => {
                let dataset = DatasetRef::Id(lease.dataset.clone());
                let entry = broker.ledger.dataset(&dataset).await?;
                let places = entry.map(|entry| entry.status.line).unwrap_or_default();
                line.insert(places.into_iter().map(|place| place.lease).collect())
            }
        };
        Ok(line.iter().position(|waiting| *waiting == lease.id).map(numbered))
    }
}

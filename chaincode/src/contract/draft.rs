//! The transaction as it is being decided: reads of the state, and the writes and events that it will leave.

use super::{CommandResult, Contract, Failure, Outcome, TxContext};
use crate::event::{Event, EventKind, HistoryEntry};
use crate::id::{DatasetId, DatasetRef, LeaseId};
use crate::record::{Dataset, DatasetStatus, Lease, LeaseState, Record};
use crate::refusal::Refusal;
use crate::state::{self, StateError, StateReader, Write};
use crate::{key, query};
use std::collections::BTreeMap;

pub(super) struct Draft<'a, S: ?Sized> {
    pub(super) state: &'a S,
    pub(super) context: &'a TxContext,
    pub(super) contract: Contract,
    /// By key; none deletes.
    changes: BTreeMap<String, Option<Vec<u8>>>,
    events: Vec<Event>,
}

impl<'a, S: StateReader + ?Sized> Draft<'a, S> {
    pub(super) fn new(state: &'a S, context: &'a TxContext, contract: Contract) -> Self {
        Self {
            state,
            context,
            contract,
            changes: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// A dataset that is not retired, by id or name, with its status.
    pub(super) fn dataset(&self, reference: &str) -> Result<(Dataset, DatasetStatus), Failure> {
        let reference = DatasetRef::parse(reference).map_err(|_| Refusal::DatasetNotFound {})?;
        match query::dataset(self.state, &reference)? {
            Some(entry) if entry.dataset.retired_at_ms.is_none() => Ok((entry.dataset, entry.status)),
            _ => Err(Refusal::DatasetNotFound {}.into()),
        }
    }

    /// The same, if it is the caller's.
    pub(super) fn own_dataset(&self, reference: &str) -> Result<(Dataset, DatasetStatus), Failure> {
        let (dataset, status) = self.dataset(reference)?;
        self.require_owner(&dataset)?;
        Ok((dataset, status))
    }

    pub(super) fn require_owner(&self, dataset: &Dataset) -> Result<(), Refusal> {
        if dataset.owner == self.context.caller {
            return Ok(());
        }
        Err(Refusal::NotOwner {
            owner: dataset.owner.to_string(),
        })
    }

    /// A lease by id.
    pub(super) fn lease(&self, id: &str) -> Result<Lease, Failure> {
        let id = LeaseId::new(id).map_err(|_| Refusal::LeaseNotFound {})?;
        Ok(query::lease(self.state, &id)?.ok_or(Refusal::LeaseNotFound {})?)
    }

    /// A lease whose dataset is the caller's, with the dataset, retired or not, and its status.
    pub(super) fn lease_on_own(&self, id: &str) -> Result<(Lease, Dataset, DatasetStatus), Failure> {
        let lease = self.lease(id)?;
        let (dataset, status) = self.of_lease(&lease.dataset)?;
        self.require_owner(&dataset)?;
        Ok((lease, dataset, status))
    }

    /// The dataset that a record names, retired or not, with its status.
    pub(super) fn of_lease(&self, dataset: &DatasetId) -> Result<(Dataset, DatasetStatus), StateError> {
        let entry = query::dataset(self.state, &DatasetRef::Id(dataset.clone()))?;
        let entry = entry.ok_or_else(|| state::damaged(&key::dataset(dataset), "it is missing"))?;
        Ok((entry.dataset, entry.status))
    }

    pub(super) fn transaction_reused(&self) -> Refusal {
        Refusal::TransactionReused {
            tx_id: self.context.tx_id.to_string(),
        }
    }

    pub(super) fn put<T: Record>(&mut self, key: String, record: &T) -> Result<(), StateError> {
        let value = state::encode(&key, record)?;
        self.changes.insert(key, Some(value));
        Ok(())
    }

    pub(super) fn put_index(&mut self, key: String, value: &str) {
        self.changes.insert(key, Some(value.as_bytes().to_vec()));
    }

    pub(super) fn delete(&mut self, key: String) {
        self.changes.insert(key, None);
    }

    /// Writes a lease and its place in every index; `before` is the record it replaces. Then what happened to it.
    pub(super) fn lease_event(
        &mut self,
        status: &mut DatasetStatus,
        before: Option<&Lease>,
        lease: &Lease,
        kind: EventKind,
    ) -> Result<(), Failure> {
        let id = lease.id.as_str();
        match before {
            Some(before) => {
                self.delete(key::lease_in_state(before));
                self.delete(key::lease_of_subject(before));
            }
            None => self.put_index(key::lease_of_dataset(lease), id),
        }
        let holder = key::lease_of_holder(&lease.dataset, &lease.subject);
        if lease.state == LeaseState::Ended {
            self.delete(holder);
        } else {
            self.put_index(holder, id);
        }
        self.put_index(key::lease_in_state(lease), id);
        self.put_index(key::lease_of_subject(lease), id);
        self.put(key::lease(&lease.id), lease)?;
        self.record(
            status,
            Event {
                kind,
                dataset: lease.dataset.clone(),
                lease: Some(Box::new(lease.clone())),
            },
        )
    }

    /// What happened to a dataset.
    pub(super) fn dataset_event(
        &mut self,
        status: &mut DatasetStatus,
        dataset: &Dataset,
        kind: EventKind,
    ) -> Result<(), Failure> {
        self.record(
            status,
            Event {
                kind,
                dataset: dataset.id.clone(),
                lease: None,
            },
        )
    }

    fn record(&mut self, status: &mut DatasetStatus, event: Event) -> Result<(), Failure> {
        status.revision = grown(status.revision, "the dataset's revision")?;
        let lease = event.lease.as_deref();
        let entry = HistoryEntry {
            revision: status.revision,
            at_ms: self.context.timestamp_ms,
            tx_id: self.context.tx_id.clone(),
            by: self.context.caller.clone(),
            kind: event.kind.clone(),
            dataset: event.dataset.clone(),
            lease: lease.map(|lease| lease.id.clone()),
            subject: lease.map(|lease| lease.subject.clone()),
        };
        let place = key::history(&event.dataset, status.revision);
        if let Some(lease) = lease {
            self.put_index(key::lease_history(&lease.id, status.revision), &place);
        }
        self.put(place, &entry)?;
        self.events.push(event);
        Ok(())
    }

    /// Ends a decision about a lease.
    pub(super) fn finish_lease(self, status: &DatasetStatus, lease: &Lease) -> Result<Outcome, Failure> {
        let id = lease.id.clone();
        self.finish(&lease.dataset, status, CommandResult::Lease { id })
    }

    /// Ends a decision about a dataset.
    pub(super) fn finish_dataset(self, status: &DatasetStatus, dataset: Dataset) -> Result<Outcome, Failure> {
        let result = CommandResult::Dataset {
            id: dataset.id.clone(),
            name: dataset.name,
        };
        self.finish(&dataset.id, status, result)
    }

    fn finish(
        mut self,
        dataset: &DatasetId,
        status: &DatasetStatus,
        result: CommandResult,
    ) -> Result<Outcome, Failure> {
        self.put(key::dataset_status(dataset), status)?;
        let writes = self.changes.into_iter().map(|(key, value)| match value {
            Some(value) => Write::Put { key, value },
            None => Write::Delete { key },
        });
        Ok(Outcome {
            writes: writes.collect(),
            events: self.events,
            result,
        })
    }
}

/// The next value of a counter.
pub(super) fn grown(counter: u64, what: &str) -> Result<u64, Refusal> {
    counter.checked_add(1).ok_or_else(|| Refusal::Exhausted {
        counter: what.to_owned(),
    })
}

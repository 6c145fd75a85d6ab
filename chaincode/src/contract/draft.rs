//! The transaction as it is being decided: reads of the state, and the writes that it will leave.

use super::{CommandResult, Failure, Outcome, TxContext};
use crate::event::{Event, EventKind, HistoryEntry};
use crate::id::{DatasetId, DatasetRef, LeaseId};
use crate::record::{Dataset, DatasetStatus, Lease};
use crate::refusal::Refusal;
use crate::state::{self, StateError, StateReader, Write};
use crate::{key, query};
use serde::Serialize;
use std::collections::BTreeMap;

pub(super) struct Draft<'a, S: ?Sized> {
    pub(super) state: &'a S,
    pub(super) context: &'a TxContext,
    /// By key; none deletes.
    changes: BTreeMap<String, Option<Vec<u8>>>,
}

impl<'a, S: StateReader + ?Sized> Draft<'a, S> {
    pub(super) fn new(state: &'a S, context: &'a TxContext) -> Self {
        Self {
            state,
            context,
            changes: BTreeMap::new(),
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

    /// A lease by id.
    pub(super) fn lease(&self, id: &str) -> Result<Lease, Failure> {
        let id = LeaseId::new(id).map_err(|_| Refusal::LeaseNotFound {})?;
        Ok(query::lease(self.state, &id)?.ok_or(Refusal::LeaseNotFound {})?)
    }

    /// The status of a dataset that a record names.
    pub(super) fn status(&self, dataset: &DatasetId) -> Result<DatasetStatus, StateError> {
        query::required(self.state, &key::dataset_status(dataset))
    }

    pub(super) fn put<T: Serialize>(&mut self, key: String, record: &T) -> Result<(), StateError> {
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

    /// Writes a lease and its place in every index; `before` is the record it replaces.
    pub(super) fn put_lease(&mut self, before: Option<&Lease>, lease: &Lease) -> Result<(), StateError> {
        if let Some(before) = before {
            self.delete(key::lease_in_state(before));
            self.delete(key::lease_of_subject(before));
        }
        let id = lease.id.as_str();
        self.put_index(key::lease_in_state(lease), id);
        self.put_index(key::lease_of_subject(lease), id);
        self.put_index(key::lease_of_dataset(lease), id);
        self.put(key::lease(&lease.id), lease)
    }

    /// Ends a decision about a lease: writes the status with its next revision and the history.
    pub(super) fn finish_lease(
        mut self,
        mut status: DatasetStatus,
        lease: Lease,
        kind: EventKind,
    ) -> Result<Outcome, Failure> {
        let event = Event {
            kind,
            dataset: lease.dataset.clone(),
            lease: Some(lease.id.clone()),
        };
        self.record(&mut status, &event, Some(&lease))?;
        Ok(self.finish(
            event,
            CommandResult::Lease {
                lease: Box::new(lease),
            },
        ))
    }

    /// Ends a decision about a dataset, likewise.
    pub(super) fn finish_dataset(
        mut self,
        mut status: DatasetStatus,
        dataset: Dataset,
        kind: EventKind,
    ) -> Result<Outcome, Failure> {
        let event = Event {
            kind,
            dataset: dataset.id.clone(),
            lease: None,
        };
        self.record(&mut status, &event, None)?;
        Ok(self.finish(
            event,
            CommandResult::Dataset {
                id: dataset.id,
                name: dataset.name,
            },
        ))
    }

    fn record(
        &mut self,
        status: &mut DatasetStatus,
        event: &Event,
        lease: Option<&Lease>,
    ) -> Result<(), Failure> {
        status.revision = status.revision.checked_add(1).ok_or_else(|| Refusal::Exhausted {
            counter: "the dataset's revision".to_owned(),
        })?;
        self.put(key::dataset_status(&event.dataset), status)?;
        let entry = HistoryEntry {
            revision: status.revision,
            at_ms: self.context.timestamp_ms,
            tx_id: self.context.tx_id.clone(),
            by: self.context.caller.clone(),
            kind: event.kind.clone(),
            dataset: event.dataset.clone(),
            lease: event.lease.clone(),
            subject: lease.map(|lease| lease.subject.clone()),
        };
        let place = key::history(&event.dataset, status.revision);
        if let Some(lease) = &event.lease {
            self.put_index(key::lease_history(lease, status.revision), &place);
        }
        self.put(place, &entry)?;
        Ok(())
    }

    fn finish(self, event: Event, result: CommandResult) -> Outcome {
        let writes = self.changes.into_iter().map(|(key, value)| match value {
            Some(value) => Write::Put { key, value },
            None => Write::Delete { key },
        });
        Outcome {
            writes: writes.collect(),
            event,
            result,
        }
    }
}

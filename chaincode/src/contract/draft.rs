//! The transaction as it is being decided: reads of the state, and the writes and events that it will leave.

use super::{CommandResult, Contract, Endorsement, Failure, Outcome, TxContext};
use crate::command::Standing;
use crate::event::{Event, EventKind, HistoryEntry};
use crate::id::{DatasetId, DatasetRef, LeaseId, Msp};
use crate::record::{Consortium, Dataset, DatasetStatus, Lease, LeaseState, Metadata, Organisation, Record};
use crate::refusal::Refusal;
use crate::state::{self, StateError, StateReader, Write};
use crate::{key, query};
use std::collections::BTreeMap;

pub(super) struct Draft<'a, S: ?Sized> {
    pub(super) state: &'a S,
    pub(super) context: &'a TxContext,
    pub(super) contract: Contract,
    /// Version of the rules.
    version: u32,
    /// None by rules that know no organisations.
    consortium: Option<Consortium>,
    /// By key; none deletes.
    changes: BTreeMap<String, Option<Vec<u8>>>,
    events: Vec<Event>,
}

impl<'a, S: StateReader + ?Sized> Draft<'a, S> {
    pub(super) fn new(
        state: &'a S,
        context: &'a TxContext,
        contract: Contract,
        version: u32,
    ) -> Result<Self, StateError> {
        let consortium = if version < 2 {
            None
        } else {
            Some(query::consortium(state)?)
        };
        Ok(Self {
            state,
            context,
            contract,
            version,
            consortium,
            changes: BTreeMap::new(),
            events: Vec::new(),
        })
    }

    /// Who is in the consortium; nobody by rules that know no organisations.
    pub(super) fn consortium(&self) -> Consortium {
        self.consortium.clone().unwrap_or_default()
    }

    /// Whether leases name the cluster that serves them.
    pub(super) fn knows_clusters(&self) -> bool {
        self.consortium.is_some()
    }

    /// Refuses of a description what older rules do not know.
    pub(super) fn require_known(&self, metadata: &Metadata) -> Result<(), Refusal> {
        let has_new = !metadata.creators.is_empty() || metadata.resource_type.is_some();
        if has_new && self.version < 4 {
            let reason = "expected no creators and no type by these rules";
            return Err(Refusal::invalid("metadata", reason));
        }
        Ok(())
    }

    /// The id of the lease that is being asked for.
    pub(super) fn lease_id(&self) -> LeaseId {
        lease_id(self.version, self.context)
    }

    /// Whether an organisation has joined and is not suspended.
    pub(super) fn stands(&self, msp: &Msp) -> bool {
        self.consortium
            .as_ref()
            .is_none_or(|consortium| consortium.standing.contains(msp))
    }

    pub(super) fn require_stands(&self, msp: &Msp) -> Result<(), Refusal> {
        if self.stands(msp) {
            return Ok(());
        }
        Err(Refusal::OrganisationSuspended { msp: msp.to_string() })
    }

    pub(super) fn require_standing(&self, needed: Standing) -> Result<(), Failure> {
        let caller = &self.context.caller;
        if needed == Standing::Any || self.stands(caller) {
            return Ok(());
        }
        let joined = self.organisation(caller)?.is_some();
        match needed {
            _ if !joined => Err(Refusal::OrganisationNotJoined {
                msp: caller.to_string(),
            }
            .into()),
            Standing::NotSuspended => Ok(self.require_stands(caller)?),
            Standing::Any | Standing::Joined => Ok(()),
        }
    }

    pub(super) fn organisation(&self, msp: &Msp) -> Result<Option<Organisation>, StateError> {
        query::organisation(self.state, msp)
    }

    /// The caller's organisation, which has joined.
    pub(super) fn own_organisation(&self) -> Result<Organisation, StateError> {
        let caller = &self.context.caller;
        let found = self.organisation(caller)?;
        found.ok_or_else(|| state::damaged(&key::organisation(caller), "it is missing"))
    }

    /// Writes who is in the consortium from now on.
    pub(super) fn put_consortium(&mut self, consortium: Consortium) -> Result<(), StateError> {
        self.put(key::CONSORTIUM.to_owned(), &consortium)?;
        self.consortium = Some(consortium);
        Ok(())
    }

    /// A dataset that is not retired, by id or name, with its status.
    pub(super) fn dataset(&self, reference: &str) -> Result<(Dataset, DatasetStatus), Failure> {
        self.dataset_and(reference, |_| Vec::new())
    }

    /// The same; says which other keys will be read when its id is known.
    pub(super) fn dataset_and(
        &self,
        reference: &str,
        others: impl Fn(&DatasetId) -> Vec<String>,
    ) -> Result<(Dataset, DatasetStatus), Failure> {
        let reference = DatasetRef::parse(reference).map_err(|_| Refusal::DatasetNotFound {})?;
        let Some(id) = query::dataset_id(self.state, &reference)? else {
            return Err(Refusal::DatasetNotFound {}.into());
        };
        if self.state.fetches() {
            self.state.will_read(&others(&id));
        }
        match query::dataset_by_id(self.state, &id)? {
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
        let entry = query::dataset_by_id(self.state, dataset)?;
        let entry = entry.ok_or_else(|| state::damaged(&key::dataset(dataset), "it is missing"))?;
        Ok((entry.dataset, entry.status))
    }

    pub(super) fn transaction_reused(&self) -> Refusal {
        Refusal::TransactionReused {
            tx_id: self.context.tx_id.to_string(),
        }
    }

    pub(super) fn put<T: Record>(&mut self, key: String, record: &T) -> Result<(), StateError> {
        let value = state::encode(&key, record, self.version)?;
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
        let holder = match &lease.cluster {
            Some(_) => key::lease_of_holder(&lease.dataset, &lease.cluster_msp, &lease.subject),
            None => key::lease_of_holder_before(&lease.dataset, &lease.subject),
        };
        if lease.state == LeaseState::Ended {
            self.delete(holder);
        } else {
            self.put_index(holder, id);
        }
        self.put_index(key::lease_in_state(lease), id);
        self.put_index(key::lease_of_subject(lease), id);
        self.put(key::lease(&lease.id), lease)?;
        let place = |revision| key::history(&lease.dataset, revision);
        let event = Event {
            kind,
            dataset: Some(lease.dataset.clone()),
            lease: Some(Box::new(lease.clone())),
            organisation: None,
        };
        self.record(&mut status.revision, place, event)
    }

    /// What happened to a dataset.
    pub(super) fn dataset_event(
        &mut self,
        status: &mut DatasetStatus,
        dataset: &Dataset,
        kind: EventKind,
    ) -> Result<(), Failure> {
        let place = |revision| key::history(&dataset.id, revision);
        let event = Event {
            kind,
            dataset: Some(dataset.id.clone()),
            lease: None,
            organisation: None,
        };
        self.record(&mut status.revision, place, event)
    }

    /// What happened to an organisation.
    pub(super) fn organisation_event(
        &mut self,
        organisation: &mut Organisation,
        kind: EventKind,
    ) -> Result<(), Failure> {
        let msp = organisation.msp.clone();
        let place = |revision| key::organisation_history(&msp, revision);
        let event = Event {
            kind,
            dataset: None,
            lease: None,
            organisation: Some(msp.clone()),
        };
        self.record(&mut organisation.revision, place, event)
    }

    /// What the caller's organisation did that changes nothing of what there was.
    pub(super) fn tell_organisation(&mut self, kind: EventKind) {
        self.events.push(Event {
            kind,
            dataset: None,
            lease: None,
            organisation: Some(self.context.caller.clone()),
        });
    }

    fn record(
        &mut self,
        revision: &mut u64,
        place: impl Fn(u64) -> String,
        event: Event,
    ) -> Result<(), Failure> {
        *revision = grown(*revision, "the number of transitions")?;
        let lease = event.lease.as_deref();
        let entry = HistoryEntry {
            revision: *revision,
            at_ms: self.context.timestamp_ms,
            tx_id: self.context.tx_id.clone(),
            by: self.context.caller.clone(),
            kind: event.kind.clone(),
            dataset: event.dataset.clone(),
            lease: lease.map(|lease| lease.id.clone()),
            subject: lease.map(|lease| lease.subject.clone()),
            organisation: event.organisation.clone(),
        };
        let place = place(*revision);
        if let Some(lease) = lease {
            self.put_index(key::lease_history(&lease.id, *revision), &place);
        }
        self.put(place, &entry)?;
        self.events.push(event);
        Ok(())
    }

    /// Ends a decision about a lease.
    pub(super) fn finish_lease(mut self, status: &DatasetStatus, lease: &Lease) -> Result<Outcome, Failure> {
        self.put(key::dataset_status(&lease.dataset), status)?;
        let id = lease.id.clone();
        Ok(self.finish(CommandResult::Lease { id }))
    }

    /// Ends a decision about a dataset.
    pub(super) fn finish_dataset(
        mut self,
        status: &DatasetStatus,
        dataset: Dataset,
    ) -> Result<Outcome, Failure> {
        self.put(key::dataset_status(&dataset.id), status)?;
        Ok(self.finish(CommandResult::Dataset {
            id: dataset.id,
            name: dataset.name,
        }))
    }

    /// Ends a decision about an organisation, or a cluster of it.
    pub(super) fn finish_organisation(
        mut self,
        organisation: &Organisation,
        result: CommandResult,
    ) -> Result<Outcome, Failure> {
        let place = key::organisation(&organisation.msp);
        self.put(place, organisation)?;
        Ok(self.finish(result))
    }

    /// Ends a decision.
    pub(super) fn finish(self, result: CommandResult) -> Outcome {
        let writes = self.changes.into_iter().map(|(key, value)| match value {
            Some(value) => Write::Put { key, value },
            None => Write::Delete { key },
        });
        Outcome {
            writes: writes.collect(),
            events: self.events,
            result,
            endorsement: self.consortium.map(|consortium| Endorsement {
                members: consortium.standing,
            }),
        }
    }
}

/// The id of the lease that a transaction asks for by a version of the rules.
pub(super) fn lease_id(version: u32, context: &TxContext) -> LeaseId {
    if version < 3 {
        LeaseId::derive_before(&context.tx_id)
    } else {
        LeaseId::derive(&context.tx_id, context.timestamp_ms)
    }
}

/// The next value of a counter.
pub(super) fn grown(counter: u64, what: &str) -> Result<u64, Refusal> {
    counter.checked_add(1).ok_or_else(|| Refusal::Exhausted {
        counter: what.to_owned(),
    })
}

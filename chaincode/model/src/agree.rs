//! What a state must say for the model to agree with it, whoever is asked.

use crate::attempt::MSPS;
use crate::command::{BROKERS, CLUSTERS, ciphertext, code, description, person, policy};
use crate::model::Model;
use leasehold_chaincode::{
    DatasetId, DatasetRef, Event, EventKind, HistoryEntry, Lease, LeaseId, LeaseState, MemoryState, Mode,
    Msp, PageRequest, TraceId, TxId, query,
};
use std::collections::{BTreeMap, BTreeSet};

/// What followers were told, each in order: which transaction did what.
type Line = Vec<(TxId, EventKind)>;

/// What followers were told of each thing.
#[derive(Debug, Default)]
pub(crate) struct Told {
    datasets: BTreeMap<DatasetId, Line>,
    leases: BTreeMap<LeaseId, Line>,
    organisations: BTreeMap<Msp, Line>,
}

impl Told {
    pub(crate) fn hear(&mut self, tx_id: &TxId, events: &[Event]) {
        for event in events {
            let line = (tx_id.clone(), event.kind.clone());
            if let Some(lease) = &event.lease {
                self.leases
                    .entry(lease.id.clone())
                    .or_default()
                    .push(line.clone());
            }
            if let Some(dataset) = &event.dataset {
                self.datasets.entry(dataset.clone()).or_default().push(line);
            } else if let Some(msp) = &event.organisation
                && !matches!(event.kind, EventKind::TraceRecorded { .. })
            {
                self.organisations.entry(msp.clone()).or_default().push(line);
            }
        }
    }
}

fn lines(history: Vec<HistoryEntry>) -> Line {
    history
        .into_iter()
        .map(|entry| (entry.tx_id, entry.kind))
        .collect()
}

/// Whoever has a dataset alone has it alone, by the index that everybody reads and by the records themselves.
pub(crate) fn nobody_shares_an_exclusive_lease(state: &MemoryState, model: &Model) {
    for dataset in &model.datasets {
        let holders = query::holders(state, &dataset.id.parse().unwrap()).unwrap();
        let exclusive = holders
            .iter()
            .filter(|lease| lease.mode == Mode::Exclusive)
            .count();
        assert!(exclusive == 0 || holders.len() == 1, "{holders:?}");
        for lease in &holders {
            assert!(matches!(lease.state, LeaseState::Active | LeaseState::Ending));
        }
    }
}

pub(crate) fn agree(state: &MemoryState, model: &Model, told: &Told) {
    leases_agree(state, model, told);
    let all = PageRequest::default();
    let catalogue = query::datasets(state, &all).unwrap().items;
    assert_eq!(catalogue.len(), model.names.len());
    let ids =
        |leases: &[usize]| -> Vec<String> { leases.iter().map(|at| model.leases[*at].id.clone()).collect() };
    for dataset in &model.datasets {
        let id: DatasetId = dataset.id.parse().unwrap();
        let entry = query::dataset(state, &DatasetRef::Id(id.clone()))
            .unwrap()
            .unwrap();
        let status = &entry.status;
        assert_eq!(entry.dataset.owner.as_str(), MSPS[dataset.owner]);
        assert_eq!(entry.dataset.metadata, description(dataset.description));
        assert_eq!(entry.dataset.policy, policy(dataset.policy));
        assert_eq!(entry.dataset.retired_at_ms.is_some(), dataset.retired);
        let offered = status.offer.as_ref().map(|offer| offer.to.as_str());
        assert_eq!(offered, dataset.offered.map(|to| MSPS[to]));
        assert_eq!(status.fencing_token, dataset.token);
        let line: Vec<_> = status.line.iter().map(|place| place.lease.to_string()).collect();
        assert_eq!(line, ids(&dataset.line));
        let holders: Vec<_> = status.holders.iter().map(ToString::to_string).collect();
        assert_eq!(holders, ids(&dataset.holders));
        let volume = query::volume(state, &id).unwrap();
        let volume = volume.map(|volume| (volume.ciphertext, volume.key_version));
        let expected = (!dataset.retired).then(|| (ciphertext(dataset.volume), dataset.volume.key_version));
        assert_eq!(volume, expected);
        let codes = query::code_approvals(state, &id, &all).unwrap().items;
        let codes: Vec<_> = codes.into_iter().map(|approval| approval.code).collect();
        assert_eq!(codes, dataset.codes.iter().copied().map(code).collect::<Vec<_>>());
        let owned = query::datasets_of(state, &entry.dataset.owner, &all)
            .unwrap()
            .items;
        let listed = owned.iter().filter(|owned| owned.dataset.id == id).count();
        assert_eq!(listed, usize::from(!dataset.retired));
        let history = query::history(state, &id, &all).unwrap().items;
        let revisions: Vec<_> = history.iter().map(|entry| entry.revision).collect();
        let expected: Vec<_> = (1..=dataset.transitions).collect();
        assert_eq!(revisions, expected, "history without gaps");
        assert_eq!(lines(history), told.datasets[&id], "history says what was told");
        let leases = query::leases_on(state, &id, &all).unwrap().items;
        let numbers: Vec<_> = leases.iter().map(|lease| lease.number).collect();
        assert_eq!(numbers, (1..=status.asked).collect::<Vec<_>>());
        let mut tokens: Vec<_> = leases
            .iter()
            .map(Lease::fencing_token)
            .filter(|token| *token > 0)
            .collect();
        tokens.sort_unstable();
        assert_eq!(
            tokens,
            (1..=dataset.token).collect::<Vec<_>>(),
            "tokens only grow, each is one lease's"
        );
    }
}

fn leases_agree(state: &MemoryState, model: &Model, told: &Told) {
    let all = PageRequest::default();
    for lease in &model.leases {
        let found = query::lease(state, &lease.id.parse().unwrap()).unwrap().unwrap();
        assert_eq!(
            (found.state, found.due_at_ms(), found.fencing_token()),
            (lease.state, lease.due_ms, lease.token)
        );
        let cluster = found.cluster.as_ref().map(ToString::to_string);
        assert_eq!(cluster.as_deref(), Some(CLUSTERS[lease.cluster]));
        let mine = query::leases_of(state, &found.subject, Some(lease.state), &all).unwrap();
        assert_eq!(mine.items.iter().filter(|held| held.id == found.id).count(), 1);
        let due = query::leases_due(state, lease.state, lease.due_ms, &all).unwrap();
        assert_eq!(due.items.iter().filter(|due| due.id == found.id).count(), 1);
        let history = query::lease_history(state, &found.id, &all).unwrap().items;
        let granted = history
            .iter()
            .any(|entry| entry.kind == EventKind::LeaseGranted {});
        assert_eq!(granted, lease.token > 0);
        let ended = history
            .iter()
            .any(|entry| matches!(entry.kind, EventKind::LeaseEnded { .. }));
        assert_eq!(ended, lease.state == LeaseState::Ended);
        assert_eq!(
            lines(history),
            told.leases[&found.id],
            "history says what was told"
        );
    }
}

/// What everybody sees of organisations, clusters and traces.
pub(crate) fn agree_on_organisations(state: &MemoryState, model: &Model, told: &Told) {
    let all = PageRequest::default();
    let mut standing = BTreeSet::new();
    for (organisation, name) in model.organisations.iter().zip(MSPS) {
        let msp: Msp = name.parse().unwrap();
        let found = query::organisation(state, &msp).unwrap();
        assert_eq!(found.is_some(), organisation.joined);
        let Some(found) = found else { continue };
        if organisation.stands() {
            standing.insert(msp.clone());
        }
        assert_eq!(found.is_suspended(), !organisation.stands());
        assert_eq!(found.suspended_by_others.is_some(), organisation.by_others);
        assert_eq!(found.broker, BROKERS[organisation.broker]);
        let clusters: Vec<_> = found.clusters.iter().map(ToString::to_string).collect();
        let expected: Vec<_> = organisation.in_service.iter().map(|at| CLUSTERS[*at]).collect();
        assert_eq!(clusters, expected);
        let registered = query::clusters(state, &msp, &all).unwrap().items;
        let keyed: Vec<_> = registered
            .iter()
            .map(|cluster| !cluster.keys.is_empty())
            .collect();
        assert_eq!(keyed, organisation.clusters.values().copied().collect::<Vec<_>>());
        let history = query::organisation_history(state, &msp, &all).unwrap().items;
        let revisions: Vec<_> = history.iter().map(|entry| entry.revision).collect();
        assert_eq!(revisions, (1..=organisation.transitions).collect::<Vec<_>>());
        assert_eq!(
            lines(history),
            told.organisations[&msp],
            "history says what was told"
        );
    }
    assert_eq!(query::consortium(state).unwrap().standing, standing);
    let traces = query::traces(state, &all).unwrap().items;
    assert_eq!(traces.len(), model.traces.len());
    for ((organisation, key), (who, _)) in &model.traces {
        let id = TraceId::derive(&MSPS[*organisation].parse().unwrap(), &key.to_string());
        let trace = query::trace(state, &id).unwrap().unwrap();
        let theirs = query::traces_of(state, &person(*who).parse().unwrap(), &all)
            .unwrap()
            .items;
        assert_eq!(theirs.iter().filter(|other| **other == trace).count(), 1);
    }
}

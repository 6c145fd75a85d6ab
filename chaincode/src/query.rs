//! Questions to the state. Each reads one record or walks one index, page by page; none looks at everything.

mod organisation;
mod trace;

pub use organisation::{cluster, clusters, consortium, organisation, organisation_history, organisations};
pub use trace::{trace, traces, traces_by, traces_of, traces_on, traces_under, traces_with};

use crate::event::HistoryEntry;
use crate::id::{DatasetId, DatasetRef, LeaseId, Msp, Subject};
use crate::key;
use crate::record::{Code, CodeApproval, Dataset, DatasetStatus, Lease, LeaseState, Record, Volume};
use crate::state::{StateError, StateReader, damaged, decode};
use serde::{Deserialize, Serialize};

/// Largest page.
pub const MAX_PAGE: usize = 500;
/// Bytes of records after which a page of datasets ends, whatever it still lacks: far from what a server's memory and a message hold.
const PAGE_BYTES: usize = 1 << 20;
/// Datasets of a page that are read together.
const FETCHED_AT_ONCE: usize = 32;

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PageRequest {
    /// The `next` of the page before; none for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Number of items, 1 to [`MAX_PAGE`]; others are brought into that range.
    pub limit: usize,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self {
            after: None,
            limit: MAX_PAGE,
        }
    }
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// Where the next page starts; none when this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A dataset and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetEntry {
    /// What was registered.
    pub dataset: Dataset,
    /// Whether it is leased, and what its nodes said.
    pub status: DatasetStatus,
}

/// A dataset; by id also a retired one.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn dataset<S: StateReader + ?Sized>(
    state: &S,
    reference: &DatasetRef,
) -> Result<Option<DatasetEntry>, StateError> {
    match dataset_id(state, reference)? {
        Some(id) => dataset_by_id(state, &id),
        None => Ok(None),
    }
}

/// The id that a dataset is named by; none where nothing has the name.
pub(crate) fn dataset_id<S: StateReader + ?Sized>(
    state: &S,
    reference: &DatasetRef,
) -> Result<Option<DatasetId>, StateError> {
    match reference {
        DatasetRef::Id(id) => Ok(Some(id.clone())),
        DatasetRef::Name(name) => {
            let place = key::dataset_name(name);
            let value = state.get(&place)?;
            value
                .map(|value| parse_id(&place, value, DatasetId::new))
                .transpose()
        }
    }
}

/// A dataset, retired or not.
pub(crate) fn dataset_by_id<S: StateReader + ?Sized>(
    state: &S,
    id: &DatasetId,
) -> Result<Option<DatasetEntry>, StateError> {
    let keys = [key::dataset(id), key::dataset_status(id)];
    let [dataset_key, status_key] = &keys;
    let mut values = state.get_many(&keys)?.into_iter();
    match (values.next().flatten(), values.next().flatten()) {
        (Some(dataset), Some(status)) => {
            let dataset: Dataset = kept(state, dataset_key, dataset)?;
            require_place(dataset_key, &dataset.id, id)?;
            Ok(Some(DatasetEntry {
                dataset,
                status: decode(status_key, &status)?,
            }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => Err(damaged(status_key, "it is missing")),
        (None, Some(_)) => Err(damaged(dataset_key, "it is missing")),
    }
}

/// The catalogue: datasets that are not retired, by name.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn datasets<S: StateReader + ?Sized>(
    state: &S,
    page: &PageRequest,
) -> Result<Page<DatasetEntry>, StateError> {
    entries(state, key::DATASET_NAMES, page)
}

/// An owner's datasets that are not retired, by name.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn datasets_of<S: StateReader + ?Sized>(
    state: &S,
    owner: &Msp,
    page: &PageRequest,
) -> Result<Page<DatasetEntry>, StateError> {
    entries(state, &key::dataset_owners(owner), page)
}

/// The encrypted volume of a dataset that is not retired.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn volume<S: StateReader + ?Sized>(state: &S, dataset: &DatasetId) -> Result<Option<Volume>, StateError> {
    optional(state, &key::volume(dataset))
}

/// A lease, whatever its state.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn lease<S: StateReader + ?Sized>(state: &S, id: &LeaseId) -> Result<Option<Lease>, StateError> {
    let place = key::lease(id);
    let lease: Option<Lease> = optional(state, &place)?;
    if let Some(lease) = &lease {
        require_place(&place, &lease.id, id)?;
    }
    Ok(lease)
}

/// The leases of those who have a dataset: active or ending.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn holders<S: StateReader + ?Sized>(state: &S, dataset: &DatasetId) -> Result<Vec<Lease>, StateError> {
    let status: Option<DatasetStatus> = optional(state, &key::dataset_status(dataset))?;
    let holders = status.map(|status| status.holders).unwrap_or_default();
    let keys: Vec<_> = holders.iter().map(key::lease).collect();
    required_many(state, &keys)
}

/// Whether its owner lets this code run on a dataset.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn code_approval<S: StateReader + ?Sized>(
    state: &S,
    dataset: &DatasetId,
    code: &Code,
) -> Result<Option<CodeApproval>, StateError> {
    optional(state, &key::code(dataset, code))
}

/// Codes that may run on a dataset, by digest.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn code_approvals<S: StateReader + ?Sized>(
    state: &S,
    dataset: &DatasetId,
    page: &PageRequest,
) -> Result<Page<CodeApproval>, StateError> {
    let prefix = key::codes(dataset);
    records(walk(state, &prefix, &key::end_of(&prefix), page)?)
}

/// A person's leases: those in a state, or all.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn leases_of<S: StateReader + ?Sized>(
    state: &S,
    subject: &Subject,
    in_state: Option<LeaseState>,
    page: &PageRequest,
) -> Result<Page<Lease>, StateError> {
    let prefix = match in_state {
        Some(in_state) => key::leases_of_subject_in(subject, in_state),
        None => key::leases_of_subject(subject),
    };
    leases(state, &prefix, &key::end_of(&prefix), page)
}

/// Everybody's leases in a state, the first to expire first.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn leases_in<S: StateReader + ?Sized>(
    state: &S,
    in_state: LeaseState,
    page: &PageRequest,
) -> Result<Page<Lease>, StateError> {
    let prefix = key::leases_in_state(in_state);
    leases(state, &prefix, &key::end_of(&prefix), page)
}

/// Leases in a state whose time is over at `now_ms` or before.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn leases_due<S: StateReader + ?Sized>(
    state: &S,
    in_state: LeaseState,
    now_ms: i64,
    page: &PageRequest,
) -> Result<Page<Lease>, StateError> {
    let prefix = key::leases_in_state(in_state);
    let end = key::leases_in_state_from(in_state, now_ms.max(0).saturating_add(1));
    leases(state, &prefix, &end, page)
}

/// All leases that a dataset ever had, in the order of granting.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn leases_on<S: StateReader + ?Sized>(
    state: &S,
    dataset: &DatasetId,
    page: &PageRequest,
) -> Result<Page<Lease>, StateError> {
    let prefix = key::leases_of_dataset(dataset);
    leases(state, &prefix, &key::end_of(&prefix), page)
}

/// What happened to a dataset and its leases, the oldest first.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn history<S: StateReader + ?Sized>(
    state: &S,
    dataset: &DatasetId,
    page: &PageRequest,
) -> Result<Page<HistoryEntry>, StateError> {
    let prefix = key::histories(dataset);
    records(walk(state, &prefix, &key::end_of(&prefix), page)?)
}

/// What happened to a lease, the oldest first.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn lease_history<S: StateReader + ?Sized>(
    state: &S,
    lease: &LeaseId,
    page: &PageRequest,
) -> Result<Page<HistoryEntry>, StateError> {
    let prefix = key::lease_histories(lease);
    let found = walk(state, &prefix, &key::end_of(&prefix), page)?;
    let keys = found
        .items
        .into_iter()
        .map(|(place, value)| String::from_utf8(value).map_err(|error| damaged(&place, error.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Page {
        items: required_many(state, &keys)?,
        next: found.next,
    })
}

/// The records of a page that holds them itself.
fn records<T: Record>(found: Page<(String, Vec<u8>)>) -> Result<Page<T>, StateError> {
    let items = found.items.iter().map(|(key, value)| decode(key, value));
    Ok(Page {
        items: items.collect::<Result<_, _>>()?,
        next: found.next,
    })
}

fn leases<S: StateReader + ?Sized>(
    state: &S,
    prefix: &str,
    end: &str,
    page: &PageRequest,
) -> Result<Page<Lease>, StateError> {
    let found = walk(state, prefix, end, page)?;
    let ids = found
        .items
        .into_iter()
        .map(|(place, value)| parse_id(&place, value, LeaseId::new));
    let keys = ids
        .map(|id| id.map(|id| key::lease(&id)))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Page {
        items: required_many(state, &keys)?,
        next: found.next,
    })
}

/// Datasets are fetched some at a time, and a page ends early with those that make it longer than [`PAGE_BYTES`]: one dataset may take
/// a quarter of a megabyte.
fn entries<S: StateReader + ?Sized>(
    state: &S,
    prefix: &str,
    page: &PageRequest,
) -> Result<Page<DatasetEntry>, StateError> {
    let found = walk(state, prefix, &key::end_of(prefix), page)?;
    let mut items = Vec::with_capacity(found.items.len());
    let mut bytes = 0_usize;
    for places in found.items.chunks(FETCHED_AT_ONCE) {
        let ids = places
            .iter()
            .map(|(place, value)| parse_id(place, value.clone(), DatasetId::new));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<_> = ids
            .iter()
            .flat_map(|id| [key::dataset(id), key::dataset_status(id)])
            .collect();
        let values = state.get_many(&keys)?;
        bytes = values
            .iter()
            .flatten()
            .map(Vec::len)
            .fold(bytes, usize::saturating_add);
        let mut records = keys.iter().zip(values);
        while let (Some(dataset), Some(status)) = (records.next(), records.next()) {
            items.push(DatasetEntry {
                dataset: present(dataset)?,
                status: present(status)?,
            });
        }
        if bytes >= PAGE_BYTES && items.len() < found.items.len() {
            let last = places.last().and_then(|(key, _)| key.strip_prefix(prefix));
            return Ok(Page {
                items,
                next: last.map(str::to_owned),
            });
        }
    }
    Ok(Page {
        items,
        next: found.next,
    })
}

/// That a record is at its own key: whoever could write it elsewhere would have another record's say.
fn require_place<T: PartialEq>(key: &str, found: &T, expected: &T) -> Result<(), StateError> {
    if found == expected {
        return Ok(());
    }
    Err(damaged(key, "it is another one's record"))
}

/// One page of the pairs between two keys. A cursor is the last key without its prefix, so that it says nothing of the layout
/// and cannot leave the list.
fn walk<S: StateReader + ?Sized>(
    state: &S,
    prefix: &str,
    end: &str,
    page: &PageRequest,
) -> Result<Page<(String, Vec<u8>)>, StateError> {
    let limit = page.limit.clamp(1, MAX_PAGE);
    let start = match &page.after {
        // The smallest key after the cursor's: no key contains a character below U+0020.
        Some(after) => format!("{prefix}{after}\u{1}"),
        None => prefix.to_owned(),
    };
    let mut items = state.range(&start, end, limit.saturating_add(1))?;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items
        .last()
        .filter(|_| more)
        .and_then(|(key, _)| key.strip_prefix(prefix))
        .map(str::to_owned);
    Ok(Page { items, next })
}

pub(crate) fn optional<S: StateReader + ?Sized, T: Record>(
    state: &S,
    key: &str,
) -> Result<Option<T>, StateError> {
    state.get(key)?.map(|value| decode(key, &value)).transpose()
}

/// A record that seldom changes, if it is there.
pub(crate) fn steady<S: StateReader + ?Sized, T: Record>(
    state: &S,
    key: &str,
) -> Result<Option<T>, StateError> {
    state.get(key)?.map(|value| kept(state, key, value)).transpose()
}

fn kept<S: StateReader + ?Sized, T: Record>(state: &S, key: &str, value: Vec<u8>) -> Result<T, StateError> {
    match state.kept() {
        Some(kept) => kept.decode(key, value),
        None => decode(key, &value),
    }
}

/// A record that another one names.
pub(crate) fn required<S: StateReader + ?Sized, T: Record>(state: &S, key: &str) -> Result<T, StateError> {
    optional(state, key)?.ok_or_else(|| damaged(key, "it is missing"))
}

fn required_many<S: StateReader + ?Sized, T: Record>(
    state: &S,
    keys: &[String],
) -> Result<Vec<T>, StateError> {
    keys.iter().zip(state.get_many(keys)?).map(present).collect()
}

fn present<T: Record>((key, value): (&String, Option<Vec<u8>>)) -> Result<T, StateError> {
    value
        .ok_or_else(|| damaged(key, "it is missing"))
        .and_then(|value| decode(key, &value))
}

fn parse_id<T, E>(
    key: &str,
    value: Vec<u8>,
    parse: impl Fn(String) -> Result<T, E>,
) -> Result<T, StateError> {
    let text = String::from_utf8(value).map_err(|error| damaged(key, error.to_string()))?;
    parse(text).map_err(|_| damaged(key, "its value is not an id"))
}

//! Questions about traces. Each list is by time, the oldest first.

use super::{Page, PageRequest, optional, parse_id, required_many, walk};
use crate::id::{DatasetId, LeaseId, Msp, Subject, TraceId};
use crate::key;
use crate::record::{ActionKind, Trace};
use crate::state::{StateError, StateReader};

/// A trace.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn trace<S: StateReader + ?Sized>(state: &S, id: &TraceId) -> Result<Option<Trace>, StateError> {
    optional(state, &key::trace(id))
}

/// All traces.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn traces<S: StateReader + ?Sized>(state: &S, page: &PageRequest) -> Result<Page<Trace>, StateError> {
    list(state, key::TRACES, page)
}

/// Traces about a dataset.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn traces_on<S: StateReader + ?Sized>(
    state: &S,
    dataset: &DatasetId,
    page: &PageRequest,
) -> Result<Page<Trace>, StateError> {
    list(state, &key::traces_on(dataset), page)
}

/// Traces of a person.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn traces_of<S: StateReader + ?Sized>(
    state: &S,
    subject: &Subject,
    page: &PageRequest,
) -> Result<Page<Trace>, StateError> {
    list(state, &key::traces_of(subject), page)
}

/// Traces that an organisation recorded.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn traces_by<S: StateReader + ?Sized>(
    state: &S,
    organisation: &Msp,
    page: &PageRequest,
) -> Result<Page<Trace>, StateError> {
    list(state, &key::traces_by(organisation), page)
}

/// Traces of an action.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn traces_with<S: StateReader + ?Sized>(
    state: &S,
    action: ActionKind,
    page: &PageRequest,
) -> Result<Page<Trace>, StateError> {
    list(state, &key::traces_with(action.as_str()), page)
}

/// What ran under a lease, and what came of it.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn traces_under<S: StateReader + ?Sized>(
    state: &S,
    lease: &LeaseId,
    page: &PageRequest,
) -> Result<Page<Trace>, StateError> {
    list(state, &key::traces_under(lease), page)
}

fn list<S: StateReader + ?Sized>(
    state: &S,
    prefix: &str,
    page: &PageRequest,
) -> Result<Page<Trace>, StateError> {
    let found = walk(state, prefix, &key::end_of(prefix), page)?;
    let keys = found
        .items
        .into_iter()
        .map(|(place, value)| parse_id(&place, value, TraceId::new).map(|id| key::trace(&id)));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    Ok(Page {
        items: required_many(state, &keys)?,
        next: found.next,
    })
}

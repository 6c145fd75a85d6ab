//! Questions about organisations and clusters.

use super::{Page, PageRequest, records, steady, walk};
use crate::event::HistoryEntry;
use crate::id::{ClusterName, Msp};
use crate::key;
use crate::record::{Cluster, Consortium, Organisation};
use crate::state::{StateError, StateReader};

/// Who may register, lease and grant.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn consortium<S: StateReader + ?Sized>(state: &S) -> Result<Consortium, StateError> {
    Ok(steady(state, key::CONSORTIUM)?.unwrap_or_default())
}

/// An organisation that has joined.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn organisation<S: StateReader + ?Sized>(
    state: &S,
    msp: &Msp,
) -> Result<Option<Organisation>, StateError> {
    steady(state, &key::organisation(msp))
}

/// All organisations that have joined, by MSP id.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn organisations<S: StateReader + ?Sized>(
    state: &S,
    page: &PageRequest,
) -> Result<Page<Organisation>, StateError> {
    let prefix = key::ORGANISATIONS;
    records(walk(state, prefix, &key::end_of(prefix), page)?)
}

/// A cluster, retired or not.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn cluster<S: StateReader + ?Sized>(
    state: &S,
    msp: &Msp,
    name: &ClusterName,
) -> Result<Option<Cluster>, StateError> {
    steady(state, &key::cluster(msp, name))
}

/// An organisation's clusters, retired or not, by name.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn clusters<S: StateReader + ?Sized>(
    state: &S,
    msp: &Msp,
    page: &PageRequest,
) -> Result<Page<Cluster>, StateError> {
    let prefix = key::clusters(msp);
    records(walk(state, &prefix, &key::end_of(&prefix), page)?)
}

/// What happened to an organisation and its clusters, the oldest first.
///
/// # Errors
/// [`StateError`] when the state cannot be read.
pub fn organisation_history<S: StateReader + ?Sized>(
    state: &S,
    msp: &Msp,
    page: &PageRequest,
) -> Result<Page<HistoryEntry>, StateError> {
    let prefix = key::organisation_histories(msp);
    records(walk(state, &prefix, &key::end_of(&prefix), page)?)
}

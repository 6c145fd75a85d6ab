//! Where everything is in the ledger's state.
//!
//! | key | value |
//! |---|---|
//! | `dataset/<id>` | [`Dataset`](crate::Dataset) |
//! | `dataset-status/<id>` | [`DatasetStatus`](crate::DatasetStatus): the lease that keeps others out is found here |
//! | `volume/<id>` | [`Volume`](crate::Volume), until the dataset is retired |
//! | `dataset-name/<name>` | id of the dataset that has the name now |
//! | `dataset-owner/<msp>/<name>` | the same, by owner |
//! | `lease/<id>` | [`Lease`](crate::Lease) |
//! | `code/<dataset>/<image>/<command>` | [`CodeApproval`](crate::CodeApproval) |
//! | `lease-dataset/<dataset>/<number>` | id of the lease, in the order of asking |
//! | `lease-holder/<dataset>/<msp>/<subject>` | id of the lease of that person, of that organisation, that has not ended |
//! | `lease-holder/<dataset>/<subject>` | the same, of leases from before clusters were registered |
//! | `lease-state/<state>/<due>/<id>` | id of the lease, the first whose time is over first |
//! | `lease-subject/<subject>/<state>/<id>` | id of the lease |
//! | `consortium` | [`Consortium`](crate::Consortium): who may register, lease and grant |
//! | `organisation/<msp>` | [`Organisation`](crate::Organisation) |
//! | `cluster/<msp>/<name>` | [`Cluster`](crate::Cluster) |
//! | `organisation-history/<msp>/<revision>` | [`HistoryEntry`](crate::HistoryEntry) |
//! | `trace/<id>` | [`Trace`](crate::Trace) |
//! | `trace-time/<time>/<id>` | id of the trace, the oldest first |
//! | `trace-dataset/<dataset>/<time>/<id>` | the same, for each dataset that it is about |
//! | `trace-subject/<subject>/<time>/<id>` | the same, by person |
//! | `trace-organisation/<msp>/<time>/<id>` | the same, by the organisation that recorded it |
//! | `trace-action/<action>/<time>/<id>` | the same, by what was done |
//! | `trace-lease/<lease>/<time>/<id>` | the same, by the lease under which something ran |
//! | `history/<dataset>/<revision>` | [`HistoryEntry`](crate::HistoryEntry) |
//! | `lease-history/<lease>/<revision>` | key of the history entry |
//!
//! Every key is ASCII; numbers have 20 digits so that they sort; no id contains `/`. No value is empty, which Fabric would take
//! for a deletion.

use crate::id::{ClusterName, DatasetId, DatasetName, LeaseId, Msp, Subject, TraceId};
use crate::record::{Code, Lease, LeaseState, Trace};

// Keys that every lease needs are put together from their parts at once: formatting them costs a lease several microseconds.

/// Whether it is the key of a record: of a dataset, a lease, an organisation or a cluster. These have endorsement policies of their own on
/// ledgers that know such; histories, indexes, traces and the consortium itself have that of the contract.
#[must_use]
pub fn is_endorsed(key: &str) -> bool {
    const RECORDS: [&str; 6] = [
        "dataset",
        "dataset-status",
        "volume",
        "lease",
        "organisation",
        "cluster",
    ];
    key.split_once('/')
        .is_some_and(|(kind, _)| RECORDS.contains(&kind))
}

/// A number with 20 digits.
fn padded(number: u64) -> String {
    let digits = number.to_string();
    let zeros = "00000000000000000000".get(digits.len()..).unwrap_or_default();
    [zeros, &digits].concat()
}

/// Record of a dataset.
#[must_use]
pub fn dataset(id: &DatasetId) -> String {
    ["dataset/", id.as_str()].concat()
}

/// Status of a dataset.
#[must_use]
pub fn dataset_status(id: &DatasetId) -> String {
    ["dataset-status/", id.as_str()].concat()
}

/// Encrypted volume of a dataset.
#[must_use]
pub fn volume(id: &DatasetId) -> String {
    format!("volume/{id}")
}

/// All names in use.
pub const DATASET_NAMES: &str = "dataset-name/";

/// A name in use.
#[must_use]
pub fn dataset_name(name: &DatasetName) -> String {
    [DATASET_NAMES, name.as_str()].concat()
}

/// Names in use by an owner.
#[must_use]
pub fn dataset_owners(owner: &Msp) -> String {
    format!("dataset-owner/{owner}/")
}

/// A name in use by an owner.
#[must_use]
pub fn dataset_owner(owner: &Msp, name: &DatasetName) -> String {
    format!("dataset-owner/{owner}/{name}")
}

/// Record of a lease.
#[must_use]
pub fn lease(id: &LeaseId) -> String {
    ["lease/", id.as_str()].concat()
}

/// Leases that a dataset ever had.
#[must_use]
pub fn leases_of_dataset(dataset: &DatasetId) -> String {
    format!("lease-dataset/{dataset}/")
}

/// A lease among those of its dataset.
#[must_use]
pub fn lease_of_dataset(lease: &Lease) -> String {
    let number = padded(lease.number);
    ["lease-dataset/", lease.dataset.as_str(), "/", &number].concat()
}

/// A person's lease of a dataset that has not ended. By organisation too: a pseudonym is public, and whoever names another
/// organisation's must not take that person's place.
#[must_use]
pub fn lease_of_holder(dataset: &DatasetId, msp: &Msp, subject: &Subject) -> String {
    [
        "lease-holder/",
        dataset.as_str(),
        "/",
        msp.as_str(),
        "/",
        subject.as_str(),
    ]
    .concat()
}

/// The same, as contract version 1 wrote it.
#[must_use]
pub fn lease_of_holder_before(dataset: &DatasetId, subject: &Subject) -> String {
    ["lease-holder/", dataset.as_str(), "/", subject.as_str()].concat()
}

/// Codes that may run on a dataset.
#[must_use]
pub fn codes(dataset: &DatasetId) -> String {
    format!("code/{dataset}/")
}

/// One of them.
#[must_use]
pub fn code(dataset: &DatasetId, code: &Code) -> String {
    format!("code/{dataset}/{}/{}", code.image_sha256, code.command_sha256)
}

/// Leases in a state.
#[must_use]
pub fn leases_in_state(state: LeaseState) -> String {
    format!("lease-state/{}/", state.as_str())
}

/// The first key of leases in a state whose time is over at a time or later.
#[must_use]
pub fn leases_in_state_from(state: LeaseState, due_at_ms: i64) -> String {
    format!("lease-state/{}/{:020}/", state.as_str(), due_at_ms)
}

/// A lease among those in its state.
#[must_use]
pub fn lease_in_state(lease: &Lease) -> String {
    let due = match u64::try_from(lease.due_at_ms()) {
        Ok(due) => padded(due),
        Err(_) => format!("{:020}", lease.due_at_ms()),
    };
    [
        "lease-state/",
        lease.state.as_str(),
        "/",
        &due,
        "/",
        lease.id.as_str(),
    ]
    .concat()
}

/// Leases that a person ever had.
#[must_use]
pub fn leases_of_subject(subject: &Subject) -> String {
    format!("lease-subject/{subject}/")
}

/// Leases of a person in a state.
#[must_use]
pub fn leases_of_subject_in(subject: &Subject, state: LeaseState) -> String {
    format!("lease-subject/{subject}/{}/", state.as_str())
}

/// A lease among those of its holder.
#[must_use]
pub fn lease_of_subject(lease: &Lease) -> String {
    [
        "lease-subject/",
        lease.subject.as_str(),
        "/",
        lease.state.as_str(),
        "/",
        lease.id.as_str(),
    ]
    .concat()
}

/// History of a dataset and its leases.
#[must_use]
pub fn histories(dataset: &DatasetId) -> String {
    format!("history/{dataset}/")
}

/// One entry of it.
#[must_use]
pub fn history(dataset: &DatasetId, revision: u64) -> String {
    let revision = padded(revision);
    ["history/", dataset.as_str(), "/", &revision].concat()
}

/// History of a lease.
#[must_use]
pub fn lease_histories(lease: &LeaseId) -> String {
    format!("lease-history/{lease}/")
}

/// One entry of it.
#[must_use]
pub fn lease_history(lease: &LeaseId, revision: u64) -> String {
    let revision = padded(revision);
    ["lease-history/", lease.as_str(), "/", &revision].concat()
}

/// The consortium's record.
pub const CONSORTIUM: &str = "consortium";

/// All organisations.
pub const ORGANISATIONS: &str = "organisation/";

/// Record of an organisation.
#[must_use]
pub fn organisation(msp: &Msp) -> String {
    [ORGANISATIONS, msp.as_str()].concat()
}

/// Clusters of an organisation.
#[must_use]
pub fn clusters(msp: &Msp) -> String {
    format!("cluster/{msp}/")
}

/// Record of a cluster.
#[must_use]
pub fn cluster(msp: &Msp, name: &ClusterName) -> String {
    format!("cluster/{msp}/{name}")
}

/// History of an organisation and its clusters.
#[must_use]
pub fn organisation_histories(msp: &Msp) -> String {
    format!("organisation-history/{msp}/")
}

/// One entry of it.
#[must_use]
pub fn organisation_history(msp: &Msp, revision: u64) -> String {
    format!("organisation-history/{msp}/{revision:020}")
}

/// Record of a trace.
#[must_use]
pub fn trace(id: &TraceId) -> String {
    format!("trace/{id}")
}

/// All traces.
pub const TRACES: &str = "trace-time/";

/// Traces about a dataset.
#[must_use]
pub fn traces_on(dataset: &DatasetId) -> String {
    format!("trace-dataset/{dataset}/")
}

/// Traces of a person.
#[must_use]
pub fn traces_of(subject: &Subject) -> String {
    format!("trace-subject/{subject}/")
}

/// Traces that an organisation recorded.
#[must_use]
pub fn traces_by(organisation: &Msp) -> String {
    format!("trace-organisation/{organisation}/")
}

/// Traces of an action, by its word.
#[must_use]
pub fn traces_with(action: &str) -> String {
    format!("trace-action/{action}/")
}

/// Traces of what ran under a lease.
#[must_use]
pub fn traces_under(lease: &LeaseId) -> String {
    format!("trace-lease/{lease}/")
}

/// A trace in one of these lists.
#[must_use]
pub fn trace_in(list: &str, trace: &Trace) -> String {
    format!("{list}{:020}/{}", trace.at_ms, trace.id)
}

/// The first key after all that start with `prefix`, which ends in `/`.
#[must_use]
pub fn end_of(prefix: &str) -> String {
    let stem = prefix.strip_suffix('/').unwrap_or(prefix);
    format!("{stem}0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_keys_have_twenty_digits() {
        for number in [0, 7, 1_234_567, u64::MAX] {
            assert_eq!(padded(number), format!("{number:020}"));
        }
    }
}

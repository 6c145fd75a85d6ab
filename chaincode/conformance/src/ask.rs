//! Questions of the cases.

use serde_json::{Value, json};

/// A dataset by name.
pub(crate) fn dataset(name: &str) -> Value {
    json!({ "question": "dataset", "dataset": format!("@{name}") })
}

/// A question about a dataset's id.
pub(crate) fn of_dataset(question: &str, name: &str) -> Value {
    json!({ "question": question, "dataset": format!("#{name}") })
}

/// A question about a lease.
pub(crate) fn of_lease(question: &str, lease: &str) -> Value {
    json!({ "question": question, "lease": format!("${lease}") })
}

/// A lease.
pub(crate) fn lease(lease: &str) -> Value {
    of_lease("lease", lease)
}

/// A person's leases, in a state or all.
pub(crate) fn leases_of(person: u32, state: Option<&str>) -> Value {
    json!({ "question": "leases_of", "subject": format!("%{person}"), "state": state })
}

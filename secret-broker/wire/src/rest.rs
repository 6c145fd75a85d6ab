//! Bodies of the REST API, version 1. Times are Unix seconds; ids are lower-case hexadecimal.

use serde::{Deserialize, Serialize};

/// Who the caller is, as the broker sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Me {
    /// Name of the issuer that vouches for the person.
    pub issuer: String,
    /// The issuer's immutable name of the person.
    pub subject: String,
    /// The hub's raw username, where one is bound.
    pub username: Option<String>,
    /// `researcher`, `steward`.
    pub roles: Vec<String>,
    /// The organisation that runs this broker, an MSP id.
    pub organisation: String,
}

/// A dataset as the catalogue shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Directory name below `~/datasets`.
    pub name: String,
    /// MSP id of the organisation that registered it.
    pub owner: String,
    /// One line for people.
    pub title: String,
    /// Public to the consortium.
    pub description: String,
    /// Longest lease, seconds.
    pub max_ttl_seconds: u64,
    /// Unix seconds.
    pub created_at: i64,
    /// `free` or `leased`.
    pub lease_state: String,
    /// What the node last said of the data, when it could not be mounted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finding: Option<Finding>,
}

/// Why a dataset could not be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable code, such as `path_missing`.
    pub code: String,
    /// A sentence for the owner.
    pub message: String,
}

/// Body of `POST /v1/datasets`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterDataset {
    /// `[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?`
    pub name: String,
    /// One line for people, up to 200 characters.
    pub title: String,
    /// Up to 4000 characters.
    #[serde(default)]
    pub description: String,
    /// Longest lease, seconds; 10 to 2 592 000.
    #[serde(default)]
    pub max_ttl_seconds: Option<u64>,
    /// Where the data is and what opens it; encrypted before it is stored.
    pub volume: serde_json::Value,
}

/// Body of `POST /v1/leases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestLease {
    /// Id or name of the dataset.
    pub dataset: String,
    /// Seconds; the dataset's longest lease where absent.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

/// A lease as its holder sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Id of the dataset.
    pub dataset_id: String,
    /// Name of the dataset.
    pub dataset: String,
    /// MSP id of the dataset's owner.
    pub owner: String,
    /// Pseudonym of the holder.
    pub subject: String,
    /// `active`, `ending` or `ended`.
    pub state: String,
    /// Why it ended: `released`, `expired`, `revoked`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_cause: Option<String>,
    /// Unix seconds.
    pub granted_at: i64,
    /// Unix seconds.
    pub expires_at: i64,
    /// Grows with every lease of the dataset.
    pub fencing_token: u64,
    /// `pending`, `ready` or `failed`.
    pub mount: String,
    /// Why the mount failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finding: Option<Finding>,
}

/// The directories of a leased dataset, relative to its root, sorted, without data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skeleton {
    /// Id of the lease.
    pub lease: String,
    /// Name of the dataset.
    pub dataset: String,
    /// Relative paths.
    pub directories: Vec<String>,
}

/// A list answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List<T> {
    /// The items, in a stable order.
    pub items: Vec<T>,
}

/// A write that was accepted: it will happen exactly once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// A UUID.
    pub id: String,
    /// `register_dataset`, `remove_dataset`, `lease`, `release`.
    pub kind: String,
    /// `pending`, `running`, `succeeded` or `failed`.
    pub status: String,
    /// What it made: `{"dataset": id}` or `{"lease": id}`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<serde_json::Value>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<Problem>,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finished_at: Option<i64>,
}

/// A refusal (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `urn:leasehold:problem:<code>`; stable.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short name of the problem.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was tried, on what, why it failed, what to do.
    pub detail: String,
    /// Trace id of the request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instance: Option<String>,
    /// The field of the body that is wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
}

impl Problem {
    /// The stable code at the end of the type.
    #[must_use]
    pub fn code(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or_default()
    }
}

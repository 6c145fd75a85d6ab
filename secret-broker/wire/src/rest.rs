//! Bodies of the REST API, version 1. Times are Unix seconds; ids are lower-case hexadecimal.

use serde::{Deserialize, Deserializer, Serialize};

/// Who the caller is, as the broker sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Me {
    /// Name of the issuer that vouches for the person.
    pub issuer: String,
    /// The issuer's immutable name of the person.
    pub subject: String,
    /// The hub's raw username, where one is bound.
    pub username: Option<String>,
    /// `researcher`, `steward`, `operator`, `auditor`.
    pub roles: Vec<String>,
    /// Groups that the issuer names, where it is configured which claim has them.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The organisation that runs this broker, an MSP id.
    pub organisation: String,
}

/// A dataset as the catalogue shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// On which terms it is leased.
    #[serde(default)]
    pub policy: Policy,
    /// Unix seconds.
    pub created_at: i64,
    /// `free` or `leased`.
    pub lease_state: String,
    /// How many stand in its line.
    #[serde(default)]
    pub waiting: u64,
    /// What the node last said of the data, when it could not be mounted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finding: Option<Finding>,
}

/// On which terms a dataset is leased. In a request each may be left out: registering then takes what is said at each, amending leaves
/// it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// MSP ids of organisations whose researchers may lease it, besides the owner's. At first, and as `["*"]`: all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub organisations: Option<Vec<String>>,
    /// Whether one person may have it alone. At first: yes, unless it is shared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exclusive: Option<bool>,
    /// How many may have it at the same time, up to 64. At first: 0, so that nobody shares it.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "whole_number"
    )]
    #[cfg_attr(feature = "openapi", schema(maximum = 64))]
    pub most_shared: Option<u32>,
    /// Whether a data steward of the owner has to approve leases of other organisations' researchers. At first: no.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub approve_leases: Option<bool>,
    /// How many may wait for it, up to 100. At first: 10. While somebody waits nobody renews; with 0 nobody waits.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "whole_number"
    )]
    #[cfg_attr(feature = "openapi", schema(maximum = 100))]
    pub most_waiting: Option<u32>,
    /// How long a place in the line and a request for approval are kept, seconds. At first: a week.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "whole_number"
    )]
    pub place_seconds: Option<u64>,
}

/// Whether a lease keeps others out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nobody else has the dataset.
    #[default]
    Exclusive,
    /// Others may have it too.
    Shared,
}

/// Why a dataset could not be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Finding {
    /// Stable code, such as `path_missing`.
    pub code: String,
    /// A sentence for the owner.
    pub message: String,
}

/// Body of `POST /v1/datasets`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RegisterDataset {
    /// `[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?`
    #[cfg_attr(feature = "openapi", schema(pattern = "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"))]
    pub name: String,
    /// One line for people, up to 200 characters.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 200))]
    pub title: String,
    /// Up to 4000 characters.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(max_length = 4000))]
    pub description: String,
    /// Longest lease, seconds; 10 to 2 592 000.
    #[serde(default, deserialize_with = "whole_number")]
    #[cfg_attr(feature = "openapi", schema(minimum = 10, maximum = 2592000))]
    pub max_ttl_seconds: Option<u64>,
    /// Exclusive leases for everybody where absent.
    #[serde(default)]
    pub policy: Policy,
    /// Where the data is and what opens it; encrypted before it is stored.
    #[cfg_attr(feature = "openapi", schema(value_type = LocalVolume))]
    pub volume: serde_json::Value,
}

/// A directory of a node: the one kind of storage that there is. Read by the document of the API only, since a credential must not be
/// held in more places than one.
#[cfg(feature = "openapi")]
#[derive(utoipa::ToSchema)]
#[allow(dead_code)] // its form is all that is wanted of it
pub struct LocalVolume {
    /// `local`.
    #[schema(pattern = "^local$")]
    kind: String,
    /// Absolute, below one of the directories that the operator gave the organisation.
    #[schema(pattern = "^/")]
    path: String,
    /// Name of the node that has it.
    node: String,
    /// What opens the storage, by name.
    #[schema(nullable = false)]
    credential: Option<std::collections::BTreeMap<String, String>>,
}

/// Body of `PATCH /v1/datasets/{id|name}`: what is absent stays as it is. Leases that were granted keep their terms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AmendDataset {
    /// One line for people, up to 200 characters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 200))]
    pub title: Option<String>,
    /// Up to 4000 characters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "openapi", schema(max_length = 4000))]
    pub description: Option<String>,
    /// Longest lease, seconds; 10 to 2 592 000.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "whole_number"
    )]
    #[cfg_attr(feature = "openapi", schema(minimum = 10, maximum = 2592000))]
    pub max_ttl_seconds: Option<u64>,
    /// Those that change.
    #[serde(default)]
    pub policy: Policy,
}

/// A place in the line of a dataset, the first first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Place {
    /// From 1.
    pub place: u64,
    /// What it waits for.
    pub mode: Mode,
    /// Until when it is kept, Unix seconds: with its lease.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kept_until: Option<i64>,
    /// Id of the lease that waits: shown for its own person, and for data stewards of the dataset's owner.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease: Option<String>,
}

/// Body of `POST /v1/leases/{id}/` with `denial`, `revocation` or `declaration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// One line for the holder, up to 500 characters.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 500))]
    pub reason: String,
}

/// Body of `POST /v1/leases/{id}/renewal`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RenewLease {
    /// Seconds from now; the dataset's longest lease where absent.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "whole_number"
    )]
    #[cfg_attr(feature = "openapi", schema(minimum = 10, maximum = 2592000))]
    pub ttl_seconds: Option<u64>,
}

/// Body of `POST /v1/leases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RequestLease {
    /// Id or name of the dataset.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 64))]
    pub dataset: String,
    /// Seconds; the dataset's longest lease where absent.
    #[serde(default, deserialize_with = "whole_number")]
    #[cfg_attr(feature = "openapi", schema(minimum = 10, maximum = 2592000))]
    pub ttl_seconds: Option<u64>,
    /// Exclusive where absent and the dataset's terms have it, else shared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode: Option<Mode>,
    /// Stand in the line where it cannot be granted at once.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub wait: bool,
}

/// A lease as its holder sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Lease {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Id of the dataset.
    pub dataset_id: String,
    /// Name of the dataset.
    pub dataset: String,
    /// MSP id of the dataset's owner.
    pub owner: String,
    /// Pseudonym of the holder, in the word of the organisation whose cluster serves the lease.
    pub subject: String,
    /// MSP id of that organisation: the holder's.
    #[serde(default)]
    pub organisation: String,
    /// Which of its clusters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cluster: Option<String>,
    /// Whether the caller is the holder.
    #[serde(default = "yes")]
    pub yours: bool,
    /// Whether it keeps others out.
    #[serde(default)]
    pub mode: Mode,
    /// `requested` (its owner has to approve it), `waiting` (in the line), `active`, `ending` or `ended`.
    pub state: String,
    /// Place in the line, from 1, while it waits.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<u64>,
    /// Why it ended: `released`, `expired`, `revoked`, `retired`, `denied`, `lapsed`, `suspended`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_cause: Option<String>,
    /// In the words of the dataset's owner.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_reason: Option<String>,
    /// Unix seconds.
    #[serde(default)]
    pub asked_at: i64,
    /// Unix seconds; 0 before.
    pub granted_at: i64,
    /// Unix seconds: when the lease is over, and before it is granted, when its place or request is.
    pub expires_at: i64,
    /// Grows with every lease of the dataset; 0 before it is granted.
    pub fencing_token: u64,
    /// `pending`, `ready` or `failed`.
    pub mount: String,
    /// Why the mount failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finding: Option<Finding>,
}

fn yes() -> bool {
    true
}

/// The directories of a leased dataset, relative to its root, sorted, without data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct List<T> {
    /// The items, in a stable order.
    pub items: Vec<T>,
    /// Where there are more: what to ask for as `after`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// What happened to a dataset once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Revision of the ledger that has it.
    pub revision: u64,
    /// Unix seconds.
    pub at: i64,
    /// MSP id of the organisation that did it.
    pub by: String,
    /// What, by its `kind`, with what belongs to it.
    pub what: serde_json::Value,
    /// Id of the lease, for the owner's stewards and the person behind it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease: Option<String>,
    /// Pseudonym of the person, for the same.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
}

/// A dataset is shown otherwise from now on: the data of an event `catalogue`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CatalogueChange {
    /// Id of the dataset.
    pub dataset: String,
    /// What happened, as in its history.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub what: serde_json::Value,
}

/// The directories of all that the caller leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Skeletons {
    /// One for each active lease.
    pub skeletons: Vec<Skeleton>,
}

/// A data key that was destroyed: what was encrypted under it opens never again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyReceipt {
    /// Its number; receipts are shown in this order.
    pub sequence: i64,
    /// Id of the dataset.
    pub dataset: String,
    /// Version of the data key.
    pub version: u32,
    /// Version of the key-encryption key that wrapped it.
    pub key_encryption_key: u32,
    /// SHA-256 of the wrapped data key, hexadecimal.
    pub wrapped_sha256: String,
    /// `retired`, `superseded` or `unused`.
    pub reason: String,
    /// The ledger's block that allowed it, or as far as which the ledger was read; none for a key of which the ledger never knew.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ledger_height: Option<i64>,
    /// The ledger's transaction that allowed it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub transaction: Option<String>,
    /// Unix seconds.
    pub destroyed_at: i64,
}

/// A write that was accepted: it will happen exactly once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Operation {
    /// A UUID.
    pub id: String,
    /// `register_dataset`, `amend_dataset`, `replace_volume`, `remove_dataset`, `lease`, `renew`, `release`, `approve_lease`, `deny_lease`, `revoke`,
    /// `declare_ended`.
    pub kind: String,
    /// `pending`, `running`, `succeeded` or `failed`.
    pub status: String,
    /// What it made: `{"dataset": id}` or `{"lease": id}`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
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

/// A decision that the broker recorded. Each names the hash of the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditRecord {
    /// Counted from 1, without a gap.
    pub number: u64,
    /// SHA-256 of the record before, hexadecimal.
    pub previous: String,
    /// A UUID.
    pub id: String,
    /// RFC 3339, UTC.
    pub time: String,
    /// A pseudonym, a machine's ServiceAccount, `broker`, or empty where nobody knows.
    pub who: String,
    /// What was asked.
    pub verb: String,
    /// Id of the dataset, lease, operation or account that it is about.
    pub object: String,
    /// `allowed`, `denied`, or `unknown` where nobody tells whether it was done.
    pub decision: String,
    /// A stable code.
    pub reason: String,
    /// The peer's address.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
    /// The request's id, as its answer told it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request: Option<String>,
    /// The lease that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease: Option<String>,
    /// The operation that carries it out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<String>,
    /// The person that it is about, a pseudonym, where a machine asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
    /// Whether a credential was decrypted.
    #[serde(default)]
    pub credential_opened: bool,
    /// How many more of the same refusals followed within a minute.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub repeated: Option<u64>,
}

/// A refusal (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// The entity tag of what is there, where it is not what `If-Match` said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub etag: Option<String>,
}

/// A whole number as JSON has it: `60` and `60.0` are the same (RFC 8259 section 6; JSON Schema counts both as integers).
///
/// # Errors
/// Where it is none, is negative, or does not fit.
pub fn whole_number<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    use serde::de::Error as _;
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else {
        return Ok(None);
    };
    // Every whole number below this is a float of its own.
    let exact = |float: &f64| float.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(float);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked to be exact
    let whole = number
        .as_u64()
        .or_else(|| number.as_f64().filter(exact).map(|float| float as u64));
    whole
        .and_then(|whole| T::try_from(whole).ok())
        .map(Some)
        .ok_or_else(|| D::Error::custom("expected a whole number that is not negative"))
}

impl Problem {
    /// The stable code at the end of the type.
    #[must_use]
    pub fn code(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or_default()
    }
}

//! What the broker decided, for auditors: who read it is recorded as well.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use http::request::Parts;
use leasehold_broker_wire::rest::{AuditRecord, List};
use serde::Deserialize;

use super::caller::Caller;
use super::openapi::ReadRefused;
use super::parameters;
use super::problem::ApiProblem;
use crate::audit::{Decision, Filter, Record};
use crate::broker::Broker;
use crate::identity::Role;

const LARGEST_PAGE: u32 = 1_000;
const USUAL_PAGE: u32 = 100;
/// Past it lies no time that a record has.
const MOST_SECONDS: i64 = 253_402_300_799;

/// Which records are asked for.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Records after this number: the `next` of the page before.
    #[param(minimum = 0, maximum = 9007199254740991_u64)]
    after: Option<u64>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Not before, Unix seconds.
    #[param(minimum = 0, maximum = 253402300799_i64)]
    since: Option<i64>,
    /// Before, Unix seconds.
    #[param(minimum = 0, maximum = 253402300799_i64)]
    until: Option<i64>,
    /// Of this pseudonym or ServiceAccount.
    who: Option<String>,
    /// About this dataset, lease or operation.
    object: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Wanted {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        let wanted: Self = parameters::query(parts, state).await?;
        parameters::check_limit(wanted.limit, LARGEST_PAGE)?;
        parameters::check_after(wanted.after)?;
        for (field, seconds) in [("since", wanted.since), ("until", wanted.until)] {
            if seconds.is_some_and(|seconds| !(0..=MOST_SECONDS).contains(&seconds)) {
                return Err(ApiProblem::field(field, "expected Unix seconds"));
            }
        }
        Ok(wanted)
    }
}

/// `GET /v1/audit`.
#[utoipa::path(
    get,
    path = "/audit",
    operation_id = "list_audit",
    summary = "What the broker decided, for auditors",
    description = "",
    tag = "audit",
    params(Wanted),
    responses((status = 200, description = "A page of records, the first first", body = List<AuditRecord>), ReadRefused)
)]
pub async fn list(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    wanted: Wanted,
) -> Result<Json<List<AuditRecord>>, ApiProblem> {
    caller.require(Role::Auditor, "read_audit").await?;
    // Whose doings are read is recorded with who reads them.
    let about = wanted
        .object
        .as_deref()
        .or(wanted.who.as_deref())
        .unwrap_or_default();
    let event = caller.event("read_audit", about, Decision::Allowed, "auditor");
    broker
        .audit
        .keep(event)
        .await
        .map_err(|_| ApiProblem::audit_unavailable())?;
    let filter = Filter {
        after: wanted.after.unwrap_or_default(),
        since_ms: wanted.since.map(|seconds| seconds.saturating_mul(1_000)),
        until_ms: wanted.until.map(|seconds| seconds.saturating_mul(1_000)),
        who: wanted.who,
        object: wanted.object,
    };
    let limit = wanted.limit.unwrap_or(USUAL_PAGE);
    let read = broker.audit.records(&filter, limit).await;
    let (records, next) = read.map_err(|error| {
        tracing::error!(%error, "could not read the audit");
        ApiProblem::unavailable()
    })?;
    Ok(Json(List {
        items: records.into_iter().map(shown).collect(),
        next: next.map(|next| next.to_string()),
    }))
}

fn shown(record: Record) -> AuditRecord {
    AuditRecord {
        number: record.number,
        previous: record.previous.to_string(),
        id: record.id,
        time: record.time,
        who: record.who,
        verb: record.verb,
        object: record.object,
        decision: record.decision.name().to_owned(),
        reason: record.reason,
        source: record.source.map(|address| address.to_string()),
        request: record.request,
        lease: record.lease,
        operation: record.operation,
        subject: record.subject,
        credential_opened: record.credential_opened,
        repeated: record.repeated,
    }
}

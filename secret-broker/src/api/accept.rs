//! Accepting a write: the operation is durable before the caller hears 202, and the same request under the same Idempotency-Key is the
//! same operation.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use leasehold_broker_wire::rest::Operation;
use leasehold_chaincode::{Command, TxId};

use super::caller::Caller;
use super::openapi::ReadRefused;
use super::parameters::Segment;
use super::problem::ApiProblem;
use crate::audit::Decision;
use crate::broker::Broker;
use crate::ledger::transaction_id;
use crate::operations;
use crate::store::StoreError;
use crate::store::data_keys::DataKey;
use crate::store::operations::{Accepted, NewOperation, OperationRow};

const LONGEST_KEY: usize = 128;

/// What makes two requests the same: method, path, what it expects to be there, and the caller's key where there is one.
#[derive(Debug, Clone)]
pub struct Write {
    method: String,
    path: String,
    key: Option<String>,
    expects: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Write {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiProblem> {
        Ok(Self {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            key: idempotency_key(&parts.headers)?,
            expects: if_match(&parts.headers),
        })
    }
}

/// As it was sent: where it cannot be read, the request is refused anyway.
fn if_match(headers: &HeaderMap) -> Option<String> {
    let values: Vec<_> = headers
        .get_all(header::IF_MATCH)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    (!values.is_empty()).then(|| String::from_utf8_lossy(&values.join(&b',')).into_owned())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiProblem> {
    let invalid = || {
        ApiProblem::field(
            "Idempotency-Key",
            format!("expected one header of 1 to {LONGEST_KEY} visible characters"),
        )
    };
    let mut values = headers.get_all("idempotency-key").iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else { return Ok(None) };
    let text = value.to_str().map_err(|_| invalid())?;
    let good = second.is_none()
        && (1..=LONGEST_KEY).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic());
    if good {
        Ok(Some(text.to_owned()))
    } else {
        Err(invalid())
    }
}

/// What a new operation is called, here and on the ledger.
#[derive(Debug, Clone)]
pub struct Ids {
    /// The operation, a UUID.
    pub operation: TxId,
    /// The transaction that it will be.
    pub transaction: TxId,
}

impl Ids {
    /// New ones.
    ///
    /// # Errors
    /// A problem where there are none, which is a defect.
    pub fn new(broker: &Broker) -> Result<Self, ApiProblem> {
        let operation = transaction_id().map_err(|_| ApiProblem::internal())?;
        let transaction = broker.ledger.transaction_of(&operation).map_err(|error| {
            tracing::error!(%error, "could not name a transaction");
            ApiProblem::internal()
        })?;
        Ok(Self {
            operation,
            transaction,
        })
    }
}

/// A write of a caller, ready to be accepted once.
pub struct Acceptance<'a> {
    broker: &'a Broker,
    caller: &'a Caller,
    idempotency: Option<(String, [u8; 32])>,
    expected_revision: Option<u64>,
}

impl<'a> Acceptance<'a> {
    /// Looks whether this very request was accepted before; then its answer is given again. If not, it is one of the caller's changes.
    ///
    /// # Errors
    /// A problem when the key stands for another request, or the caller asks for changes too fast.
    pub async fn begin(
        broker: &'a Broker,
        caller: &'a Caller,
        write: Write,
        body: &[u8],
    ) -> Result<Result<Self, Response>, ApiProblem> {
        let mut parts = vec![write.method.as_bytes(), write.path.as_bytes(), body];
        parts.extend(write.expects.as_deref().map(str::as_bytes));
        let fingerprint = broker.ring.fingerprint(&parts);
        let idempotency = write.key.map(|key| (key, fingerprint));
        if let Some((key, fingerprint)) = &idempotency
            && let Some(before) = broker
                .store
                .replay(&caller.person.pseudonym, key, fingerprint)
                .await?
        {
            return answer(before).map(Err);
        }
        // Before anything is sealed or opened for it.
        if let Err(wait) = broker.pace.change(&caller.person.pseudonym) {
            caller.refused("change", "", "too_many_changes").await;
            return Err(ApiProblem::too_many_changes(wait));
        }
        Ok(Ok(Self {
            broker,
            caller,
            idempotency,
            expected_revision: None,
        }))
    }

    /// Has the operation come to nothing where the dataset has another revision when it is submitted.
    #[must_use]
    pub fn expecting(mut self, revision: Option<u64>) -> Self {
        self.expected_revision = revision;
        self
    }

    /// Accepts the operation with all that belongs to it, and wakes the worker.
    ///
    /// # Errors
    /// A problem when the storage fails.
    pub async fn accept(
        self,
        ids: Ids,
        command: Command,
        data_key: Option<DataKey>,
    ) -> Result<Response, ApiProblem> {
        let (verb, submitter) = (command.name(), self.caller.person.pseudonym.clone());
        if !self.broker.audit.is_well() {
            return Err(ApiProblem::audit_unavailable());
        }
        self.broker.store.remember(&self.caller.person).await?;
        let operation = NewOperation {
            id: ids.operation.into(),
            transaction_id: ids.transaction.into(),
            submitter,
            command,
            data_key,
            idempotency: self.idempotency,
            expected_revision: self.expected_revision,
        };
        let (id, about) = (operation.id.clone(), operations::about(&operation.command));
        let event = self.caller.event(verb, &about, Decision::Allowed, "accepted");
        // A task: whoever goes away meanwhile takes the record of what was accepted with them otherwise.
        let (store, audit) = (self.broker.store.clone(), Arc::clone(&self.caller.audit));
        let task = tokio::spawn(async move {
            let accepted = store.accept(&operation).await?;
            let is_new = matches!(&accepted, Accepted::Operation(row) if row.id == operation.id);
            // What is not recorded is not decided either: the worker waits for the audit to be well.
            let recorded = match is_new {
                true => audit.keep(event.by_operation(&operation.id)).await,
                false => Ok(()),
            };
            Ok::<_, StoreError>((accepted, recorded))
        });
        let (accepted, recorded) = task.await.map_err(|error| {
            tracing::error!(%error, "accepting an operation failed");
            ApiProblem::internal()
        })??;
        if accepted == Accepted::TooMany {
            self.caller.refused(verb, &about, "too_many_operations").await;
            return Err(ApiProblem::too_many_operations());
        }
        self.broker.accepted.notify_one();
        self.broker.tell(&self.caller.person.pseudonym, &id);
        if let Err(error) = recorded {
            tracing::error!(operation = %id, %error, "an accepted operation could not be recorded yet");
            return Err(ApiProblem::audit_unavailable());
        }
        answer(accepted)
    }
}

fn answer(accepted: Accepted) -> Result<Response, ApiProblem> {
    let row = match accepted {
        Accepted::Operation(row) => row,
        Accepted::KeyReused => return Err(ApiProblem::key_reused()),
        Accepted::TooMany => return Err(ApiProblem::too_many_operations()),
    };
    let location =
        HeaderValue::from_str(&format!("/v1/operations/{}", row.id)).map_err(|_| ApiProblem::internal())?;
    let headers = [
        (header::LOCATION, location),
        (header::RETRY_AFTER, HeaderValue::from_static("1")),
    ];
    Ok((StatusCode::ACCEPTED, headers, Json(shown(row)?)).into_response())
}

pub(super) fn shown(row: OperationRow) -> Result<Operation, ApiProblem> {
    let problem = row
        .problem
        .map(serde_json::from_value)
        .transpose()
        .map_err(|error| {
            tracing::error!(%error, operation = %row.id, "an operation's problem cannot be read");
            ApiProblem::internal()
        })?;
    Ok(Operation {
        id: row.id,
        kind: row.kind,
        status: row.status,
        result: row.result,
        problem,
        created_at: row.created_at,
        finished_at: row.finished_at,
    })
}

/// `GET /v1/operations/{id}`: for its submitter only.
#[utoipa::path(
    get,
    path = "/operations/{operation}",
    operation_id = "show_operation",
    summary = "What became of a write",
    description = "",
    tag = "operations",
    params(("operation" = String, Path, description = "Id, a UUID")),
    responses((status = 200, description = "What became of it", body = Operation), ReadRefused)
)]
pub async fn show(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Operation>, ApiProblem> {
    let row = broker
        .store
        .operation(&id, &caller.person.pseudonym)
        .await?
        .ok_or_else(ApiProblem::not_found)?;
    shown(row).map(Json)
}

//! Another data key for a dataset: its volume is encrypted anew and replaced on the ledger, as a durable operation. The old ciphertext opens
//! until the new one is there; then its key is destroyed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use http::request::Parts;
use leasehold_broker_wire::rest::{KeyReceipt, List};
use leasehold_chaincode::Command;
use serde::Deserialize;

use super::accept::{Acceptance, Ids, Write};
use super::caller::Caller;
use super::conditions::IfMatch;
use super::datasets::find_own;
use super::openapi::{ChangeRefused, ReadRefused, WriteAccepted};
use super::parameters::{self, Segment};
use super::problem::ApiProblem;
use crate::audit::Decision;
use crate::broker::Broker;
use crate::identity::Role;
use crate::keys::service::KeyError;
use crate::sealing::{self, UnsealError};

const VERB: &str = "rotate_data_key";
const LARGEST_PAGE: u32 = 1_000;
const USUAL_PAGE: u32 = 100;

/// `POST /v1/datasets/{id|name}/rotation`.
#[utoipa::path(
    post,
    path = "/datasets/{dataset}/rotation",
    operation_id = "rotate_data_key",
    summary = "Encrypt a dataset's volume under another data key",
    description = "",
    tag = "keys",
    params(("dataset" = String, Path, description = "Id or name", min_length = 1, max_length = 64), ("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one write", pattern = "^[!-~]{1,128}$"), ("If-Match" = Option<String>, Header, description = "Tags of the dataset as the caller knows it, or `*`", pattern = "^(\\*|\"[!#-+\\--~]{0,64}\")$")),
    responses(WriteAccepted, ChangeRefused)
)]
pub async fn rotate(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    expected: IfMatch,
    Segment(reference): Segment,
) -> Result<Response, ApiProblem> {
    caller.require(Role::Steward, VERB).await?;
    let acceptance = match Acceptance::begin(&broker, &caller, write, b"").await? {
        Ok(acceptance) => acceptance,
        Err(before) => return Ok(before),
    };
    let entry = find_own(&broker, &caller, &reference, VERB).await?;
    let expected = expected.holds(&entry)?;
    let dataset = entry.dataset.id;
    // Before anything is decrypted.
    let event = caller
        .event(VERB, dataset.as_str(), Decision::Allowed, "own_dataset")
        .opening_a_credential();
    let recorded = broker.audit.keep(event).await;
    recorded.map_err(|_| ApiProblem::audit_unavailable())?;
    let (volume, version) = sealing::unseal(&broker, &dataset).await?;
    let newest = broker.store.newest_version(dataset.as_str()).await?;
    let next = newest
        .unwrap_or_default()
        .max(version)
        .checked_add(1)
        .ok_or_else(ApiProblem::internal)?;
    let (data_key, volume_ciphertext) = sealing::seal(&broker, &dataset, next, volume.expose()).await?;
    drop(volume);
    let command = Command::ReplaceVolume {
        dataset: dataset.into(),
        volume_ciphertext,
        key_version: next,
    };
    acceptance
        .expecting(expected)
        .accept(Ids::new(&broker)?, command, Some(data_key))
        .await
}

/// Which receipts are asked for.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Receipts after this number: the `next` of the page before.
    #[param(minimum = 0, maximum = 9007199254740991_u64)]
    after: Option<u64>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Of this dataset only, by id: a retired one has no name.
    dataset: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Which {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        let which: Self = parameters::query(parts, state).await?;
        parameters::check_limit(which.limit, LARGEST_PAGE)?;
        parameters::check_after(which.after)?;
        Ok(which)
    }
}

/// `GET /v1/key-receipts`: what data keys were destroyed, for the organisation's stewards and auditors.
#[utoipa::path(
    get,
    path = "/key-receipts",
    operation_id = "list_key_receipts",
    summary = "What data keys were destroyed, for data stewards and auditors",
    description = "",
    tag = "keys",
    params(Which),
    responses((status = 200, description = "A page of receipts, the first first", body = List<KeyReceipt>), ReadRefused)
)]
pub async fn receipts(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    which: Which,
) -> Result<Json<List<KeyReceipt>>, ApiProblem> {
    if !caller.roles.contains(&Role::Auditor) {
        caller.require(Role::Steward, "read_key_receipts").await?;
    }
    let limit = which.limit.unwrap_or(USUAL_PAGE);
    let after = i64::try_from(which.after.unwrap_or_default()).unwrap_or(i64::MAX);
    let dataset = which.dataset.as_deref();
    let found = broker.store.key_receipts(dataset, after, limit).await?;
    let is_full = u32::try_from(found.len()).is_ok_and(|count| count == limit);
    let next = found
        .last()
        .filter(|_| is_full)
        .map(|last| last.sequence.to_string());
    let items = found.into_iter().map(|receipt| KeyReceipt {
        sequence: receipt.sequence,
        dataset: receipt.dataset_id,
        version: receipt.version,
        key_encryption_key: receipt.kek_version,
        wrapped_sha256: hex::encode(receipt.wrapped_sha256),
        reason: receipt.reason,
        ledger_height: receipt.height,
        transaction: receipt.transaction,
        destroyed_at: receipt.destroyed_at,
    });
    Ok(Json(List {
        items: items.collect(),
        next,
    }))
}

impl From<KeyError> for ApiProblem {
    fn from(error: KeyError) -> Self {
        tracing::error!(%error, "could not use a key");
        if error.may_pass() {
            Self::unavailable()
        } else {
            Self::internal()
        }
    }
}

impl From<UnsealError> for ApiProblem {
    fn from(error: UnsealError) -> Self {
        match error {
            UnsealError::NoVolume => Self::refused(&leasehold_chaincode::Refusal::DatasetNotFound {}),
            UnsealError::Unwrap(error) => error.into(),
            UnsealError::Ledger(error) => error.into(),
            UnsealError::Store(error) => error.into(),
            UnsealError::Replaced => Self::unavailable(),
            UnsealError::NoKey | UnsealError::Crypto(_) | UnsealError::Encoding(_) => {
                tracing::error!(%error, "could not decrypt a volume");
                Self::internal()
            }
        }
    }
}

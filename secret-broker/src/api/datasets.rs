//! One dataset, for everybody with a role; registering, amending and removing, for the organisation's data stewards.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use leasehold_broker_wire::rest::{self, AmendDataset, Dataset, Event, Finding, List, RegisterDataset};
use leasehold_chaincode::{Command, DatasetEntry, DatasetId, DatasetRef, Metadata, Policy, Refusal, limit};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::accept::{Acceptance, Ids, Write};
use super::body::{JsonBody, LARGEST_BODY};
use super::caller::Caller;
use super::conditions::{IfMatch, IfNoneMatch};
use super::openapi::{ChangeRefused, NotModified, ReadRefused, WriteAccepted, WriteRefused};
use super::parameters::{Page, Segment};
use super::problem::ApiProblem;
use super::terms;
use crate::broker::Broker;
use crate::identity::Role;
use crate::{sealing, volume};

/// Of a dataset's first data key.
const KEY_VERSION: u32 = 1;

/// The request's own form of [`leasehold_broker_wire::rest::RegisterDataset`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    name: String,
    title: String,
    #[serde(default)]
    description: String,
    #[serde(default, deserialize_with = "rest::whole_number")]
    max_ttl_seconds: Option<u64>,
    #[serde(default)]
    policy: rest::Policy,
    volume: Value,
}

/// Volume details may hold credentials: their texts are wiped when the request is done.
impl Drop for Registration {
    fn drop(&mut self) {
        wipe(&mut self.volume);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => zeroize::Zeroize::zeroize(text),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(fields) => fields.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

pub(super) fn shown(entry: DatasetEntry) -> Dataset {
    let DatasetEntry { dataset, status } = entry;
    Dataset {
        id: dataset.id.into(),
        name: dataset.name.into(),
        owner: dataset.owner.into(),
        title: dataset.metadata.title,
        description: dataset.metadata.description,
        max_ttl_seconds: dataset.policy.max_ttl_seconds,
        policy: terms::shown(dataset.policy),
        created_at: dataset.registered_at_ms / 1000,
        lease_state: if status.mode.is_some() { "leased" } else { "free" }.to_owned(),
        waiting: u64::try_from(status.line.len()).unwrap_or(u64::MAX),
        finding: status.finding.map(|f| Finding {
            code: f.code,
            message: f.message,
        }),
    }
}

/// A dataset that is not retired, by id or name.
pub(super) async fn find(broker: &Broker, reference: &str) -> Result<DatasetEntry, ApiProblem> {
    let missing = || ApiProblem::refused(&Refusal::DatasetNotFound {});
    let reference = DatasetRef::parse(reference).map_err(|_| missing())?;
    let entry = broker.ledger.dataset(&reference).await?;
    // A peer writes the answer: one about another dataset than was asked for is none.
    let is_asked_for = |entry: &DatasetEntry| match &reference {
        DatasetRef::Id(id) => entry.dataset.id == *id,
        DatasetRef::Name(name) => entry.dataset.name == *name,
    };
    entry
        .filter(is_asked_for)
        .filter(|entry| entry.dataset.retired_at_ms.is_none())
        .ok_or_else(missing)
}

pub(super) async fn may_read(caller: &Caller) -> Result<(), ApiProblem> {
    if caller.is_steward() {
        Ok(())
    } else {
        caller.require(Role::Researcher, "read_catalogue").await
    }
}

/// `GET /v1/datasets/{id|name}`.
#[utoipa::path(
    get,
    path = "/datasets/{dataset}",
    operation_id = "show_dataset",
    summary = "One dataset",
    description = "",
    tag = "datasets",
    params(("dataset" = String, Path, description = "Id or name", min_length = 1, max_length = 64), ("If-None-Match" = Option<String>, Header, description = "Tags of answers that the caller has")),
    responses((status = 200, description = "The dataset", body = Dataset, headers(("ETag" = String, description = "Its tag: of its revision"))), NotModified, ReadRefused)
)]
pub async fn show(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    Segment(reference): Segment,
    had: IfNoneMatch,
) -> Result<Response, ApiProblem> {
    may_read(&caller).await?;
    Ok(had.dataset(find(&broker, &reference).await?, shown))
}

/// `GET /v1/datasets/{id|name}/history`: pseudonyms for the owner's stewards and for the person behind them, for nobody else.
#[utoipa::path(
    get,
    path = "/datasets/{dataset}/history",
    operation_id = "list_dataset_history",
    summary = "What happened to a dataset",
    description = "",
    tag = "datasets",
    params(("dataset" = String, Path, description = "Id or name", min_length = 1, max_length = 64), Page),
    responses((status = 200, description = "A page of what happened to it, the first first", body = List<Event>), ReadRefused)
)]
pub async fn history(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    Segment(reference): Segment,
    page: Page,
) -> Result<Json<List<Event>>, ApiProblem> {
    may_read(&caller).await?;
    let dataset = find(&broker, &reference).await?.dataset;
    let own = caller.is_steward() && dataset.owner == broker.config.organisation;
    let found = broker.ledger.history(&dataset.id, &page.into()).await?;
    let items = found.items.into_iter().map(|entry| {
        let visible = own || entry.subject.as_ref() == Some(&caller.pseudonym);
        Event {
            revision: entry.revision,
            at: entry.at_ms / 1000,
            by: entry.by.into(),
            what: serde_json::to_value(&entry.kind).unwrap_or_default(),
            lease: entry.lease.filter(|_| visible).map(Into::into),
            subject: entry.subject.filter(|_| visible).map(Into::into),
        }
    });
    Ok(Json(List {
        items: items.collect(),
        next: found.next,
    }))
}

/// `POST /v1/datasets`: checks, encrypts, accepts. From here on the volume exists as ciphertext only.
#[utoipa::path(
    post,
    path = "/datasets",
    operation_id = "register_dataset",
    summary = "Register a dataset of this organisation",
    description = "",
    tag = "datasets",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one write", pattern = "^[!-~]{1,128}$")),
    request_body = RegisterDataset,
    responses(WriteAccepted, WriteRefused)
)]
pub async fn register(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    body: JsonBody,
) -> Result<Response, ApiProblem> {
    caller.require(Role::Steward, "register_dataset").await?;
    let registration: Registration = body.parse()?;
    let acceptance = match Acceptance::begin(&broker, &caller, write, &body.bytes).await? {
        Ok(acceptance) => acceptance,
        Err(before) => return Ok(before),
    };
    let policy = match check(&registration, &broker) {
        Ok(policy) => policy,
        Err(problem) => {
            caller.refused("register_dataset", "", problem.code()).await;
            return Err(problem);
        }
    };
    // Its full size from the start, so that growing leaves no copy behind.
    let mut plaintext = Zeroizing::new(Vec::with_capacity(LARGEST_BODY));
    serde_json::to_writer(&mut *plaintext, &registration.volume).map_err(|_| ApiProblem::internal())?;
    if plaintext.len() > volume::LONGEST_VOLUME {
        let detail = format!("expected at most {} bytes of JSON", volume::LONGEST_VOLUME);
        return Err(ApiProblem::field("volume", detail));
    }
    let ids = Ids::new(&broker)?;
    let dataset = DatasetId::derive(&ids.transaction);
    let (data_key, volume_ciphertext) = sealing::seal(&broker, &dataset, KEY_VERSION, &plaintext).await?;
    let command = Command::RegisterDataset {
        name: registration.name.clone(),
        metadata: Metadata {
            title: registration.title.clone(),
            description: registration.description.clone(),
            ..Metadata::default()
        },
        policy,
        volume_ciphertext,
        key_version: KEY_VERSION,
    };
    acceptance.accept(ids, command, Some(data_key)).await
}

/// What can be said before the ledger is asked; the ledger checks the rest, and this again. Yields the terms.
fn check(registration: &Registration, broker: &Broker) -> Result<Policy, ApiProblem> {
    if let Err(error) = leasehold_chaincode::DatasetName::new(registration.name.as_str()) {
        return Err(ApiProblem::field("name", format!("expected {}", error.expected)));
    }
    check_words(Some(&registration.title), Some(&registration.description))?;
    check_longest_lease(registration.max_ttl_seconds)?;
    let policy = terms::new(registration.policy.clone(), registration.max_ttl_seconds)?;
    volume::check(
        &registration.volume,
        broker.config.organisation.as_str(),
        &broker.config.local_roots,
    )
    .map_err(|error| ApiProblem::field(error.field.clone(), error.to_string()))?;
    Ok(policy)
}

fn check_words(title: Option<&str>, description: Option<&str>) -> Result<(), ApiProblem> {
    if title.is_some_and(|title| {
        title.trim().is_empty()
            || title.chars().count() > limit::TITLE_CHARS
            || title.chars().any(char::is_control)
    }) {
        return Err(ApiProblem::field(
            "title",
            format!("expected one line of 1 to {} characters", limit::TITLE_CHARS),
        ));
    }
    if description.is_some_and(|text| text.chars().count() > limit::DESCRIPTION_CHARS) {
        let detail = format!("expected at most {} characters", limit::DESCRIPTION_CHARS);
        return Err(ApiProblem::field("description", detail));
    }
    Ok(())
}

fn check_longest_lease(max_ttl_seconds: Option<u64>) -> Result<(), ApiProblem> {
    let bounds = limit::MIN_TTL_SECONDS..=limit::MAX_TTL_SECONDS;
    if max_ttl_seconds.is_some_and(|ttl| !bounds.contains(&ttl)) {
        let detail = format!("expected {} to {} seconds", bounds.start(), bounds.end());
        return Err(ApiProblem::field("max_ttl_seconds", detail));
    }
    Ok(())
}

/// One of the organisation's own datasets; another's is refused.
pub(super) async fn find_own(
    broker: &Broker,
    caller: &Caller,
    reference: &str,
    verb: &'static str,
) -> Result<DatasetEntry, ApiProblem> {
    let entry = find(broker, reference).await?;
    let dataset = &entry.dataset;
    caller
        .require_owner(broker, &dataset.owner, dataset.id.as_str(), verb)
        .await?;
    Ok(entry)
}

/// `PATCH /v1/datasets/{id|name}`: other words, or other terms for leases to come.
#[utoipa::path(
    patch,
    path = "/datasets/{dataset}",
    operation_id = "amend_dataset",
    summary = "Other words, or other terms for leases to come",
    description = "",
    tag = "datasets",
    params(("dataset" = String, Path, description = "Id or name", min_length = 1, max_length = 64), ("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one write", pattern = "^[!-~]{1,128}$"), ("If-Match" = Option<String>, Header, description = "Tags of the dataset as the caller knows it, or `*`", pattern = "^(\\*|\"[!#-+\\--~]{0,64}\")$")),
    request_body = AmendDataset,
    responses(WriteAccepted, ChangeRefused)
)]
pub async fn amend(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    expected: IfMatch,
    Segment(reference): Segment,
    body: JsonBody,
) -> Result<Response, ApiProblem> {
    caller.require(Role::Steward, "amend_dataset").await?;
    let said: AmendDataset = body.parse()?;
    let acceptance = match Acceptance::begin(&broker, &caller, write, &body.bytes).await? {
        Ok(acceptance) => acceptance,
        Err(before) => return Ok(before),
    };
    check_words(said.title.as_deref(), said.description.as_deref())?;
    check_longest_lease(said.max_ttl_seconds)?;
    let entry = find_own(&broker, &caller, &reference, "amend_dataset").await?;
    let expected = expected.holds(&entry)?;
    let dataset = entry.dataset;
    let metadata = Metadata {
        title: said.title.unwrap_or_else(|| dataset.metadata.title.clone()),
        description: said
            .description
            .unwrap_or_else(|| dataset.metadata.description.clone()),
        ..dataset.metadata.clone()
    };
    let policy = terms::changed(dataset.policy.clone(), said.policy, said.max_ttl_seconds)?;
    let command = Command::AmendDataset {
        dataset: dataset.id.into(),
        metadata: (metadata != dataset.metadata).then_some(metadata),
        policy: (policy != dataset.policy).then_some(policy),
    };
    acceptance
        .expecting(expected)
        .accept(Ids::new(&broker)?, command, None)
        .await
}

/// `DELETE /v1/datasets/{id|name}`.
#[utoipa::path(
    delete,
    path = "/datasets/{dataset}",
    operation_id = "remove_dataset",
    summary = "Retire a dataset that nobody leases",
    description = "",
    tag = "datasets",
    params(("dataset" = String, Path, description = "Id or name", min_length = 1, max_length = 64), ("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one write", pattern = "^[!-~]{1,128}$"), ("If-Match" = Option<String>, Header, description = "Tags of the dataset as the caller knows it, or `*`", pattern = "^(\\*|\"[!#-+\\--~]{0,64}\")$")),
    responses(WriteAccepted, ChangeRefused)
)]
pub async fn remove(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    expected: IfMatch,
    Segment(reference): Segment,
) -> Result<Response, ApiProblem> {
    caller.require(Role::Steward, "remove_dataset").await?;
    let acceptance = match Acceptance::begin(&broker, &caller, write, b"").await? {
        Ok(acceptance) => acceptance,
        Err(before) => return Ok(before),
    };
    let entry = find_own(&broker, &caller, &reference, "remove_dataset").await?;
    let expected = expected.holds(&entry)?;
    // By id: the name may belong to another dataset by the time the ledger decides.
    let command = Command::RemoveDataset {
        dataset: entry.dataset.id.into(),
        force: false,
    };
    acceptance
        .expecting(expected)
        .accept(Ids::new(&broker)?, command, None)
        .await
}

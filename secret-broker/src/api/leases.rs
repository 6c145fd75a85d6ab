//! Leases of the caller, and for a data steward those of the organisation's datasets, with pseudonyms: asked for, waited for, renewed,
//! given back. How they are listed is in [`list`].

pub mod list;
mod places;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use leasehold_broker_wire::rest::{
    Finding, Lease, List, Place, RenewLease, RequestLease, Skeleton, Skeletons,
};
use leasehold_chaincode::{
    Command, Lease as LedgerLease, LeaseId, LeaseState, Mode, Mount, PageRequest, Refusal, limit,
};

use super::accept::{Acceptance, Ids, Write};
use super::body::JsonBody;
use super::caller::Caller;
use super::conditions::IfNoneMatch;
use super::datasets;
use super::openapi::{NotModified, ReadRefused, WriteAccepted, WriteRefused};
use super::parameters::Segment;
use super::problem::ApiProblem;
use super::terms;
use crate::broker::Broker;
use crate::identity::Role;
use places::{Places, numbered};

/// Leases of one person that are asked for, waited for or active: an exclusive one keeps a dataset from everybody else, and so does a
/// place in the line.
const MOST_LEASES: usize = 64;
/// A renewal has to bring this share of the dataset's longest lease, or this many seconds where those are fewer.
const SHARE_GAINED: u64 = 10;
const MOST_NEEDED_GAIN_SECONDS: i64 = 60;

pub(super) fn shown(lease: LedgerLease, yours: bool, place: Option<u64>) -> Lease {
    let (granted_at, expires_at) = (lease.granted_at_ms() / 1000, lease.due_at_ms() / 1000);
    let fencing_token = lease.fencing_token();
    let (mount, finding) = match lease.mount {
        Mount::Pending {} => ("pending", None),
        Mount::Ready {} => ("ready", None),
        Mount::Failed { finding } => (
            "failed",
            Some(Finding {
                code: finding.code,
                message: finding.message,
            }),
        ),
    };
    let (end_cause, end_reason) = match lease.end {
        Some(end) => (Some(end.cause.as_str().to_owned()), end.reason),
        None => (None, None),
    };
    Lease {
        id: lease.id.into(),
        dataset_id: lease.dataset.into(),
        dataset: lease.dataset_name.into(),
        owner: lease.owner.into(),
        subject: lease.subject.into(),
        organisation: lease.cluster_msp.into(),
        cluster: lease.cluster.map(Into::into),
        yours,
        mode: terms::shown_mode(lease.mode),
        state: lease.state.as_str().to_owned(),
        place,
        end_cause,
        end_reason,
        asked_at: lease.asked_at_ms / 1000,
        granted_at,
        expires_at,
        fencing_token,
        mount: mount.to_owned(),
        finding,
    }
}

/// A lease that the caller may see: their own, or one of the organisation's datasets. Anything else is not there.
pub(super) async fn find(broker: &Broker, caller: &Caller, id: &str) -> Result<LedgerLease, ApiProblem> {
    let id = LeaseId::new(id).map_err(|_| ApiProblem::not_found())?;
    // A peer writes the answer: one about another lease than was asked for is none.
    let lease = broker
        .ledger
        .lease(&id)
        .await?
        .filter(|lease| lease.id == id)
        .ok_or_else(ApiProblem::not_found)?;
    if is_visible(broker, caller, &lease) {
        Ok(lease)
    } else {
        Err(ApiProblem::not_found())
    }
}

/// Whether a lease is the caller's to see: their own, or one of the organisation's datasets for its stewards.
pub(super) fn is_visible(broker: &Broker, caller: &Caller, lease: &LedgerLease) -> bool {
    let stewarded = caller.is_steward() && lease.owner == broker.config.organisation;
    stewarded || is_own(broker, caller, lease)
}

pub(super) fn is_own(broker: &Broker, caller: &Caller, lease: &LedgerLease) -> bool {
    lease.subject == caller.pseudonym && lease.cluster_msp == broker.config.organisation
}

/// `GET /v1/datasets/{id|name}/line`: who waits is told to nobody but themselves and the owner's stewards.
#[utoipa::path(
    get,
    path = "/datasets/{dataset}/line",
    operation_id = "list_dataset_line",
    summary = "Who waits for a dataset",
    description = "",
    tag = "datasets",
    params(("dataset" = String, Path, description = "Id or name", min_length = 1, max_length = 64)),
    responses((status = 200, description = "Who waits", body = List<Place>), ReadRefused)
)]
pub async fn line(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    Segment(reference): Segment,
) -> Result<Json<List<Place>>, ApiProblem> {
    datasets::may_read(&caller).await?;
    let entry = datasets::find(&broker, &reference).await?;
    let stewarded = caller.is_steward() && entry.dataset.owner == broker.config.organisation;
    let own = own_in(&broker, &caller, LeaseState::Waiting).await?;
    let places = entry.status.line.into_iter().enumerate();
    let items = places.map(|(index, place)| {
        let visible = stewarded || own.iter().any(|lease| lease.id == place.lease);
        Place {
            place: numbered(index),
            mode: terms::shown_mode(place.mode),
            // With its length it would tell when, and so who, asked.
            kept_until: visible.then_some(place.until_ms / 1000),
            lease: visible.then(|| place.lease.into()),
        }
    });
    Ok(Json(List {
        items: items.collect(),
        next: None,
    }))
}

/// `GET /v1/leases/{id}`.
#[utoipa::path(
    get,
    path = "/leases/{lease}",
    operation_id = "show_lease",
    summary = "One lease",
    description = "",
    tag = "leases",
    params(("lease" = String, Path, description = "Id, 32 hexadecimal digits"), ("If-None-Match" = Option<String>, Header, description = "Tags of answers that the caller has")),
    responses((status = 200, description = "The lease", body = Lease, headers(("ETag" = String, description = "Its tag"))), NotModified, ReadRefused)
)]
pub async fn show(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    Segment(id): Segment,
    had: IfNoneMatch,
) -> Result<Response, ApiProblem> {
    let lease = find(&broker, &caller, &id).await?;
    let place = Places::default().of(&broker, &lease).await?;
    let yours = is_own(&broker, &caller, &lease);
    had.content(&shown(lease, yours, place))
}

/// The caller's own leases in a state.
async fn own_in(broker: &Broker, caller: &Caller, state: LeaseState) -> Result<Vec<LedgerLease>, ApiProblem> {
    let mut own = Vec::new();
    let mut page = PageRequest::default();
    loop {
        // Other organisations may have leased to this pseudonym too.
        let found = broker
            .ledger
            .leases_of(&caller.pseudonym, Some(state), &page)
            .await?;
        let leases = found.items.into_iter();
        own.extend(leases.filter(|lease| is_own(broker, caller, lease)));
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(own),
        }
    }
}

/// How many leases the caller has, or waits for, that are not over.
async fn own_open(broker: &Broker, caller: &Caller) -> Result<usize, ApiProblem> {
    let mut count: usize = 0;
    for state in [LeaseState::Requested, LeaseState::Waiting, LeaseState::Active] {
        count = count.saturating_add(own_in(broker, caller, state).await?.len());
    }
    Ok(count)
}

/// `POST /v1/leases`.
#[utoipa::path(
    post,
    path = "/leases",
    operation_id = "request_lease",
    summary = "Lease a dataset",
    description = "",
    tag = "leases",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one write", pattern = "^[!-~]{1,128}$")),
    request_body = RequestLease,
    responses(WriteAccepted, WriteRefused)
)]
pub async fn request(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    body: JsonBody,
) -> Result<Response, ApiProblem> {
    caller.require(Role::Researcher, "lease").await?;
    let request: RequestLease = body.parse()?;
    let acceptance = match Acceptance::begin(&broker, &caller, write, &body.bytes).await? {
        Ok(acceptance) => acceptance,
        Err(before) => return Ok(before),
    };
    let entry = datasets::find(&broker, &request.dataset).await?;
    let bounds = limit::MIN_TTL_SECONDS..=entry.dataset.policy.max_ttl_seconds;
    if request.ttl_seconds.is_some_and(|ttl| !bounds.contains(&ttl)) {
        let detail = format!("expected {} to {} seconds", bounds.start(), bounds.end());
        return Err(ApiProblem::field("ttl_seconds", detail));
    }
    // Said at once where it is plain; whoever would wait, or shares, learns it from the ledger.
    if !request.wait
        && entry.status.mode == Some(Mode::Exclusive)
        && let Some(held) = broker.ledger.holders(&entry.dataset.id).await?.first()
    {
        return Err(ApiProblem::refused(&Refusal::LeaseConflict {
            name: entry.dataset.name.into(),
            lease_state: held.state,
            expires_at_ms: held.due_at_ms(),
        }));
    }
    if own_open(&broker, &caller).await? >= MOST_LEASES {
        return Err(ApiProblem::too_many_leases(MOST_LEASES));
    }
    let command = Command::Lease {
        dataset: entry.dataset.id.into(),
        subject: caller.pseudonym.to_string(),
        mode: request.mode.map(terms::mode),
        ttl_seconds: request.ttl_seconds,
        groups: Vec::new(),
        wait: request.wait,
        cluster: Some(broker.config.cluster.to_string()),
    };
    acceptance.accept(Ids::new(&broker)?, command, None).await
}

/// One of the caller's own leases that is not over.
async fn find_open(broker: &Broker, caller: &Caller, id: &str) -> Result<LedgerLease, ApiProblem> {
    let lease = find(broker, caller, id).await?;
    if !is_own(broker, caller, &lease) {
        return Err(ApiProblem::not_found());
    }
    match lease.state {
        LeaseState::Requested | LeaseState::Waiting | LeaseState::Active => Ok(lease),
        lease_state @ (LeaseState::Ending | LeaseState::Ended) => {
            Err(ApiProblem::refused(&Refusal::LeaseNotActive { lease_state }))
        }
    }
}

/// `POST /v1/leases/{id}/renewal`: by its holder, while nobody waits, and for a while longer than it lasts anyway: who renews again and
/// again would keep everybody else's transactions on the dataset waiting.
#[utoipa::path(
    post,
    path = "/leases/{lease}/renewal",
    operation_id = "renew_lease",
    summary = "Have a lease last longer",
    description = "",
    tag = "leases",
    params(("lease" = String, Path, description = "Id, 32 hexadecimal digits"), ("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one write", pattern = "^[!-~]{1,128}$")),
    request_body = RenewLease,
    responses(WriteAccepted, WriteRefused)
)]
pub async fn renew(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    Segment(id): Segment,
    body: JsonBody,
) -> Result<Response, ApiProblem> {
    caller.require(Role::Researcher, "renew").await?;
    let RenewLease { ttl_seconds } = body.parse()?;
    let acceptance = match Acceptance::begin(&broker, &caller, write, &body.bytes).await? {
        Ok(acceptance) => acceptance,
        Err(before) => return Ok(before),
    };
    // What the dataset's terms say is the ledger's to check.
    let bounds = limit::MIN_TTL_SECONDS..=limit::MAX_TTL_SECONDS;
    if ttl_seconds.is_some_and(|ttl| !bounds.contains(&ttl)) {
        let detail = format!("expected {} to {} seconds", bounds.start(), bounds.end());
        return Err(ApiProblem::field("ttl_seconds", detail));
    }
    let lease = find_open(&broker, &caller, &id).await?;
    let dataset = datasets::find(&broker, lease.dataset.as_str()).await?.dataset;
    let longest = dataset.policy.max_ttl_seconds;
    let lasts = i64::try_from(ttl_seconds.unwrap_or(longest)).unwrap_or(i64::MAX);
    let least_gain = i64::try_from(longest / SHARE_GAINED)
        .unwrap_or(0)
        .min(MOST_NEEDED_GAIN_SECONDS);
    let until_ms = lasts
        .saturating_mul(1_000)
        .saturating_add(chrono::Utc::now().timestamp_millis());
    if until_ms < lease.due_at_ms().saturating_add(least_gain.saturating_mul(1_000)) {
        let detail = format!(
            "expected at least {least_gain} seconds more than the lease lasts anyway; renew it later"
        );
        return Err(ApiProblem::field("ttl_seconds", detail));
    }
    let command = Command::Renew {
        lease: lease.id.into(),
        subject: caller.pseudonym.to_string(),
        ttl_seconds,
    };
    acceptance.accept(Ids::new(&broker)?, command, None).await
}

/// `DELETE /v1/leases/{id}`: by its holder; also leaves the line or withdraws a request.
#[utoipa::path(
    delete,
    path = "/leases/{lease}",
    operation_id = "release_lease",
    summary = "Give a lease back, leave the line, or withdraw a request",
    description = "",
    tag = "leases",
    params(("lease" = String, Path, description = "Id, 32 hexadecimal digits"), ("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one write", pattern = "^[!-~]{1,128}$")),
    responses(WriteAccepted, WriteRefused)
)]
pub async fn release(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    Segment(id): Segment,
) -> Result<Response, ApiProblem> {
    let acceptance = match Acceptance::begin(&broker, &caller, write, b"").await? {
        Ok(acceptance) => acceptance,
        Err(before) => return Ok(before),
    };
    let command = Command::Release {
        lease: find_open(&broker, &caller, &id).await?.id.into(),
        subject: caller.pseudonym.to_string(),
    };
    acceptance.accept(Ids::new(&broker)?, command, None).await
}

async fn skeleton_of(broker: &Broker, lease: LedgerLease) -> Result<Skeleton, ApiProblem> {
    let directories = broker.store.skeleton(lease.dataset.as_str()).await?;
    Ok(Skeleton {
        lease: lease.id.into(),
        dataset: lease.dataset_name.into(),
        directories,
    })
}

fn is_active(lease: &LedgerLease) -> bool {
    lease.state == LeaseState::Active && lease.due_at_ms() > chrono::Utc::now().timestamp_millis()
}

/// `GET /v1/leases/{id}/skeleton`: for the holder of an active lease only.
#[utoipa::path(
    get,
    path = "/leases/{lease}/skeleton",
    operation_id = "show_skeleton",
    summary = "Directories of a leased dataset",
    description = "",
    tag = "leases",
    params(("lease" = String, Path, description = "Id, 32 hexadecimal digits")),
    responses((status = 200, description = "Its directories", body = Skeleton), ReadRefused)
)]
pub async fn skeleton(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Skeleton>, ApiProblem> {
    let lease = find(&broker, &caller, &id).await?;
    if !is_own(&broker, &caller, &lease) {
        return Err(ApiProblem::not_found());
    }
    if !is_active(&lease) {
        return Err(ApiProblem::refused(&Refusal::LeaseNotActive {
            lease_state: lease.state,
        }));
    }
    Ok(Json(skeleton_of(&broker, lease).await?))
}

/// `GET /v1/skeletons`: of all the caller's active leases.
#[utoipa::path(
    get,
    path = "/skeletons",
    operation_id = "list_skeletons",
    summary = "Directories of all that the caller leases",
    description = "",
    tag = "leases",
    responses((status = 200, description = "Directories of all active leases", body = Skeletons), ReadRefused)
)]
pub async fn skeletons(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
) -> Result<Json<Skeletons>, ApiProblem> {
    let mut skeletons = Vec::new();
    for lease in own_in(&broker, &caller, LeaseState::Active).await? {
        if is_active(&lease) {
            skeletons.push(skeleton_of(&broker, lease).await?);
        }
    }
    Ok(Json(Skeletons { skeletons }))
}

//! Leases of the caller, and for a data steward those of the organisation's datasets, with pseudonyms.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::Response;
use leasehold_broker_wire::rest::{Finding, Lease, List, RequestLease, Skeleton};
use leasehold_chaincode::{
    Command, Lease as LedgerLease, LeaseId, LeaseState, Mode, Mount, PageRequest, Refusal, limit,
};
use serde_json::{Value, json};

use super::accept::{Acceptance, Ids, Write};
use super::body::JsonBody;
use super::caller::Caller;
use super::datasets;
use super::problem::ApiProblem;
use crate::broker::Broker;
use crate::identity::Role;

/// Leases of one person that are not over, ending ones aside: an exclusive one keeps a dataset from everybody else.
const MOST_LEASES: usize = 64;

fn shown(lease: LedgerLease) -> Lease {
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
    Lease {
        id: lease.id.into(),
        dataset_id: lease.dataset.into(),
        dataset: lease.dataset_name.into(),
        owner: lease.owner.into(),
        subject: lease.subject.into(),
        state: lease.state.as_str().to_owned(),
        end_cause: lease.end.map(|end| end.cause.as_str().to_owned()),
        granted_at,
        expires_at,
        fencing_token,
        mount: mount.to_owned(),
        finding,
    }
}

/// A lease that the caller may see: their own, or one of the organisation's datasets. Anything else is not there.
async fn find(broker: &Broker, caller: &Caller, id: &str) -> Result<LedgerLease, ApiProblem> {
    let id = LeaseId::new(id).map_err(|_| ApiProblem::not_found())?;
    let lease = broker
        .ledger
        .lease(&id)
        .await?
        .ok_or_else(ApiProblem::not_found)?;
    let own = is_own(broker, caller, &lease);
    let stewarded = caller.is_steward() && lease.owner == broker.config.organisation;
    if own || stewarded {
        Ok(lease)
    } else {
        Err(ApiProblem::not_found())
    }
}

fn is_own(broker: &Broker, caller: &Caller, lease: &LedgerLease) -> bool {
    lease.subject == caller.pseudonym && lease.cluster_msp == broker.config.organisation
}

/// `GET /v1/leases`: the caller's, and for a steward those of the organisation's datasets that are not over.
pub async fn list(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
) -> Result<Json<List<Lease>>, ApiProblem> {
    let mut snapshot = broker.ledger.snapshot().await?;
    let mut items = Vec::new();
    let mut page = PageRequest::default();
    loop {
        let found = snapshot.leases_of(&caller.pseudonym, None, &page).await?;
        let own = found
            .items
            .into_iter()
            .filter(|lease| is_own(&broker, &caller, lease));
        items.extend(own);
        match found.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    let states = if caller.is_steward() {
        &[LeaseState::Active, LeaseState::Ending][..]
    } else {
        &[]
    };
    for state in states {
        let mut page = PageRequest::default();
        loop {
            let found = snapshot.leases_in(*state, &page).await?;
            items.extend(found.items.into_iter().filter(|lease| {
                lease.owner == broker.config.organisation && !is_own(&broker, &caller, lease)
            }));
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
    }
    items.sort_by(|a, b| b.asked_at_ms.cmp(&a.asked_at_ms).then_with(|| a.id.cmp(&b.id)));
    Ok(Json(List {
        items: items.into_iter().map(shown).collect(),
    }))
}

/// `GET /v1/leases/{id}`.
pub async fn show(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Lease>, ApiProblem> {
    Ok(Json(shown(find(&broker, &caller, &id).await?)))
}

/// `POST /v1/leases`.
pub async fn request(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    body: JsonBody,
) -> Result<Response, ApiProblem> {
    caller.require(Role::Researcher, "lease")?;
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
    if entry.status.mode == Some(Mode::Exclusive)
        && let Some(held) = broker.ledger.holders(&entry.dataset.id).await?.first()
    {
        return Err(ApiProblem::refused(&Refusal::LeaseConflict {
            name: entry.dataset.name.into(),
            lease_state: held.state,
            expires_at_ms: held.due_at_ms(),
        }));
    }
    let held = broker
        .ledger
        .leases_of(
            &caller.pseudonym,
            Some(LeaseState::Active),
            &PageRequest::default(),
        )
        .await?;
    let own = held.items.iter().filter(|lease| is_own(&broker, &caller, lease));
    if own.count() >= MOST_LEASES {
        return Err(ApiProblem::too_many_leases(MOST_LEASES));
    }
    let command = Command::Lease {
        dataset: entry.dataset.id.into(),
        subject: caller.pseudonym.to_string(),
        mode: None,
        ttl_seconds: request.ttl_seconds,
        groups: Vec::new(),
        wait: false,
        cluster: Some(broker.config.cluster.to_string()),
    };
    acceptance.accept(Ids::new(&broker)?, command, None).await
}

/// `DELETE /v1/leases/{id}`: by its holder.
pub async fn release(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    Path(id): Path<String>,
) -> Result<Response, ApiProblem> {
    let acceptance = match Acceptance::begin(&broker, &caller, write, b"").await? {
        Ok(acceptance) => acceptance,
        Err(before) => return Ok(before),
    };
    let lease = find(&broker, &caller, &id).await?;
    if !is_own(&broker, &caller, &lease) {
        return Err(ApiProblem::not_found());
    }
    if lease.state != LeaseState::Active {
        return Err(ApiProblem::refused(&Refusal::LeaseNotActive {
            lease_state: lease.state,
        }));
    }
    let command = Command::Release {
        lease: lease.id.into(),
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
pub async fn skeleton(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    Path(id): Path<String>,
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
pub async fn skeletons(State(broker): State<Arc<Broker>>, caller: Caller) -> Result<Json<Value>, ApiProblem> {
    let mut skeletons = Vec::new();
    let page = PageRequest::default();
    let leases = broker
        .ledger
        .leases_of(&caller.pseudonym, Some(LeaseState::Active), &page)
        .await?;
    for lease in leases.items {
        if is_own(&broker, &caller, &lease) && is_active(&lease) {
            skeletons.push(skeleton_of(&broker, lease).await?);
        }
    }
    Ok(Json(json!({ "skeletons": skeletons })))
}

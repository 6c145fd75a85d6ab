//! What the data stewards of a dataset's owner decide about others' leases of it: approve or deny what was asked for, revoke, and declare
//! ended what a cluster that is no more does not confirm.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use leasehold_broker_wire::rest::Reason;
use leasehold_chaincode::{Command, limit};

use super::accept::{Acceptance, Ids, Write};
use super::body::JsonBody;
use super::caller::Caller;
use super::leases;
use super::openapi::{WriteAccepted, WriteRefused};
use super::parameters::Segment;
use super::problem::ApiProblem;
use crate::broker::Broker;
use crate::identity::Role;

/// Accepts a decision on a lease of one of the organisation's datasets.
async fn decide(
    broker: &Broker,
    caller: &Caller,
    write: Write,
    lease: &str,
    body: &[u8],
    decision: impl FnOnce(String) -> Command,
) -> Result<Response, ApiProblem> {
    let acceptance = match Acceptance::begin(broker, caller, write, body).await? {
        Ok(acceptance) => acceptance,
        Err(before) => return Ok(before),
    };
    let lease = leases::find(broker, caller, lease).await?;
    let command = decision(lease.id.to_string());
    caller
        .require_owner(broker, &lease.owner, lease.id.as_str(), command.name())
        .await?;
    acceptance.accept(Ids::new(broker)?, command, None).await
}

/// The same with the reason that the body gives.
async fn decide_for_a_reason(
    broker: &Broker,
    caller: &Caller,
    write: Write,
    lease: &str,
    body: &JsonBody,
    decision: impl FnOnce(String, String) -> Command,
) -> Result<Response, ApiProblem> {
    let Reason { reason } = body.parse()?;
    let length = reason.chars().count();
    if !(1..=limit::REASON_CHARS).contains(&length) {
        let detail = format!("expected one line of 1 to {} characters", limit::REASON_CHARS);
        return Err(ApiProblem::field("reason", detail));
    }
    decide(broker, caller, write, lease, &body.bytes, |lease| {
        decision(lease, reason)
    })
    .await
}

/// `POST /v1/leases/{id}/approval`: the lease is granted, or gets its place in the line.
#[utoipa::path(
    post,
    path = "/leases/{lease}/approval",
    operation_id = "approve_lease",
    summary = "Grant what was asked for, or give it its place in the line",
    description = "",
    tag = "decisions",
    params(("lease" = String, Path, description = "Id, 32 hexadecimal digits"), ("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one write", pattern = "^[!-~]{1,128}$")),
    responses(WriteAccepted, WriteRefused)
)]
pub async fn approve(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    Segment(id): Segment,
) -> Result<Response, ApiProblem> {
    caller.require(Role::Steward, "approve_lease").await?;
    let approval = |lease| Command::ApproveLease { lease };
    decide(&broker, &caller, write, &id, b"", approval).await
}

/// `POST /v1/leases/{id}/denial`: the lease is not granted.
#[utoipa::path(
    post,
    path = "/leases/{lease}/denial",
    operation_id = "deny_lease",
    summary = "Do not grant what was asked for",
    description = "",
    tag = "decisions",
    params(("lease" = String, Path, description = "Id, 32 hexadecimal digits"), ("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one write", pattern = "^[!-~]{1,128}$")),
    request_body = Reason,
    responses(WriteAccepted, WriteRefused)
)]
pub async fn deny(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    Segment(id): Segment,
    body: JsonBody,
) -> Result<Response, ApiProblem> {
    caller.require(Role::Steward, "deny_lease").await?;
    let denial = |lease, reason| Command::DenyLease { lease, reason };
    decide_for_a_reason(&broker, &caller, write, &id, &body, denial).await
}

/// `POST /v1/leases/{id}/revocation`: the lease ends now, and so do the pods that have it mounted.
#[utoipa::path(
    post,
    path = "/leases/{lease}/revocation",
    operation_id = "revoke_lease",
    summary = "End a lease now, and the pods that have it mounted",
    description = "",
    tag = "decisions",
    params(("lease" = String, Path, description = "Id, 32 hexadecimal digits"), ("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one write", pattern = "^[!-~]{1,128}$")),
    request_body = Reason,
    responses(WriteAccepted, WriteRefused)
)]
pub async fn revoke(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    Segment(id): Segment,
    body: JsonBody,
) -> Result<Response, ApiProblem> {
    caller.require(Role::Steward, "revoke").await?;
    let revocation = |lease, reason| Command::Revoke { lease, reason };
    decide_for_a_reason(&broker, &caller, write, &id, &body, revocation).await
}

/// `POST /v1/leases/{id}/declaration`: an ending lease counts as ended, an hour after its cluster should have confirmed that.
#[utoipa::path(
    post,
    path = "/leases/{lease}/declaration",
    operation_id = "declare_lease_ended",
    summary = "Count an ending lease as ended, whose cluster does not confirm it",
    description = "",
    tag = "decisions",
    params(("lease" = String, Path, description = "Id, 32 hexadecimal digits"), ("Idempotency-Key" = Option<String>, Header, description = "The same for each try of one write", pattern = "^[!-~]{1,128}$")),
    request_body = Reason,
    responses(WriteAccepted, WriteRefused)
)]
pub async fn declare_ended(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    write: Write,
    Segment(id): Segment,
    body: JsonBody,
) -> Result<Response, ApiProblem> {
    caller.require(Role::Steward, "declare_ended").await?;
    let declaration = |lease, reason| Command::DeclareEnded { lease, reason };
    decide_for_a_reason(&broker, &caller, write, &id, &body, declaration).await
}

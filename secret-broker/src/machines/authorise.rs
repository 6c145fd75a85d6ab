//! Which machine may call which method: one table. A method that is not in it is nobody's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tonic::Status;

use crate::api::caller::bearer;
use crate::audit::{self, Decision};
use crate::broker::Broker;
use crate::identity::{Machine, Purpose, TokenError};

const PREFIX: &str = "/leasehold.broker.v1.Machines/";
const DEADLINE: Duration = Duration::from_secs(10);
const WATCH: &str = "WatchLeases";

/// Method and the machines that may call it.
const TABLE: &[(&str, &[Machine])] = &[
    (WATCH, &[Machine::Webhook, Machine::Provisioner]),
    ("ResolveMounts", &[Machine::Webhook]),
    ("OpenVolume", &[Machine::Provisioner]),
    ("ReportMount", &[Machine::Provisioner]),
    ("ConfirmEnd", &[Machine::Provisioner]),
    ("BindServiceAccounts", &[Machine::SpawnerHook]),
];

/// A verified machine that the table allows.
#[derive(Debug, Clone)]
pub struct Authorised {
    /// Its ServiceAccount's full name.
    pub account: String,
}

fn allowed(method: &str) -> &'static [Machine] {
    TABLE
        .iter()
        .find(|(name, _)| *name == method)
        .map_or(&[], |(_, machines)| machines)
}

/// Verifies the caller and looks it up, before anything of the request is read.
pub async fn layer(State(broker): State<Arc<Broker>>, mut request: Request, next: Next) -> Response {
    let method = request
        .uri()
        .path()
        .strip_prefix(PREFIX)
        .unwrap_or_default()
        .to_owned();
    let token = bearer(request.headers()).map(str::to_owned);
    let authorised = match authorise(&broker, token.as_deref(), &method).await {
        Ok(authorised) => authorised,
        Err(status) => return status.into_http::<Body>(),
    };
    request.extensions_mut().insert(authorised);
    if method == WATCH {
        return next.run(request).await;
    }
    match tokio::time::timeout(DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Status::deadline_exceeded("the broker took too long; try again").into_http::<Body>(),
    }
}

async fn authorise(broker: &Broker, token: Option<&str>, method: &str) -> Result<Authorised, Status> {
    let refuse = |reason: &str| {
        broker.metrics.tokens_refused.fetch_add(1, Ordering::Relaxed);
        audit::record("", "authenticate", "machines", Decision::Denied, reason);
        Status::unauthenticated("the bearer token is missing or was not accepted")
    };
    let token = token.ok_or_else(|| refuse("no_bearer_token"))?;
    let verified = match broker.issuers.verify(token, Purpose::Machines).await {
        Ok(verified) => verified,
        Err(TokenError::KeysUnavailable) => {
            return Err(Status::unavailable(
                "the token's issuer cannot be reached; try again in a moment",
            ));
        }
        Err(reason) => return Err(refuse(&reason.to_string())),
    };
    broker.metrics.tokens_accepted.fetch_add(1, Ordering::Relaxed);
    let machines = broker.roles.machines_of(&verified);
    let account = verified.subject.sub;
    if machines.iter().any(|machine| allowed(method).contains(machine)) {
        return Ok(Authorised { account });
    }
    audit::record(&account, "call", method, Decision::Denied, "not_in_table");
    Err(Status::permission_denied("this machine may not call this method"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_the_provisioner_alone_and_unknown_methods_for_nobody() {
        assert_eq!(allowed("OpenVolume"), [Machine::Provisioner]);
        assert_eq!(allowed("BindServiceAccounts"), [Machine::SpawnerHook]);
        assert!(allowed("DropEverything").is_empty());
        assert!(allowed("").is_empty());
    }
}

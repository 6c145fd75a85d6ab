//! Which machine may call which method: one table. A method that is not in it is nobody's.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tonic::Status;

use crate::api::caller::{bearer, origin};
use crate::audit::{Decision, Event, Origin};
use crate::broker::Broker;
use crate::identity::{Machine, Purpose};
use crate::server::RequestId;

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
    /// From where it calls.
    pub origin: Origin,
}

impl Authorised {
    /// What is recorded of a decision on a call of its.
    #[must_use]
    pub fn event(&self, verb: &'static str, object: &str, decision: Decision, reason: &str) -> Event {
        Event::new(&self.account, verb, object, decision, reason, &self.origin)
    }
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
    request
        .extensions_mut()
        .insert(RequestId(uuid::Uuid::new_v4().to_string()));
    let origin = origin(request.extensions());
    let authorised = match authorise(&broker, token.as_deref(), &method, origin).await {
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

async fn authorise(
    broker: &Broker,
    token: Option<&str>,
    method: &str,
    origin: Origin,
) -> Result<Authorised, Status> {
    let Some(token) = token else {
        return Err(refuse(broker, &origin, "no_bearer_token").await);
    };
    let verified = match broker.issuers.verify(token, Purpose::Machines).await {
        Ok(verified) => verified,
        Err(reason) if reason.is_no_verdict() => {
            return Err(Status::unavailable(
                "the token's issuer cannot be reached; try again in a moment",
            ));
        }
        Err(reason) => return Err(refuse(broker, &origin, &reason.to_string()).await),
    };
    broker.metrics.tokens_accepted.fetch_add(1, Ordering::Relaxed);
    let machines = broker.roles.machines_of(&verified);
    let account = verified.subject.sub;
    if machines.iter().any(|machine| allowed(method).contains(machine)) {
        return Ok(Authorised { account, origin });
    }
    // Nothing of a path that names no method: its text is the caller's.
    let method = TABLE
        .iter()
        .find(|(name, _)| *name == method)
        .map_or("unknown_method", |(name, _)| *name);
    let event = Event::new(
        &account,
        "call",
        method,
        Decision::Denied,
        "not_in_table",
        &origin,
    );
    broker.audit.tell(event).await;
    Err(Status::permission_denied("this machine may not call this method"))
}

async fn refuse(broker: &Broker, origin: &Origin, reason: &str) -> Status {
    broker.metrics.tokens_refused.fetch_add(1, Ordering::Relaxed);
    let event = Event::new("", "authenticate", "machines", Decision::Denied, reason, origin);
    broker.audit.tell(event).await;
    Status::unauthenticated("the bearer token is missing or was not accepted")
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

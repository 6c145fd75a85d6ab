//! Who asks, and in which role. A ServiceAccount acts for the person that it is bound to; one that is bound to nobody has no role.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use http::header;
use http::request::Parts;
use leasehold_broker_wire::rest::Me;
use leasehold_chaincode::{Msp, Refusal, Subject as Pseudonym};

use super::openapi::ReadRefused;
use super::problem::ApiProblem;
use crate::audit::{Audit, Decision, Event, Origin};
use crate::broker::Broker;
use crate::identity::{Purpose, Role, TokenError, Verified};
use crate::server::{Peer, RequestId};
use crate::store::people::Person;

/// Where an AWS load balancer puts whom it has logged in.
const BALANCER_HEADER: &str = "x-amzn-oidc-data";

/// An authenticated person.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub person: Person,
    /// The person's name on the ledger.
    pub pseudonym: Pseudonym,
    /// In which roles.
    pub roles: BTreeSet<Role>,
    /// Groups that the issuer's claims name.
    pub groups: BTreeSet<String>,
    /// From where.
    pub origin: Origin,
    /// Where it is recorded what they may and may not.
    pub audit: Arc<Audit>,
}

impl Caller {
    /// Refuses a caller that lacks a role.
    ///
    /// # Errors
    /// A problem that says which.
    pub async fn require(&self, role: Role, verb: &'static str) -> Result<(), ApiProblem> {
        if self.roles.contains(&role) {
            return Ok(());
        }
        self.refused(verb, "", "role_missing").await;
        Err(ApiProblem::forbidden(match role {
            Role::Steward => {
                "only data stewards of this organisation may do this; ask your operator to name you as one"
            }
            Role::Researcher => {
                "only researchers may do this; from a notebook, stop and start your server so that it is bound to you"
            }
            Role::Operator => "only operators may do this; ask for that role at your issuer",
            Role::Auditor => "only auditors may do this; ask for that role at your issuer",
        }))
    }

    /// Refuses what only the owner of a dataset may do, where that is another organisation than this broker's.
    ///
    /// # Errors
    /// A problem that names the owner.
    pub async fn require_owner(
        &self,
        broker: &Broker,
        owner: &Msp,
        object: &str,
        verb: &'static str,
    ) -> Result<(), ApiProblem> {
        if *owner == broker.config.organisation {
            return Ok(());
        }
        self.refused(verb, object, "not_owner").await;
        Err(ApiProblem::refused(&Refusal::NotOwner {
            owner: owner.to_string(),
        }))
    }

    /// What is recorded of a decision on a request of theirs.
    #[must_use]
    pub fn event(&self, verb: &'static str, object: &str, decision: Decision, reason: &str) -> Event {
        Event::new(
            &self.person.pseudonym,
            verb,
            object,
            decision,
            reason,
            &self.origin,
        )
    }

    /// Records that a request of theirs was refused.
    pub async fn refused(&self, verb: &'static str, object: &str, reason: &str) {
        self.audit
            .tell(self.event(verb, object, Decision::Denied, reason))
            .await;
    }

    /// Who asks by the same headers now; nobody where the token is good no longer, or cannot be checked, or is somebody else's.
    pub async fn again(broker: &Broker, headers: &http::HeaderMap, before: &Self) -> Option<Self> {
        let verified = who(broker, headers).await.ok()?;
        let caller = identify(broker, verified, before.origin.clone()).await.ok()?;
        (caller.pseudonym == before.pseudonym).then_some(caller)
    }

    /// Whether the caller has a role in which one reads the catalogue.
    #[must_use]
    pub fn may_read_catalogue(&self) -> bool {
        self.is_steward() || self.roles.contains(&Role::Researcher)
    }

    /// Whether the caller is a data steward.
    #[must_use]
    pub fn is_steward(&self) -> bool {
        self.roles.contains(&Role::Steward)
    }
}

/// Pseudonym of the authenticated person; an extension of their request.
#[derive(Debug, Clone)]
pub struct Submitter(pub String);

impl FromRequestParts<Arc<Broker>> for Caller {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, broker: &Arc<Broker>) -> Result<Self, ApiProblem> {
        let origin = origin(&parts.extensions);
        let verified = match who(broker, &parts.headers).await {
            Ok(verified) => verified,
            Err(Refused::No(reason)) => return Err(refuse(broker, &origin, reason).await),
            Err(Refused::Token(reason)) if reason.is_no_verdict() => {
                let reason = reason.to_string();
                let event = Event::new("", "authenticate", "people", Decision::Denied, reason, &origin);
                broker.audit.tell(event).await;
                return Err(ApiProblem::issuer_unavailable());
            }
            Err(Refused::Token(reason)) => {
                return Err(refuse(broker, &origin, &reason.to_string()).await);
            }
        };
        broker.metrics.tokens_accepted.fetch_add(1, Ordering::Relaxed);
        let caller = identify(broker, verified, origin).await?;
        if let Err(wait) = broker.pace.request(&caller.person.pseudonym) {
            caller.refused("ask", "", "too_many_requests").await;
            return Err(ApiProblem::too_fast(wait));
        }
        parts
            .extensions
            .insert(Submitter(caller.person.pseudonym.clone()));
        Ok(caller)
    }
}

enum Refused {
    /// There is no token, or more than one.
    No(&'static str),
    Token(TokenError),
}

/// Whoever the one identity of the request is. Between two of them nothing is chosen.
async fn who(broker: &Broker, headers: &http::HeaderMap) -> Result<Verified, Refused> {
    let mut added = headers.get_all(BALANCER_HEADER).iter();
    if let Some(balancer) = broker.issuers.balancer()
        && let Some(data) = added.next()
    {
        if added.next().is_some() || headers.contains_key(header::AUTHORIZATION) {
            return Err(Refused::No("two_identities"));
        }
        if is_of_another_site(headers) {
            return Err(Refused::No("another_site"));
        }
        let data = data.to_str().map_err(|_| Refused::Token(TokenError::Encoding))?;
        return balancer.verify(data).await.map_err(Refused::Token);
    }
    let token = bearer(headers).ok_or(Refused::No("no_bearer_token"))?;
    let verified = broker.issuers.verify(token, Purpose::People).await;
    verified.map_err(Refused::Token)
}

/// Whether a page of another site had the browser ask. A balancer knows its people by a cookie, which browsers send along whoever's the
/// page is; what browsers say of it no page can change (W3C Fetch Metadata, RFC 6454).
fn is_of_another_site(headers: &http::HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => !["same-origin", "none"].contains(&site),
        (None, Some(origin)) => {
            let origin = origin.parse::<http::Uri>().ok();
            let authority = origin.as_ref().and_then(|origin| origin.authority());
            authority.map(|authority| authority.as_str()) != text("host")
        }
        (None, None) => false,
    }
}

/// The one token of the one `Authorization` header.
pub fn bearer(headers: &http::HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Where a request came from, as the outer layers noted it.
pub fn origin(extensions: &http::Extensions) -> Origin {
    Origin {
        source: extensions.get::<Peer>().map(|peer| peer.0.ip()),
        request: extensions.get::<RequestId>().map(|id| id.0.clone()),
    }
}

async fn refuse(broker: &Broker, origin: &Origin, reason: &str) -> ApiProblem {
    broker.metrics.tokens_refused.fetch_add(1, Ordering::Relaxed);
    let event = Event::new("", "authenticate", "people", Decision::Denied, reason, origin);
    broker.audit.tell(event).await;
    ApiProblem::unauthenticated()
}

async fn identify(broker: &Broker, verified: Verified, origin: Origin) -> Result<Caller, ApiProblem> {
    let mut standing = verified.standing;
    let mut person = Person {
        pseudonym: broker.ring.pseudonym(&verified.subject),
        subject: verified.subject,
        username: verified.username,
    };
    // An account that is a steward itself acts for itself, any other for the person that it is bound to, in the roles that the person's
    // issuer told at that time.
    let listed = broker.roles.is_listed(&person.subject);
    // Another cluster's accounts may have any uid: only those of the cluster whose hub binds are bound to anybody.
    let may_be_bound = !listed && broker.roles.is_of_this_cluster(&person.subject);
    if let Some(account) = verified.account.filter(|_| may_be_bound)
        && let Some(bound) = broker.store.person_of_notebook(&account.uid).await?
    {
        standing = broker.store.standing(&bound.pseudonym).await?;
        person = bound;
    }
    let roles = broker.roles.roles_of(&person.subject, &standing);
    let pseudonym = Pseudonym::new(person.pseudonym.clone()).map_err(|error| {
        tracing::error!(%error, "the key store has a pseudonym that is none");
        ApiProblem::internal()
    })?;
    Ok(Caller {
        person,
        pseudonym,
        roles,
        groups: standing.groups,
        origin,
        audit: Arc::clone(&broker.audit),
    })
}

/// `GET /v1/me`.
#[utoipa::path(
    get,
    path = "/me",
    operation_id = "me",
    summary = "Who the broker takes the caller for",
    description = "",
    tag = "me",
    responses((status = 200, description = "Who the broker takes the caller for", body = Me), ReadRefused)
)]
pub async fn me(State(broker): State<Arc<Broker>>, caller: Caller) -> Json<Me> {
    Json(Me {
        issuer: caller.person.subject.issuer,
        subject: caller.person.subject.sub,
        username: caller.person.username,
        roles: caller.roles.iter().map(|role| role.name().to_owned()).collect(),
        groups: caller.groups.into_iter().collect(),
        organisation: broker.config.organisation.to_string(),
    })
}

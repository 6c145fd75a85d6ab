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

use super::problem::ApiProblem;
use crate::audit::{self, Decision};
use crate::broker::Broker;
use crate::identity::{Purpose, Role, TokenError, Verified};
use crate::store::people::Person;

/// An authenticated person.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub person: Person,
    /// The person's name on the ledger.
    pub pseudonym: Pseudonym,
    /// In which roles.
    pub roles: BTreeSet<Role>,
}

impl Caller {
    /// Refuses a caller that lacks a role.
    ///
    /// # Errors
    /// A problem that says which.
    pub fn require(&self, role: Role, verb: &'static str) -> Result<(), ApiProblem> {
        if self.roles.contains(&role) {
            return Ok(());
        }
        audit::record(&self.person.pseudonym, verb, "", Decision::Denied, "role_missing");
        Err(ApiProblem::forbidden(match role {
            Role::Steward => {
                "only data stewards of this organisation may do this; ask your operator to name you as one"
            }
            Role::Researcher => {
                "only researchers may do this; from a notebook, stop and start your server so that it is bound to you"
            }
        }))
    }

    /// Refuses what only the owner of a dataset may do, where that is another organisation than this broker's.
    ///
    /// # Errors
    /// A problem that names the owner.
    pub fn require_owner(
        &self,
        broker: &Broker,
        owner: &Msp,
        object: &str,
        verb: &'static str,
    ) -> Result<(), ApiProblem> {
        if *owner == broker.config.organisation {
            return Ok(());
        }
        audit::record(
            &self.person.pseudonym,
            verb,
            object,
            Decision::Denied,
            "not_owner",
        );
        Err(ApiProblem::refused(&Refusal::NotOwner {
            owner: owner.to_string(),
        }))
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
        let token = bearer(&parts.headers).ok_or_else(|| refuse(broker, "no_bearer_token"))?;
        let verified = match broker.issuers.verify(token, Purpose::People).await {
            Ok(verified) => verified,
            Err(TokenError::KeysUnavailable) => return Err(ApiProblem::issuer_unavailable()),
            Err(reason) => return Err(refuse(broker, &reason.to_string())),
        };
        broker.metrics.tokens_accepted.fetch_add(1, Ordering::Relaxed);
        let caller = identify(broker, verified).await?;
        parts
            .extensions
            .insert(Submitter(caller.person.pseudonym.clone()));
        Ok(caller)
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

fn refuse(broker: &Broker, reason: &str) -> ApiProblem {
    broker.metrics.tokens_refused.fetch_add(1, Ordering::Relaxed);
    audit::record("", "authenticate", "people", Decision::Denied, reason);
    ApiProblem::unauthenticated()
}

async fn identify(broker: &Broker, verified: Verified) -> Result<Caller, ApiProblem> {
    let mut roles = BTreeSet::new();
    let steward = broker.roles.is_steward(&verified.subject);
    let mut person = Person {
        pseudonym: broker.ring.pseudonym(&verified.subject),
        subject: verified.subject,
        username: verified.username,
    };
    if steward {
        roles.insert(Role::Steward);
    }
    if verified.researcher {
        roles.insert(Role::Researcher);
    }
    // An account that is a steward itself acts for itself, any other for the person that it is bound to.
    if let Some(account) = verified.account.filter(|_| !steward)
        && let Some(bound) = broker.store.person_of_notebook(&account.uid).await?
    {
        roles.insert(Role::Researcher);
        if broker.roles.is_steward(&bound.subject) {
            roles.insert(Role::Steward);
        }
        person = bound;
    }
    let pseudonym = Pseudonym::new(person.pseudonym.clone()).map_err(|error| {
        tracing::error!(%error, "the key store has a pseudonym that is none");
        ApiProblem::internal()
    })?;
    Ok(Caller {
        person,
        pseudonym,
        roles,
    })
}

/// `GET /v1/me`.
pub async fn me(State(broker): State<Arc<Broker>>, caller: Caller) -> Json<Me> {
    Json(Me {
        issuer: caller.person.subject.issuer,
        subject: caller.person.subject.sub,
        username: caller.person.username,
        roles: caller.roles.iter().map(|role| role.name().to_owned()).collect(),
        organisation: broker.config.organisation.to_string(),
    })
}

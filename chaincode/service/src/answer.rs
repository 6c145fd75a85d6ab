//! What a client is told: the outcome of an accepted command, or a problem with a status and a code.

use crate::caller::CallerError;
use crate::request::ArgumentError;
use fabric_shim::{CallError, EventError, ProposalError, Response};
use leasehold_chaincode::{CommandResult, Event, Outcome, Refusal, StateError, TxContext};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Name of the event of every transaction; its payload is a [`Told`].
pub const EVENT_NAME: &str = "leasehold";

/// What an accepted command did: the answer to its client and, the same bytes, the event for followers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// The transaction's time, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// The organisation that submitted it.
    pub by: leasehold_chaincode::Msp,
    /// The contract's answer.
    pub result: CommandResult,
    /// One for each transition.
    pub events: Vec<Event>,
}

impl Told {
    pub(crate) fn of(context: &TxContext, outcome: Outcome) -> Self {
        Self {
            timestamp_ms: context.timestamp_ms,
            by: context.caller.clone(),
            result: outcome.result,
            events: outcome.events,
        }
    }
}

/// Why a transaction is not endorsed. In an answer it is a JSON object with `code`, `message` and, where the contract refused, the
/// refusal's own fields.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The arguments ask for nothing.
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    /// It is not known who asks.
    #[error(transparent)]
    Caller(#[from] CallerError),
    /// The contract says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The proposal has no time, or is none.
    #[error("{0}; propose the transaction through a peer's gateway")]
    Proposal(#[from] ProposalError),
    /// The state cannot be read as the contract knows it.
    #[error(transparent)]
    State(#[from] StateError),
    /// The peer did not do what it was asked for.
    #[error(transparent)]
    Peer(#[from] CallError),
    /// Something that should not be possible.
    #[error("the chaincode failed: {0}; report this")]
    Defect(String),
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        Self::Defect(error.to_string())
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        Self::Defect(error.to_string())
    }
}

impl Problem {
    /// As in HTTP: 400 and more, so that no peer endorses it.
    #[must_use]
    pub fn status(&self) -> i32 {
        match self {
            Self::Arguments(ArgumentError::UnknownFunction) => 404,
            Self::Arguments(_) | Self::Proposal(_) => 400,
            Self::Caller(_) => 403,
            Self::Refused(refusal) => of_refusal(refusal),
            Self::State(_) | Self::Peer(_) | Self::Defect(_) => 500,
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Arguments(ArgumentError::UnknownFunction) => "unknown_function",
            Self::Arguments(_) => "malformed_arguments",
            Self::Caller(_) => "unknown_caller",
            Self::Refused(refusal) => refusal.code(),
            Self::Proposal(_) => "malformed_proposal",
            Self::State(_) => "unreadable_state",
            Self::Peer(_) => "peer_failed",
            Self::Defect(_) => "defect",
        }
    }

    /// As a client sees it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut document = match self {
            Self::Refused(refusal) => serde_json::to_value(refusal).unwrap_or_default(),
            _ => json!({}),
        };
        if let Value::Object(fields) = &mut document {
            fields.insert("code".to_owned(), json!(self.code()));
            fields.insert("message".to_owned(), json!(self.to_string()));
        }
        document
    }
}

/// Gateways pass on a refusal's message and not its payload, so the document is the message.
impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        Self::refusal(problem.status(), problem.to_json().to_string())
    }
}

fn of_refusal(refusal: &Refusal) -> i32 {
    match refusal {
        Refusal::InvalidField { .. } => 400,
        Refusal::NotOwner { .. }
        | Refusal::RoleNeeded { .. }
        | Refusal::NotOffered { .. }
        | Refusal::NotCluster { .. }
        | Refusal::OrganisationNotAdmitted { .. }
        | Refusal::GroupNotAdmitted {}
        | Refusal::ModeNotAllowed { .. }
        | Refusal::OrganisationNotJoined { .. }
        | Refusal::OrganisationSuspended { .. } => 403,
        Refusal::DatasetNotFound {}
        | Refusal::LeaseNotFound {}
        | Refusal::OrganisationNotFound {}
        | Refusal::ClusterNotFound { .. } => 404,
        Refusal::DatasetNameTaken { .. }
        | Refusal::TransactionReused { .. }
        | Refusal::DatasetLeased { .. }
        | Refusal::LeaseConflict { .. }
        | Refusal::LineFull { .. }
        | Refusal::AlreadyLeased { .. }
        | Refusal::LeaseNotRequested { .. }
        | Refusal::RenewalWaitedFor { .. }
        | Refusal::TooEarlyToDeclare { .. }
        | Refusal::Unchanged {}
        | Refusal::LeaseNotActive { .. }
        | Refusal::LeaseNotEnding { .. }
        | Refusal::LeaseExpired { .. }
        | Refusal::AlreadyJoined { .. }
        | Refusal::TraceKeyUsed { .. }
        | Refusal::NotExpired { .. }
        | Refusal::MountUnchanged {}
        | Refusal::Exhausted { .. } => 409,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_comes_back_whole_from_its_document() {
        let refusal = Refusal::InvalidField {
            field: "name".to_owned(),
            reason: "too long".to_owned(),
        };
        let problem = Problem::from(refusal.clone());
        let mut document = problem.to_json();
        assert_eq!(document["message"], refusal.to_string());
        document.as_object_mut().unwrap().remove("message");
        assert_eq!(serde_json::from_value::<Refusal>(document).unwrap(), refusal);
        assert_eq!(Response::from(problem).status, 400);
    }

    #[test]
    fn no_problem_is_endorsed() {
        for problem in [
            Problem::Arguments(ArgumentError::UnknownFunction),
            Problem::Caller(CallerError::Role),
            Problem::Refused(Refusal::DatasetNotFound {}),
            Problem::State(StateError::NotLoaded),
            Problem::Defect("a defect".to_owned()),
        ] {
            let (code, response) = (problem.code(), Response::from(problem));
            assert!(!response.is_success(), "{code}");
            assert!(
                response.message.contains(&format!("\"code\":\"{code}\"")),
                "{}",
                response.message
            );
        }
    }
}

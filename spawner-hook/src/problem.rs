//! Every way in which a spawn fails, and what the hub is told (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use leasehold_broker_wire::names::{SPAWNER_HOOK_AUDIENCE, USERS_NAMESPACE_LABEL};
use leasehold_broker_wire::rest::Problem;

use crate::request::FieldError;

/// Why a spawn was not prepared.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No token, or one that the API server does not vouch for.
    #[error(
        "the caller's token was not accepted; the hub needs a ServiceAccount token with audience {SPAWNER_HOOK_AUDIENCE}"
    )]
    Unauthenticated,
    /// Somebody else than a hub.
    #[error(
        "{caller} is not among the hubs of the spawner-hook; its operator names them with --hub-identities"
    )]
    NotAHub {
        /// Who called.
        caller: String,
    },
    /// Not a spawn request.
    #[error("the body is not a spawn request: {0}")]
    Malformed(String),
    /// A field of it.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The operator has not opened the namespace to people.
    #[error(
        "namespace {namespace} is not labelled {USERS_NAMESPACE_LABEL}=true, so nobody is given accounts in it; its operator has to label it"
    )]
    NamespaceNotAllowed {
        /// Which.
        namespace: String,
    },
    /// An account's name is taken.
    #[error(
        "{object} in namespace {namespace} belongs to another username; nothing was changed; ask your administrator"
    )]
    UsernameTaken {
        /// Kind and name.
        object: String,
        /// Where.
        namespace: String,
    },
    /// The pod's name is another person's.
    #[error(
        "pod name {pod} in namespace {namespace} belongs to another username; nothing was changed; ask your administrator"
    )]
    PodNameTaken {
        /// The pod.
        pod: String,
        /// Where.
        namespace: String,
    },
    /// The API server refused or did not answer.
    #[error("the Kubernetes API server did not do {what}: {reason}")]
    Kubernetes {
        /// What was tried, on what.
        what: String,
        /// Why it failed.
        reason: String,
    },
    /// The broker's CA certificate is not there yet.
    #[error("the secret broker's CA certificate is not published yet ({reason}); try again in a moment")]
    NoBrokerCa {
        /// Why.
        reason: String,
    },
    /// The broker does not take the person's JWT or another part of the binding.
    #[error("the secret broker does not accept this person: {0}")]
    PersonRefused(String),
    /// The accounts' uids are another person's at the broker.
    #[error("the secret broker refuses to bind these accounts: {0}")]
    BindingTaken(String),
    /// The broker does not take us for the spawner-hook.
    #[error(
        "the secret broker does not take us for the spawner-hook: {0}; its operator has to name our ServiceAccount"
    )]
    BrokerRefusedUs(String),
    /// The broker is away.
    #[error("the secret broker does not answer: {0}; try again in a moment")]
    BrokerUnreachable(String),
    /// All of it together took too long.
    #[error("the spawn could not be prepared in time; try again in a moment")]
    Deadline,
}

impl SpawnError {
    /// The stable code and its HTTP status.
    #[must_use]
    pub fn code(&self) -> (&'static str, StatusCode) {
        match self {
            Self::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED),
            Self::NotAHub { .. } => ("not_a_hub", StatusCode::FORBIDDEN),
            Self::Malformed(_) => ("malformed_body", StatusCode::BAD_REQUEST),
            Self::Field(_) => ("invalid_field", StatusCode::BAD_REQUEST),
            Self::NamespaceNotAllowed { .. } => ("namespace_not_allowed", StatusCode::FORBIDDEN),
            Self::UsernameTaken { .. } => ("username_taken", StatusCode::CONFLICT),
            Self::PodNameTaken { .. } => ("pod_name_taken", StatusCode::CONFLICT),
            Self::Kubernetes { .. } => ("kubernetes_unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::NoBrokerCa { .. } => ("broker_ca_missing", StatusCode::SERVICE_UNAVAILABLE),
            Self::PersonRefused(_) => ("person_refused", StatusCode::BAD_REQUEST),
            Self::BindingTaken(_) => ("binding_taken", StatusCode::CONFLICT),
            Self::BrokerRefusedUs(_) => ("broker_refused", StatusCode::BAD_GATEWAY),
            Self::BrokerUnreachable(_) => ("broker_unreachable", StatusCode::SERVICE_UNAVAILABLE),
            Self::Deadline => ("deadline_exceeded", StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// As the hub gets it.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let (code, status) = self.code();
        Problem {
            kind: format!("urn:leasehold:problem:{code}"),
            title: code.replace('_', " "),
            status: status.as_u16(),
            detail: self.to_string(),
            instance: None,
            etag: None,
            field: match self {
                Self::Field(error) => Some(error.field.to_owned()),
                _ => None,
            },
        }
    }
}

impl From<tonic::Status> for SpawnError {
    fn from(status: tonic::Status) -> Self {
        let said = status.message().to_owned();
        match status.code() {
            tonic::Code::InvalidArgument => Self::PersonRefused(said),
            tonic::Code::AlreadyExists | tonic::Code::FailedPrecondition => Self::BindingTaken(said),
            tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => Self::BrokerRefusedUs(said),
            _ => Self::BrokerUnreachable(said),
        }
    }
}

impl IntoResponse for SpawnError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.code().1, body).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if problem.status == StatusCode::UNAUTHORIZED.as_u16() {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

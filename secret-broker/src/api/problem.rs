//! Every refusal of the REST API, as an RFC 9457 problem with a stable code: what was tried, why it failed, what to do.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use leasehold_broker_wire::rest::Problem;
use leasehold_chaincode::Refusal;

use crate::ledger::ReadError;
use crate::store::StoreError;

/// A refusal on its way to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiProblem {
    code: String,
    status: StatusCode,
    title: &'static str,
    detail: String,
    field: Option<Box<str>>,
    /// After how many seconds to come again.
    retry_after: Option<u64>,
    /// The tag of what is there, where it is not what was expected.
    etag: Option<Box<str>>,
}

impl ApiProblem {
    fn new(status: StatusCode, code: &str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            status,
            title,
            detail: detail.into(),
            field: None,
            retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
            etag: None,
        }
    }

    fn after(mut self, wait: Duration) -> Self {
        // A part of a second counts as one: whoever comes at that time is not refused again.
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        self.retry_after = Some(seconds);
        self
    }

    /// One answer for every token that is missing or does not verify.
    pub fn unauthenticated() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "Not authenticated",
            "the bearer token is missing or was not accepted; get a new one from your issuer",
        )
    }

    /// The issuer's keys are not there yet.
    pub fn issuer_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "issuer_unavailable",
            "Issuer unavailable",
            "the token's issuer cannot be reached, so that the token cannot be checked; try again in a moment",
        )
    }

    /// The caller lacks a role.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// One answer for what is not there and for what is somebody else's.
    pub fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "Not found",
            "there is no such thing, or it is not yours; list what you have for its id",
        )
    }

    /// The path exists, not with this method.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Method not allowed",
            "this path does not take this method",
        )
    }

    /// A field of the request is wrong.
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "invalid_field", "Invalid field", detail);
        problem.field = Some(field.into().into_boxed_str());
        problem
    }

    /// The body as a whole is wrong.
    pub fn body(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_body", "Invalid body", detail)
    }

    /// The body is no JSON.
    pub fn media_type() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "Unsupported media type",
            "the body's content type is not application/json; send JSON",
        )
    }

    /// The body is too large.
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            "Body too large",
            format!("the body is larger than {limit_bytes} bytes; send less"),
        )
    }

    /// The request took too long.
    pub fn timeout() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "timeout",
            "Took too long",
            "the request took too long; send it again with the same Idempotency-Key",
        )
    }

    /// What was to be changed is not what the caller knows any longer.
    pub fn precondition_failed(present: String) -> Self {
        let mut problem = Self::new(
            StatusCode::PRECONDITION_FAILED,
            "precondition_failed",
            "Changed meanwhile",
            "the dataset is not as it was when you read it, and nothing was changed; read it again, then send the request with its tag",
        );
        problem.etag = Some(present.into_boxed_str());
        problem
    }

    /// An idempotency key stands for another request.
    pub fn key_reused() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "Idempotency key reused",
            "this Idempotency-Key was used for another request; choose a new one",
        )
    }

    /// Too many of the caller's writes wait to be decided.
    pub fn too_many_operations() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_operations",
            "Too many operations",
            "too many of your operations are not decided yet; wait for some of them, then send it again",
        )
    }

    /// The caller has as many leases as anybody may have.
    pub fn too_many_leases(most: usize) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_leases",
            "Too many leases",
            format!(
                "you have {most} leases that are not over, which is all that one person may have; release one first"
            ),
        )
    }

    /// Too much of what the caller sends is being read at the same time.
    pub fn too_many_requests() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            "Too many requests",
            "too many requests of yours, or of everybody, are being read or searched for at the same time; send it again in a moment",
        )
    }

    /// The caller asks faster than one person may.
    pub fn too_fast(wait: Duration) -> Self {
        let detail =
            "you ask faster than one person may; wait as long as Retry-After says, then send it again";
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            "Too many requests",
            detail,
        )
        .after(wait)
    }

    /// The caller asks for changes faster than one person may.
    pub fn too_many_changes(wait: Duration) -> Self {
        let detail = "you ask for changes faster than one person may, and this one was not accepted; wait as long as Retry-After says, then send it again";
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_changes",
            "Too many changes",
            detail,
        )
        .after(wait)
    }

    /// As many streams of events are open as there may be.
    pub fn too_many_streams(most: usize) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_streams",
            "Too many streams",
            format!(
                "you have {most} streams of events open, or as many are open from your address, or of everybody, as there may be; close one, or try again later"
            ),
        )
    }

    /// The storage failed. What exactly is for the log.
    pub fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Unavailable",
            "the broker cannot reach its storage; try again in a moment",
        )
    }

    /// There is no index of the catalogue now.
    pub fn search_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "search_unavailable",
            "Search unavailable",
            "the index of the catalogue is being made; try again in a moment, or list the catalogue without `q`",
        )
    }

    /// What would be allowed cannot be recorded.
    pub fn audit_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "audit_unavailable",
            "Audit unavailable",
            "the broker cannot record what it decides, and decides nothing until it can; send it again with the same Idempotency-Key",
        )
    }

    /// The broker does not follow the ledger any longer.
    pub fn events_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "events_unavailable",
            "Events unavailable",
            "the broker does not hear of what happens on the ledger; read the lists instead, and ask your operator if this lasts",
        )
    }

    /// A defect of ours. What exactly is for the log.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "the broker failed; its log has the reason under this request's id",
        )
    }

    /// An accepted operation was written by another version.
    pub fn unreadable_operation() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "operation_unreadable",
            "Operation unreadable",
            "the accepted operation cannot be read by this version of the broker; send the request again",
        )
    }

    /// The ledger did not take it, for another reason than the contract's, and will not.
    pub fn not_committed(reason: &str) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "not_committed",
            "Not committed",
            format!("nothing was changed: {reason}"),
        )
    }

    /// Nobody tells whether the ledger took it.
    pub fn outcome_unknown(reason: &str) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "outcome_unknown",
            "Outcome unknown",
            format!("it may have been done: {reason}; look whether it was before you send the request again"),
        )
    }

    /// What the contract refused.
    pub fn refused(refusal: &Refusal) -> Self {
        let (status, title) = match refusal {
            Refusal::InvalidField { field, .. } => return Self::field(field.clone(), refusal.to_string()),
            Refusal::DatasetNameTaken { .. } => (StatusCode::CONFLICT, "Name taken"),
            Refusal::DatasetLeased { .. } => (StatusCode::CONFLICT, "Dataset leased"),
            Refusal::LeaseConflict { .. } => (StatusCode::CONFLICT, "Leased by somebody else"),
            Refusal::LeaseNotActive { .. } => (StatusCode::CONFLICT, "Lease not active"),
            Refusal::AlreadyLeased { .. } => (StatusCode::CONFLICT, "Leased already"),
            Refusal::LineFull { .. } => (StatusCode::CONFLICT, "Line full"),
            Refusal::RenewalWaitedFor { .. } => (StatusCode::CONFLICT, "Others wait"),
            Refusal::LeaseExpired { .. } => (StatusCode::CONFLICT, "Lease expired"),
            Refusal::TransactionReused { .. }
            | Refusal::LeaseNotRequested { .. }
            | Refusal::TooEarlyToDeclare { .. }
            | Refusal::Unchanged {}
            | Refusal::AlreadyJoined { .. }
            | Refusal::TraceKeyUsed { .. }
            | Refusal::LeaseNotEnding { .. }
            | Refusal::NotExpired { .. }
            | Refusal::MountUnchanged {} => (StatusCode::CONFLICT, "Conflict"),
            Refusal::DatasetNotFound {} | Refusal::LeaseNotFound {} | Refusal::OrganisationNotFound {} => {
                (StatusCode::NOT_FOUND, "Not found")
            }
            Refusal::NotOwner { .. }
            | Refusal::NotCluster { .. }
            | Refusal::RoleNeeded { .. }
            | Refusal::OrganisationNotJoined { .. }
            | Refusal::NotOffered { .. } => (StatusCode::FORBIDDEN, "Not allowed"),
            Refusal::OrganisationSuspended { .. } => (StatusCode::FORBIDDEN, "Organisation suspended"),
            Refusal::ClusterNotFound { .. } => (StatusCode::CONFLICT, "No cluster"),
            Refusal::OrganisationNotAdmitted { .. }
            | Refusal::GroupNotAdmitted {}
            | Refusal::ModeNotAllowed { .. } => (StatusCode::FORBIDDEN, "Not by the owner's terms"),
            Refusal::Exhausted { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "Exhausted"),
        };
        Self::new(status, refusal.code(), title, refusal.to_string())
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The problem without a request's id, as an operation keeps it.
    #[must_use]
    pub fn body_without_id(&self) -> Problem {
        Problem {
            kind: format!("urn:leasehold:problem:{}", self.code),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            instance: None,
            field: self.field.as_deref().map(str::to_owned),
            etag: self.etag.as_deref().map(str::to_owned),
        }
    }

    /// The answer.
    #[must_use]
    pub fn render(&self, request_id: &str) -> Response {
        let mut problem = self.body_without_id();
        problem.instance = Some(format!("urn:uuid:{request_id}"));
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(etag) = self
            .etag
            .as_deref()
            .and_then(|tag| HeaderValue::from_str(tag).ok())
        {
            headers.insert(header::ETAG, etag);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The outer layer gives the answer its body, since it knows the request's id.
impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ReadError> for ApiProblem {
    fn from(error: ReadError) -> Self {
        tracing::error!(%error, "could not read the ledger");
        Self::unavailable()
    }
}

impl From<StoreError> for ApiProblem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the key store failed");
        Self::unavailable()
    }
}

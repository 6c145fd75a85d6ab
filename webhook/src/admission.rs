//! The thin shell around [`crate::review`]: from the bytes of an AdmissionReview to the bytes of its answer. Asks the API
//! server or the broker what the views don't know, within the deadline; turns every failure into a no that says why.

mod arguments;
mod callers;
mod health;
mod lookups;
mod metrics;
mod run;
mod serve;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;

use crate::leases::LeaseIndex;
use crate::review::envelope::{AdmissionReview, Answer, Request, Response, Status};
use crate::review::patch::Patch;
use crate::review::{Denial, Fact, Identities, Question, Reason, Stage, Stop, Verdict, View, review};
use crate::stamps::{AccountIndex, StampIndex};

pub use arguments::AdmissionArguments;
pub use callers::Limits;
pub use lookups::Lookups;
pub use metrics::Metrics;
pub use run::{RunError, run};
pub use serve::{MAX_BODY_BYTES, serve};

/// More questions than any review has: it is going in circles.
const MOST_QUESTIONS: usize = 8;

/// What reviews are decided from. Fed by [`crate::leases::follow()`] and [`crate::watches`].
#[derive(Debug, Default)]
pub struct Views {
    /// Leases and bindings.
    pub leases: LeaseIndex,
    /// Workflows.
    pub workflows: StampIndex,
    /// CronWorkflows.
    pub cron_workflows: StampIndex,
    /// ServiceAccounts.
    pub accounts: AccountIndex,
}

/// Everything that answers reviews.
#[derive(Debug)]
pub struct Admission {
    views: Arc<Views>,
    identities: Identities,
    lookups: Lookups,
    metrics: Metrics,
    in_flight: AtomicUsize,
    most_in_flight: usize,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Reply {
    /// 200 for every AdmissionReview that could be read, allowed or not.
    pub status: StatusCode,
    /// JSON.
    pub body: Vec<u8>,
}

/// A body that is no AdmissionReview.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// Not JSON, or not of its shape.
    #[error("the body is no AdmissionReview: {0}; only an API server calls this path")]
    Malformed(#[from] serde_json::Error),
    /// Another version than ours.
    #[error("{kind} of {api_version} is not understood; send AdmissionReview of admission.k8s.io/v1")]
    UnsupportedVersion {
        /// As sent.
        api_version: String,
        /// As sent.
        kind: String,
    },
    /// No request within.
    #[error("the AdmissionReview carries no request")]
    NoRequest,
}

impl BadRequest {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::NoRequest => "no_request",
        }
    }
}

impl Admission {
    /// Answers from `views`, asking `lookups` what they don't know; at most `most_in_flight` reviews at once.
    #[must_use]
    pub fn new(views: Arc<Views>, identities: Identities, lookups: Lookups, most_in_flight: usize) -> Self {
        Self {
            views,
            identities,
            lookups,
            metrics: Metrics::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight,
        }
    }

    /// Counts and durations.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The views.
    #[must_use]
    pub fn views(&self) -> &Arc<Views> {
        &self.views
    }

    /// Answers one AdmissionReview before `deadline`. Never panics, whatever the body.
    pub async fn answer(&self, stage: Stage, body: Bytes, deadline: Instant) -> Reply {
        let began = Instant::now();
        let request = match read(&body) {
            Ok(request) => request,
            Err(error) => {
                self.metrics.bad_request(error.code());
                return problem(StatusCode::BAD_REQUEST, error.code(), &error.to_string());
            }
        };
        let _place;
        let verdict = match Place::take(&self.in_flight, self.most_in_flight) {
            Some(place) => {
                _place = place;
                self.decide(stage, &request, deadline).await
            }
            None => Verdict::Deny(Denial::new(
                Reason::Overloaded,
                "too many reviews at once; this is tried again by itself",
            )),
        };
        self.metrics.decided(stage, &verdict, began.elapsed());
        if let Verdict::Deny(denial) = &verdict {
            tracing::info!(
                request = %request.uid,
                code = denial.reason.code(),
                operation = ?request.operation,
                resource = %request.resource.resource,
                namespace = request.namespace(),
                name = request.name(),
                "denied: {}",
                denial.message,
            );
        }
        Reply {
            status: StatusCode::OK,
            body: write(&request.uid, verdict),
        }
    }

    /// Decides, asks, and decides again until there is a verdict.
    async fn decide(&self, stage: Stage, request: &Request<'_>, deadline: Instant) -> Verdict {
        let mut facts: Vec<(Question, Fact)> = Vec::new();
        while facts.len() <= MOST_QUESTIONS {
            let question = match self.decide_once(stage, request, &facts) {
                Ok(patch) => return Verdict::Allow(patch),
                Err(Stop::Deny(denial)) => return Verdict::Deny(denial),
                Err(Stop::Ask(question)) => question,
            };
            let fact = self.lookups.ask(&question, deadline).await;
            facts.push((question, fact));
        }
        tracing::error!(request = %request.uid, "a review asks in circles");
        Verdict::Deny(internal())
    }

    fn decide_once(
        &self,
        stage: Stage,
        request: &Request<'_>,
        facts: &[(Question, Fact)],
    ) -> Result<Patch, Stop> {
        let view = View {
            leases: &self.views.leases,
            workflows: &self.views.workflows,
            cron_workflows: &self.views.cron_workflows,
            accounts: &self.views.accounts,
            facts,
            now: Instant::now(),
            identities: &self.identities,
        };
        // A defect in a rule must not become an unanswered call: with several replicas that would look like an outage.
        catch_unwind(AssertUnwindSafe(|| review(stage, request, &view))).unwrap_or_else(|_| {
            tracing::error!(request = %request.uid, "a rule panicked");
            Err(Stop::Deny(internal()))
        })
    }
}

fn internal() -> Denial {
    Denial::new(
        Reason::Internal,
        "the review failed by a defect of Leasehold's webhook; tell your administrator, its log says more",
    )
}

/// One of the places for reviews in flight.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(in_flight: &'a AtomicUsize, most: usize) -> Option<Self> {
        let place = Self(in_flight);
        // Dropping gives it back, also where it was one too many.
        (in_flight.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn read(body: &[u8]) -> Result<Request<'_>, BadRequest> {
    let review: AdmissionReview<'_> = serde_json::from_slice(body)?;
    if review.api_version != "admission.k8s.io/v1" || review.kind != "AdmissionReview" {
        return Err(BadRequest::UnsupportedVersion {
            api_version: review.api_version.to_string(),
            kind: review.kind.to_string(),
        });
    }
    review.request.ok_or(BadRequest::NoRequest)
}

fn write(uid: &str, verdict: Verdict) -> Vec<u8> {
    let (message, patch);
    let response = match verdict {
        Verdict::Allow(changes) => {
            patch = (!changes.is_empty()).then(|| STANDARD.encode(changes.into_json()));
            Response {
                uid,
                allowed: true,
                status: None,
                patch_type: patch.as_ref().map(|_| "JSONPatch"),
                patch,
            }
        }
        Verdict::Deny(denial) => {
            message = denial.to_string();
            let status = Some(Status {
                code: denial.reason.status(),
                message: &message,
            });
            Response {
                uid,
                allowed: false,
                status,
                patch_type: None,
                patch: None,
            }
        }
    };
    let answer = Answer {
        api_version: "admission.k8s.io/v1",
        kind: "AdmissionReview",
        response,
    };
    // Strings and numbers into memory: cannot fail. An empty body would be a denial by failurePolicy.
    serde_json::to_vec(&answer).unwrap_or_default()
}

/// An HTTP failure in JSON.
fn problem(status: StatusCode, code: &str, message: &str) -> Reply {
    Reply {
        status,
        body: serde_json::json!({ "code": code, "message": message })
            .to_string()
            .into_bytes(),
    }
}

/// Runs `work` until `deadline`.
async fn before<T>(deadline: Instant, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(deadline.into(), work).await.ok()
}

//! Reads a request's body: bounded, JSON only, every key once, every field known, and wiped afterwards since it may hold a credential.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use http::header;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use leasehold_process::places::Place;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::caller::Submitter;
use super::problem::ApiProblem;
use crate::broker::Broker;
use crate::strict_json;

/// Largest body, bytes.
pub const LARGEST_BODY: usize = 64 * 1024;

/// Bodies in memory at the same time, of everybody and of one person.
pub const MOST_BODIES: usize = 512;
/// See [`MOST_BODIES`].
pub const MOST_BODIES_OF_ONE: usize = 16;

/// The bytes of a JSON body, and its place among those in memory.
pub struct JsonBody {
    /// As they were sent.
    pub bytes: Zeroizing<Vec<u8>>,
    _place: Place<String>,
}

impl FromRequest<Arc<Broker>> for JsonBody {
    type Rejection = ApiProblem;

    /// For handlers that ask for a [`super::caller::Caller`] too: who is nobody has nothing read.
    async fn from_request(request: Request, broker: &Arc<Broker>) -> Result<Self, ApiProblem> {
        let Submitter(submitter) = request
            .extensions()
            .get::<Submitter>()
            .cloned()
            .ok_or_else(ApiProblem::unauthenticated)?;
        let place = broker
            .bodies
            .take(submitter)
            .map_err(|_| ApiProblem::too_many_requests())?;
        let media_type = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let essence = media_type.and_then(|text| text.split(';').next()).map(str::trim);
        if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
            return Err(ApiProblem::media_type());
        }
        let mut body = Limited::new(request.into_body(), LARGEST_BODY);
        // Its full size from the start, so that growing leaves no copy behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST_BODY));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                if error.downcast_ref::<LengthLimitError>().is_some() {
                    ApiProblem::too_large(LARGEST_BODY)
                } else {
                    ApiProblem::body("the body broke off; send it again")
                }
            })?;
            if let Some(data) = frame.data_ref() {
                bytes.extend_from_slice(data);
            }
        }
        Ok(Self { bytes, _place: place })
    }
}

impl JsonBody {
    /// The typed content.
    ///
    /// # Errors
    /// A problem that names the field where one is to blame.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ApiProblem> {
        strict_json::check(&self.bytes).map_err(|error| {
            ApiProblem::body(format!(
                "the body is not one JSON document with each key once: {error}"
            ))
        })?;
        let mut deserializer = serde_json::Deserializer::from_slice(&self.bytes);
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            let text = error.inner().to_string();
            let reason = text.split(" at line ").next().unwrap_or_default();
            let field = if path == "." {
                named(reason).unwrap_or_default()
            } else {
                path
            };
            let detail = format!("{reason}; see the API's description for what is expected");
            if field.is_empty() {
                ApiProblem::body(detail)
            } else {
                ApiProblem::field(field, detail)
            }
        })
    }
}

/// The field in serde's "missing field `x`".
fn named(message: &str) -> Option<String> {
    message
        .strip_prefix("missing field `")?
        .split('`')
        .next()
        .map(str::to_owned)
}

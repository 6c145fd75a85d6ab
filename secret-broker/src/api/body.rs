//! Reads a request's body: bounded, JSON only, every key once, every field known, and wiped afterwards since it may hold a credential.

use axum::extract::{FromRequest, Request};
use http::header;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::problem::ApiProblem;
use crate::strict_json;

/// Largest body, bytes.
pub const LARGEST_BODY: usize = 64 * 1024;

/// The bytes of a JSON body.
pub struct JsonBody(pub Zeroizing<Vec<u8>>);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiProblem;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiProblem> {
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
        Ok(Self(bytes))
    }
}

impl JsonBody {
    /// The typed content.
    ///
    /// # Errors
    /// A problem that names the field where one is to blame.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ApiProblem> {
        strict_json::check(&self.0).map_err(|error| {
            ApiProblem::body(format!(
                "the body is not one JSON document with each key once: {error}"
            ))
        })?;
        let mut deserializer = serde_json::Deserializer::from_slice(&self.0);
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

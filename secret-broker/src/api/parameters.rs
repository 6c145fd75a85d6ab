//! What a request's path and query say; what is wrong with them is a problem like any other.

use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use leasehold_chaincode::PageRequest;
use serde::Deserialize;

use super::problem::ApiProblem;

/// The one variable part of a path: an id or a name. One that is no text names nothing.
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(segment)) => Ok(Self(segment)),
            Err(_) => Err(ApiProblem::not_found()),
        }
    }
}

/// Which page of a list is asked for.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// The `next` of the page before; none for the first.
    #[param(pattern = "^[!-~]{0,256}$")]
    after: Option<String>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 100)]
    limit: Option<usize>,
}

/// The largest whole number that every reader of JSON has exactly (RFC 8259 section 6): cursors that are numbers stay below it.
pub const LARGEST_NUMBER: u64 = 9_007_199_254_740_991;

const LARGEST_PAGE: usize = 200;
const USUAL_PAGE: usize = 100;
const LONGEST_CURSOR: usize = 256;

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        let Query(page) = Query::<Self>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiProblem::field("query", format!("{}; see /docs", error.body_text())))?;
        if page
            .limit
            .is_some_and(|limit| !(1..=LARGEST_PAGE).contains(&limit))
        {
            let detail = format!("expected 1 to {LARGEST_PAGE}");
            return Err(ApiProblem::field("limit", detail));
        }
        let is_cursor = |after: &String| {
            after.len() <= LONGEST_CURSOR && after.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if page.after.as_ref().is_some_and(|after| !is_cursor(after)) {
            return Err(ApiProblem::field("after", "expected the `next` of a page"));
        }
        Ok(page)
    }
}

impl From<Page> for PageRequest {
    fn from(page: Page) -> Self {
        Self {
            after: page.after,
            limit: page.limit.unwrap_or(USUAL_PAGE),
        }
    }
}

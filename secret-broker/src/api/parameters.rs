//! What a request's path and query say; what is wrong with them is a problem like any other.

use std::fmt::Display;

use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use leasehold_chaincode::PageRequest;
use serde::Deserialize;
use serde::de::DeserializeOwned;

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
const LARGEST_NUMBER: u64 = 9_007_199_254_740_991;

const LARGEST_PAGE: usize = 200;
const USUAL_PAGE: usize = 100;
const LONGEST_CURSOR: usize = 256;

/// What a query says.
///
/// # Errors
/// A problem where it has unknown names, names twice, or values of other types.
pub async fn query<T, S>(parts: &mut Parts, state: &S) -> Result<T, ApiProblem>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    let Query(query) = Query::<T>::from_request_parts(parts, state)
        .await
        .map_err(|error| ApiProblem::field("query", format!("{}; see /docs", error.body_text())))?;
    Ok(query)
}

/// Refuses a page of no items or of more than `largest`.
///
/// # Errors
/// A problem that names the field.
pub fn check_limit<N: PartialOrd + From<u8> + Display>(
    limit: Option<N>,
    largest: N,
) -> Result<(), ApiProblem> {
    match limit {
        Some(limit) if limit < N::from(1) || limit > largest => {
            Err(ApiProblem::field("limit", format!("expected 1 to {largest}")))
        }
        _ => Ok(()),
    }
}

/// Refuses a cursor that is a number and that no page gives.
///
/// # Errors
/// A problem that names the field.
pub fn check_after(after: Option<u64>) -> Result<(), ApiProblem> {
    match after {
        Some(after) if after > LARGEST_NUMBER => {
            Err(ApiProblem::field("after", "expected the `next` of a page"))
        }
        _ => Ok(()),
    }
}

impl Page {
    /// A page as it was asked for.
    ///
    /// # Errors
    /// A problem that names the field.
    pub fn checked(after: Option<String>, limit: Option<usize>) -> Result<Self, ApiProblem> {
        check_limit(limit, LARGEST_PAGE)?;
        let is_cursor = |after: &String| {
            after.len() <= LONGEST_CURSOR && after.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if after.as_ref().is_some_and(|after| !is_cursor(after)) {
            return Err(ApiProblem::field("after", "expected the `next` of a page"));
        }
        Ok(Self { after, limit })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        let page: Self = query(parts, state).await?;
        Self::checked(page.after, page.limit)
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

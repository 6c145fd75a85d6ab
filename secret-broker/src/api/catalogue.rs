//! The catalogue, page by page: all of it by name, or what fits some words, the best first. For everybody who may read it, whole: every
//! dataset's description is public to the consortium.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use futures::future::try_join_all;
use http::request::Parts;
use leasehold_broker_wire::rest::{Dataset, List};
use leasehold_chaincode::{DatasetEntry, DatasetId, DatasetRef, PageRequest};
use serde::Deserialize;

use super::caller::Caller;
use super::conditions::IfNoneMatch;
use super::datasets::{may_read, shown};
use super::openapi::{NotModified, ReadRefused};
use super::parameters::{self, Page};
use super::problem::ApiProblem;
use crate::broker::Broker;
use crate::search::{LONGEST_QUERY, MOST_FOUND, SearchError};

/// Datasets that one search has looked up at the same time.
const AT_ONCE: usize = 8;
/// What the cursors of a search begin with.
const FOUND: &str = "found.";

/// Which part of the catalogue is asked for.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Words that name, title, keywords and description are searched for, all of them; the beginning of one is enough. The first 16 count.
    #[param(min_length = 1, max_length = 200)]
    q: Option<String>,
    /// The `next` of the page before; none for the first.
    #[param(pattern = "^[!-~]{0,256}$")]
    after: Option<String>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 100)]
    limit: Option<usize>,
}

/// What was asked, checked.
pub struct Asked {
    words: Option<String>,
    page: PageRequest,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        let wanted: Wanted = parameters::query(parts, state).await?;
        let fits = |words: &String| (1..=LONGEST_QUERY).contains(&words.chars().count());
        if wanted.q.as_ref().is_some_and(|words| !fits(words)) {
            return Err(ApiProblem::field(
                "q",
                format!("expected 1 to {LONGEST_QUERY} characters"),
            ));
        }
        Ok(Self {
            words: wanted.q,
            page: Page::checked(wanted.after, wanted.limit)?.into(),
        })
    }
}

/// `GET /v1/datasets`.
#[utoipa::path(
    get,
    path = "/datasets",
    operation_id = "list_datasets",
    summary = "The catalogue, page by page, or what of it fits some words",
    description = "By name; with `q` the best first, of up to 2000 that fit, 50 on a page. What is registered or changed is found within moments.",
    tag = "datasets",
    params(Wanted, ("If-None-Match" = Option<String>, Header, description = "Tags of answers that the caller has")),
    responses((status = 200, description = "A page of the catalogue", body = List<Dataset>, headers(("ETag" = String, description = "Its tag"))), NotModified, ReadRefused)
)]
pub async fn list(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    had: IfNoneMatch,
    asked: Asked,
) -> Result<Response, ApiProblem> {
    may_read(&caller).await?;
    let list = match asked.words {
        Some(words) => {
            let place = broker.searches.take(caller.person.pseudonym.clone());
            let _place = place.map_err(|_| ApiProblem::too_many_requests())?;
            search(&broker, &words, &asked.page).await?
        }
        None => {
            let found = broker.ledger.snapshot().await?.datasets(&asked.page).await?;
            List {
                items: found.items.into_iter().map(shown).collect(),
                next: found.next,
            }
        }
    };
    had.content(&list)
}

async fn search(broker: &Broker, words: &str, page: &PageRequest) -> Result<List<Dataset>, ApiProblem> {
    let offset = match page.after.as_deref().filter(|after| !after.is_empty()) {
        None => 0,
        Some(after) => offset(after)
            .ok_or_else(|| ApiProblem::field("after", "expected the `next` of a page of this search"))?,
    };
    // One more tells whether there is another page.
    let limit = page.limit.min(MOST_FOUND);
    let wanted = limit.saturating_add(1);
    let found = broker.search.find(&broker.ledger, words, wanted, offset).await;
    let mut ids = found.map_err(|error| match error {
        SearchError::NotReady => ApiProblem::search_unavailable(),
        error => {
            tracing::error!(%error, "could not search the catalogue");
            ApiProblem::search_unavailable()
        }
    })?;
    let next = (ids.len() > limit).then(|| format!("{FOUND}{}", offset.saturating_add(limit)));
    ids.truncate(limit);
    let mut entries = Vec::with_capacity(ids.len());
    for some in ids.chunks(AT_ONCE) {
        let asked: Vec<_> = some.iter().map(|id| entry(broker, id)).collect();
        entries.extend(try_join_all(asked).await?);
    }
    Ok(List {
        items: entries.into_iter().flatten().map(shown).collect(),
        next,
    })
}

/// A dataset that was found; none where it has been retired since.
async fn entry(broker: &Broker, id: &DatasetId) -> Result<Option<DatasetEntry>, ApiProblem> {
    let entry = broker.ledger.dataset(&DatasetRef::Id(id.clone())).await?;
    // A peer's answer about another dataset is none.
    Ok(entry.filter(|entry| entry.dataset.id == *id && entry.dataset.retired_at_ms.is_none()))
}

fn offset(cursor: &str) -> Option<usize> {
    let digits = cursor.strip_prefix(FOUND)?;
    let is_number = digits.len() <= 4 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

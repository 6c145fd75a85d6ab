//! Server-sent events: what becomes of the caller's operations, of leases that they may see, and of the catalogue, as it happens.
//!
//! Each event's `id` says how far the caller has been told; sent back as `Last-Event-ID`, the stream goes on from there. What happened meanwhile is
//! told as far as it is kept, and where it is not, that is told (`lost`). An event may come twice, and none is left out in
//! between. Streams are bounded, of everybody, of one person and from one address; one that does not keep up is cut and comes again.

mod mark;
mod stream;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;

use super::caller::Caller;
use super::datasets::may_read;
use super::openapi::StreamRefused;
use super::parameters;
use super::problem::ApiProblem;
use crate::broker::Broker;
use mark::Mark;
use stream::Stream;

/// Streams at the same time, of everybody and of one person.
pub const MOST_STREAMS: usize = 256;
/// See [`MOST_STREAMS`].
pub const MOST_STREAMS_OF_ONE: usize = 8;
/// Streams at the same time from one address that is no proxy's, whoever they are of.
pub const MOST_STREAMS_OF_A_PEER: usize = 16;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What a caller wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds {
    operations: bool,
    leases: bool,
    catalogue: bool,
}

/// Which events are asked for.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// `operations`, `leases`, `catalogue`, with commas between them; all that the caller may see where absent.
    #[param(pattern = "^(operations|leases|catalogue)(,(operations|leases|catalogue)){0,2}$")]
    kinds: Option<String>,
}

/// What was asked, checked.
pub struct Asked {
    kinds: Option<Kinds>,
    after: Option<Mark>,
    headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        let wanted: Wanted = parameters::query(parts, state).await?;
        let after = match parts.headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes) {
            None | Some(b"") => None,
            Some(id) => Some(Mark::parse(id).ok_or_else(|| {
                ApiProblem::field("Last-Event-ID", "expected the `id` of an event of this stream")
            })?),
        };
        Ok(Self {
            kinds: wanted.kinds.as_deref().map(kinds).transpose()?,
            after,
            headers: parts.headers.clone(),
        })
    }
}

fn kinds(text: &str) -> Result<Kinds, ApiProblem> {
    let mut kinds = Kinds {
        operations: false,
        leases: false,
        catalogue: false,
    };
    for kind in text.split(',') {
        let wanted = match kind {
            "operations" => &mut kinds.operations,
            "leases" => &mut kinds.leases,
            "catalogue" => &mut kinds.catalogue,
            _ => {
                let detail = "expected `operations`, `leases`, `catalogue`, with commas between them";
                return Err(ApiProblem::field("kinds", detail));
            }
        };
        *wanted = true;
    }
    Ok(kinds)
}

/// `GET /v1/events`.
#[utoipa::path(
    get,
    path = "/events",
    operation_id = "stream_events",
    summary = "What happens, as it happens (server-sent events)",
    description = "Events are `opened` (what follows is told), `operation` (an Operation), `lease` (a Lease, without its place), `catalogue` (a \
                   CatalogueChange) and `lost` (something happened that is not kept: read the lists again; comes before `opened`). `id` goes into `Last-Event-ID` to \
                   go on from there. An event may come twice. The stream ends when the token does, after an hour, and when it is not read.",
    tag = "events",
    params(Wanted, ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was heard", pattern = "^[0-9a-f]{16}\\.[0-9]{1,16}\\.[0-9]{1,16}$")),
    responses((status = 200, description = "A stream of events that does not end", body = String, content_type = "text/event-stream"), StreamRefused)
)]
pub async fn stream(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    asked: Asked,
) -> Result<Response, ApiProblem> {
    let kinds = match asked.kinds {
        Some(kinds) => kinds,
        None => Kinds {
            operations: true,
            leases: true,
            catalogue: caller.may_read_catalogue(),
        },
    };
    if kinds.catalogue {
        may_read(&caller).await?;
    }
    let place = broker.streams.take(caller.person.pseudonym.clone());
    let place = place.map_err(|_| ApiProblem::too_many_streams(MOST_STREAMS_OF_ONE))?;
    let door = caller
        .origin
        .source
        .map(|source| broker.stream_doors.of(source).take(source));
    let door = door.transpose();
    let door = door.map_err(|_| ApiProblem::too_many_streams(MOST_STREAMS_OF_ONE))?;
    let places = (place, door);
    let stream = Stream::open(broker, caller, kinds, asked.after, asked.headers, places).await?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        // A proxy that waits for the end of an answer would wait for ever.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok((headers, Body::from_stream(stream.texts())).into_response())
}

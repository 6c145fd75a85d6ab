//! The REST API for people, version 1: JSON, refusals as RFC 9457 problems, writes accepted as durable operations.
//!
//! Handlers are thin: they learn who asks, check the request, and read the ledger or accept an operation. Everything else about a
//! request (its id, limits, deadline, the form of every refusal) is done once, around all of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi as Document;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config as SwaggerConfig, SwaggerUi};

use crate::broker::Broker;
use crate::server::{Peer, RequestId};

pub mod accept;
pub mod audit;
pub mod body;
pub mod caller;
pub mod catalogue;
pub mod conditions;
pub mod datasets;
pub mod decisions;
pub mod events;
pub mod leases;
pub mod openapi;
pub mod parameters;
pub mod problem;
pub mod rotation;
pub mod terms;

use problem::ApiProblem;

const DEADLINE: Duration = Duration::from_secs(20);

/// The routes of version 1, and what their handlers say of themselves.
fn v1() -> OpenApiRouter<Arc<Broker>> {
    OpenApiRouter::new()
        .routes(routes!(caller::me))
        .routes(routes!(catalogue::list, datasets::register))
        .routes(routes!(datasets::show, datasets::amend, datasets::remove))
        .routes(routes!(datasets::history))
        .routes(routes!(leases::line))
        .routes(routes!(leases::list::list, leases::request))
        .routes(routes!(leases::show, leases::release))
        .routes(routes!(leases::renew))
        .routes(routes!(leases::skeleton))
        .routes(routes!(leases::skeletons))
        .routes(routes!(decisions::approve))
        .routes(routes!(decisions::deny))
        .routes(routes!(decisions::revoke))
        .routes(routes!(decisions::declare_ended))
        .routes(routes!(accept::show))
        .routes(routes!(events::stream))
        .routes(routes!(rotation::rotate))
        .routes(routes!(rotation::receipts))
        .routes(routes!(audit::list))
}

/// The routes and the OpenAPI document of the whole interface.
fn interface() -> OpenApiRouter<Arc<Broker>> {
    OpenApiRouter::with_openapi(openapi::Api::openapi()).nest("/v1", v1())
}

/// The OpenAPI document of the whole interface.
#[must_use]
pub fn document() -> Document {
    interface().into_openapi()
}

/// All routes.
pub fn router(broker: &Arc<Broker>) -> Router {
    let (routes, document) = interface().split_for_parts();
    // Made once: whoever asks for it again and again has no copy made.
    let document = Bytes::from(document.to_json().unwrap_or_default());
    let document = get(|| async move { ([(header::CONTENT_TYPE, "application/json")], document) });
    // By default the page has a stranger's service look at the document.
    let page = SwaggerConfig::from("/openapi.json").validator_url("none");
    routes
        .route("/openapi.json", document)
        .merge(SwaggerUi::new("/docs").config(page))
        .fallback(|| async { ApiProblem::not_found() })
        .method_not_allowed_fallback(|| async { ApiProblem::method_not_allowed() })
        .layer(middleware::from_fn_with_state(Arc::clone(broker), around))
        .with_state(Arc::clone(broker))
}

/// Gives each request an id and a deadline, and each answer its final form.
async fn around(State(broker): State<Arc<Broker>>, mut request: Request, next: Next) -> Response {
    let id = uuid::Uuid::new_v4().to_string();
    let method = request.method().clone();
    // The path names ids, no secret; a query could hold anything and is left out.
    let path = request.uri().path().to_owned();
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.to_string());
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = match tokio::time::timeout(DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiProblem::timeout().into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<ApiProblem>() {
        response = problem.render(&id);
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Answers are data; the page to browse the document runs its own scripts and nobody else's.
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    );
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", value);
    }
    let status: StatusCode = response.status();
    broker.metrics.answered(status.as_u16());
    tracing::info!(request = %id, %method, %path, status = status.as_u16(), peer, "answered");
    response
}

//! What the REST API is, as a document that programs read (OpenAPI 3.1), made from the handlers themselves.
//!
//! Each handler says what it takes and what it answers when all goes well. What is refused is the same for all reads and for all
//! writes, and said here once. The document and a page to browse it are served without a token: there is no secret in them.

use std::collections::BTreeMap;

use leasehold_broker_wire::rest::{CatalogueChange, Operation, Problem};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, Header, ObjectBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder, Type,
};
use utoipa::{IntoResponses, Modify, OpenApi};

/// What of the document no handler says.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Leasehold secret broker",
        description = "Datasets of a consortium, leases of them, and what is decided about both. Writes are accepted as operations, \
                       which happen exactly once: follow the `Location` of a 202. Refusals are problems (RFC 9457) with a stable `type`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem, Operation, CatalogueChange)),
    security(("bearer" = [])),
    modifiers(&Bearer),
    tags(
        (name = "me", description = "Who asks"),
        (name = "datasets", description = "The catalogue"),
        (name = "leases", description = "What is leased, waited for and asked for"),
        (name = "decisions", description = "What the data stewards of a dataset's owner decide"),
        (name = "operations", description = "What became of a write"),
        (name = "events", description = "What happens, as it happens"),
        (name = "keys", description = "Data keys: replaced, and destroyed"),
        (name = "audit", description = "What the broker decided")
    )
)]
pub struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        if let Some(components) = document.components.as_mut() {
            let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
            components.add_security_scheme("bearer", scheme);
        }
    }
}

fn problems(statuses: &[(&str, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let one = |description: &str| {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Problem")))
            .build();
        ResponseBuilder::new()
            .description(description)
            .content("application/problem+json", content)
            .build()
            .into()
    };
    let each = statuses.iter();
    each.map(|(status, description)| ((*status).to_owned(), one(description)))
        .collect()
}

/// Why a read is refused.
pub struct ReadRefused;

impl IntoResponses for ReadRefused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[
            ("400", "A parameter is wrong; `field` names it"),
            ("401", "The bearer token is missing or was not accepted"),
            ("403", "The caller lacks a role"),
            ("404", "There is no such thing, or it is not the caller's to see"),
            ("409", "What is asked for is in another state"),
            (
                "429",
                "The caller asks too fast; try again after as many seconds as `Retry-After` says",
            ),
            (
                "503",
                "The broker's storage or the token's issuer does not answer; try again",
            ),
        ])
    }
}

/// Why a write is refused at once. What the ledger refuses is in its operation.
pub struct WriteRefused;

impl IntoResponses for WriteRefused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut all = ReadRefused::responses();
        all.extend(problems(&[
            ("400", "The body or a field of it is wrong; `field` names it"),
            ("409", "It does not fit what is there"),
            ("413", "The body is too large"),
            ("415", "The body is no JSON"),
            ("422", "The Idempotency-Key was used for another request"),
            (
                "429",
                "The caller asks too fast, or too much of theirs is under way; try again in a moment, or after as many seconds as \
                 `Retry-After` says",
            ),
        ]));
        all
    }
}

/// Why a stream is refused.
pub struct StreamRefused;

impl IntoResponses for StreamRefused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut all = ReadRefused::responses();
        all.extend(problems(&[(
            "429",
            "Too many streams are open; close one of yours",
        )]));
        all
    }
}

/// Why a change of what the caller has read before is refused at once.
pub struct ChangeRefused;

impl IntoResponses for ChangeRefused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut all = WriteRefused::responses();
        all.extend(problems(&[(
            "412",
            "It is not what `If-Match` says; `etag` is the tag of what is there",
        )]));
        all
    }
}

/// An answer that the caller has already, as `If-None-Match` says.
pub struct NotModified;

impl IntoResponses for NotModified {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let had = ResponseBuilder::new()
            .description("The caller has it, by the tag in `If-None-Match`")
            .header("ETag", text("Its tag"))
            .build();
        BTreeMap::from([("304".to_owned(), had.into())])
    }
}

/// A write that will happen exactly once.
pub struct WriteAccepted;

impl IntoResponses for WriteAccepted {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Operation")))
            .build();
        let accepted = ResponseBuilder::new()
            .description("Accepted: it will happen exactly once. The same request with the same Idempotency-Key is the same operation")
            .content("application/json", content)
            .header("Location", text("Where its operation is"))
            .header("Retry-After", text("Seconds after which to look"))
            .build();
        BTreeMap::from([("202".to_owned(), accepted.into())])
    }
}

fn text(description: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(description))
        .build()
}

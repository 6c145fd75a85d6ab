//! What a caller may send beside a body: queries with cursors, limits and filters, entity tags, the ids of events.
//!
//! What is accepted is within its bounds; what is refused is a problem of the caller's, which names the field.
#![no_main]

use arbitrary::Arbitrary;
use axum::extract::FromRequestParts;
use axum::response::IntoResponse as _;
use futures::FutureExt as _;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use leasehold_chaincode::PageRequest;
use leasehold_secret_broker::api::conditions::{IfMatch, IfNoneMatch};
use leasehold_secret_broker::api::leases::list;
use leasehold_secret_broker::api::parameters::Page;
use leasehold_secret_broker::api::{catalogue, events};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    members: Vec<(u8, Piece)>,
    raw: Option<String>,
    tags: Vec<Vec<Tag>>,
    event: Option<Mark>,
}

#[derive(Debug, Arbitrary)]
enum Piece {
    Word(u8),
    Number(u64),
    Cursor(u8, u8, u64),
    Text(String),
    Long(u16),
}

#[derive(Debug, Arbitrary)]
enum Tag {
    Any,
    Strong(String),
    Weak(String),
    Raw(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Mark {
    Of(u64, u64, u64),
    Raw(Vec<u8>),
}

const NAMES: [&str; 8] = ["after", "limit", "state", "dataset", "q", "kinds", "page", ""];
const WORDS: [&str; 14] = [
    "requested",
    "waiting",
    "active",
    "ending",
    "ended",
    "operations",
    "leases",
    "catalogue",
    "operations,leases",
    "own",
    "others",
    "found.",
    "",
    "%00",
];

fn word(number: u8) -> &'static str {
    WORDS
        .get(usize::from(number) % WORDS.len())
        .copied()
        .unwrap_or_default()
}

fn query(input: &Input) -> String {
    let mut query: Vec<_> = input
        .members
        .iter()
        .take(8)
        .map(|(name, piece)| {
            let name = NAMES
                .get(usize::from(*name) % NAMES.len())
                .copied()
                .unwrap_or_default();
            let value = match piece {
                Piece::Word(number) => word(*number).to_owned(),
                Piece::Number(number) => number.to_string(),
                Piece::Cursor(whose, state, number) => {
                    format!("{}.{}.{number:020}.{number:032x}", word(*whose), word(*state))
                }
                Piece::Text(text) => text.clone(),
                Piece::Long(length) => "a".repeat(usize::from(*length % 1_024)),
            };
            format!("{name}={value}")
        })
        .collect();
    query.extend(input.raw.clone());
    query.join("&")
}

fn parts(input: &Input) -> Option<Parts> {
    let mut request = Request::builder().uri(format!("/v1?{}", query(input)));
    for several in input.tags.iter().take(3) {
        let tags: Vec<Vec<u8>> = several
            .iter()
            .take(20)
            .map(|tag| match tag {
                Tag::Any => b"*".to_vec(),
                Tag::Strong(text) => format!("\"{text}\"").into_bytes(),
                Tag::Weak(text) => format!("W/\"{text}\"").into_bytes(),
                Tag::Raw(bytes) => bytes.clone(),
            })
            .collect();
        let value = HeaderValue::from_bytes(&tags.join(&b", "[..])).ok()?;
        request = request
            .header(header::IF_MATCH, value.clone())
            .header(header::IF_NONE_MATCH, value);
    }
    if let Some(mark) = &input.event {
        let text = match mark {
            Mark::Of(start, height, at) => format!("{start:016x}.{height}.{at}").into_bytes(),
            Mark::Raw(bytes) => bytes.clone(),
        };
        request = request.header(
            HeaderName::from_static("last-event-id"),
            HeaderValue::from_bytes(&text).ok()?,
        );
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// What an extractor makes of a request. None of these waits for anything.
fn read<T: FromRequestParts<()>>(parts: &Parts) -> Option<T> {
    let mut parts = parts.clone();
    match T::from_request_parts(&mut parts, &())
        .now_or_never()
        .expect("it does not wait")
    {
        Ok(read) => Some(read),
        Err(refused) => {
            let status = refused.into_response().status();
            assert!(
                status == StatusCode::UNPROCESSABLE_ENTITY || status == StatusCode::BAD_REQUEST,
                "{status}"
            );
            None
        }
    }
}

fuzz_target!(|input: Input| {
    let Some(parts) = parts(&input) else {
        return;
    };
    if let Some(page) = read::<Page>(&parts) {
        let page = PageRequest::from(page);
        assert!((1..=200).contains(&page.limit));
        assert!(
            page.after
                .is_none_or(|after| after.len() <= 256 && after.bytes().all(|byte| byte.is_ascii_graphic()))
        );
    }
    read::<list::Asked>(&parts);
    read::<catalogue::Asked>(&parts);
    read::<events::Asked>(&parts);
    read::<IfMatch>(&parts);
    // One that cannot be read is left unread, never refused.
    assert!(read::<IfNoneMatch>(&parts).is_some());
});

//! Conditional requests (RFC 9110 section 13): entity tags of what is read, `If-None-Match` on reads, `If-Match` on changes of datasets.
//!
//! A dataset's tag is made of its id and its revision on the ledger, which grows with everything that happens to it; other answers' of their
//! bytes. All tags are strong. A change with `If-Match` is accepted while the dataset has a revision with such a tag, and made only
//! while it still has it: see [`crate::operations`].

use std::convert::Infallible;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use leasehold_chaincode::DatasetEntry;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::problem::ApiProblem;

/// Of the form in which datasets are shown. It grows with that form, since a tag stands for the bytes of an answer.
const FORM: u32 = 1;
/// Tags that one request may name.
const MOST_TAGS: usize = 16;
const LONGEST_TAG: usize = 128;

/// The tag of a dataset.
#[must_use]
pub fn dataset_tag(entry: &DatasetEntry) -> String {
    // Another dataset of the same name has the same revisions.
    let id: String = entry.dataset.id.as_str().chars().take(16).collect();
    format!("\"{id}-{}-{FORM}\"", entry.status.revision)
}

fn content_tag(content: &[u8]) -> String {
    let digest = hex::encode(Sha256::digest(content));
    format!("\"{}\"", digest.get(..32).unwrap_or_default())
}

/// What `If-None-Match` says.
pub struct IfNoneMatch(Option<Tags>);

/// What `If-Match` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch(Option<Tags>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    Of(Vec<String>),
}

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    /// One that cannot be read matches nothing, so that all is answered.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(
            read(&parts.headers, &header::IF_NONE_MATCH).unwrap_or_default(),
        ))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiProblem;

    /// One that cannot be read is refused: what it protects would be changed otherwise.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiProblem> {
        let tags = read(&parts.headers, &header::IF_MATCH).ok_or_else(|| {
            let detail =
                format!("expected `*`, or up to {MOST_TAGS} entity tags in quotes, with commas between them");
            ApiProblem::field("If-Match", detail)
        })?;
        Ok(Self(tags))
    }
}

impl IfMatch {
    /// The revision that a change of this dataset depends on; none where it does not.
    ///
    /// # Errors
    /// A problem with the present tag, where the dataset has none of those that are named.
    pub fn holds(&self, entry: &DatasetEntry) -> Result<Option<u64>, ApiProblem> {
        let present = dataset_tag(entry);
        match &self.0 {
            None | Some(Tags::Any) => Ok(None),
            Some(Tags::Of(tags)) if tags.contains(&present) => Ok(Some(entry.status.revision)),
            Some(Tags::Of(_)) => Err(ApiProblem::precondition_failed(present)),
        }
    }
}

/// The tags of a header, or none where it is not there. In a tag is no comma: none of ours has one.
fn read(headers: &HeaderMap, name: &HeaderName) -> Option<Option<Tags>> {
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        let value = value.to_str().ok()?;
        if value.trim() == "*" {
            return (headers.get_all(name).iter().count() == 1).then_some(Some(Tags::Any));
        }
        tags.extend(value.split(',').map(|tag| tag.trim().to_owned()));
    }
    if !headers.contains_key(name) {
        return Some(None);
    }
    let is_tag = |tag: &String| {
        let opaque = tag.strip_prefix("W/").unwrap_or(tag);
        let inner = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        tag.len() <= LONGEST_TAG
            && inner.is_some_and(|inner| inner.bytes().all(|b| b.is_ascii_graphic() && b != b'"'))
    };
    (tags.len() <= MOST_TAGS && tags.iter().all(is_tag)).then_some(Some(Tags::Of(tags)))
}

impl IfNoneMatch {
    /// Whether the caller has what this tag stands for. Weak tags count here.
    fn has(&self, present: &str) -> bool {
        match &self.0 {
            None => false,
            Some(Tags::Any) => true,
            Some(Tags::Of(tags)) => tags
                .iter()
                .any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == present),
        }
    }

    /// The dataset, or that the caller has it.
    pub fn dataset<T: Serialize>(&self, entry: DatasetEntry, shown: impl Fn(DatasetEntry) -> T) -> Response {
        let tag = dataset_tag(&entry);
        if self.has(&tag) {
            return tagged(&tag, StatusCode::NOT_MODIFIED.into_response());
        }
        tagged(&tag, Json(shown(entry)).into_response())
    }

    /// What is read, or that the caller has it.
    ///
    /// # Errors
    /// A problem where it cannot be written, which is a defect.
    pub fn content<T: Serialize>(&self, content: &T) -> Result<Response, ApiProblem> {
        let bytes = serde_json::to_vec(content).map_err(|_| ApiProblem::internal())?;
        let tag = content_tag(&bytes);
        if self.has(&tag) {
            return Ok(tagged(&tag, StatusCode::NOT_MODIFIED.into_response()));
        }
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Ok(tagged(&tag, (kind, bytes).into_response()))
    }
}

/// An answer with its tag.
#[must_use]
pub fn tagged(tag: &str, mut response: Response) -> Response {
    if let Ok(tag) = HeaderValue::from_str(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let name = header::IF_MATCH;
        let values = values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_str(value).unwrap()));
        values.collect()
    }

    #[test]
    fn tags_are_read_as_they_are_written_and_nothing_else_is_a_tag() {
        let of = |tags: &[&str]| Some(Some(Tags::Of(tags.iter().map(|&tag| tag.to_owned()).collect())));
        for (values, expected) in [
            (&[][..], Some(None)),
            (&["*"], Some(Some(Tags::Any))),
            (&["\"a-1\""], of(&["\"a-1\""])),
            (&["\"a\" , W/\"b\"", "\"c\""], of(&["\"a\"", "W/\"b\"", "\"c\""])),
            (&["\"\""], of(&["\"\""])),
            (&[""], None),
            (&["a-1"], None),
            (&["\"a"], None),
            (&["w/\"a\""], None),
            (&["*, \"a\""], None),
            (&["*", "\"a\""], None),
            (&["\"a\"\"b\""], None),
            (&["\"a b\""], None),
            (&["\"a\","], None),
        ] {
            assert_eq!(read(&headers(values), &header::IF_MATCH), expected, "{values:?}");
        }
        let many = vec!["\"a\""; MOST_TAGS + 1].join(",");
        assert_eq!(read(&headers(&[&many]), &header::IF_MATCH), None);
    }

    #[test]
    fn who_has_it_in_a_weak_form_has_it_too() {
        let has = |tags: &[&str]| {
            let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
            IfNoneMatch(Some(Tags::Of(tags))).has("\"a-1\"")
        };
        assert!(has(&["\"b\"", "\"a-1\""]) && has(&["W/\"a-1\""]));
        assert!(!has(&["\"a\""]) && !has(&[]) && !IfNoneMatch(None).has("\"a-1\""));
        assert!(IfNoneMatch(Some(Tags::Any)).has("\"a-1\""));
    }
}

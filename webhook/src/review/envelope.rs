//! The AdmissionReview around an object: parsed without copying, objects left as raw text until a rule needs them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::text::{Map, Text};

/// What came in.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionReview<'a> {
    /// `admission.k8s.io/v1`.
    #[serde(borrow)]
    pub api_version: Text<'a>,
    /// `AdmissionReview`.
    #[serde(borrow)]
    pub kind: Text<'a>,
    /// The request; an AdmissionReview without one is malformed.
    #[serde(borrow)]
    pub request: Option<Request<'a>>,
}

/// One request for review.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// Echoed in the answer.
    #[serde(borrow)]
    pub uid: Text<'a>,
    /// Group, version and plural name of what is changed.
    #[serde(borrow)]
    pub resource: Resource<'a>,
    /// Such as `exec` or `status`.
    #[serde(borrow, default)]
    pub sub_resource: Option<Text<'a>>,
    /// Absent with generateName at the mutating stage.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    /// Absent for cluster-wide objects.
    #[serde(borrow, default)]
    pub namespace: Option<Text<'a>>,
    /// What happens to the object.
    pub operation: Operation,
    /// Who asks.
    #[serde(borrow)]
    pub user_info: UserInfo<'a>,
    /// The object as it would be; none at DELETE.
    #[serde(borrow, default)]
    pub object: Option<&'a RawValue>,
    /// The object as it is; none at CREATE.
    #[serde(borrow, default)]
    pub old_object: Option<&'a RawValue>,
}

/// A resource's name.
#[derive(Debug, Deserialize)]
pub struct Resource<'a> {
    /// Empty for the core group.
    #[serde(borrow, default)]
    pub group: Text<'a>,
    /// Such as `v1`.
    #[serde(borrow, default)]
    pub version: Text<'a>,
    /// Plural.
    #[serde(borrow)]
    pub resource: Text<'a>,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// A new object.
    Create,
    /// A change.
    Update,
    /// An end.
    Delete,
    /// A stream into a pod.
    Connect,
}

/// Who asks, as the API server authenticated them.
#[derive(Debug, Deserialize)]
pub struct UserInfo<'a> {
    /// Such as `system:serviceaccount:ns:name`.
    #[serde(borrow, default)]
    pub username: Text<'a>,
    /// Empty where the authenticator has none.
    #[serde(borrow, default)]
    pub uid: Text<'a>,
    /// Facts of the authenticator, such as the pod a token is bound to.
    #[serde(borrow, default)]
    pub extra: Map<'a, Vec<Text<'a>>>,
}

impl UserInfo<'_> {
    /// The single value of an extra key.
    #[must_use]
    pub fn extra(&self, key: &str) -> Option<&str> {
        match self.extra.get(key)?.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    /// Namespace and name, if this is a ServiceAccount.
    #[must_use]
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.username
            .strip_prefix("system:serviceaccount:")?
            .split_once(':')
    }
}

impl Request<'_> {
    /// The namespace, empty for cluster-wide objects.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// The name, empty where there is none yet.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

/// What goes back.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer<'a> {
    /// `admission.k8s.io/v1`.
    pub api_version: &'static str,
    /// `AdmissionReview`.
    pub kind: &'static str,
    /// The verdict.
    pub response: Response<'a>,
}

/// The verdict in the API server's words.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response<'a> {
    /// The request's uid.
    pub uid: &'a str,
    /// Yes or no.
    pub allowed: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status<'a>>,
    /// `JSONPatch`, with a patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch_type: Option<&'static str>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
}

/// Why not. No `reason` and no `retryAfterSeconds`: client-go would sleep on the latter.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    /// HTTP status.
    pub code: u16,
    /// Sentence and code.
    pub message: &'a str,
}

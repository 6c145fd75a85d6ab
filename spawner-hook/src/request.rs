//! What a hub sends at a spawn, checked at the edge: everything that passes can stand in a Kubernetes object as it is.

use std::fmt;

use serde::Deserialize;

use crate::names::MAX_USERNAME_BYTES;

/// Largest token that is passed on to the broker.
const MAX_TOKEN_BYTES: usize = 32 << 10;

/// Body of `POST /v1/spawn`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpawnRequest {
    /// The hub's raw username.
    pub username: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod_name: String,
    /// The person's JWT from the hub's OIDC provider, where the hub has one.
    #[serde(default)]
    pub id_token: Option<String>,
    /// Where the person's files are.
    pub home: Home,
    /// User id of the notebook.
    #[serde(default)]
    pub uid: Option<i64>,
    /// Group id of the notebook.
    #[serde(default)]
    pub gid: Option<i64>,
}

/// A person's home as the notebook mounts it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// PersistentVolumeClaim.
    pub claim: String,
    /// Directory in the claim; absent: its root.
    #[serde(default)]
    pub sub_path: Option<String>,
    /// Where it is mounted.
    pub mount_path: String,
    /// Name of the pod's volume that refers to the claim.
    pub volume: String,
}

impl fmt::Debug for SpawnRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SpawnRequest")
            .field("namespace", &self.namespace)
            .field("pod_name", &self.pod_name)
            .field("has_id_token", &self.id_token.is_some())
            .finish_non_exhaustive()
    }
}

/// A field that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FieldError {
    /// Path of the field in the body.
    pub field: &'static str,
    /// What it must be.
    pub reason: &'static str,
}

impl SpawnRequest {
    /// Refuses what cannot stand in a Kubernetes object, or would mean something else there.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn validate(&self) -> Result<(), FieldError> {
        let require = |field, holds: bool, reason| {
            if holds {
                Ok(())
            } else {
                Err(FieldError { field, reason })
            }
        };
        let username = &self.username;
        require(
            "username",
            (1..=MAX_USERNAME_BYTES).contains(&username.len()) && !username.chars().any(char::is_control),
            "expected 1 to 255 bytes without control characters",
        )?;
        require("namespace", is_label(&self.namespace), "expected a DNS label")?;
        require("pod_name", is_name(&self.pod_name), "expected the name of a pod")?;
        if let Some(token) = &self.id_token {
            require(
                "id_token",
                (1..=MAX_TOKEN_BYTES).contains(&token.len())
                    && token.bytes().all(|byte| byte.is_ascii_graphic()),
                "expected a JWT of at most 32 KiB",
            )?;
        }
        let home = &self.home;
        require(
            "home.claim",
            is_name(&home.claim) && !home.claim.starts_with(leasehold_broker_wire::names::CLAIM_PREFIX),
            "expected the name of a claim that is not Leasehold's",
        )?;
        require(
            "home.volume",
            is_label(&home.volume),
            "expected the name of a volume",
        )?;
        require(
            "home.mount_path",
            home.mount_path.strip_prefix('/').is_some_and(is_relative_path),
            "expected an absolute path without . or .. that is not /",
        )?;
        if let Some(sub_path) = &home.sub_path {
            require(
                "home.sub_path",
                is_relative_path(sub_path),
                "expected a relative path without . or ..",
            )?;
        }
        for (field, id) in [("uid", self.uid), ("gid", self.gid)] {
            require(
                field,
                id.is_none_or(|id| (0..=i64::from(i32::MAX)).contains(&id)),
                "expected a numeric id",
            )?;
        }
        Ok(())
    }
}

/// RFC 1123.
fn is_label(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_name(text)
}

/// A DNS subdomain.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(allowed)
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn is_relative_path(path: &str) -> bool {
    (1..=1024).contains(&path.len())
        && !path.chars().any(|char| char.is_control() || char == ':')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn body() -> Value {
        json!({
            "username": "alice@example.com", "namespace": "hub", "pod_name": "jupyter-alice-example-com---ff8d9819",
            "id_token": null,
            "home": {"claim": "claim-alice", "sub_path": "home/alice", "mount_path": "/home/jovyan", "volume": "volume-alice"},
        })
    }

    fn checked(pointer: &str, value: Value) -> Result<(), FieldError> {
        let mut body = body();
        *body.pointer_mut(pointer).unwrap() = value;
        serde_json::from_value::<SpawnRequest>(body).unwrap().validate()
    }

    #[test]
    fn what_cannot_stand_in_an_object_is_refused_by_field() {
        let long = "x".repeat(256);
        let table: &[(&str, &str, &[&str])] = &[
            ("/username", "username", &["", "a\nb", "a\0", &long]),
            (
                "/namespace",
                "namespace",
                &["", "Hub", "a.b", "-a", "a/b", &"x".repeat(64)],
            ),
            (
                "/pod_name",
                "pod_name",
                &["", "*", "a/b", "A", "a..b", "a-", &long],
            ),
            ("/id_token", "id_token", &["", "a b", "t\u{f6}ken"]),
            (
                "/home/claim",
                "home.claim",
                &["", "../x", "leasehold-00112233445566778899aabbccddeeff"],
            ),
            ("/home/volume", "home.volume", &["", "a.b", "A"]),
            (
                "/home/mount_path",
                "home.mount_path",
                &["", "/", "home", "/home/../etc", "/home//x", "/a:b", "//"],
            ),
            (
                "/home/sub_path",
                "home.sub_path",
                &["", "/abs", "a/..", "a//b", "."],
            ),
        ];
        for (pointer, field, values) in table {
            for value in *values {
                let error = checked(pointer, json!(value)).unwrap_err();
                assert_eq!(error.field, *field, "{value:?}");
            }
        }
        assert_eq!(checked("/home/sub_path", json!(null)), Ok(()));
        assert_eq!(checked("/username", json!("李雷 <x>\"'")), Ok(()));
    }

    #[test]
    fn unknown_fields_are_refused_and_tokens_are_not_shown() {
        let mut body = body();
        body["id_token"] = json!("eyJ.secret");
        let request: SpawnRequest = serde_json::from_value(body.clone()).unwrap();
        let shown = format!("{request:?}");
        assert!(!shown.contains("eyJ") && !shown.contains("alice@"), "{shown}");
        body["role"] = json!("admin");
        assert!(serde_json::from_value::<SpawnRequest>(body).is_err());
    }
}

//! The owner's volume details: where the data is and what opens it. Checked when a dataset is registered, then encrypted; the broker
//! never needs their meaning again.
//!
//! Each kind of storage is one file below and one arm here. Messages name fields, never values: a value may be a credential.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

mod local;

/// Longest volume, bytes of JSON: its ciphertext must fit on the ledger.
pub const LONGEST_VOLUME: usize = 32 * 1024;

/// Directories below which an owner's datasets may lie, by MSP id.
pub type LocalRoots = BTreeMap<String, Vec<PathBuf>>;

/// A field of the volume that is not acceptable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidVolume {
    /// Path of the field in the request, such as `volume.path`.
    pub field: String,
    /// What is wrong and what to do; never the value.
    pub reason: String,
}

impl InvalidVolume {
    fn new(field: &str, reason: impl Into<String>) -> Self {
        let field = if field.is_empty() {
            "volume".to_owned()
        } else {
            format!("volume.{field}")
        };
        Self {
            field,
            reason: reason.into(),
        }
    }
}

/// Checks volume details that an organisation wants to register.
///
/// # Errors
/// The first field that is not acceptable.
pub fn check(volume: &Value, owner: &str, roots: &LocalRoots) -> Result<(), InvalidVolume> {
    let Value::Object(fields) = volume else {
        return Err(InvalidVolume::new("", "expected an object with a kind"));
    };
    match fields.get("kind").and_then(Value::as_str) {
        Some("local") => local::check(fields, roots.get(owner).map_or(&[], Vec::as_slice)),
        Some(_) => Err(InvalidVolume::new(
            "kind",
            "this kind of storage is not supported; use local",
        )),
        None => Err(InvalidVolume::new(
            "kind",
            "the kind of storage is missing; use local",
        )),
    }
}

fn only(fields: &Map<String, Value>, allowed: &[&str]) -> Result<(), InvalidVolume> {
    match fields.keys().find(|key| !allowed.contains(&key.as_str())) {
        // The key itself is left out: somebody may have put a secret on the wrong side of the colon.
        Some(_) => Err(InvalidVolume::new(
            "",
            format!("it has a field other than {}; take it out", allowed.join(", ")),
        )),
        None => Ok(()),
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, InvalidVolume> {
    match fields.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(_) => Err(InvalidVolume::new(name, "expected a text that is not empty")),
        None => Err(InvalidVolume::new(name, "it is missing")),
    }
}

/// A map of names to texts that ends up as the data of a Kubernetes Secret, so that the names must be keys of one.
fn credential(fields: &Map<String, Value>) -> Result<(), InvalidVolume> {
    let entries = match fields.get("credential") {
        None => return Ok(()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(InvalidVolume::new("credential", "expected an object of texts")),
    };
    if entries.len() > 32 {
        return Err(InvalidVolume::new("credential", "expected at most 32 entries"));
    }
    for (name, value) in entries {
        let key = !name.is_empty()
            && name.len() <= 253
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && !name.starts_with("..")
            && name != ".";
        if !key {
            return Err(InvalidVolume::new(
                "credential",
                "a name in it is not acceptable; use letters, digits, hyphens, underscores and dots",
            ));
        }
        if !value.is_string() {
            return Err(InvalidVolume::new("credential", "a value in it is no text"));
        }
    }
    Ok(())
}

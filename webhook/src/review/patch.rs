//! A JSON patch (RFC 6902) that is written as it is made. Only what a review needs: add, replace, remove.

use std::fmt::Display;

use serde::Serialize;

/// The operations so far, as JSON text.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Patch {
    json: Vec<u8>,
}

impl Patch {
    /// An empty patch: leave the object as it is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True if nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.json.is_empty()
    }

    /// Adds a member or element, or replaces a member.
    pub fn add(&mut self, path: impl Display, value: &impl Serialize) {
        self.operation("add", &path, Some(value));
    }

    /// Replaces what is there.
    pub fn replace(&mut self, path: impl Display, value: &impl Serialize) {
        self.operation("replace", &path, Some(value));
    }

    /// Removes what is there. Elements of one list: the last first.
    pub fn remove(&mut self, path: impl Display) {
        self.operation("remove", &path, None::<&()>);
    }

    /// The whole patch.
    #[must_use]
    pub fn into_json(mut self) -> Vec<u8> {
        if self.json.is_empty() {
            return b"[]".to_vec();
        }
        self.json.push(b']');
        self.json
    }

    fn operation(&mut self, op: &'static str, path: &impl Display, value: Option<&impl Serialize>) {
        #[derive(Serialize)]
        struct Operation<'a, V> {
            op: &'static str,
            path: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            value: Option<&'a V>,
        }
        self.json.push(if self.json.is_empty() { b'[' } else { b',' });
        let operation = Operation {
            op,
            path: path.to_string(),
            value,
        };
        // Writing plain structs of strings and numbers into memory cannot fail.
        let written = serde_json::to_writer(&mut self.json, &operation);
        debug_assert!(written.is_ok());
    }
}

/// A key as one step of a JSON pointer (RFC 6901).
#[must_use]
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

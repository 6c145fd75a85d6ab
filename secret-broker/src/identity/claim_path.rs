//! Where a claim is: a path of member names, such as `realm_access.roles`.

use serde::Deserialize;
use serde_json::{Map, Value};

/// A path into the claims. Written as names with dots between them, or as a list of names where a name itself has a dot, as in
/// `["https://example.org/roles"]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Written")]
pub struct ClaimPath(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Dotted(String),
    Names(Vec<String>),
}

impl From<Written> for ClaimPath {
    fn from(written: Written) -> Self {
        Self(match written {
            Written::Dotted(text) => text.split('.').map(str::to_owned).collect(),
            Written::Names(names) => names,
        })
    }
}

impl ClaimPath {
    /// Of a member of the claims themselves.
    #[must_use]
    pub fn member(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    /// Whether it names anything.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|name| !name.is_empty())
    }

    /// The texts there: one, or the texts of a list. Nothing else is a text, and nothing is looked for inside a text.
    pub fn texts<'a>(&self, claims: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut names = self.0.iter();
        let found = names
            .next()
            .and_then(|name| claims.get(name))
            .and_then(|first| names.try_fold(first, |value, name| value.get(name)));
        let several = match found {
            Some(Value::Array(several)) => several.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        several.iter().filter_map(Value::as_str)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_finds_texts_and_lists_of_texts_and_nothing_else() {
        let Value::Object(claims) = json!({
            "realm_access": {"roles": ["a", 1, ["b"], "c"]},
            "one": "x y",
            "https://example.org/roles": ["z"],
            "deep": {"number": 7, "object": {"a": "b"}},
        }) else {
            unreachable!()
        };
        for (path, expected) in [
            (json!("realm_access.roles"), vec!["a", "c"]),
            (json!("one"), vec!["x y"]),
            (json!(["https://example.org/roles"]), vec!["z"]),
            (json!("https://example.org/roles"), vec![]),
            (json!("realm_access"), vec![]),
            (json!("realm_access.roles.0"), vec![]),
            (json!("deep.number"), vec![]),
            (json!("deep.object"), vec![]),
            (json!("one.more"), vec![]),
        ] {
            let written: ClaimPath = serde_json::from_value(path.clone()).unwrap();
            assert!(written.is_valid());
            assert_eq!(written.texts(&claims).collect::<Vec<_>>(), expected, "{path}");
        }
        for path in [json!(""), json!("a..b"), json!([]), json!(["a", ""])] {
            assert!(!serde_json::from_value::<ClaimPath>(path).unwrap().is_valid());
        }
    }
}

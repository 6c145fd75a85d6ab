//! JSON without a second meaning: a key that occurs twice in any object is refused, wherever it is, and so is what nests without end.
//!
//! Two readers of one document may disagree on which of two equal keys counts. serde's derived types refuse duplicates of the
//! fields that they know; this check covers free-form parts as well (volume details, claims of a token).

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

const DEEPEST: usize = 64;
const DUPLICATE: &str = "duplicate key";
const TOO_DEEP: &str = "nested too deep";

/// What is wrong with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A key is there twice.
    Duplicate,
    /// Arrays and objects in each other, more than 64 of them.
    TooDeep,
    /// It is no JSON document.
    Syntax,
}

/// Checks that `text` is one JSON document in which no object has a key twice.
///
/// # Errors
/// What serde_json says: the syntax error, or `duplicate key`, with line and column and without the key's value. [`fault`] tells them
/// apart.
pub fn check(text: &[u8]) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    NoDuplicates { depth: 0 }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// What an error of [`check`] is about.
#[must_use]
pub fn fault(error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    if text.starts_with(DUPLICATE) {
        Fault::Duplicate
    } else if text.starts_with(TOO_DEEP) {
        Fault::TooDeep
    } else {
        Fault::Syntax
    }
}

#[derive(Clone, Copy)]
struct NoDuplicates {
    depth: usize,
}

impl NoDuplicates {
    fn inner<E: Error>(self) -> Result<Self, E> {
        if self.depth == DEEPEST {
            return Err(E::custom(TOO_DEEP));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for NoDuplicates {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NoDuplicates {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if !seen.insert(key) {
                return Err(A::Error::custom(DUPLICATE));
            }
            entries.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, check, fault};

    #[test]
    fn a_key_that_occurs_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"[{"x":null,"x":null}]"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            assert!(check(text.as_bytes()).is_err(), "{text}");
        }
        for text in [r#"{"a":1,"b":{"a":1}}"#, r#"[{"a":1},{"a":1}]"#, "1", "null"] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn each_fault_is_told_from_the_others() {
        let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(64).as_bytes()).is_ok());
        for (text, expected) in [
            (r#"{"a":1,"a":2}"#.to_owned(), Fault::Duplicate),
            (nested(65), Fault::TooDeep),
            ("[".repeat(100_000), Fault::TooDeep),
            (r#"{"duplicate key":}"#.to_owned(), Fault::Syntax),
        ] {
            assert_eq!(fault(&check(text.as_bytes()).unwrap_err()), expected);
        }
    }

    #[test]
    fn what_is_not_one_document_is_refused() {
        for text in ["", "{", "{} {}", "{\"a\":}", &"[".repeat(100_000)] {
            assert!(check(text.as_bytes()).is_err());
        }
    }
}

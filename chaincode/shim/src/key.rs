//! Keys of the state: which are simple, and how a composite one is made of a type and attributes.
//!
//! A composite key is `\0type\0attribute\0…`, so that all keys of a type, or of a type and some first attributes, lie side by side.
//! U+0000 parts it and U+10FFFF ends a range over it; neither may stand in a part.

/// First character of every composite key and of none other.
pub const COMPOSITE_MARK: char = '\0';
/// The greatest character: the end of a range over composite keys.
pub const LAST_CHARACTER: char = '\u{10FFFF}';
/// Where a range starts that names no start: past all composite keys.
const FIRST_SIMPLE_KEY: &str = "\u{1}";

/// Why a key is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The empty string names nothing.
    #[error("a key may not be empty")]
    Empty,
    /// A simple key that could be mistaken for a composite one.
    #[error("the key {0:?} begins with U+0000, which marks composite keys; use `composite_key`")]
    Marked(String),
    /// A part with a reserved character.
    #[error("the part {0:?} of a composite key holds U+0000 or U+10FFFF, which are reserved")]
    Reserved(String),
    /// Not what `composite_key` makes.
    #[error("the key {0:?} is not a composite key")]
    NotComposite(String),
}

/// The key of an object type and its attributes, in this order.
///
/// # Errors
/// Where the type is empty, or a part holds a reserved character.
pub fn composite_key(object_type: &str, attributes: &[&str]) -> Result<String, KeyError> {
    if object_type.is_empty() {
        return Err(KeyError::Empty);
    }
    let mut key = String::from(COMPOSITE_MARK);
    for part in std::iter::once(&object_type).chain(attributes) {
        if part.contains([COMPOSITE_MARK, LAST_CHARACTER]) {
            return Err(KeyError::Reserved((*part).to_owned()));
        }
        key.push_str(part);
        key.push(COMPOSITE_MARK);
    }
    Ok(key)
}

/// The object type and the attributes of a composite key.
///
/// # Errors
/// Where the key was not made by [`composite_key`].
pub fn split_composite_key(key: &str) -> Result<(String, Vec<String>), KeyError> {
    let not_composite = || KeyError::NotComposite(key.to_owned());
    let parts = key
        .strip_prefix(COMPOSITE_MARK)
        .and_then(|rest| rest.strip_suffix(COMPOSITE_MARK))
        .ok_or_else(not_composite)?;
    let mut parts = parts.split(COMPOSITE_MARK).map(str::to_owned);
    let object_type = parts
        .next()
        .filter(|part| !part.is_empty())
        .ok_or_else(not_composite)?;
    Ok((object_type, parts.collect()))
}

/// A key that names one entry, simple or composite.
pub(crate) fn check(key: &str) -> Result<(), KeyError> {
    if key.is_empty() {
        Err(KeyError::Empty)
    } else {
        Ok(())
    }
}

/// Start and end of a range over simple keys, as the peer wants them.
pub(crate) fn simple_range(start: &str, end: &str) -> Result<(String, String), KeyError> {
    for bound in [start, end] {
        if bound.starts_with(COMPOSITE_MARK) {
            return Err(KeyError::Marked(bound.to_owned()));
        }
    }
    let start = if start.is_empty() { FIRST_SIMPLE_KEY } else { start };
    Ok((start.to_owned(), end.to_owned()))
}

/// Start and end of the range of all keys of a type that begin with these attributes.
pub(crate) fn composite_range(object_type: &str, attributes: &[&str]) -> Result<(String, String), KeyError> {
    let start = composite_key(object_type, attributes)?;
    let end = format!("{start}{LAST_CHARACTER}");
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_composite_key_comes_apart_into_what_it_was_made_of() {
        for (object_type, attributes) in [
            ("asset", vec!["blue", "7"]),
            ("asset", vec![]),
            ("asset", vec![""]),
            ("é", vec!["\u{10FFFE}"]),
        ] {
            let key = composite_key(object_type, &attributes).unwrap();
            let (found_type, found) = split_composite_key(&key).unwrap();
            assert_eq!(
                (found_type.as_str(), found),
                (object_type, attributes.iter().map(|a| (*a).to_owned()).collect())
            );
        }
    }

    #[test]
    fn reserved_characters_are_refused() {
        assert_eq!(composite_key("", &[]), Err(KeyError::Empty));
        assert_eq!(composite_key("a\0", &[]), Err(KeyError::Reserved("a\0".into())));
        assert_eq!(
            composite_key("a", &["\u{10FFFF}"]),
            Err(KeyError::Reserved("\u{10FFFF}".into()))
        );
    }

    #[test]
    fn what_is_no_composite_key_does_not_come_apart() {
        for key in ["", "asset", "\0", "\0\0", "\0asset", "asset\0"] {
            assert_eq!(
                split_composite_key(key),
                Err(KeyError::NotComposite(key.into())),
                "{key:?}"
            );
        }
    }

    #[test]
    fn a_range_without_a_start_passes_over_composite_keys() {
        assert_eq!(simple_range("", ""), Ok(("\u{1}".into(), String::new())));
        assert_eq!(simple_range("a", "b"), Ok(("a".into(), "b".into())));
        assert_eq!(simple_range("\0a", ""), Err(KeyError::Marked("\0a".into())));
    }

    #[test]
    fn a_partial_composite_key_spans_its_own_keys_only() {
        let (start, end) = composite_range("asset", &["blue"]).unwrap();
        let inside = composite_key("asset", &["blue", "7"]).unwrap();
        let outside = composite_key("asset", &["blueish", "7"]).unwrap();
        assert!((start.as_str()..end.as_str()).contains(&inside.as_str()));
        assert!(!(start.as_str()..end.as_str()).contains(&outside.as_str()));
    }
}

//! What people type, as an expression of SQLite's FTS5. Pure.

/// Longest query, characters.
pub const LONGEST_QUERY: usize = 200;
/// Words of a query that count; there is room for more of one letter each.
pub const MOST_WORDS: usize = 16;

/// Characters that a word has at least for its beginning to be enough: what begins with one letter would be half of the catalogue.
const SHORTEST_BEGINNING: usize = 2;

/// Each word as a quoted phrase, in which FTS5 knows no operators, columns or brackets; none where there is no letter and no digit. What
/// stands between letters, as the hyphens of a name, parts a phrase in words that have to follow each other.
#[must_use]
pub fn expression(typed: &str) -> Option<String> {
    let words = typed.split(|c: char| c.is_whitespace() || c.is_control() || c == '"');
    let words = words.filter(|word| word.chars().any(char::is_alphanumeric));
    let phrases: Vec<_> = words.take(MOST_WORDS).map(phrase).collect();
    (!phrases.is_empty()).then(|| phrases.join(" AND "))
}

fn phrase(word: &str) -> String {
    let last = word
        .rsplit(|c: char| !c.is_alphanumeric())
        .find(|part| !part.is_empty());
    let is_beginning = last.is_some_and(|last| last.chars().count() >= SHORTEST_BEGINNING);
    let star = if is_beginning { "*" } else { "" };
    format!("\"{word}\"{star}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_a_phrase_and_longer_ones_are_beginnings() {
        for (typed, expected) in [
            ("texts", Some("\"texts\"*")),
            ("chest  ct-2024\n", Some("\"chest\"* AND \"ct-2024\"*")),
            ("grade a", Some("\"grade\"* AND \"a\"")),
            ("covid-9", Some("\"covid-9\"")),
            ("bokmål é", Some("\"bokmål\"* AND \"é\"")),
            (
                "title:x OR NOT (y",
                Some("\"title:x\" AND \"OR\"* AND \"NOT\"* AND \"(y\""),
            ),
            ("a\"b\"\"c", Some("\"a\" AND \"b\" AND \"c\"")),
            ("one\0two", Some("\"one\"* AND \"two\"*")),
            ("", None),
            (" \t\u{a0}", None),
            ("*", None),
            ("\"\" -- ; {} ^ +", None),
        ] {
            assert_eq!(expression(typed).as_deref(), expected, "{typed:?}");
        }
        let many = "ab ".repeat(100);
        assert_eq!(expression(&many).unwrap().matches("AND").count() + 1, MOST_WORDS);
    }
}

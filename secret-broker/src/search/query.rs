//! What people type, as an expression of SQLite's FTS5. Pure.

/// Longest query, characters.
pub const LONGEST_QUERY: usize = 200;
/// Words of a query that count; what is parted by other than spaces is as many as it has parts, each of which is looked up.
pub const MOST_WORDS: usize = 16;

/// Characters that a word has at least for its beginning to be enough: what begins with one letter would be half of the catalogue.
const SHORTEST_BEGINNING: usize = 2;

/// Each word as a quoted phrase, in which FTS5 knows no operators, columns or brackets; none where there is no letter and no digit. What
/// stands between letters, as the hyphens of a name, parts a phrase in words that have to follow each other.
#[must_use]
pub fn expression(typed: &str) -> Option<String> {
    let words = typed.split(|c: char| c.is_whitespace() || c.is_control() || c == '"');
    let words = words.filter(|word| word.chars().any(char::is_alphanumeric));
    let mut left = MOST_WORDS;
    let fitting = words.take_while(|word| {
        let parts = word
            .split(|c: char| !c.is_alphanumeric())
            .filter(|part| !part.is_empty());
        let rest = left.checked_sub(parts.count());
        left = rest.unwrap_or_default();
        rest.is_some()
    });
    let phrases: Vec<_> = fitting.map(phrase).collect();
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

    #[test]
    fn the_parts_of_a_word_count_and_one_that_has_too_many_ends_the_query() {
        let eight = "\"a-b-c-d-e-f-g-h\"";
        for (typed, expected) in [
            (
                "a-b-c-d-e-f-g-h a-b-c-d-e-f-g-h x".to_owned(),
                Some(format!("{eight} AND {eight}")),
            ),
            (
                "xy a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p z".to_owned(),
                Some("\"xy\"*".to_owned()),
            ),
            ("a-".repeat(17), None),
        ] {
            assert_eq!(expression(&typed), expected, "{typed}");
        }
    }
}

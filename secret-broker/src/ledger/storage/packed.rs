//! Many of a file's rows in one: each row that `sqlx` hands over is sent from one thread to another, which costs more than to read it.
//!
//! A text is preceded by its length in bytes, so that whatever is in it is read as it is.

use super::StorageError;
use super::session::Row;
use std::str::FromStr;

/// Values at places, each with where its place is in the array; and how many there are.
pub(super) const VALUES: &str = "SELECT coalesce(group_concat(at || ' ' || octet_length(value) || ' ' || value, ''), ''), count(*) \
     FROM (SELECT wanted.key AS at, CASE typeof(state.value) \
     WHEN 'integer' THEN (SELECT lines.value FROM lines WHERE lines.id = state.value) ELSE state.value END AS value \
     FROM json_each($1) AS wanted CROSS JOIN state ON state.place = unhex(wanted.value))";

/// Between values that are in one text. No value of the state has it: they are JSON, which writes it otherwise, or ids and keys.
const BETWEEN: u8 = 1;

macro_rules! rows_after {
    ($found:literal) => {
        concat!(
            "SELECT coalesce(group_concat(octet_length(",
            $found,
            ") * 8 + (",
            $found,
            " < x'') * 4 + (value >= x'') * 2 + (value < ''), ' '), ''), coalesce(group_concat(",
            $found,
            ", ''), ''), coalesce(group_concat(value, char(1)), ''), count(*) FROM (SELECT ",
            $found,
            ", value FROM state WHERE ",
            $found,
            " > $1 ORDER BY ",
            $found,
            " LIMIT $2)"
        )
    };
}

/// Rows after a place, by place: how long each place is and of which types it and the value are (a number is before every text, and
/// that before every blob), all places, all values, and how many rows. A text is put together for what differs only: SQLite takes
/// as long for that as to read a row.
pub(super) const ROWS: &str = rows_after!("place");
/// The same of a file whose rows lie by their keys.
pub(super) const ROWS_BY_KEY: &str = rows_after!("key");
/// Lines from an id on; and whether one of them is anything but a text.
pub(super) const LINES: &str = "SELECT coalesce(group_concat(id || ' ' || octet_length(value) || ' ' || value, ''), ''), \
     coalesce(sum(typeof(value) <> 'text'), 0) \
     FROM (SELECT id, value FROM lines WHERE id >= $1 ORDER BY id LIMIT $2)";

/// Rows of the state's table, one after the other.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Rows {
    shapes: Vec<Shape>,
    found: Vec<u8>,
    values: Vec<u8>,
}

/// What a row looks like.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Length of what it is found by.
    found: usize,
    /// Whether its value is a number, not a text.
    is_number: bool,
}

/// Goes through [`Rows`], and apart from that through their values, which are taken in the rows' order.
pub(in crate::ledger) struct Rest<'r> {
    shapes: std::slice::Iter<'r, Shape>,
    found: &'r [u8],
    values: &'r [u8],
}

impl Rows {
    /// Adds a row with a text.
    pub(super) fn push(&mut self, found: &[u8], value: &[u8]) {
        if !self.shapes.is_empty() {
            self.values.push(BETWEEN);
        }
        self.shapes.push(Shape {
            found: found.len(),
            is_number: false,
        });
        self.found.extend_from_slice(found);
        self.values.extend_from_slice(value);
    }

    /// How many they are.
    pub(in crate::ledger) fn len(&self) -> usize {
        self.shapes.len()
    }

    /// What the last one is found by.
    pub(in crate::ledger) fn last(&self) -> Option<&[u8]> {
        let begin = self.found.len().checked_sub(self.shapes.last()?.found)?;
        self.found.get(begin..)
    }

    pub(in crate::ledger) fn iter(&self) -> Rest<'_> {
        Rest {
            shapes: self.shapes.iter(),
            found: &self.found,
            values: &self.values,
        }
    }
}

impl<'r> Rest<'r> {
    /// What the next row is found by, and whether its value is a number.
    pub(in crate::ledger) fn next(&mut self) -> Option<(&'r [u8], bool)> {
        let shape = self.shapes.next()?;
        let (found, after) = self.found.split_at_checked(shape.found)?;
        self.found = after;
        Some((found, shape.is_number))
    }

    /// Takes a row's value and says whether it is this one. Where all rows have what is expected of them and nothing is left, no value
    /// had what is between them: there is as much of that as there are rows, but one.
    pub(in crate::ledger) fn has(&mut self, expected: &[u8]) -> bool {
        let rest = self.values.strip_prefix(expected);
        !expected.is_empty() && !expected.contains(&BETWEEN) && rest.is_some_and(|rest| self.goes_on(rest))
    }

    /// Takes a row's value, if it is a number.
    pub(in crate::ledger) fn number(&mut self) -> Option<i64> {
        let end = self.values.iter().position(|byte| *byte == BETWEEN);
        let (number, rest) = self.values.split_at_checked(end.unwrap_or(self.values.len()))?;
        let number = parsed(number)?;
        self.goes_on(rest).then_some(number)
    }

    fn goes_on(&mut self, rest: &'r [u8]) -> bool {
        let after = match rest.split_first() {
            None => Some(rest),
            Some((&BETWEEN, after)) => Some(after),
            Some(_) => None,
        };
        self.values = after.unwrap_or(rest);
        after.is_some()
    }

    /// Whether nothing is left.
    pub(in crate::ledger) fn is_over(&self) -> bool {
        self.shapes.len() == 0 && self.found.is_empty() && self.values.is_empty()
    }
}

/// What [`VALUES`] answered.
pub(super) fn values(rows: &[Row]) -> Result<Vec<(usize, Vec<u8>)>, StorageError> {
    let row = rows.first().ok_or_else(other_form)?;
    let (text, count) = (row.bytes(0)?, row.integer(1)?);
    let mut rest = text.as_slice();
    let mut values = Vec::new();
    while !rest.is_empty() {
        let (at, length) = (number(&mut rest, b' ')?, number(&mut rest, b' ')?);
        values.push((at, taken(&mut rest, length)?));
    }
    // One whose line is missing is not among them.
    match usize::try_from(count) {
        Ok(count) if count == values.len() => Ok(values),
        _ => Err(other_form()),
    }
}

/// What [`ROWS`] and its likes answered; `texts` where rows are found by text.
pub(super) fn rows(rows: &[Row], texts: bool) -> Result<Rows, StorageError> {
    let row = rows.first().ok_or_else(other_form)?;
    let heads = row.bytes(0)?;
    let mut shapes = Vec::new();
    for head in heads.split(|byte| *byte == b' ').filter(|head| !head.is_empty()) {
        let head: usize = parsed(head).ok_or_else(other_form)?;
        let (found_by_text, blob) = (head & 4 != 0, head & 2 != 0);
        if found_by_text != texts || blob {
            return Err(other_form());
        }
        shapes.push(Shape {
            found: head / 8,
            is_number: head & 1 != 0,
        });
    }
    // What is nothing at all has no length.
    match usize::try_from(row.integer(3)?) {
        Ok(count) if count == shapes.len() => Ok(Rows {
            shapes,
            found: row.bytes(1)?,
            values: row.bytes(2)?,
        }),
        _ => Err(other_form()),
    }
}

/// What [`LINES`] answered.
pub(super) fn lines(rows: &[Row]) -> Result<Vec<(i64, Vec<u8>)>, StorageError> {
    let text = of_its_types(rows)?;
    let mut rest = text.as_slice();
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let (id, length) = (number(&mut rest, b' ')?, number(&mut rest, b' ')?);
        lines.push((id, taken(&mut rest, length)?));
    }
    Ok(lines)
}

fn of_its_types(rows: &[Row]) -> Result<Vec<u8>, StorageError> {
    let row = rows.first().ok_or_else(other_form)?;
    match row.integer(1)? {
        0 => Ok(row.bytes(0)?),
        _ => Err(other_form()),
    }
}

/// A row is not as it was written.
pub(super) fn other_form() -> StorageError {
    let reason = "a row of the state is not of its form";
    StorageError::Database(sqlx::Error::Decode(reason.into()))
}

/// Takes digits and what is after them.
fn number<N: FromStr>(rest: &mut &[u8], end: u8) -> Result<N, StorageError> {
    let mut parts = rest.splitn(2, |byte| *byte == end);
    let (digits, after) = (parts.next(), parts.next());
    *rest = after.ok_or_else(other_form)?;
    digits.and_then(parsed).ok_or_else(other_form)
}

fn parsed<N: FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn taken(rest: &mut &[u8], length: usize) -> Result<Vec<u8>, StorageError> {
    let (text, after) = rest.split_at_checked(length).ok_or_else(other_form)?;
    *rest = after;
    Ok(text.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(&str, &str)]) -> Rows {
        let mut all = Rows::default();
        for (found, value) in rows {
            all.push(found.as_bytes(), value.as_bytes());
        }
        all
    }

    /// Whether rows have these values, each its own.
    fn have(rows: &Rows, values: &[&str]) -> bool {
        let mut rest = rows.iter();
        values
            .iter()
            .all(|value| rest.next().is_some() && rest.has(value.as_bytes()))
            && rest.is_over()
    }

    #[test]
    fn rows_have_the_values_that_were_put_in_and_no_others() {
        let three = rows(&[("a", "one"), ("bb", "two"), ("c", "7")]);
        assert!(have(&three, &["one", "two", "7"]));
        for others in [
            ["one", "two", "77"],
            ["one", "tw", "7"],
            ["onet", "wo", "7"],
            ["one", "", "7"],
        ] {
            assert!(!have(&three, &others), "{others:?}");
        }
        assert!(!have(&three, &["one", "two"]), "one is left");
        assert_eq!(three.last(), Some(b"c".as_slice()));
        let mut found: Vec<&[u8]> = Vec::new();
        let mut rest = three.iter();
        while let Some((next, is_number)) = rest.next() {
            assert!(!is_number);
            found.push(next);
        }
        assert_eq!(found, [b"a".as_slice(), b"bb", b"c"]);
        assert!(have(&rows(&[]), &[]));
    }

    #[test]
    fn a_value_with_what_is_between_values_is_not_taken_for_several() {
        let joined = rows(&[("a", "one\u{1}two"), ("b", "three")]);
        for values in [
            ["one", "two"].as_slice(),
            &["one", "two", "three"],
            &["one\u{1}two", "three"],
            &["one", "two\u{1}three"],
        ] {
            assert!(!have(&joined, values), "{values:?}");
        }
    }

    #[test]
    fn a_number_is_read_to_its_end() {
        let mut numbers = rows(&[("a", "12"), ("b", "-7"), ("c", "1x")]);
        for shape in &mut numbers.shapes {
            shape.is_number = true;
        }
        let mut rest = numbers.iter();
        assert_eq!(
            (rest.number(), rest.number(), rest.number()),
            (Some(12), Some(-7), None)
        );
    }
}

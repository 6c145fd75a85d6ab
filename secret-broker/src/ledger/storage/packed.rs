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

/// Places and values after a place, by place, the id of a line behind a `#`; and whether one of them is of another type.
pub(super) const PAIRS: &str = "SELECT coalesce(group_concat( \
     octet_length(place) || ' ' || octet_length(value) || iif(typeof(value) = 'integer', '#', ' ') || place || value, ''), ''), \
     coalesce(sum(typeof(place) <> 'blob' OR typeof(value) NOT IN ('text', 'integer')), 0) \
     FROM (SELECT place, value FROM state WHERE place > $1 ORDER BY place LIMIT $2)";
/// The same of a file whose places are not packed and whose lines are where the others are.
pub(super) const PAIRS_BY_TEXT: &str = "SELECT coalesce(group_concat( \
     octet_length(place) || ' ' || octet_length(value) || ' ' || place || value, ''), ''), \
     coalesce(sum(typeof(place) <> 'text' OR typeof(value) <> 'text'), 0) \
     FROM (SELECT place, value FROM state WHERE place > $1 ORDER BY place LIMIT $2)";
/// The same of a file whose rows lie by their keys.
pub(super) const PAIRS_BY_KEY: &str = "SELECT coalesce(group_concat( \
     octet_length(key) || ' ' || octet_length(value) || ' ' || key || value, ''), ''), \
     coalesce(sum(typeof(key) <> 'text' OR typeof(value) <> 'text'), 0) \
     FROM (SELECT key, value FROM state WHERE key > $1 ORDER BY key LIMIT $2)";
/// Lines from an id on; and whether one of them is anything but a text.
pub(super) const LINES: &str = "SELECT coalesce(group_concat(id || ' ' || octet_length(value) || ' ' || value, ''), ''), \
     coalesce(sum(typeof(value) <> 'text'), 0) \
     FROM (SELECT id, value FROM lines WHERE id >= $1 ORDER BY id LIMIT $2)";

/// What is in the row of a key.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Stored {
    /// Its value.
    Value(Vec<u8>),
    /// Which line has its value.
    Line(i64),
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

/// What [`PAIRS`] and its likes answered.
pub(super) fn pairs(rows: &[Row]) -> Result<Vec<(Vec<u8>, Stored)>, StorageError> {
    let text = of_its_types(rows)?;
    let mut rest = text.as_slice();
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let place: usize = number(&mut rest, b' ')?;
        let is_line = rest.iter().find(|byte| !byte.is_ascii_digit()) == Some(&b'#');
        let value = number(&mut rest, if is_line { b'#' } else { b' ' })?;
        let place = taken(&mut rest, place)?;
        let value = taken(&mut rest, value)?;
        let stored = match is_line {
            true => Stored::Line(parsed(&value).ok_or_else(other_form)?),
            false => Stored::Value(value),
        };
        pairs.push((place, stored));
    }
    Ok(pairs)
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

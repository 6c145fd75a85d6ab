//! Many of a file's rows in one: each row that `sqlx` hands over is sent from one thread to another, which costs more than to read it.
//!
//! A text is preceded by its length in bytes, so that whatever is in it is read as it is.

use super::StorageError;
use super::session::Row;

/// Values at places, each with where its place is in the array.
pub(super) const VALUES: &str = "SELECT coalesce(group_concat( \
     wanted.key || ' ' || octet_length(state.value) || ' ' || state.value, ''), '') \
     FROM json_each($1) AS wanted CROSS JOIN state ON state.place = wanted.value";

/// Places and values after a place, by place; and whether one of them is anything but a text.
pub(super) const PAIRS: &str = "SELECT coalesce(group_concat( \
     octet_length(place) || ' ' || octet_length(value) || ' ' || place || value, ''), ''), \
     coalesce(sum(typeof(place) <> 'text' OR typeof(value) <> 'text'), 0) \
     FROM (SELECT place, value FROM state WHERE place > $1 ORDER BY place LIMIT $2)";
/// The same of a file whose rows lie by their keys.
pub(super) const PAIRS_BY_KEY: &str = "SELECT coalesce(group_concat( \
     octet_length(key) || ' ' || octet_length(value) || ' ' || key || value, ''), ''), \
     coalesce(sum(typeof(key) <> 'text' OR typeof(value) <> 'text'), 0) \
     FROM (SELECT key, value FROM state WHERE key > $1 ORDER BY key LIMIT $2)";

/// What [`VALUES`] answered.
pub(super) fn values(rows: &[Row]) -> Result<Vec<(usize, Vec<u8>)>, StorageError> {
    let text = rows.first().ok_or_else(other_form)?.text(0)?;
    let mut rest = text.as_bytes();
    let mut values = Vec::new();
    while !rest.is_empty() {
        let (at, length) = (number(&mut rest)?, number(&mut rest)?);
        values.push((at, taken(&mut rest, length)?));
    }
    Ok(values)
}

/// What [`PAIRS`] answered.
pub(super) fn pairs(rows: &[Row]) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
    let row = rows.first().ok_or_else(other_form)?;
    if row.integer(1)? != 0 {
        return Err(other_form());
    }
    let text = row.text(0)?;
    let mut rest = text.as_bytes();
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let (key, value) = (number(&mut rest)?, number(&mut rest)?);
        let key = String::from_utf8(taken(&mut rest, key)?).map_err(|_| other_form())?;
        pairs.push((key, taken(&mut rest, value)?));
    }
    Ok(pairs)
}

/// A row is not as it was written.
pub(super) fn other_form() -> StorageError {
    let reason = "a row of the state is not of its form";
    StorageError::Database(sqlx::Error::Decode(reason.into()))
}

/// Takes digits and the space after them.
fn number(rest: &mut &[u8]) -> Result<usize, StorageError> {
    let mut parts = rest.splitn(2, |byte| *byte == b' ');
    let (digits, after) = (parts.next(), parts.next());
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    let number = digits.and_then(|digits| digits.parse().ok());
    *rest = after.ok_or_else(other_form)?;
    number.ok_or_else(other_form)
}

fn taken(rest: &mut &[u8], length: usize) -> Result<Vec<u8>, StorageError> {
    let (text, after) = rest.split_at_checked(length).ok_or_else(other_form)?;
    *rest = after;
    Ok(text.to_vec())
}

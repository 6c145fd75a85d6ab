//! How far a caller has been told, as the `id` of events has it.

use std::fmt;

/// Longer numbers no event has.
const MOST_DIGITS: usize = 16;

/// A place in what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The start of the broker that gave it: after another one the ledger may be another, and nothing of before is kept.
    pub start: u64,
    /// The ledger's revision: its last block, or the channel's, all of whose events were told.
    pub height: u64,
    /// Until when operations were told, Unix seconds of this broker's clock.
    pub operations_at: i64,
}

impl Mark {
    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(id: &[u8]) -> Option<Self> {
        let (start, rest) = std::str::from_utf8(id).ok()?.split_once('.')?;
        let (height, at) = rest.split_once('.')?;
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if start.len() != 16 || !start.bytes().all(is_hex) {
            return None;
        }
        let is_number =
            |text: &str| (1..=MOST_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(height) || !is_number(at) {
            return None;
        }
        Some(Self {
            start: u64::from_str_radix(start, 16).ok()?,
            height: height.parse().ok()?,
            operations_at: at.parse().ok()?,
        })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}.{}", self.start, self.height, self.operations_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_is_written_and_nothing_else_is_one() {
        let mark = Mark {
            start: 0xab,
            height: 17,
            operations_at: 1_790_000_000,
        };
        assert_eq!(mark.to_string(), "00000000000000ab.17.1790000000");
        assert_eq!(Mark::parse(mark.to_string().as_bytes()), Some(mark));
        for start in [
            "",
            "ab.",
            "00000000000000AB.",
            "000000000000000ab.",
            "+0000000000000ab.",
        ] {
            let id = format!("{start}1.1");
            assert_eq!(Mark::parse(id.as_bytes()), None, "{id}");
        }
        for other in [
            "",
            ".",
            "1",
            "1.",
            ".1",
            "-1.1",
            "1.-1",
            "+1.1",
            "1.1.1",
            " 1.1",
            "1.1 ",
            "\u{0661}.1",
            "12345678901234567.1",
        ] {
            let other = format!("00000000000000ab.{other}");
            assert_eq!(Mark::parse(other.as_bytes()), None, "{other}");
        }
        assert_eq!(Mark::parse(b"00000000000000ab.\xff.1"), None);
    }
}

//! How far a caller has been told, as the `id` of events has it.

use std::fmt;

/// Longer numbers no event has.
const MOST_DIGITS: usize = 16;

/// A place in what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The ledger's revision: its last block, or the channel's, all of whose events were told.
    pub height: u64,
    /// Until when operations were told, Unix seconds of this broker's clock.
    pub operations_at: i64,
}

impl Mark {
    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(id: &[u8]) -> Option<Self> {
        let (height, at) = std::str::from_utf8(id).ok()?.split_once('.')?;
        let is_number =
            |text: &str| (1..=MOST_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(height) || !is_number(at) {
            return None;
        }
        Some(Self {
            height: height.parse().ok()?,
            operations_at: at.parse().ok()?,
        })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.height, self.operations_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_is_written_and_nothing_else_is_one() {
        let mark = Mark {
            height: 17,
            operations_at: 1_790_000_000,
        };
        assert_eq!(Mark::parse(mark.to_string().as_bytes()), Some(mark));
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
            assert_eq!(Mark::parse(other.as_bytes()), None, "{other}");
        }
        assert_eq!(Mark::parse(b"\xff.1"), None);
    }
}

//! Which block is meant, as people copy it: `HEIGHT:HASH`.

use super::block::{Hash, Head};
use super::bytes::{Bytes, NotBytes};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// A block by its height and its hash, which stands for every block before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlockName {
    /// Which block.
    pub height: u64,
    /// Its hash.
    pub hash: Bytes<32>,
}

/// A text that names no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotABlockName {
    /// There are not two parts.
    #[error("expected HEIGHT:HASH, as the broker prints it where blocks are missing")]
    Form,
    /// The first is no number.
    #[error("the height before the colon is no number: {0}")]
    Height(#[from] ParseIntError),
    /// The second is no hash.
    #[error("the hash after the colon: {0}")]
    Hash(#[from] NotBytes),
}

impl BlockName {
    pub(super) const fn of(head: &Head) -> Self {
        Self::new(head.height, head.hash)
    }

    pub(super) const fn new(height: u64, hash: Hash) -> Self {
        let hash = Bytes(hash);
        Self { height, hash }
    }
}

impl FromStr for BlockName {
    type Err = NotABlockName;

    fn from_str(text: &str) -> Result<Self, NotABlockName> {
        let (height, hash) = text.split_once(':').ok_or(NotABlockName::Form)?;
        Ok(Self {
            height: height.parse()?,
            hash: hash.parse()?,
        })
    }
}

impl fmt::Display for BlockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.height, self.hash)
    }
}

impl TryFrom<String> for BlockName {
    type Error = NotABlockName;

    fn try_from(text: String) -> Result<Self, NotABlockName> {
        text.parse()
    }
}

impl From<BlockName> for String {
    fn from(name: BlockName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_named_by_its_height_and_all_of_its_hash() {
        let text = format!("17:{}", "a7".repeat(32));
        let name: BlockName = text.parse().unwrap();
        assert_eq!(name, BlockName::new(17, [0xa7; 32]));
        assert_eq!(name.to_string(), text);
        for wrong in [
            "",
            "17",
            "true",
            ":",
            "17:",
            "17:a7",
            &text.to_uppercase(),
            &format!("x:{}", "a7".repeat(32)),
            &format!("{text} "),
        ] {
            assert!(wrong.parse::<BlockName>().is_err(), "{wrong}");
        }
    }
}

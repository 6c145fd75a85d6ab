//! What became of a transaction in its block.

use std::fmt;

use fabric_wire::protos::TxValidationCode;

/// A peer's verdict on a transaction in a block, by Fabric's numbers (`TxValidationCode`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ValidationCode(i32);

impl ValidationCode {
    /// It counts.
    pub const VALID: Self = Self(TxValidationCode::Valid as i32);
    /// A transaction of the same id came before it.
    pub const DUPLICATE_TXID: Self = Self(TxValidationCode::DuplicateTxid as i32);
    /// Too few members endorsed it, or the wrong ones.
    pub const ENDORSEMENT_POLICY_FAILURE: Self = Self(TxValidationCode::EndorsementPolicyFailure as i32);
    /// A key that it read has changed since.
    pub const MVCC_READ_CONFLICT: Self = Self(TxValidationCode::MvccReadConflict as i32);
    /// A range that it read has changed since.
    pub const PHANTOM_READ_CONFLICT: Self = Self(TxValidationCode::PhantomReadConflict as i32);

    /// Fabric's number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }

    /// Whether it counts.
    #[must_use]
    pub fn is_valid(self) -> bool {
        self == Self::VALID
    }

    /// Whether it was invalid only because another came before it: run again, it may be valid.
    #[must_use]
    pub fn is_conflict(self) -> bool {
        self == Self::MVCC_READ_CONFLICT || self == Self::PHANTOM_READ_CONFLICT
    }
}

impl From<i32> for ValidationCode {
    fn from(number: i32) -> Self {
        Self(number)
    }
}

impl fmt::Display for ValidationCode {
    /// Fabric's name, or the number where this crate knows no name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TxValidationCode::try_from(self.0) {
            Ok(code) => f.write_str(code.as_str_name()),
            Err(_) => write!(f, "validation code {}", self.0),
        }
    }
}

impl fmt::Debug for ValidationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a transaction is and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitStatus {
    /// Number of the block.
    pub block: u64,
    /// Whether it counts.
    pub code: ValidationCode,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_shows_as_fabric_names_it() {
        assert_eq!(
            ValidationCode::MVCC_READ_CONFLICT.to_string(),
            "MVCC_READ_CONFLICT"
        );
        assert_eq!(
            ValidationCode::from(10),
            ValidationCode::ENDORSEMENT_POLICY_FAILURE
        );
        assert_eq!(ValidationCode::from(77).to_string(), "validation code 77");
    }

    #[test]
    fn only_conflicts_are_worth_another_run() {
        let worth: Vec<i32> = (0..=255)
            .filter(|number| ValidationCode(*number).is_conflict())
            .collect();
        assert_eq!(worth, [11, 12]);
    }
}

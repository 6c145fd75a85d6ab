//! Whether a ledger is the one that is meant: by its id, the hash of its first block.
//!
//! An address says where a ledger is, and keys say who signed it. A key does not consent to a hand-over that names it, so that a whole
//! ledger which a stranger made and handed over to the operator's key looks like the operator's own. So the id is noted with what was
//! first seen ([`super::seen`]), and an operator can name it, which holds for the first start at a new place too.

use super::block::Hash;
use super::bytes::Bytes;
use super::{LedgerOptions, OpenError, seen};

/// Which ledger is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    /// Its id.
    pub id: Bytes<32>,
    /// What says so.
    pub by: String,
}

/// That the ledger whose first block has this hash, or which has none yet, may be opened.
pub(super) fn check(options: &LedgerOptions, found: Option<Hash>) -> Result<(), OpenError> {
    let told = options.id.map(|id| Meant {
        id,
        by: "--ledger-id".to_owned(),
    });
    let noted = options.seen.as_ref().and_then(|file| {
        let id = seen::read(file)?.seen.ledger_id;
        let by = format!("the note in {}", file.display());
        Some(Meant { id, by })
    });
    for meant in told.into_iter().chain(noted).map(Box::new) {
        let path = options.address.clone();
        match found.map(Bytes) {
            Some(found) if found == meant.id => {}
            Some(found) => return Err(OpenError::OtherLedger { path, found, meant }),
            None => return Err(OpenError::NoLedger { path, meant }),
        }
    }
    Ok(())
}

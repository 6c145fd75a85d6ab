//! How a ledger is opened, and why it is not.

use super::block_name::BlockName;
use super::bytes::{Bytes, KeyId};
use super::key::LedgerKeyError;
use super::meant::Meant;
use super::verify::VerifyError;
use super::{Contract, LedgerAddress, Msp, TxId};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Gives the time, milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// How to open a ledger.
#[derive(Clone)]
pub struct LedgerOptions {
    /// Where it is. A file is one process's alone (`<path>.lock` beside it); a database is shared.
    pub address: LedgerAddress,
    /// The Ed25519 key that signs the blocks (PKCS#8 PEM): made with the ledger, asked for ever after.
    pub key: PathBuf,
    /// Who submits: every transaction of this ledger has this caller.
    pub organisation: Msp,
    /// The contract's parameters, fixed when the ledger is created.
    pub contract: Contract,
    /// Where the transactions' time comes from.
    pub clock: Clock,
    /// Submissions that may wait; one more is answered [`SubmitError::Busy`].
    pub queue: usize,
    /// Most transactions in a block.
    pub block_transactions: usize,
    /// Whether a ledger that nobody signed is signed, and so vouched for, when it is opened.
    pub adopt_unsigned: bool,
    /// Keys of the operator's, beside the one in `key`, that may have taken over from a lost one.
    pub trusted: Vec<KeyId>,
    /// Which ledger it must be; none is made then.
    pub id: Option<Bytes<32>>,
    /// A file that remembers across restarts which ledger this broker has seen, and how far.
    pub seen: Option<PathBuf>,
    /// What a ledger ends with that lacks blocks which were seen and is opened all the same. Said of the same block again it counts no more.
    pub accept_lost_blocks: Option<BlockName>,
    /// Organisations whose transactions' ids begin with their names, as if they all submitted here.
    #[cfg(test)]
    pub(super) callers: Vec<Msp>,
}

impl LedgerOptions {
    /// The usual ledger at an address, on the system's clock, with its key beside it where it is a file.
    #[must_use]
    pub fn new(address: impl Into<LedgerAddress>, organisation: Msp) -> Self {
        let address = address.into();
        Self {
            key: address.key_beside().unwrap_or_else(|| "ledger.key".into()),
            address,
            organisation,
            contract: Contract::EMBEDDED,
            clock: Arc::new(system_clock),
            queue: 1_024,
            block_transactions: 128,
            adopt_unsigned: false,
            trusted: Vec::new(),
            id: None,
            seen: None,
            accept_lost_blocks: None,
            #[cfg(test)]
            callers: Vec::new(),
        }
    }

    /// Who submits a transaction.
    pub(super) fn caller(&self, _tx_id: &TxId) -> &Msp {
        #[cfg(test)]
        if let Some((msp, _)) = _tx_id.as_str().split_once(':')
            && let Some(caller) = self.callers.iter().find(|caller| caller.as_str() == msp)
        {
            return caller;
        }
        &self.organisation
    }

    pub(super) fn failed(&self, error: impl ToString) -> OpenError {
        OpenError::Storage {
            path: self.address.clone(),
            reason: error.to_string(),
        }
    }
}

fn system_clock() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// Why the ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the ledger at {0} is open in another process; stop that one first")]
    InUse(LedgerAddress),
    /// It was created for another organisation.
    #[error(
        "the ledger at {path} belongs to {found}, not to {expected}; check the path and the organisation"
    )]
    OtherOrganisation {
        /// Where it is.
        path: LedgerAddress,
        /// Whose it is.
        found: Msp,
        /// For whom it was opened.
        expected: Msp,
    },
    /// It was created with other parameters.
    #[error(
        "the ledger at {path} was created with an end margin of {found_ms} ms, not {expected_ms} ms; open it with that"
    )]
    OtherParameters {
        /// Where it is.
        path: LedgerAddress,
        /// Its margin.
        found_ms: i64,
        /// The margin asked for.
        expected_ms: i64,
    },
    /// Its key cannot be used.
    #[error(transparent)]
    Key(#[from] LedgerKeyError),
    /// Another key signs it.
    #[error(
        "the ledger at {path} is signed by key {expected}, and {key} holds key {found}; give that key with --ledger-key, or if it is lost take a new one with `ledger rotate --lost`"
    )]
    OtherKey {
        /// Where the ledger is.
        path: LedgerAddress,
        /// Where the key is.
        key: PathBuf,
        /// Its public half.
        found: KeyId,
        /// Who signs.
        expected: KeyId,
    },
    /// There is none.
    #[error("cannot read the ledger at {path}: {source}; check the path")]
    Missing {
        /// Where it should be.
        path: LedgerAddress,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Nobody signed it.
    #[error(
        "the ledger at {0} is not signed, so that whoever can write it can have made all of it; if an early version wrote it, hold it against what you know of it, then start the broker once with --adopt-unsigned-ledger"
    )]
    NotSigned(LedgerAddress),
    /// It was changed.
    #[error("the ledger at {path} is neither opened nor signed as it is: {error}")]
    Damaged {
        /// Where it is.
        path: LedgerAddress,
        /// What is wrong with it.
        error: Box<VerifyError>,
    },
    /// A key took over in it that nobody vouches for.
    #[error(
        "in block {block} of the ledger at {path} key {key_id} took over without the one before, as `ledger rotate --lost` does, and it is not the key that this broker has: whoever can write the ledger can have made all from there on, so that nothing was signed; if that was you, say so with --trust-ledger-key {key_id} (`ledger rotate` has --trust-key); otherwise restore a backup"
    )]
    Unvouched {
        /// Where it is.
        path: LedgerAddress,
        /// The first such block.
        block: u64,
        /// The key.
        key_id: KeyId,
    },
    /// It is another one.
    #[error(
        "the ledger at {path} is ledger {found}, and {by} says {id}: whatever key signs it, it is another one, and nothing was written; let the address lead to the one that is meant, or, if this is that one from now on, change what says otherwise",
        by = .meant.by, id = .meant.id
    )]
    OtherLedger {
        /// Where it is.
        path: LedgerAddress,
        /// Its id.
        found: Bytes<32>,
        /// The one that is meant.
        meant: Box<Meant>,
    },
    /// It is empty.
    #[error(
        "there is no ledger at {path}, and {by} says that it is ledger {id}: no other one is made there; let the address lead to it, or import it from a backup, or, to begin another one, take away what says so",
        by = .meant.by, id = .meant.id
    )]
    NoLedger {
        /// Where it should be.
        path: LedgerAddress,
        /// The one that is meant.
        meant: Box<Meant>,
    },
    /// It lacks what this broker has seen of it.
    #[error(
        "the ledger at {path} is not what this broker has seen of it and noted in {file}: {reason}; {remedy}"
    )]
    NotTheSame {
        /// Where it is.
        path: LedgerAddress,
        /// What remembers it.
        file: PathBuf,
        /// What is missing.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The lock file cannot be made or taken.
    #[error("cannot lock the ledger at {path}: {source}; check that its directory exists and is writable")]
    Lock {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The database cannot be opened or brought to its schema.
    #[error("cannot open the ledger at {path}: {reason}")]
    Storage {
        /// Where it is.
        path: LedgerAddress,
        /// Why.
        reason: String,
    },
}

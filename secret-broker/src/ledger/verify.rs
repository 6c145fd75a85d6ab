//! Reads the whole ledger again: every hash and signature, every decision, and everything that is derived from them.

mod ahead;
mod answers;
mod replay;
mod replayed;
mod tables;
mod walk;

use super::bytes::{Bytes, KeyId};
use super::chain::corrupt;
use super::receipt::{Receipt, ReceiptError};
use super::storage::{self, Connection, Session, StorageError, derived, schema};
use tokio::sync::Mutex;
use walk::walk;
pub(super) use walk::walk_on;

/// Derived rows written at once.
const BATCH: usize = 256;

/// A ledger that is as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Height of the last block.
    pub height: u64,
    /// Its hash, hexadecimal: keep a receipt of it elsewhere, and a shortened ledger shows.
    pub head_hash: String,
    /// Hash of block 0.
    pub ledger_id: Bytes<32>,
    /// Which key signs; none where the ledger was not signed yet.
    pub key_id: Option<KeyId>,
    /// Blocks in which a key took over because the one before was lost: whoever can write the ledger can have done that.
    pub unvouched_keys: Vec<u64>,
    /// Each key that signed, in their order, with the last block that it did.
    pub signers: Vec<(KeyId, u64)>,
    /// Number of transactions; not known where only the chain was checked.
    pub transactions: Option<u64>,
    /// Length of the blocks' bodies.
    pub body_bytes: u64,
}

/// How much of a ledger to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Hashes and signatures of the blocks.
    Chain,
    /// And that the contract decides alike, that state and indexes are what this leads to, and that the file is sound.
    Whole,
}

/// The first place where a ledger is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger is damaged at block {block}, {field}: {reason}; restore it from a backup")]
pub struct Corruption {
    /// Height of the block; for derived tables the last one.
    pub block: u64,
    /// Column of the block, or the derived table.
    pub field: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// Why a ledger is not verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It was changed.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// It ends before a block that it once had.
    #[error(
        "the ledger was truncated: it ends at block {ends}, and a receipt of block {receipt} shows that it once went on; restore it from a backup"
    )]
    Truncated {
        /// Height of its last block.
        ends: u64,
        /// Height of the block in the receipt.
        receipt: u64,
    },
    /// It has another block where it once had the one in a receipt.
    #[error(
        "the ledger was forked at block {block} or before: a receipt has hash {receipt} there, the ledger {found}; restore it from a backup"
    )]
    Forked {
        /// Height of the block.
        block: u64,
        /// Its hash in the receipt.
        receipt: Bytes<32>,
        /// Its hash in the ledger.
        found: Bytes<32>,
    },
    /// A receipt says nothing about it.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// A key took over that nobody vouches for.
    #[error(
        "in block {block} of the ledger key {key_id} took over without the one before, as `ledger rotate --lost` does, and nobody vouches for it: whoever can write the ledger can have made all from there on; if that was you, say so with --trust-key {key_id}, or give a receipt from after that block"
    )]
    Unvouched {
        /// Height of the first such block.
        block: u64,
        /// The key.
        key_id: KeyId,
    },
    /// A key that is said to be trusted has nothing to do with it.
    #[error(
        "key {0} signed no block of this ledger, so that trusting it says nothing of it; check which one was meant"
    )]
    NoSigner(KeyId),
    /// Nobody signed it.
    #[error(
        "the ledger is not signed, so that whoever can write it can have made all of it; if an early version wrote it, hold it against what you know of it, then start the broker once with --adopt-unsigned-ledger"
    )]
    Unsigned,
    /// It cannot be read.
    #[error("verifying the ledger failed: {0}")]
    Storage(String),
}

impl From<StorageError> for VerifyError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Form { height, field } => {
                let block = u64::try_from(height).unwrap_or_default();
                corrupt(block, field, "it is not of its form").into()
            }
            other => Self::Storage(other.to_string()),
        }
    }
}

impl Verified {
    /// That somebody vouches for every key that signed: the one before it, or whoever calls, by naming that very key, or by a receipt
    /// of the block in which it took over or of a later one. Receipts must have been held against the ledger. That a key signs later
    /// says nothing: it does not consent to a hand-over that names it.
    ///
    /// # Errors
    /// [`VerifyError::Unvouched`] with the first key for which nobody does, or [`VerifyError::NoSigner`].
    pub fn vouched_for(self, trusted: &[KeyId], receipts: &[Receipt]) -> Result<Self, VerifyError> {
        let receipted = receipts.iter().map(|receipt| receipt.height).max();
        let stranger = |key: &&KeyId| !self.signers.iter().any(|(signer, _)| signer == *key);
        if let Some(key) = trusted.iter().find(stranger) {
            return Err(VerifyError::NoSigner(*key));
        }
        for &block in self
            .unvouched_keys
            .iter()
            .filter(|block| receipted < Some(**block))
        {
            // A key that takes over from a lost one signs that itself.
            let signer = self.signers.iter().find(|(_, until)| *until >= block);
            let key_id = signer.map(|(key, _)| *key).or(self.key_id);
            let key_id = key_id.ok_or(VerifyError::Unsigned)?;
            if !trusted.contains(&key_id) {
                return Err(VerifyError::Unvouched { block, key_id });
            }
        }
        Ok(self)
    }
}

/// Verifies what a session sees.
pub(super) async fn verify(
    session: &mut Session<'_>,
    depth: Depth,
    receipts: &[Receipt],
) -> Result<Verified, VerifyError> {
    signed(verify_even_unsigned(session, None, depth, receipts).await?)
}

/// That somebody signed it.
pub(super) fn signed(verified: Verified) -> Result<Verified, VerifyError> {
    match verified.key_id {
        Some(_) => Ok(verified),
        None => Err(VerifyError::Unsigned),
    }
}

/// The same, but nobody need have signed it: whoever can write it can also have made it. With another session beside the first the
/// file is looked through at the same time, and one of its tables read.
pub(super) async fn verify_even_unsigned(
    session: &mut Session<'_>,
    beside: Option<&mut Session<'_>>,
    depth: Depth,
    receipts: &[Receipt],
) -> Result<Verified, VerifyError> {
    for receipt in receipts {
        receipt.check()?;
    }
    let derived = match depth {
        Depth::Chain => None,
        Depth::Whole => Some(derived_until(session).await?),
    };
    // Where that cannot be read, what is wrong with the blocks is said first.
    let compared = derived
        .as_ref()
        .and_then(|derived| derived.as_ref().ok())
        .copied();
    let beside = beside.filter(|_| depth == Depth::Whole).map(Mutex::new);
    let looked_through = async {
        match &beside {
            Some(session) => {
                let mut session = session.lock().await;
                Some(schema::unsound(&mut session).await)
            }
            None => None,
        }
    };
    let walk = walk(session, depth, receipts, compared, beside.as_ref());
    let (walk, looked_through) = tokio::join!(walk, looked_through);
    let verified = walk?.verified()?;
    if let Some(derived) = derived {
        let wrong = |reason| corrupt(verified.height, "state", reason);
        let derived = derived.map_err(wrong)?;
        if derived > verified.height {
            let reason =
                format!("it is derived from block {derived}, which is not there; rebuild the ledger's state");
            return Err(wrong(reason).into());
        }
        let unsound = |reason: String| corrupt(verified.height, "file", reason);
        let found = match looked_through {
            Some(found) => found?,
            None => schema::unsound(session).await?,
        };
        if let Some(reason) = found {
            return Err(unsound(reason).into());
        }
    }
    Ok(verified)
}

/// Up to which block the tables are derived, or why that is not known.
async fn derived_until(session: &mut Session<'_>) -> Result<Result<u64, String>, VerifyError> {
    match derived::height(session).await {
        Ok(height) => Ok(Ok(height)),
        // As the walk will say.
        Err(StorageError::NoBlocks) => Ok(Ok(0)),
        Err(error) if storage::is_damage(&error) => Ok(Err(format!("it cannot be read: {error}"))),
        Err(error) => Err(error.into()),
    }
}

/// Derives everything from the blocks anew.
pub(super) async fn rebuild(connection: &mut Connection) -> Result<Verified, VerifyError> {
    let mut session = connection.write().await?;
    let verified = rebuild_in(&mut session).await?;
    session.commit().await?;
    Ok(verified)
}

/// The same, as a part of something larger.
pub(super) async fn rebuild_in(session: &mut Session<'_>) -> Result<Verified, VerifyError> {
    let walk = walk(session, Depth::Whole, &[], None, None).await?;
    let verified = walk.verified()?;
    derived::clear(session).await?;
    let Some(replay) = walk.replay else {
        return Ok(verified);
    };
    let busy = || VerifyError::Storage("another thread still reads what the blocks lead to".to_owned());
    let (state, places) = replay.into_parts().ok_or_else(busy)?;
    let mut puts = Vec::with_capacity(state.len());
    for (key, value) in state.iter() {
        let text =
            |bytes| std::str::from_utf8(bytes).map_err(|error| VerifyError::Storage(error.to_string()));
        puts.push((text(key)?, text(value)?));
    }
    derived::sort(session, &mut puts);
    for puts in puts.chunks(BATCH) {
        derived::write(session, puts, &[]).await?;
    }
    let mut places: Vec<_> = places
        .iter()
        .map(|(tx_id, (height, at))| (tx_id.as_str(), *height, *at))
        .collect();
    places.sort_unstable();
    for places in places.chunks(BATCH) {
        derived::write_places(session, places).await?;
    }
    derived::set_height(session, verified.height).await?;
    Ok(verified)
}

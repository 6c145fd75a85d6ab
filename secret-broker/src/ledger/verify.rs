//! Reads the whole ledger again: every hash and signature, every decision, and everything that is derived from them.

use super::block::{Body, Hash, StoredBlock, Transaction};
use super::bytes::{Bytes, KeyId};
use super::chain::{Care, Chain, corrupt};
use super::receipt::{Receipt, ReceiptError};
use super::storage::{self, Connection, Session, StorageError, blocks, derived, schema};
use leasehold_chaincode::{Contract, MemoryState, TxContext};
use std::collections::BTreeMap;

/// Blocks, or derived rows, read at once.
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
    /// That somebody vouches for every key that signed: the one before it, or whoever calls, by a key that signed that block or one
    /// after it, or by a receipt of one. Receipts must have been held against the ledger.
    ///
    /// # Errors
    /// [`VerifyError::Unvouched`] with the first key for which nobody does, or [`VerifyError::NoSigner`].
    pub fn vouched_for(self, trusted: &[KeyId], receipts: &[Receipt]) -> Result<Self, VerifyError> {
        let mut vouched = receipts.iter().map(|receipt| receipt.height).max();
        for key in trusted {
            let until = self.signers.iter().rev().find(|(signer, _)| signer == key);
            let (_, until) = until.ok_or(VerifyError::NoSigner(*key))?;
            vouched = vouched.max(Some(*until));
        }
        let first = self.unvouched_keys.iter().find(|block| vouched < Some(**block));
        let Some(&block) = first else {
            return Ok(self);
        };
        let signer = self.signers.iter().find(|(_, until)| *until >= block);
        match signer.map(|(key, _)| *key).or(self.key_id) {
            Some(key_id) => Err(VerifyError::Unvouched { block, key_id }),
            None => Err(VerifyError::Unsigned),
        }
    }
}

/// What the blocks lead to.
struct Walk {
    chain: Chain,
    replay: Option<Replay>,
}

impl Walk {
    fn verified(&self) -> Result<Verified, Corruption> {
        let head = self.chain.finish()?;
        Ok(Verified {
            height: head.height,
            head_hash: hex::encode(head.hash),
            ledger_id: Bytes(self.chain.ledger),
            key_id: self.chain.key,
            unvouched_keys: self.chain.unvouched.clone(),
            signers: self.chain.signers.clone(),
            transactions: self
                .replay
                .as_ref()
                .map(|replay| u64::try_from(replay.places.len()).unwrap_or(u64::MAX)),
            body_bytes: self.chain.body_bytes,
        })
    }

    fn take(&mut self, block: &StoredBlock) -> Result<(), Corruption> {
        let body = self.chain.take(block)?;
        if let (Some(replay), Some(body)) = (&mut self.replay, body) {
            replay.take(block.height, body)?;
        }
        Ok(())
    }
}

/// Verifies what a session sees.
pub(super) async fn verify(
    session: &mut Session<'_>,
    depth: Depth,
    receipts: &[Receipt],
) -> Result<Verified, VerifyError> {
    let verified = verify_even_unsigned(session, depth, receipts).await?;
    match verified.key_id {
        Some(_) => Ok(verified),
        None => Err(VerifyError::Unsigned),
    }
}

/// The same, but nobody need have signed it: whoever can write it can also have made it.
pub(super) async fn verify_even_unsigned(
    session: &mut Session<'_>,
    depth: Depth,
    receipts: &[Receipt],
) -> Result<Verified, VerifyError> {
    for receipt in receipts {
        receipt.check()?;
    }
    let walk = walk(session, depth, receipts).await?;
    let verified = walk.verified()?;
    if let Some(replay) = &walk.replay {
        replay.compare_state(session, verified.height).await?;
        replay.compare_places(session, verified.height).await?;
        let unsound = |reason: String| corrupt(verified.height, "file", reason);
        if let Some(reason) = schema::unsound(session).await? {
            return Err(unsound(reason).into());
        }
    }
    Ok(verified)
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
    let walk = walk(session, Depth::Whole, &[]).await?;
    let verified = walk.verified()?;
    derived::clear(session).await?;
    let Some(replay) = walk.replay else {
        return Ok(verified);
    };
    let mut puts = Vec::new();
    for (key, value) in replay.state.iter() {
        let value = std::str::from_utf8(value).map_err(|error| VerifyError::Storage(error.to_string()))?;
        puts.push((key, value));
    }
    for puts in puts.chunks(BATCH) {
        derived::write(session, puts, &[]).await?;
    }
    let places: Vec<_> = replay
        .places
        .iter()
        .map(|(tx_id, (height, at))| (tx_id.as_str(), *height, *at))
        .collect();
    for places in places.chunks(BATCH) {
        derived::write_places(session, places).await?;
    }
    Ok(verified)
}

/// Walks the blocks; where something is wrong once more, to say where.
async fn walk(session: &mut Session<'_>, depth: Depth, receipts: &[Receipt]) -> Result<Walk, VerifyError> {
    let care = match depth {
        Depth::Chain => Care::Hashes,
        Depth::Whole => Care::Bodies,
    };
    match walk_with(session, care, depth, receipts).await {
        Err(VerifyError::Corrupt(found)) => {
            walk_with(session, Care::EveryField, depth, receipts).await?;
            // Not found again: it was being changed.
            Err(found.into())
        }
        outcome => outcome,
    }
}

async fn walk_with(
    session: &mut Session<'_>,
    care: Care,
    depth: Depth,
    receipts: &[Receipt],
) -> Result<Walk, VerifyError> {
    let mut walk = Walk {
        chain: Chain::new(care),
        replay: (depth == Depth::Whole).then(Replay::default),
    };
    let mut from = 0;
    // One by one where the first that cannot be read is to be named.
    let batch = if care == Care::EveryField { 1 } else { BATCH };
    loop {
        let blocks = match blocks::from(session, from, batch).await {
            Ok(blocks) => blocks,
            Err(error) if storage::is_damage(&error) => {
                return Err(corrupt(from, "file", format!("it cannot be read: {error}")).into());
            }
            Err(error) => return Err(error.into()),
        };
        let Some(last) = blocks.last() else { break };
        from = last.height.saturating_add(1);
        for block in &blocks {
            walk.take(block)?;
            hold_against(receipts, block, &walk.chain.ledger)?;
        }
    }
    let head = walk.chain.finish()?;
    match receipts.iter().map(|receipt| receipt.height).max() {
        Some(receipt) if receipt > head.height => Err(VerifyError::Truncated {
            ends: head.height,
            receipt,
        }),
        _ => Ok(walk),
    }
}

/// That the block is the one that a receipt was given for.
fn hold_against(receipts: &[Receipt], block: &StoredBlock, ledger: &Hash) -> Result<(), VerifyError> {
    for receipt in receipts {
        if block.height == 0 && receipt.ledger_id.0 != *ledger {
            return Err(ReceiptError::OtherLedger {
                receipt: receipt.ledger_id,
                ledger: Bytes(*ledger),
            }
            .into());
        }
        if receipt.height == block.height && receipt.hash.0 != block.hash {
            return Err(VerifyError::Forked {
                block: block.height,
                receipt: receipt.hash,
                found: Bytes(block.hash),
            });
        }
    }
    Ok(())
}

/// The contract, run again.
#[derive(Default)]
struct Replay {
    contract: Option<Contract>,
    state: MemoryState,
    places: BTreeMap<String, (u64, usize)>,
}

impl Replay {
    fn take(&mut self, height: u64, body: Body) -> Result<(), Corruption> {
        match body {
            Body::Genesis(genesis) => {
                self.contract = Some(Contract {
                    end_margin_ms: genesis.end_margin_ms,
                });
            }
            Body::Key(_) => {}
            Body::Transactions(transactions) => {
                for (position, transaction) in transactions.into_iter().enumerate() {
                    self.replay(height, position, &transaction)?;
                }
            }
        }
        Ok(())
    }

    fn replay(&mut self, height: u64, position: usize, transaction: &Transaction) -> Result<(), Corruption> {
        let bad = |reason: String| {
            corrupt(
                height,
                "body",
                format!("transaction {}: {reason}", transaction.tx_id),
            )
        };
        let contract = self
            .contract
            .ok_or_else(|| bad("there was no genesis".to_owned()))?;
        let context = TxContext {
            tx_id: transaction.tx_id.clone(),
            timestamp_ms: transaction.timestamp_ms,
            caller: transaction.caller.clone(),
            role: transaction.role,
        };
        let outcome = contract
            .replay(transaction.contract, &self.state, &context, &transaction.command)
            .map_err(|failure| bad(format!("the contract does not accept it: {failure}")))?;
        if outcome.result != transaction.result || outcome.events != transaction.events {
            return Err(bad("the contract answers otherwise than is recorded".to_owned()));
        }
        if self
            .places
            .insert(transaction.tx_id.to_string(), (height, position))
            .is_some()
        {
            return Err(bad("it is on the ledger twice".to_owned()));
        }
        self.state.take(outcome.writes);
        Ok(())
    }

    async fn compare_state(&self, session: &mut Session<'_>, height: u64) -> Result<(), VerifyError> {
        let wrong =
            |reason: String| corrupt(height, "state", format!("{reason}; rebuild the ledger's state"));
        let mut expected = self.state.iter();
        let mut last: Option<String> = None;
        loop {
            let pairs = match derived::pairs_after(session, last.as_deref(), BATCH).await {
                Err(error) if storage::is_damage(&error) => {
                    return Err(wrong(format!("it cannot be read: {error}")).into());
                }
                pairs => pairs?,
            };
            if pairs.is_empty() {
                break;
            }
            for (key, value) in &pairs {
                if expected.next() != Some((key.as_str(), value.as_slice())) {
                    return Err(wrong(format!("{key} is not what the blocks lead to")).into());
                }
            }
            last = pairs.into_iter().next_back().map(|(key, _)| key);
        }
        match expected.next() {
            Some((key, _)) => Err(wrong(format!("{key} is missing")).into()),
            None => Ok(()),
        }
    }

    async fn compare_places(&self, session: &mut Session<'_>, height: u64) -> Result<(), VerifyError> {
        let wrong = |reason: String| {
            corrupt(
                height,
                "transactions",
                format!("{reason}; rebuild the ledger's state"),
            )
        };
        let mut expected = self.places.iter();
        let mut last: Option<String> = None;
        loop {
            let places = match derived::places_after(session, last.as_deref(), BATCH).await {
                Err(error) if storage::is_damage(&error) => {
                    return Err(wrong(format!("they cannot be read: {error}")).into());
                }
                places => places?,
            };
            if places.is_empty() {
                break;
            }
            for (tx_id, height, position) in &places {
                if expected.next() != Some((tx_id, &(*height, *position))) {
                    return Err(wrong(format!("{tx_id} is not where the blocks have it")).into());
                }
            }
            last = places.into_iter().next_back().map(|(tx_id, _, _)| tx_id);
        }
        match expected.next() {
            Some((tx_id, _)) => Err(wrong(format!("{tx_id} is missing")).into()),
            None => Ok(()),
        }
    }
}

//! Reads the whole ledger again: every hash, every decision, and everything that is derived from them.

use super::block::{Body, Hash, Head, StoredBlock, Transaction, hash_body, hash_header};
use super::storage::{self, StorageError};
use leasehold_chaincode::{Contract, MemoryState, TxContext};
use sqlx::{Connection, SqliteConnection, SqlitePool};
use std::collections::BTreeMap;

/// Blocks, or derived rows, read at once.
const BATCH: usize = 256;

/// A ledger that is as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Height of the last block.
    pub height: u64,
    /// Its hash, hexadecimal: keep it elsewhere, and a shortened ledger shows.
    pub head_hash: String,
    /// Number of transactions.
    pub transactions: u64,
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
    /// It cannot be read.
    #[error("verifying the ledger failed: {0}")]
    Storage(String),
}

impl From<sqlx::Error> for VerifyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<StorageError> for VerifyError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Form { height, field } => {
                let block = u64::try_from(height).unwrap_or_default();
                Corruption {
                    block,
                    field,
                    reason: "it is not of its form".to_owned(),
                }
                .into()
            }
            other => Self::Storage(other.to_string()),
        }
    }
}

/// What the blocks lead to.
struct Derived {
    head: Head,
    state: MemoryState,
    places: BTreeMap<String, (u64, usize)>,
}

impl Derived {
    fn verified(&self) -> Verified {
        Verified {
            height: self.head.height,
            head_hash: hex::encode(self.head.hash),
            transactions: u64::try_from(self.places.len()).unwrap_or(u64::MAX),
        }
    }
}

pub(super) async fn verify(reads: &SqlitePool) -> Result<Verified, VerifyError> {
    let mut snapshot = reads.begin().await?;
    let derived = derive(&mut snapshot).await?;
    compare_state(&mut snapshot, &derived).await?;
    compare_places(&mut snapshot, &derived).await?;
    Ok(derived.verified())
}

pub(super) async fn rebuild(connection: &mut SqliteConnection) -> Result<Verified, VerifyError> {
    let mut connection = connection.begin_with("BEGIN IMMEDIATE").await?;
    let derived = derive(&mut connection).await?;
    storage::clear_derived(&mut connection).await?;
    let mut puts = Vec::new();
    for (key, value) in derived.state.iter() {
        let value = std::str::from_utf8(value).map_err(|error| VerifyError::Storage(error.to_string()))?;
        puts.push((key, value));
    }
    for puts in puts.chunks(BATCH) {
        storage::write(&mut connection, puts, &[]).await?;
    }
    let places: Vec<_> = derived
        .places
        .iter()
        .map(|(tx_id, (height, at))| (tx_id.as_str(), *height, *at))
        .collect();
    for places in places.chunks(BATCH) {
        storage::write_places(&mut connection, places).await?;
    }
    connection.commit().await?;
    Ok(derived.verified())
}

async fn derive(connection: &mut SqliteConnection) -> Result<Derived, VerifyError> {
    let mut chain = Chain::default();
    let mut from = 0;
    loop {
        let blocks = storage::blocks_from(connection, from, BATCH).await?;
        let Some(last) = blocks.last() else { break };
        from = last.height.saturating_add(1);
        for block in &blocks {
            chain.take(block)?;
        }
    }
    let Chain {
        head, state, places, ..
    } = chain;
    let head = head.ok_or_else(|| corrupt(0, "height", "the ledger has no blocks"))?;
    Ok(Derived { head, state, places })
}

/// The blocks so far.
#[derive(Default)]
struct Chain {
    head: Option<Head>,
    contract: Option<Contract>,
    state: MemoryState,
    places: BTreeMap<String, (u64, usize)>,
}

impl Chain {
    fn take(&mut self, block: &StoredBlock) -> Result<(), Corruption> {
        let expected = self.head.map_or(0, |head| head.height.saturating_add(1));
        if block.height != expected {
            let reason = format!("block {} follows where {expected} is due", block.height);
            return Err(corrupt(expected, "height", reason));
        }
        let previous = self.head.map_or([0; 32], |head| head.hash);
        let body = check_hashes(block, previous)?;
        if self
            .head
            .is_some_and(|head| block.timestamp_ms < head.timestamp_ms)
        {
            return Err(corrupt(
                block.height,
                "timestamp_ms",
                "it is before that of the block before",
            ));
        }
        match body {
            Body::Genesis(genesis) if block.height == 0 => {
                self.contract = Some(Contract {
                    end_margin_ms: genesis.end_margin_ms,
                });
            }
            Body::Transactions(transactions) if block.height > 0 => {
                for (position, transaction) in transactions.into_iter().enumerate() {
                    self.replay(block.height, position, &transaction)?;
                }
            }
            _ => {
                return Err(corrupt(
                    block.height,
                    "body",
                    "block 0, and only that, is the genesis",
                ));
            }
        }
        self.head = Some(block.head());
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
        self.state.apply(&outcome.writes);
        Ok(())
    }
}

/// Which of a block's fields does not go with the others; its body when all do.
fn check_hashes(block: &StoredBlock, previous: Hash) -> Result<Body, Corruption> {
    let height = block.height;
    if block.previous_hash != previous {
        return Err(corrupt(
            height,
            "previous_hash",
            "it is not the hash of the block before",
        ));
    }
    let header = |body_hash: &Hash| hash_header(height, &block.previous_hash, block.timestamp_ms, body_hash);
    let body_hash = hash_body(&block.body);
    if block.body_hash != body_hash {
        let field = if header(&body_hash) == block.hash {
            "body_hash"
        } else {
            "body"
        };
        return Err(corrupt(height, field, "body and body hash do not go together"));
    }
    let body: Body =
        serde_json::from_str(&block.body).map_err(|error| corrupt(height, "body", error.to_string()))?;
    if serde_json::to_string(&body).ok().as_ref() != Some(&block.body) {
        return Err(corrupt(height, "body", "it is not in canonical form"));
    }
    let in_time = match &body {
        Body::Genesis(genesis) => genesis.created_at_ms == block.timestamp_ms,
        Body::Transactions(transactions) => {
            !transactions.is_empty()
                && transactions
                    .iter()
                    .all(|tx| tx.timestamp_ms == block.timestamp_ms)
        }
    };
    if !in_time {
        return Err(corrupt(
            height,
            "timestamp_ms",
            "it is not that of the block's transactions",
        ));
    }
    if block.hash != header(&body_hash) {
        return Err(corrupt(
            height,
            "hash",
            "it does not go with the block's other fields",
        ));
    }
    Ok(body)
}

async fn compare_state(connection: &mut SqliteConnection, derived: &Derived) -> Result<(), VerifyError> {
    let mut expected = derived.state.iter();
    let mut last: Option<String> = None;
    loop {
        let pairs = storage::pairs_after(connection, last.as_deref(), BATCH).await?;
        if pairs.is_empty() {
            break;
        }
        for (key, value) in &pairs {
            if expected.next() != Some((key.as_str(), value.as_slice())) {
                let reason = format!("{key} is not what the blocks lead to; rebuild the ledger's state");
                return Err(corrupt(derived.head.height, "state", reason).into());
            }
        }
        last = pairs.into_iter().next_back().map(|(key, _)| key);
    }
    match expected.next() {
        Some((key, _)) => {
            let reason = format!("{key} is missing; rebuild the ledger's state");
            Err(corrupt(derived.head.height, "state", reason).into())
        }
        None => Ok(()),
    }
}

async fn compare_places(connection: &mut SqliteConnection, derived: &Derived) -> Result<(), VerifyError> {
    let mut expected = derived.places.iter();
    let mut last: Option<String> = None;
    let wrong = |tx_id: &str| {
        let reason = format!("{tx_id} is not where the blocks have it; rebuild the ledger's state");
        corrupt(derived.head.height, "transactions", reason)
    };
    loop {
        let places = storage::places_after(connection, last.as_deref(), BATCH).await?;
        if places.is_empty() {
            break;
        }
        for (tx_id, height, position) in &places {
            if expected.next() != Some((tx_id, &(*height, *position))) {
                return Err(wrong(tx_id).into());
            }
        }
        last = places.into_iter().next_back().map(|(tx_id, _, _)| tx_id);
    }
    match expected.next() {
        Some((tx_id, _)) => Err(wrong(tx_id).into()),
        None => Ok(()),
    }
}

fn corrupt(block: u64, field: &'static str, reason: impl Into<String>) -> Corruption {
    Corruption {
        block,
        field,
        reason: reason.into(),
    }
}

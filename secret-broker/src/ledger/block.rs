//! What a block is, to the byte: its canonical JSON and its hashes.

use leasehold_chaincode::{Command, CommandResult, Event, Msp, Role, TxId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256.
pub(super) type Hash = [u8; 32];

/// Version of the blocks' form.
pub(super) const BLOCK_SCHEMA: u32 = 1;

/// What the contract accepted, and what came of it. Refused commands are not recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// Unique on the ledger.
    pub tx_id: TxId,
    /// The organisation that submitted it.
    pub caller: Msp,
    /// What its identity may do for it.
    pub role: Role,
    /// Milliseconds since the Unix epoch; that of its block.
    pub timestamp_ms: i64,
    /// Version of the contract that decided.
    pub contract: u32,
    /// What was asked.
    pub command: Command,
    /// What happened, in its order.
    pub events: Vec<Event>,
    /// What was answered.
    pub result: CommandResult,
}

/// Transactions that were committed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// From 0, without gaps; block 0 has no transactions.
    pub height: u64,
    /// Milliseconds since the Unix epoch; never before the block before.
    pub timestamp_ms: i64,
    /// In the order in which they were decided.
    pub transactions: Vec<Transaction>,
}

/// The part of a block that its body hash covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Body {
    /// Of block 0.
    Genesis(Genesis),
    /// Of every other block.
    Transactions(Vec<Transaction>),
}

/// What every later block is decided by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Genesis {
    pub(super) schema: u32,
    pub(super) organisation: Msp,
    pub(super) end_margin_ms: i64,
    pub(super) created_at_ms: i64,
}

/// A block as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredBlock {
    pub(super) height: u64,
    pub(super) previous_hash: Hash,
    pub(super) timestamp_ms: i64,
    pub(super) body: String,
    pub(super) body_hash: Hash,
    pub(super) hash: Hash,
}

/// The last block, as far as the next one needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) height: u64,
    pub(super) timestamp_ms: i64,
    pub(super) hash: Hash,
}

impl StoredBlock {
    pub(super) fn new(
        height: u64,
        previous_hash: Hash,
        timestamp_ms: i64,
        body: &Body,
    ) -> serde_json::Result<Self> {
        let body = serde_json::to_string(body)?;
        let body_hash = hash_body(&body);
        let hash = hash_header(height, &previous_hash, timestamp_ms, &body_hash);
        Ok(Self {
            height,
            previous_hash,
            timestamp_ms,
            body,
            body_hash,
            hash,
        })
    }

    pub(super) fn head(&self) -> Head {
        Head {
            height: self.height,
            timestamp_ms: self.timestamp_ms,
            hash: self.hash,
        }
    }

    pub(super) fn parse(&self) -> serde_json::Result<Block> {
        let transactions = match serde_json::from_str(&self.body)? {
            Body::Genesis(_) => Vec::new(),
            Body::Transactions(transactions) => transactions,
        };
        Ok(Block {
            height: self.height,
            timestamp_ms: self.timestamp_ms,
            transactions,
        })
    }
}

pub(super) fn hash_body(body: &str) -> Hash {
    Sha256::digest(body.as_bytes()).into()
}

pub(super) fn hash_header(height: u64, previous_hash: &Hash, timestamp_ms: i64, body_hash: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update(b"leasehold block 1\0");
    hash.update(height.to_be_bytes());
    hash.update(previous_hash);
    hash.update(timestamp_ms.to_be_bytes());
    hash.update(body_hash);
    hash.finalize().into()
}

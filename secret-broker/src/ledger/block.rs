//! What a block is, to the byte: its canonical JSON, its hashes and its signature.
//!
//! A block's hash covers the hash **and the signature** of the block before, so that one signature vouches for every block and
//! every signature up to it.

use super::bytes::{Bytes, KeyId};
use super::key::{self, LedgerKey};
use super::receipt::signed_text;
use leasehold_chaincode::{Command, CommandResult, Event, Msp, Role, TxId};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256.
pub(super) type Hash = [u8; 32];

/// Version of the blocks' form. Version 1 was not signed.
pub(super) const BLOCK_SCHEMA: u32 = 2;

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

/// A [`Transaction`] without what came of it, which the contract answers again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub(super) tx_id: TxId,
    pub(super) caller: Msp,
    pub(super) role: Role,
    pub(super) timestamp_ms: i64,
    pub(super) contract: u32,
    pub(super) command: Command,
    #[serde(rename = "events")]
    pub(super) _events: IgnoredAny,
    #[serde(rename = "result")]
    pub(super) _result: IgnoredAny,
}

/// One that is being committed, or that the contract answered again, written as a [`Transaction`] is.
#[derive(Debug, Serialize)]
pub(super) struct NewTransaction<'a> {
    pub(super) tx_id: &'a TxId,
    pub(super) caller: &'a Msp,
    pub(super) role: Role,
    pub(super) timestamp_ms: i64,
    pub(super) contract: u32,
    pub(super) command: &'a Command,
    pub(super) events: &'a [Event],
    pub(super) result: &'a CommandResult,
}

/// Transactions that were committed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// From 0, without gaps.
    pub height: u64,
    /// Milliseconds since the Unix epoch; never before the block before.
    pub timestamp_ms: i64,
    /// In the order in which they were decided; none in block 0 and where another key took over.
    pub transactions: Vec<Transaction>,
}

/// The part of a block that its body hash covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum BodyOf<T> {
    /// Of block 0.
    Genesis(Genesis),
    /// Another key signs from the next block on.
    Key(KeyChange),
    /// Of every other block.
    Transactions(Vec<T>),
}

pub(super) type Body = BodyOf<Transaction>;

impl Body {
    /// The same without what came of the transactions.
    pub(super) fn asked(self) -> BodyOf<Asked> {
        match self {
            Self::Genesis(genesis) => BodyOf::Genesis(genesis),
            Self::Key(change) => BodyOf::Key(change),
            Self::Transactions(transactions) => {
                BodyOf::Transactions(transactions.into_iter().map(Asked::from).collect())
            }
        }
    }
}

impl From<Transaction> for Asked {
    fn from(transaction: Transaction) -> Self {
        Self {
            tx_id: transaction.tx_id,
            caller: transaction.caller,
            role: transaction.role,
            timestamp_ms: transaction.timestamp_ms,
            contract: transaction.contract,
            command: transaction.command,
            _events: IgnoredAny,
            _result: IgnoredAny,
        }
    }
}

/// The body of a block that is being committed, written as a [`Body`] is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NewBody<'a> {
    Transactions(&'a [NewTransaction<'a>]),
}

/// How the body of transactions begins.
pub(super) const TRANSACTIONS: &str = r#"{"transactions":"#;
/// How the body of a key's change begins.
pub(super) const KEY: &str = r#"{"key":"#;

/// What every later block is decided by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Genesis {
    pub(super) schema: u32,
    pub(super) organisation: Msp,
    pub(super) end_margin_ms: i64,
    pub(super) created_at_ms: i64,
    /// Absent in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_id: Option<KeyId>,
}

/// A new key, and how it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyChange {
    pub(super) key_id: KeyId,
    pub(super) cause: KeyCause,
    pub(super) changed_at_ms: i64,
}

/// Why another key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyCause {
    /// The blocks before were written by a version that did not sign. Signed by the new key.
    First,
    /// Signed by the key before.
    Rotated,
    /// The key before was lost: signed by the new key, so that nothing but its operator vouches for it.
    Lost,
}

/// Who signed a block, and the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) signer: KeyId,
    pub(super) signature: Bytes<64>,
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
    /// None only in blocks of version 1.
    pub(super) seal: Option<Seal>,
}

/// The last block, as far as the next one needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) height: u64,
    pub(super) timestamp_ms: i64,
    pub(super) hash: Hash,
    pub(super) seal: Option<Seal>,
}

impl Head {
    /// Whether its signer signed it.
    pub(super) fn is_signed(&self, ledger: &Hash) -> bool {
        let text = signed_text(ledger, self.height, self.timestamp_ms, &self.hash);
        self.seal
            .is_some_and(|seal| key::signed(&seal.signer, &text, &seal.signature))
    }
}

impl StoredBlock {
    /// The first block of a ledger, which gets its id from it.
    pub(super) fn first(timestamp_ms: i64, body: &Body, key: &LedgerKey) -> serde_json::Result<Self> {
        let mut block = Self::unsigned(None, timestamp_ms, body)?;
        block.sign(&block.hash.clone(), key);
        Ok(block)
    }

    /// The block after another one; its body is a [`Body`] or a [`NewBody`].
    pub(super) fn after(
        head: &Head,
        ledger: &Hash,
        timestamp_ms: i64,
        body: &impl Serialize,
        key: &LedgerKey,
    ) -> serde_json::Result<Self> {
        let mut block = Self::unsigned(Some(head), timestamp_ms, body)?;
        block.sign(ledger, key);
        Ok(block)
    }

    fn unsigned(head: Option<&Head>, timestamp_ms: i64, body: &impl Serialize) -> serde_json::Result<Self> {
        let body = serde_json::to_string(body)?;
        let body_hash = hash_body(&body);
        let height = head.map_or(0, |head| head.height.saturating_add(1));
        Ok(Self {
            height,
            previous_hash: head.map_or([0; 32], |head| head.hash),
            timestamp_ms,
            body,
            body_hash,
            hash: hash_header(head, height, timestamp_ms, &body_hash),
            seal: None,
        })
    }

    fn sign(&mut self, ledger: &Hash, key: &LedgerKey) {
        let text = signed_text(ledger, self.height, self.timestamp_ms, &self.hash);
        self.seal = Some(Seal {
            signer: key.id(),
            signature: key.sign(&text),
        });
    }

    pub(super) fn head(&self) -> Head {
        Head {
            height: self.height,
            timestamp_ms: self.timestamp_ms,
            hash: self.hash,
            seal: self.seal,
        }
    }

    pub(super) fn parse(&self) -> serde_json::Result<Block> {
        let transactions = match serde_json::from_str(&self.body)? {
            Body::Genesis(_) | Body::Key(_) => Vec::new(),
            Body::Transactions(transactions) => transactions,
        };
        Ok(Block {
            height: self.height,
            timestamp_ms: self.timestamp_ms,
            transactions,
        })
    }

    /// Which key signs the block after this one; none where blocks are not signed yet.
    pub(super) fn next_signer(&self) -> serde_json::Result<Option<KeyId>> {
        if !self.body.starts_with(TRANSACTIONS)
            && let Body::Key(change) = serde_json::from_str(&self.body)?
        {
            return Ok(Some(change.key_id));
        }
        Ok(self.seal.map(|seal| seal.signer))
    }
}

pub(super) fn hash_body(body: &str) -> Hash {
    Sha256::digest(body.as_bytes()).into()
}

/// Hash of a block after `head`; the first one where there is none.
pub(super) fn hash_header(head: Option<&Head>, height: u64, timestamp_ms: i64, body_hash: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update(b"leasehold block 2\0");
    hash.update(height.to_be_bytes());
    hash.update(head.map_or([0; 32], |head| head.hash));
    hash.update(
        head.and_then(|head| head.seal)
            .map_or([0; 64], |seal| seal.signature.0),
    );
    hash.update(timestamp_ms.to_be_bytes());
    hash.update(body_hash);
    hash.finalize().into()
}

/// The same as version 1 had it.
pub(super) fn hash_header_of_version_1(
    previous_hash: &Hash,
    height: u64,
    timestamp_ms: i64,
    body_hash: &Hash,
) -> Hash {
    let mut hash = Sha256::new();
    hash.update(b"leasehold block 1\0");
    hash.update(height.to_be_bytes());
    hash.update(previous_hash);
    hash.update(timestamp_ms.to_be_bytes());
    hash.update(body_hash);
    hash.finalize().into()
}

//! The chain of blocks, one block after the other: their heights, hashes, times and signatures.
//!
//! One signature vouches for everything before it, so that a chain that is whole needs few of them checked: the last one, and
//! those where the key changes. Where it is not whole, the chain is walked again with [`Care::EveryField`], which finds the first
//! field that is not as it was written.

use super::block::{
    Asked, Body, BodyOf, Hash, Head, KEY, KeyCause, StoredBlock, TRANSACTIONS, hash_body, hash_header,
    hash_header_of_version_1,
};
use super::bytes::KeyId;
use super::verify::Corruption;
use std::io;

/// How closely to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Only what the signatures do not cover anyway.
    Hashes,
    /// Bodies are read as well, as far as the contract needs them to decide again. Whoever has it do so writes the whole text of a
    /// body anew and holds it against what is recorded: thereby each of its bytes is checked.
    Bodies,
    /// Bodies are read to their last field, and every signature is checked.
    EveryField,
}

/// The blocks so far.
pub(super) struct Chain {
    care: Care,
    pub(super) head: Option<Head>,
    /// Hash of block 0: the ledger's id.
    pub(super) ledger: Hash,
    /// Who must sign the next block.
    pub(super) key: Option<KeyId>,
    /// Where a key took over that the one before does not vouch for, and which.
    pub(super) unvouched: Vec<(u64, KeyId)>,
    /// Each key that signed, with the last block that it did.
    pub(super) signers: Vec<(KeyId, u64)>,
    /// Length of the bodies.
    pub(super) body_bytes: u64,
}

impl Chain {
    pub(super) fn new(care: Care) -> Self {
        Self {
            care,
            head: None,
            ledger: [0; 32],
            key: None,
            unvouched: Vec::new(),
            signers: Vec::new(),
            body_bytes: 0,
        }
    }

    /// Goes on after a block of a ledger that was checked; `next` signs the block after it.
    pub(super) fn after(care: Care, ledger: Hash, head: Head, next: Option<KeyId>) -> Self {
        Self {
            head: Some(head),
            ledger,
            key: next,
            ..Self::new(care)
        }
    }

    /// Adds a block; its body where bodies are read.
    pub(super) fn take(&mut self, block: &StoredBlock) -> Result<Option<BodyOf<Asked>>, Corruption> {
        let expected = self.head.map_or(0, |head| head.height.saturating_add(1));
        if block.height != expected {
            let reason = format!("block {} follows where {expected} is due", block.height);
            return Err(corrupt(expected, "height", reason));
        }
        let previous = self.head.map_or([0; 32], |head| head.hash);
        if block.previous_hash != previous {
            return Err(corrupt(
                expected,
                "previous_hash",
                "it is not the hash of the block before",
            ));
        }
        let body_hash = hash_body(&block.body);
        if block.body_hash != body_hash {
            let field = match self.header(block, &body_hash) == block.hash {
                true => "body_hash",
                false => "body",
            };
            return Err(corrupt(expected, field, "body and body hash do not go together"));
        }
        let body = if self.care != Care::Hashes || !block.body.starts_with(TRANSACTIONS) {
            Some(read(block, self.care)?)
        } else {
            None
        };
        if self.header(block, &body_hash) != block.hash {
            return Err(corrupt(
                expected,
                "hash",
                "it does not go with the block's other fields",
            ));
        }
        if self
            .head
            .is_some_and(|head| block.timestamp_ms < head.timestamp_ms)
        {
            return Err(corrupt(
                expected,
                "timestamp_ms",
                "it is before that of the block before",
            ));
        }
        self.check_signer(block, body.as_ref())?;
        self.head = Some(block.head());
        self.body_bytes = self
            .body_bytes
            .saturating_add(u64::try_from(block.body.len()).unwrap_or(u64::MAX));
        Ok(body)
    }

    /// That the last block was signed, and with it all before it.
    pub(super) fn finish(&self) -> Result<Head, Corruption> {
        let head = self
            .head
            .ok_or_else(|| corrupt(0, "height", "the ledger has no blocks"))?;
        self.check_signature(&head)?;
        Ok(head)
    }

    fn header(&self, block: &StoredBlock, body_hash: &Hash) -> Hash {
        // Version 1 ends with the first key.
        let first_key = match block.height {
            0 => block.body.contains("\"key_id\":"),
            _ => block.body.starts_with(KEY),
        };
        if self.key.is_none() && !first_key {
            return hash_header_of_version_1(
                &block.previous_hash,
                block.height,
                block.timestamp_ms,
                body_hash,
            );
        }
        hash_header(self.head.as_ref(), block.height, block.timestamp_ms, body_hash)
    }

    /// That the block is signed by whom it must be, and who signs the next one.
    fn check_signer(&mut self, block: &StoredBlock, body: Option<&BodyOf<Asked>>) -> Result<(), Corruption> {
        let height = block.height;
        let form = |reason: &str| corrupt(height, "body", reason.to_owned());
        let (signer, next) = match body {
            Some(BodyOf::Genesis(genesis)) if height == 0 => {
                self.ledger = block.hash;
                (genesis.key_id, genesis.key_id)
            }
            Some(BodyOf::Key(change)) if height > 0 => {
                if let Some(head) = self.head.filter(|_| self.care != Care::EveryField) {
                    self.check_signature(&head)?;
                }
                let signer = match (change.cause, self.key) {
                    (KeyCause::First, None) => change.key_id,
                    (KeyCause::Rotated, Some(key)) => key,
                    (KeyCause::Lost, Some(_)) => {
                        self.unvouched.push((height, change.key_id));
                        change.key_id
                    }
                    _ => return Err(form("a key that is neither the first nor follows one")),
                };
                (Some(signer), Some(change.key_id))
            }
            None | Some(BodyOf::Transactions(_)) if height > 0 => (self.key, self.key),
            _ => return Err(form("block 0, and only that, is the genesis")),
        };
        if block.seal.map(|seal| seal.signer) != signer {
            return Err(corrupt(
                height,
                "signer",
                "it is not the key that signs the ledger here",
            ));
        }
        if self.care == Care::EveryField || matches!(body, Some(BodyOf::Key(_))) {
            self.check_signature(&block.head())?;
        }
        if let Some(signer) = signer {
            match self.signers.last_mut() {
                Some((last, until)) if *last == signer => *until = height,
                _ => self.signers.push((signer, height)),
            }
        }
        self.key = next;
        Ok(())
    }

    fn check_signature(&self, head: &Head) -> Result<(), Corruption> {
        if head.seal.is_none() || head.is_signed(&self.ledger) {
            return Ok(());
        }
        Err(corrupt(
            head.height,
            "signature",
            "the ledger's key did not sign this block",
        ))
    }
}

/// The body, if it is as this version writes it and of its block's time.
fn read(block: &StoredBlock, care: Care) -> Result<BodyOf<Asked>, Corruption> {
    let height = block.height;
    let unreadable = |error: serde_json::Error| corrupt(height, "body", error.to_string());
    let body = if care == Care::Bodies && block.body.starts_with(TRANSACTIONS) {
        serde_json::from_str(&block.body).map_err(unreadable)?
    } else {
        let body: Body = serde_json::from_str(&block.body).map_err(unreadable)?;
        let mut rest = Same::as_in(&block.body);
        if serde_json::to_writer(&mut rest, &body).is_err() || !rest.is_over() {
            return Err(corrupt(height, "body", "it is not in canonical form"));
        }
        body.asked()
    };
    let in_time = match &body {
        BodyOf::Genesis(genesis) => genesis.created_at_ms == block.timestamp_ms,
        BodyOf::Key(change) => change.changed_at_ms == block.timestamp_ms,
        BodyOf::Transactions(transactions) => {
            !transactions.is_empty()
                && transactions
                    .iter()
                    .all(|tx| tx.timestamp_ms == block.timestamp_ms)
        }
    };
    if !in_time {
        let reason = "it is not that of the block's transactions";
        return Err(corrupt(height, "timestamp_ms", reason));
    }
    Ok(body)
}

/// What is left of a text that something is to be written like.
pub(super) struct Same<'a>(&'a [u8]);

impl<'a> Same<'a> {
    pub(super) fn as_in(text: &'a str) -> Self {
        Self(text.as_bytes())
    }

    /// Whether all of the text was written.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

impl io::Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .strip_prefix(bytes)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn corrupt(block: u64, field: &'static str, reason: impl Into<String>) -> Corruption {
    Corruption {
        block,
        field,
        reason: reason.into(),
    }
}

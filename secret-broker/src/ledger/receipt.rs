//! A signed head of the ledger to keep elsewhere: proof of what the ledger was, against which truncation and forks show.

use super::block::Head;
use super::bytes::{Bytes, KeyId};
use super::key;
use serde::{Deserialize, Serialize};

/// That a ledger had this block, by the key that signed it. Checked with nothing else at hand: the signature is Ed25519 over
/// `"leasehold head 1\0"`, ledger id, height and time (8 bytes each, the first byte first) and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Hash of the ledger's block 0.
    pub ledger_id: Bytes<32>,
    /// Which block.
    pub height: u64,
    /// Its hash, which stands for every block before it.
    pub hash: Bytes<32>,
    /// Its time, milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Who signed it: the public half of the key.
    pub key_id: KeyId,
    /// The signature.
    pub signature: Bytes<64>,
}

/// Why a receipt says nothing about a ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It was changed, or never signed.
    #[error(
        "the receipt of block {height} is not genuine: key {key_id} did not sign it; look for another copy"
    )]
    NotGenuine {
        /// Which block it names.
        height: u64,
        /// Which key it names.
        key_id: KeyId,
    },
    /// It is of another ledger.
    #[error("the receipt is of ledger {receipt}, this is ledger {ledger}; check which one was meant")]
    OtherLedger {
        /// Whose receipt it is.
        receipt: Bytes<32>,
        /// Which ledger it was held against.
        ledger: Bytes<32>,
    },
}

impl Receipt {
    pub(super) fn of(ledger: &[u8; 32], head: &Head) -> Option<Self> {
        let seal = head.seal?;
        Some(Self {
            ledger_id: Bytes(*ledger),
            height: head.height,
            hash: Bytes(head.hash),
            timestamp_ms: head.timestamp_ms,
            key_id: seal.signer,
            signature: seal.signature,
        })
    }

    /// Whether the key that it names signed it.
    ///
    /// # Errors
    /// [`ReceiptError::NotGenuine`].
    pub fn check(&self) -> Result<(), ReceiptError> {
        let message = signed_text(&self.ledger_id.0, self.height, self.timestamp_ms, &self.hash.0);
        if key::signed(&self.key_id, &message, &self.signature) {
            return Ok(());
        }
        Err(ReceiptError::NotGenuine {
            height: self.height,
            key_id: self.key_id,
        })
    }
}

/// What is signed of a block.
pub(super) fn signed_text(ledger: &[u8; 32], height: u64, timestamp_ms: i64, hash: &[u8; 32]) -> Vec<u8> {
    let mut text = b"leasehold head 1\0".to_vec();
    text.extend_from_slice(ledger);
    text.extend_from_slice(&height.to_be_bytes());
    text.extend_from_slice(&timestamp_ms.to_be_bytes());
    text.extend_from_slice(hash);
    text
}

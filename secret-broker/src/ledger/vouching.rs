//! Whether what a broker is about to build on is one chain, and whether somebody vouches for every key that took over in it.
//!
//! A key does not consent to a hand-over that names it, so that the last block alone proves nothing: whoever can write the ledger can
//! let a key of its own take over from a "lost" one, sign what it likes, and hand over to the operator's. So the blocks are walked
//! when a ledger is opened, from the one on that this broker noted ([`super::seen`]) and its key signed or from the first, and each key that took over
//! without the one before has to be the operator's: the one that this broker signs with, or one that it was told of.
//!
//! That the first block is the right one only a noted block or a receipt shows.

use super::block::Hash;
use super::bytes::KeyId;
use super::chain::{Care, Chain};
use super::receipt::Receipt;
use super::storage::{Session, StorageError, blocks};
use super::verify::{self, VerifyError};
use super::witness::Known;
use super::{LedgerOptions, OpenError, seen};

/// The blocks that this broker has not checked before, every hash and what the signatures rest on.
pub(super) async fn walk(
    session: &mut Session<'_>,
    options: &LedgerOptions,
    ledger: Hash,
    own: Option<KeyId>,
) -> Result<Chain, OpenError> {
    let noted = noted(session, options, &ledger, own).await;
    let noted = noted.map_err(|error| options.failed(error))?;
    let begin = |care| match noted {
        Some(Known { head, next }) => Chain::after(care, ledger, head, next),
        None => Chain::new(care),
    };
    verify::walk_on(session, begin)
        .await
        .map_err(|error| match error {
            VerifyError::Storage(reason) => options.failed(reason),
            error => OpenError::Damaged {
                path: options.address.clone(),
                error: Box::new(error),
            },
        })
}

/// That every key which took over without the one before is the operator's.
pub(super) fn check(chain: &Chain, own: KeyId, options: &LedgerOptions) -> Result<(), OpenError> {
    let mut keys = chain.unvouched.iter();
    let stranger = keys.find(|(_, key)| *key != own && !options.trusted.contains(key));
    match stranger {
        None => Ok(()),
        Some(&(block, key_id)) => Err(OpenError::Unvouched {
            path: options.address.clone(),
            block,
            key_id,
        }),
    }
}

/// The block that this broker noted, if it is there still: what came before it was checked then. Whoever can write the note and has no
/// key of the operator's can only name a block that such a key signed, and that was not signed before it was checked.
async fn noted(
    session: &mut Session<'_>,
    options: &LedgerOptions,
    ledger: &Hash,
    own: Option<KeyId>,
) -> Result<Option<Known>, StorageError> {
    let is_own = |key| own == Some(key) || options.trusted.contains(&key);
    let note = options.seen.as_deref().and_then(seen::read);
    let note = note.filter(|note| note.seen.ledger_id.0 == *ledger && is_own(note.seen.key_id));
    let Some(receipt) = note.map(|note| note.seen) else {
        return Ok(None);
    };
    let Some(before) = receipt.height.checked_sub(1) else {
        return Ok(None);
    };
    let found = blocks::from(session, before, 2).await?;
    let [before, block] = found.as_slice() else {
        return Ok(None);
    };
    let Ok(Known { head, next }) = Known::of(before) else {
        return Ok(None);
    };
    // Its hash covers the block before it, and the receipt names its signer and signature, which it does not cover.
    let mut chain = Chain::after(Care::Hashes, *ledger, head, next);
    let same = chain.take(block).is_ok()
        && chain.finish().is_ok()
        && Receipt::of(ledger, &block.head()) == Some(receipt);
    Ok(same.then(|| Known {
        head: block.head(),
        next: chain.key,
    }))
}

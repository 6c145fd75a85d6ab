//! How far this broker has seen a ledger that is kept elsewhere, across its restarts: the receipt of a block, in a file beside its other
//! data. A failover that lost blocks and a restart often come together. [`super::notes`] keeps the file.

use super::block::Hash;
use super::bytes::Bytes;
use super::receipt::Receipt;
use super::storage::{Session, StorageError, blocks};
use super::{LedgerOptions, OpenError};
use std::io;
use std::path::Path;

/// That a ledger still has the block that was seen of it, before anything is written to it.
pub(super) async fn hold(
    session: &mut Session<'_>,
    options: &LedgerOptions,
    ledger: &Hash,
) -> Result<(), OpenError> {
    let Some(file) = &options.seen else {
        return Ok(());
    };
    let other = match missing(session, file, ledger).await {
        Ok(None) => return Ok(()),
        Ok(Some(reason)) => reason,
        Err(error) => return Err(options.failed(error)),
    };
    if options.accept_lost_blocks {
        tracing::warn!(reason = other, ledger = %options.address, "this broker goes on from what is there, as it was told to");
        return Ok(());
    }
    Err(OpenError::NotTheSame {
        path: options.address.clone(),
        file: file.clone(),
        reason: other,
    })
}

/// The receipt in the file; none where there is none, which [`hold`] says.
pub(super) fn read(file: &Path) -> Option<Receipt> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// In what the ledger is not the one that was seen.
async fn missing(
    session: &mut Session<'_>,
    file: &Path,
    ledger: &Hash,
) -> Result<Option<String>, StorageError> {
    let text = match std::fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Ok(Some(format!("it cannot be read: {error}"))),
        Ok(text) => text,
    };
    let seen: Receipt = match serde_json::from_slice(&text) {
        Ok(seen) => seen,
        Err(error) => return Ok(Some(format!("it holds no receipt: {error}"))),
    };
    if seen.ledger_id.0 != *ledger {
        return Ok(Some(format!(
            "that was ledger {}, this is ledger {}",
            seen.ledger_id,
            Bytes(*ledger)
        )));
    }
    Ok(match blocks::head_at(session, seen.height).await? {
        None => Some(format!("block {} is gone", seen.height)),
        Some(now) if now.hash != seen.hash.0 => Some(format!(
            "block {} has hash {}, it had {}",
            seen.height,
            Bytes(now.hash),
            seen.hash
        )),
        Some(_) => None,
    })
}

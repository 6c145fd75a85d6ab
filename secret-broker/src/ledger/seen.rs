//! How far this broker has seen a ledger that is kept elsewhere, across its restarts: the receipt of a block, in a file beside its other
//! data. A failover that lost blocks and a restart often come together.
//!
//! The file is written at most once a second, so that the blocks of the last second before a kill may be missing in it.

use super::block::{Hash, Head};
use super::bytes::Bytes;
use super::receipt::Receipt;
use super::storage::{Session, StorageError, blocks};
use super::{LedgerOptions, OpenError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// At least between two writes.
const PAUSE: Duration = Duration::from_secs(1);

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

/// Keeps the file.
pub(super) struct Notes {
    file: PathBuf,
    ledger: Hash,
    noted: Option<(u64, Instant)>,
    failed: bool,
}

impl Notes {
    pub(super) const fn new(file: PathBuf, ledger: Hash) -> Self {
        Self {
            file,
            ledger,
            noted: None,
            failed: false,
        }
    }

    /// Notes a block that counts, unless one was noted a moment ago.
    pub(super) async fn note(&mut self, head: &Head) {
        let is_due = self
            .noted
            .is_none_or(|(height, at)| height != head.height && at.elapsed() >= PAUSE);
        let Some(receipt) = Receipt::of(&self.ledger, head).filter(|_| is_due) else {
            return;
        };
        self.noted = Some((head.height, Instant::now()));
        if let Err(error) = self.write(&receipt).await {
            if !std::mem::replace(&mut self.failed, true) {
                tracing::warn!(%error, file = %self.file.display(), "cannot note how far the ledger was seen; after a restart this broker may not notice that blocks were lost");
            }
            return;
        }
        self.failed = false;
    }

    async fn write(&self, receipt: &Receipt) -> io::Result<()> {
        let text = serde_json::to_vec(receipt)?;
        let partial = self.file.with_extension("partial");
        tokio::fs::write(&partial, text).await?;
        tokio::fs::rename(&partial, &self.file).await
    }
}

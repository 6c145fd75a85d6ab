//! Which ledger this broker has seen, and how far, across its restarts: the receipt of a block, in a file beside its other data. A failover
//! that lost blocks and a restart often come together, and a file may be put back from a backup. [`super::notes`] keeps the file.
//!
//! That blocks were lost for good is accepted of one ledger, by the block that it ends with, and once: what was accepted is noted too, so
//! that a flag that was left where it was accepts no later loss.

use super::block_name::BlockName;
use super::bytes::Bytes;
use super::receipt::Receipt;
use super::storage::{Session, StorageError, blocks};
use super::{LedgerOptions, OpenError};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// What is in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Of the last block that was seen.
    #[serde(flatten)]
    pub(super) seen: Receipt,
    /// Which ledger was last said to be the one to go on from. It has been gone on from since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) accepted: Option<BlockName>,
}

/// The note in the file; none where there is none, which [`hold`] says.
pub(super) fn read(file: &Path) -> Option<Note> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// That a ledger, which is the one that is meant, still has the block that was seen of it, before anything is written to it.
pub(super) async fn hold(session: &mut Session<'_>, options: &LedgerOptions) -> Result<(), OpenError> {
    let Some(file) = &options.seen else {
        return Ok(());
    };
    let failed = |error: StorageError| options.failed(error);
    let Some(reason) = missing(session, file).await.map_err(failed)? else {
        return Ok(());
    };
    let ends = BlockName::of(&blocks::head(session).await.map_err(failed)?);
    let accepted_before = read(file).and_then(|note| note.accepted);
    match accept(ends, options.accept_lost_blocks, accepted_before) {
        Ok(()) => {
            tracing::warn!(reason, %ends, ledger = %options.address, "this broker goes on from what is there, as it was told to");
            Ok(())
        }
        Err(remedy) => Err(OpenError::NotTheSame {
            path: options.address.clone(),
            file: file.clone(),
            reason,
            remedy,
        }),
    }
}

/// Whether a ledger that ends so is gone on from, or else what to do.
fn accept(ends: BlockName, told: Option<BlockName>, before: Option<BlockName>) -> Result<(), String> {
    let Some(told) = told else {
        return Err(format!(
            "bring back the server or the file that has its blocks, or, if they are lost for good, hold what is there against your last receipt and start this broker once with --accept-lost-blocks {ends}"
        ));
    };
    if told != ends {
        return Err(format!(
            "it ends with block {ends}, and --accept-lost-blocks says {told}: if the blocks are lost for good, hold what is there against your last receipt and say --accept-lost-blocks {ends}"
        ));
    }
    if before == Some(told) {
        return Err(format!(
            "--accept-lost-blocks {told} was said before and accepts no second loss: bring back the server or the file that has its blocks, or, if these are lost for good as well, remove the file with the note"
        ));
    }
    Ok(())
}

/// In what the ledger is not the one that was seen.
async fn missing(session: &mut Session<'_>, file: &Path) -> Result<Option<String>, StorageError> {
    let text = match std::fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Ok(Some(format!("it cannot be read: {error}"))),
        Ok(text) => text,
    };
    let Note { seen, .. } = match serde_json::from_slice(&text) {
        Ok(note) => note,
        Err(error) => return Ok(Some(format!("it holds no receipt: {error}"))),
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_accepted_of_the_ledger_as_it_is_found_and_once() {
        let [ends, other, same_height] = [(7, 1), (6, 1), (7, 2)].map(|(height, byte)| {
            let hash = [byte; 32];
            BlockName::new(height, hash)
        });
        for (told, before, accepted) in [
            (None, None, false),
            (Some(ends), None, true),
            (Some(ends), Some(other), true),
            (Some(ends), Some(ends), false),
            (Some(other), None, false),
            (Some(same_height), None, false),
        ] {
            let said = accept(ends, told, before);
            assert_eq!(said.is_ok(), accepted, "{told:?} {before:?} {said:?}");
            if let Err(remedy) = said {
                assert!(
                    remedy.contains(&format!("--accept-lost-blocks {ends}")),
                    "{remedy}"
                );
            }
        }
    }
}

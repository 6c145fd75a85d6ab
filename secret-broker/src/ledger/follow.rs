//! Reads the blocks as they come, without missing one: what is announced is only a height, and the blocks are read from disk.

use super::storage::{Readers, StorageError, blocks};
use super::{Block, ReadError};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch;

/// Blocks read at once.
const BATCH: usize = 16;
/// Before a database that could not be reached is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// A reader of all blocks after one.
pub struct Follower {
    reads: Readers,
    heights: watch::Receiver<u64>,
    /// Height of the last block that was read.
    read: u64,
    waiting: VecDeque<Block>,
}

impl Follower {
    pub(super) fn new(reads: Readers, heights: watch::Receiver<u64>, height: u64) -> Self {
        Self {
            reads,
            heights,
            read: height,
            waiting: VecDeque::new(),
        }
    }

    /// The next block; none once the ledger has closed, even if some were not read. Dropping the future loses nothing. While a
    /// database cannot be reached it waits.
    ///
    /// # Errors
    /// [`ReadError`] when the database fails otherwise.
    pub async fn next(&mut self) -> Result<Option<Block>, ReadError> {
        loop {
            if let Some(block) = self.waiting.pop_front() {
                return Ok(Some(block));
            }
            if *self.heights.borrow_and_update() > self.read {
                match self.read().await {
                    Ok(()) => {}
                    Err(StorageError::Database(sqlx::Error::PoolClosed)) => return Ok(None),
                    Err(error) if error.is_passing() => {
                        tracing::warn!(%error, height = self.read, "cannot read the next block; trying again");
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            } else if self.heights.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn read(&mut self) -> Result<(), StorageError> {
        let mut session = self.reads.read().await?;
        for block in blocks::after(&mut session, self.read, BATCH).await? {
            let parsed = block.parse()?;
            self.read = parsed.height;
            self.waiting.push_back(parsed);
        }
        Ok(())
    }
}

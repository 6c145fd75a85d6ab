//! Reads the blocks as they come, without missing one: what is announced is only a height, and the blocks are read from disk.

use super::storage::{StorageError, blocks};
use super::{Block, ReadError};
use sqlx::SqlitePool;
use std::collections::VecDeque;
use tokio::sync::watch;

/// Blocks read at once.
const BATCH: usize = 16;

/// A reader of all blocks after one.
pub struct Follower {
    reads: SqlitePool,
    heights: watch::Receiver<u64>,
    /// Height of the last block that was read.
    read: u64,
    waiting: VecDeque<Block>,
}

impl Follower {
    pub(super) fn new(reads: SqlitePool, heights: watch::Receiver<u64>, height: u64) -> Self {
        Self {
            reads,
            heights,
            read: height,
            waiting: VecDeque::new(),
        }
    }

    /// The next block; none once the ledger has closed, even if some were not read. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ReadError`] when the database fails.
    pub async fn next(&mut self) -> Result<Option<Block>, ReadError> {
        loop {
            if let Some(block) = self.waiting.pop_front() {
                return Ok(Some(block));
            }
            if *self.heights.borrow_and_update() > self.read {
                let mut connection = match self.reads.acquire().await {
                    Ok(connection) => connection,
                    Err(sqlx::Error::PoolClosed) => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                let blocks = blocks::after(&mut connection, self.read, BATCH).await?;
                for block in blocks {
                    let parsed = block.parse().map_err(StorageError::from)?;
                    self.read = parsed.height;
                    self.waiting.push_back(parsed);
                }
            } else if self.heights.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

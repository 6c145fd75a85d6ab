//! Reads the blocks as they come, without missing one: what is announced is only a height, and the blocks are read from disk.
//!
//! What is read is checked to be the blocks that count: each follows the one before, has the content that its hash says, and is the
//! one that this broker made or checked before; of one that is long past the signature is checked. Nothing is told that was not
//! announced, and no key that took over since the ledger was opened and that the one before does not vouch for.

use super::chain::{Care, Chain, corrupt};
use super::storage::{Readers, Session, StorageError, blocks};
use super::witness::{Distrust, Known, Witness, WitnessError, unvouched};
use super::{Block, ReadError};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch;

/// Blocks read at once.
const BATCH: usize = 16;
/// Before a database is asked again that could not be reached, or lacks what it had.
const PAUSE: Duration = Duration::from_millis(500);

/// A reader of all blocks after one.
pub struct Follower {
    reads: Readers,
    heights: watch::Receiver<u64>,
    witness: Witness,
    /// The blocks until there; none before the first was read.
    chain: Option<Box<Chain>>,
    /// Height of the last block that was read.
    read: u64,
    waiting: VecDeque<Block>,
}

impl Follower {
    pub(super) fn new(reads: Readers, heights: watch::Receiver<u64>, witness: Witness, height: u64) -> Self {
        Self {
            reads,
            heights,
            witness,
            chain: None,
            read: height,
            waiting: VecDeque::new(),
        }
    }

    /// The next block; none once the ledger has closed, even if some were not read. Dropping the future loses nothing. While a
    /// database cannot be reached it waits.
    ///
    /// # Errors
    /// [`ReadError`] when the database fails otherwise, or a block is not the one that counts: nothing of it is told then.
    pub async fn next(&mut self) -> Result<Option<Block>, ReadError> {
        loop {
            if let Some(block) = self.waiting.pop_front() {
                return Ok(Some(block));
            }
            let told = *self.heights.borrow_and_update();
            if told > self.read {
                match self.read(told).await {
                    // They were there when they were told.
                    Ok(()) if self.waiting.is_empty() => tokio::time::sleep(PAUSE).await,
                    Ok(()) => {}
                    Err(WitnessError::Storage(StorageError::Database(sqlx::Error::PoolClosed))) => {
                        return Ok(None);
                    }
                    Err(WitnessError::Distrust(distrust)) => {
                        self.witness.was_changed(distrust.clone());
                        return Err(distrust.into());
                    }
                    Err(WitnessError::Storage(error)) if error.is_passing() => {
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

    /// Some of the blocks up to one that was told.
    async fn read(&mut self, told: u64) -> Result<(), WitnessError> {
        let mut session = self.reads.read().await?;
        let mut chain = match self.chain.take() {
            Some(chain) => chain,
            None => Box::new(self.begin(&mut session).await?),
        };
        for block in blocks::after(&mut session, self.read, BATCH).await? {
            if block.height > told {
                break;
            }
            chain.take(&block).map_err(Distrust::from)?;
            let last_key = chain.unvouched.last();
            if let Some(&(height, _)) = last_key.filter(|(height, _)| *height > self.witness.opened()) {
                return Err(Distrust::from(unvouched(height)).into());
            }
            match self.witness.at(block.height) {
                Some(known) if known.head == block.head() => {}
                Some(_) => {
                    let other = corrupt(block.height, "hash", "it is not the block that was there");
                    return Err(Distrust::from(other).into());
                }
                None => drop(chain.finish().map_err(Distrust::from)?),
            }
            self.waiting.push_back(block.parse().map_err(StorageError::from)?);
            self.read = block.height;
        }
        self.chain = Some(chain);
        Ok(())
    }

    /// From the block before the first that is told. One that is long past is signed by the key that it names itself; that it is this
    /// ledger's shows when the blocks after it lead to those that count.
    async fn begin(&self, session: &mut Session<'_>) -> Result<Chain, WitnessError> {
        let ledger = *self.witness.ledger();
        if let Some(Known { head, next }) = self.witness.at(self.read) {
            return Ok(Chain::after(Care::Hashes, ledger, head, next));
        }
        let block = blocks::from(session, self.read, 1).await?.pop();
        let block = block.filter(|block| block.height == self.read);
        let Known { head, next } = Known::of(&block.ok_or(StorageError::NoBlocks)?)?;
        let chain = Chain::after(Care::Hashes, ledger, head, next);
        chain.finish().map_err(Distrust::from)?;
        Ok(chain)
    }
}

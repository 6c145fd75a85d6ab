//! Goes through the blocks. One task reads them, one thread checks the chain and two run the contract again, so that all work at the
//! same time; what is reported is what the first wrong block is found to be.

use super::ahead::Helper;
use super::replay::Replay;
use super::tables::{self, Beside};
use super::{Depth, Verified, VerifyError};
use crate::ledger::block::{Asked, BodyOf, Hash, StoredBlock};
use crate::ledger::bytes::Bytes;
use crate::ledger::chain::{Care, Chain, corrupt};
use crate::ledger::receipt::{Receipt, ReceiptError};
use crate::ledger::storage::{self, Session, blocks};
use crate::ledger::verify::Corruption;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};

/// Most blocks read at once, and the length of their bodies that is aimed at: threads that wait for more of them stand still, and
/// what waits is in memory.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 512 * 1_024;
/// Batches that wait for each thread.
const AHEAD: usize = 2;

/// A block of which the chain is in order.
pub(super) struct Checked {
    pub(super) height: u64,
    pub(super) text: String,
    pub(super) body: BodyOf<Asked>,
}

pub(super) type Bodies = Arc<Vec<Checked>>;

/// What was asked in some bodies, in its order.
pub(super) fn transactions(bodies: &Bodies) -> impl Iterator<Item = &Asked> {
    bodies.iter().flat_map(|block| match &block.body {
        BodyOf::Transactions(transactions) => transactions.as_slice(),
        BodyOf::Genesis(_) | BodyOf::Key(_) => &[],
    })
}

/// What the blocks lead to.
pub(super) struct Walk {
    chain: Chain,
    pub(super) replay: Option<Replay>,
}

impl Walk {
    pub(super) fn verified(&self) -> Result<Verified, Corruption> {
        let head = self.chain.finish()?;
        Ok(Verified {
            height: head.height,
            head_hash: hex::encode(head.hash),
            ledger_id: Bytes(self.chain.ledger),
            key_id: self.chain.key,
            unvouched_keys: self.chain.unvouched.iter().map(|(block, _)| *block).collect(),
            signers: self.chain.signers.clone(),
            transactions: self
                .replay
                .as_ref()
                .map(|replay| u64::try_from(replay.places.len()).unwrap_or(u64::MAX)),
            body_bytes: self.chain.body_bytes,
        })
    }
}

/// Walks the blocks, and compares what those up to `derived` lead to with the tables; where something is wrong once more, to say
/// where.
pub(super) async fn walk(
    session: &mut Session<'_>,
    depth: Depth,
    receipts: &[Receipt],
    derived: Option<u64>,
    beside: Beside<'_, '_, '_>,
) -> Result<Walk, VerifyError> {
    let care = match depth {
        Depth::Chain => Care::Hashes,
        Depth::Whole => Care::Bodies,
    };
    match walk_with(session, care, depth, receipts, derived, beside).await {
        Err(VerifyError::Corrupt(found)) => {
            walk_with(session, Care::EveryField, depth, receipts, derived, beside).await?;
            // Not found again: it was being changed.
            Err(found.into())
        }
        outcome => outcome,
    }
}

/// Walks the chain alone, on from where it begins.
pub(in crate::ledger) async fn walk_on(
    session: &mut Session<'_>,
    begin: impl Fn(Care) -> Chain,
) -> Result<Chain, VerifyError> {
    match walk_from(session, begin(Care::Hashes), Care::Hashes).await {
        Err(VerifyError::Corrupt(found)) => {
            walk_from(session, begin(Care::EveryField), Care::EveryField).await?;
            // Not found again: it was being changed.
            Err(found.into())
        }
        outcome => outcome,
    }
}

async fn walk_from(session: &mut Session<'_>, chain: Chain, care: Care) -> Result<Chain, VerifyError> {
    let walk = Walk { chain, replay: None };
    let walk = walk.on(session, None, care, &[]).await?;
    walk.chain.finish()?;
    Ok(walk.chain)
}

async fn walk_with(
    session: &mut Session<'_>,
    care: Care,
    depth: Depth,
    receipts: &[Receipt],
    derived: Option<u64>,
    beside: Beside<'_, '_, '_>,
) -> Result<Walk, VerifyError> {
    let mut walk = Walk {
        chain: Chain::new(care),
        replay: (depth == Depth::Whole).then(Replay::default),
    };
    if derived.is_some() {
        walk = walk.on(session, derived, care, receipts).await?;
    }
    if let (Some(derived), Some(replay)) = (derived, &walk.replay)
        && walk.chain.head.is_some_and(|head| head.height == derived)
    {
        tables::compare(replay, session, beside, derived).await?;
    }
    let walk = walk.on(session, None, care, receipts).await?;
    let head = walk.chain.finish()?;
    match receipts.iter().map(|receipt| receipt.height).max() {
        Some(receipt) if receipt > head.height => Err(VerifyError::Truncated {
            ends: head.height,
            receipt,
        }),
        _ => Ok(walk),
    }
}

impl Walk {
    /// Goes on up to a block, or to the last one. The threads end with what they are sent.
    async fn on(
        self,
        session: &mut Session<'_>,
        until: Option<u64>,
        care: Care,
        receipts: &[Receipt],
    ) -> Result<Self, VerifyError> {
        let from = self.chain.head.map_or(0, |head| head.height.saturating_add(1));
        let (read, blocks) = mpsc::channel(AHEAD);
        let (checked, bodies) = mpsc::channel(AHEAD);
        let (done, spent) = std::sync::mpsc::channel();
        let receipts = receipts.to_vec();
        let replays = self.replay.is_some();
        let chain =
            spawn_blocking(move || check(self.chain, blocks, &receipts, replays.then_some((checked, spent))));
        let (helper, helping) = Helper::new();
        let helping = replays.then(|| spawn_blocking(helping));
        let replay = spawn_blocking(move || run(self.replay, bodies, &done, &helper));
        let reading = read_blocks(session, from, until, care, read).await;
        let ((chain, checking), (replay, running)) = (chain.await?, replay.await?);
        if let Some(helping) = helping {
            helping.await?;
        }
        // Each is ahead of the next one.
        running?;
        checking?;
        reading?;
        Ok(Self { chain, replay })
    }
}

impl From<JoinError> for VerifyError {
    fn from(error: JoinError) -> Self {
        Self::Storage(error.to_string())
    }
}

async fn read_blocks(
    session: &mut Session<'_>,
    mut from: u64,
    until: Option<u64>,
    care: Care,
    read: mpsc::Sender<Vec<StoredBlock>>,
) -> Result<(), VerifyError> {
    let mut batch = 1;
    loop {
        let mut blocks = match blocks::from(session, from, batch).await {
            Ok(blocks) => blocks,
            Err(error) if storage::is_damage(&error) => {
                return Err(corrupt(from, "file", format!("it cannot be read: {error}")).into());
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(until) = until {
            blocks.retain(|block| block.height <= until);
        }
        let Some(last) = blocks.last() else { return Ok(()) };
        from = last.height.saturating_add(1);
        // One by one where the first that cannot be read is to be named.
        if care != Care::EveryField {
            let bytes: usize = blocks.iter().map(|block| block.body.len()).sum();
            let fit = BATCH_BYTES.saturating_mul(blocks.len()) / bytes.max(1);
            batch = fit.clamp(1, BATCH);
        }
        if read.send(blocks).await.is_err() {
            // Something is wrong with one of those before.
            return Ok(());
        }
    }
}

fn check(
    mut chain: Chain,
    mut blocks: mpsc::Receiver<Vec<StoredBlock>>,
    receipts: &[Receipt],
    checked: Option<(mpsc::Sender<Bodies>, std::sync::mpsc::Receiver<Bodies>)>,
) -> (Chain, Result<(), VerifyError>) {
    while let Some(blocks) = blocks.blocking_recv() {
        let mut bodies = Vec::with_capacity(blocks.len());
        let outcome = blocks.into_iter().try_for_each(|block| {
            let body = chain.take(&block)?;
            let held = hold_against(receipts, &block, &chain.ledger);
            let (height, text) = (block.height, block.body);
            bodies.extend(body.map(|body| Checked { height, text, body }));
            held
        });
        let sent = checked.as_ref().is_none_or(|(checked, spent)| {
            // Letting go is cheaper where they were made, and this thread waits for the other one.
            spent.try_iter().for_each(drop);
            checked.blocking_send(Arc::new(bodies)).is_ok()
        });
        if outcome.is_err() || !sent {
            return (chain, outcome);
        }
    }
    (chain, Ok(()))
}

fn run(
    mut replay: Option<Replay>,
    mut bodies: mpsc::Receiver<Bodies>,
    done: &std::sync::mpsc::Sender<Bodies>,
    helper: &Helper,
) -> (Option<Replay>, Result<(), Corruption>) {
    if let Some(replay) = &mut replay {
        while let Some(bodies) = bodies.blocking_recv() {
            if let Err(found) = replay.take(&bodies, helper) {
                return (None, Err(found));
            }
            // Where nobody takes them they go here.
            let _ = done.send(bodies);
        }
    }
    (replay, Ok(()))
}

/// That the block is the one that a receipt was given for.
fn hold_against(receipts: &[Receipt], block: &StoredBlock, ledger: &Hash) -> Result<(), VerifyError> {
    for receipt in receipts {
        if block.height == 0 && receipt.ledger_id.0 != *ledger {
            return Err(ReceiptError::OtherLedger {
                receipt: receipt.ledger_id,
                ledger: Bytes(*ledger),
            }
            .into());
        }
        if receipt.height == block.height && receipt.hash.0 != block.hash {
            return Err(VerifyError::Forked {
                block: block.height,
                receipt: receipt.hash,
                found: Bytes(block.hash),
            });
        }
    }
    Ok(())
}

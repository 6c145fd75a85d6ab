//! Derives again, when a ledger is opened, what its newest blocks lead to and its tables did not get before the broker ended. Usually
//! nothing: a broker that is stopped writes it. PostgreSQL's tables never lag.

use super::block::{Hash, Transaction};
use super::chain::{Care, Chain};
use super::loaded::{self, Changes, Noted};
use super::storage::pending::Changed;
use super::storage::{Pending, Session, StorageError, blocks, derived};
use super::verify::Corruption;
use super::witness::Known;
use super::writer::tables::write_tables;
use super::{Contract, ReadError};
use leasehold_chaincode::{Failure, Loaded, Outcome, StateError, TxContext, Write};

/// Blocks read at once.
const BATCH: usize = 16;

/// Why the newest blocks lead to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum CatchUpError {
    #[error("{0}")]
    Storage(#[from] StorageError),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    #[error(
        "its state is that after block {derived}, which is not there: it ends at block {head}; verify it, then run `ledger rebuild`"
    )]
    Ahead { derived: u64, head: u64 },
    #[error(
        "the state is not what block {height} was decided by ({reason}); verify it, then run `ledger rebuild`"
    )]
    Otherwise { height: u64, reason: String },
}

/// What the blocks after those in the tables lead to.
pub(super) async fn pending(
    session: &mut Session<'_>,
    contract: Contract,
    ledger: &Hash,
) -> Result<Pending, CatchUpError> {
    derive(session, contract, ledger, false).await
}

/// The same; what is more than the memory should hold is written into the tables, and stays there if the session is committed.
pub(super) async fn settled(
    session: &mut Session<'_>,
    contract: Contract,
    ledger: &Hash,
) -> Result<Pending, CatchUpError> {
    derive(session, contract, ledger, true).await
}

async fn derive(
    session: &mut Session<'_>,
    contract: Contract,
    ledger: &Hash,
    writes: bool,
) -> Result<Pending, CatchUpError> {
    let derived = derived::height(session).await?;
    let head = blocks::head(session).await?.height;
    if derived > head {
        return Err(CatchUpError::Ahead { derived, head });
    }
    let pending = Pending::new(derived);
    if derived == head {
        return Ok(pending);
    }
    let begin = blocks::from(session, derived, 1).await?.pop();
    let Known { head, next } = Known::of(&begin.ok_or(StorageError::NoBlocks)?)?;
    // What is replayed is what was signed.
    let mut chain = Chain::after(Care::Hashes, *ledger, head, next);
    loop {
        let height = pending.view().height;
        let blocks = blocks::after(session, height, BATCH).await?;
        if blocks.is_empty() {
            chain.finish()?;
            return Ok(pending);
        }
        for block in blocks {
            let view = pending.view();
            if writes && view.is_full() {
                write_tables(session, &view).await?;
                pending.settle(view.height);
            }
            session.see(pending.view());
            chain.take(&block)?;
            let block = block.parse().map_err(StorageError::from)?;
            let (mut state, mut changes) = (Loaded::default(), Changes::new());
            for transaction in &block.transactions {
                let outcome = loop {
                    match decided(contract, block.height, transaction, &state, &changes)? {
                        Some(outcome) => break outcome,
                        None => loaded::fetch(&mut state, session).await?,
                    }
                };
                for write in outcome.writes {
                    match write {
                        Write::Put { key, value } => changes.insert(key, Some(value)),
                        Write::Delete { key } => changes.insert(key, None),
                    };
                }
            }
            let transactions = block.transactions.iter().enumerate();
            let places = transactions.map(|(at, transaction)| (transaction.tx_id.to_string(), at));
            pending.add(block.height, false, changed(changes)?, places);
        }
    }
}

/// None while something is missing in the state.
fn decided(
    contract: Contract,
    height: u64,
    transaction: &Transaction,
    state: &Loaded,
    changes: &Changes,
) -> Result<Option<Outcome>, CatchUpError> {
    let otherwise = |reason: String| CatchUpError::Otherwise { height, reason };
    let context = TxContext {
        tx_id: transaction.tx_id.clone(),
        timestamp_ms: transaction.timestamp_ms,
        caller: transaction.caller.clone(),
        role: transaction.role,
    };
    let state_so_far = Noted::new(state, changes);
    match contract.replay(
        transaction.contract,
        &state_so_far,
        &context,
        &transaction.command,
    ) {
        Ok(outcome) if outcome.events == transaction.events && outcome.result == transaction.result => {
            Ok(Some(outcome))
        }
        Ok(_) => Err(otherwise(
            "the contract answers otherwise than is recorded".to_owned(),
        )),
        Err(Failure::State(StateError::NotLoaded)) if state.lacks() => Ok(None),
        Err(failure) => Err(otherwise(failure.to_string())),
    }
}

/// The changes as the tables hold them.
pub(super) fn changed(changes: Changes) -> Result<Changed, StorageError> {
    let text = |value: Vec<u8>| String::from_utf8(value).map_err(StorageError::NotText);
    let changes = changes.into_iter();
    changes
        .map(|(key, value)| Ok((key, value.map(text).transpose()?)))
        .collect()
}

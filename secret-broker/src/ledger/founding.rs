//! The first block of a ledger, the first key of one that was not signed, and whether a ledger is the one that is meant.

use super::block::{BLOCK_SCHEMA, Body, Genesis, Hash, KeyCause, KeyChange, StoredBlock};
use super::key::LedgerKey;
use super::storage::{StorageError, blocks};
use super::verify::{self, Depth};
use super::{LedgerOptions, OpenError};
use sqlx::{Connection, SqliteConnection};

/// What signs the ledger's blocks.
#[derive(Debug)]
pub(super) struct Sealer {
    /// Hash of block 0.
    pub(super) ledger: Hash,
    pub(super) key: LedgerKey,
}

/// What signs a ledger that is as the options say, after making its first block if there is none, and its last block.
pub(super) async fn found(
    connection: &mut SqliteConnection,
    options: &LedgerOptions,
) -> Result<(Sealer, StoredBlock), OpenError> {
    let failed = |error: StorageError| options.failed(error);
    let mut blocks = blocks::from(connection, 0, 1).await.map_err(failed)?;
    let Some(first) = blocks.pop() else {
        return create(connection, options).await;
    };
    check_genesis(&first, options)?;
    let ledger = first.hash;
    let last = blocks::last(connection).await.map_err(failed)?;
    let last = last.ok_or_else(|| failed(StorageError::NoBlocks))?;
    match last.next_signer().map_err(|error| failed(error.into()))? {
        None => {
            let key = LedgerKey::load_or_create(&options.key)?;
            let sealer = Sealer { ledger, key };
            let last = sign_the_unsigned(connection, options, &sealer).await?;
            Ok((sealer, last))
        }
        Some(expected) => {
            let key = LedgerKey::load(&options.key)?;
            if key.id() != expected {
                return Err(OpenError::OtherKey {
                    path: options.path.clone(),
                    key: options.key.clone(),
                    found: key.id(),
                    expected,
                });
            }
            Ok((Sealer { ledger, key }, last))
        }
    }
}

async fn create(
    connection: &mut SqliteConnection,
    options: &LedgerOptions,
) -> Result<(Sealer, StoredBlock), OpenError> {
    let failed = |error: StorageError| options.failed(error);
    let key = LedgerKey::load_or_create(&options.key)?;
    let created_at_ms = (options.clock)().max(0);
    let genesis = Genesis {
        schema: BLOCK_SCHEMA,
        organisation: options.organisation.clone(),
        end_margin_ms: options.contract.end_margin_ms,
        created_at_ms,
        key_id: Some(key.id()),
    };
    let block = StoredBlock::first(created_at_ms, &Body::Genesis(genesis), &key);
    let block = block.map_err(|error| failed(error.into()))?;
    blocks::append(connection, &block)
        .await
        .map_err(|error| failed(error.into()))?;
    let ledger = block.hash;
    Ok((Sealer { ledger, key }, block))
}

fn check_genesis(first: &StoredBlock, options: &LedgerOptions) -> Result<(), OpenError> {
    let path = || options.path.clone();
    let failed = |error: StorageError| options.failed(error);
    match serde_json::from_str(&first.body).map_err(|error| failed(error.into()))? {
        Body::Genesis(genesis) if genesis.organisation != options.organisation => {
            Err(OpenError::OtherOrganisation {
                path: path(),
                found: genesis.organisation,
                expected: options.organisation.clone(),
            })
        }
        Body::Genesis(genesis) if genesis.end_margin_ms != options.contract.end_margin_ms => {
            Err(OpenError::OtherParameters {
                path: path(),
                found_ms: genesis.end_margin_ms,
                expected_ms: options.contract.end_margin_ms,
            })
        }
        Body::Genesis(_) => Ok(()),
        Body::Transactions(_) | Body::Key(_) => Err(failed(StorageError::Form {
            height: 0,
            field: "body",
        })),
    }
}

/// A block that vouches for all those that a version before wrote without signing: only if they are as they were written.
async fn sign_the_unsigned(
    connection: &mut SqliteConnection,
    options: &LedgerOptions,
    sealer: &Sealer,
) -> Result<StoredBlock, OpenError> {
    let damaged = verify::verify(connection, Depth::Chain, &[]).await;
    damaged.map_err(|error| OpenError::Damaged {
        path: options.path.clone(),
        error: Box::new(error),
    })?;
    let block = change_key(
        connection,
        sealer,
        KeyCause::First,
        &sealer.key,
        (options.clock)(),
    )
    .await
    .map_err(|error| options.failed(error))?;
    tracing::info!(height = block.height, key = %sealer.key.id(), "the ledger is signed from here on");
    Ok(block)
}

/// Adds the block after which `to` signs.
pub(super) async fn change_key(
    connection: &mut SqliteConnection,
    sealer: &Sealer,
    cause: KeyCause,
    to: &LedgerKey,
    now_ms: i64,
) -> Result<StoredBlock, StorageError> {
    let mut connection = connection.begin_with("BEGIN IMMEDIATE").await?;
    let head = blocks::head(&mut connection).await?;
    let changed_at_ms = now_ms.max(head.timestamp_ms);
    let change = Body::Key(KeyChange {
        key_id: to.id(),
        cause,
        changed_at_ms,
    });
    let block = StoredBlock::after(&head, &sealer.ledger, changed_at_ms, &change, &sealer.key)?;
    blocks::append(&mut connection, &block).await?;
    connection.commit().await?;
    Ok(block)
}

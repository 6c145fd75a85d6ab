//! The first block of a ledger, the first key of one that was not signed, and whether a ledger is the one that is meant.

use super::block::{BLOCK_SCHEMA, Body, Genesis, Hash, KeyCause, KeyChange, StoredBlock};
use super::bytes::KeyId;
use super::key::{LedgerKey, LedgerKeyError};
use super::storage::{Session, StorageError, blocks};
use super::verify::{self, Depth};
use super::{LedgerOptions, OpenError, meant, vouching};
use std::path::{Path, PathBuf};

/// What signs the ledger's blocks.
#[derive(Debug)]
pub(super) struct Sealer {
    /// Hash of block 0.
    pub(super) ledger: Hash,
    pub(super) key: LedgerKey,
}

impl Sealer {
    /// That its key is the one that signs after a block. Where another broker handed over, the new key may be in the file by now.
    pub(super) fn keep_up(&mut self, next: Option<KeyId>, file: &Path) -> Result<(), SealError> {
        let expected = next.ok_or(SealError::NotSigned)?;
        if self.key.id() == expected {
            return Ok(());
        }
        let key = LedgerKey::load(file)?;
        if key.id() != expected {
            return Err(SealError::OtherKey {
                file: file.to_owned(),
                found: key.id(),
                expected,
            });
        }
        tracing::info!(key = %expected, "the ledger was handed over to another key, which signs from here on");
        self.key = key;
        Ok(())
    }
}

/// Why a block cannot be signed. Nothing is written then.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    #[error("the ledger's last block is not signed, so nothing was written; verify the ledger")]
    NotSigned,
    #[error(
        "the ledger was handed over to key {expected}, and {file} holds key {found}, so nothing was written; put the new key there"
    )]
    OtherKey {
        file: PathBuf,
        found: KeyId,
        expected: KeyId,
    },
    #[error("{0}; nothing was written")]
    Key(#[from] LedgerKeyError),
}

/// What signs a ledger that is as the options say, after making its first block if there is none, and its last block.
pub(super) async fn found(
    session: &mut Session<'_>,
    options: &LedgerOptions,
) -> Result<(Sealer, StoredBlock), OpenError> {
    let failed = |error: StorageError| options.failed(error);
    let mut blocks = blocks::from(session, 0, 1).await.map_err(failed)?;
    let first = blocks.pop();
    meant::check(options, first.as_ref().map(|first| first.hash))?;
    let Some(first) = first else {
        return create(session, options).await;
    };
    check_genesis(&first, options)?;
    let ledger = first.hash;
    let last = blocks::last(session).await.map_err(failed)?;
    let last = last.ok_or_else(|| failed(StorageError::NoBlocks))?;
    match last.next_signer().map_err(|error| failed(error.into()))? {
        // Whoever can write the ledger can also have taken the signatures out.
        None if !options.adopt_unsigned => Err(OpenError::NotSigned(options.address.clone())),
        None => {
            let key = LedgerKey::load_or_create(&options.key)?;
            let sealer = Sealer { ledger, key };
            let last = sign_the_unsigned(session, options, &sealer).await?;
            Ok((sealer, last))
        }
        Some(expected) => {
            let key = LedgerKey::load(&options.key);
            let own = key.as_ref().map(LedgerKey::id).ok();
            let chain = vouching::walk(session, options, ledger, own).await?;
            let key = key?;
            if key.id() != expected {
                return Err(OpenError::OtherKey {
                    path: options.address.clone(),
                    key: options.key.clone(),
                    found: key.id(),
                    expected,
                });
            }
            vouching::check(&chain, expected, options)?;
            Ok((Sealer { ledger, key }, last))
        }
    }
}

async fn create(
    session: &mut Session<'_>,
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
    blocks::append(session, &block).await.map_err(failed)?;
    let ledger = block.hash;
    Ok((Sealer { ledger, key }, block))
}

fn check_genesis(first: &StoredBlock, options: &LedgerOptions) -> Result<(), OpenError> {
    let path = || options.address.clone();
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
    session: &mut Session<'_>,
    options: &LedgerOptions,
    sealer: &Sealer,
) -> Result<StoredBlock, OpenError> {
    let damaged = verify::verify_even_unsigned(session, None, Depth::Chain, &[]).await;
    damaged.map_err(|error| OpenError::Damaged {
        path: options.address.clone(),
        error: Box::new(error),
    })?;
    let block = change_key(session, sealer, KeyCause::First, &sealer.key, (options.clock)()).await;
    let block = block.map_err(|error| options.failed(error))?;
    tracing::info!(height = block.height, key = %sealer.key.id(), "the ledger is signed from here on");
    Ok(block)
}

/// Adds the block after which `to` signs.
pub(super) async fn change_key(
    session: &mut Session<'_>,
    sealer: &Sealer,
    cause: KeyCause,
    to: &LedgerKey,
    now_ms: i64,
) -> Result<StoredBlock, StorageError> {
    let head = blocks::head(session).await?;
    let changed_at_ms = now_ms.max(head.timestamp_ms);
    let change = Body::Key(KeyChange {
        key_id: to.id(),
        cause,
        changed_at_ms,
    });
    let block = StoredBlock::after(&head, &sealer.ledger, changed_at_ms, &change, &sealer.key)?;
    blocks::append(session, &block).await?;
    Ok(block)
}

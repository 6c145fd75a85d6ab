//! The blocks' table.

use super::StorageError;
use crate::ledger::block::{Hash, Head, Seal, StoredBlock};
use crate::ledger::bytes::Bytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

/// The last block's head.
pub(in crate::ledger) async fn head(connection: &mut SqliteConnection) -> Result<Head, StorageError> {
    Ok(last(connection).await?.ok_or(StorageError::NoBlocks)?.head())
}

/// The last block, if there is one.
pub(in crate::ledger) async fn last(
    connection: &mut SqliteConnection,
) -> Result<Option<StoredBlock>, StorageError> {
    let row = sqlx::query(
        "SELECT height, previous_hash, timestamp_ms, body, body_hash, hash, signer, signature FROM blocks \
         ORDER BY height DESC LIMIT 1",
    )
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(to_block).transpose()
}

/// Adds a block.
pub(in crate::ledger) async fn append(
    connection: &mut SqliteConnection,
    block: &StoredBlock,
) -> Result<(), sqlx::Error> {
    let seal = block.seal.as_ref();
    sqlx::query(
        "INSERT INTO blocks (height, previous_hash, timestamp_ms, body, body_hash, hash, signer, signature) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(i64::try_from(block.height).unwrap_or(i64::MAX))
    .bind(&block.previous_hash[..])
    .bind(block.timestamp_ms)
    .bind(&block.body)
    .bind(&block.body_hash[..])
    .bind(&block.hash[..])
    .bind(seal.map(|seal| &seal.signer.0[..]))
    .bind(seal.map(|seal| &seal.signature.0[..]))
    .execute(connection)
    .await?;
    Ok(())
}

/// Up to `limit` blocks after a height.
pub(in crate::ledger) async fn after(
    connection: &mut SqliteConnection,
    height: u64,
    limit: usize,
) -> Result<Vec<StoredBlock>, StorageError> {
    from(connection, height.saturating_add(1), limit).await
}

/// Up to `limit` blocks from a height on.
pub(in crate::ledger) async fn from(
    connection: &mut SqliteConnection,
    height: u64,
    limit: usize,
) -> Result<Vec<StoredBlock>, StorageError> {
    let rows = sqlx::query(
        "SELECT height, previous_hash, timestamp_ms, body, body_hash, hash, signer, signature FROM blocks \
         WHERE height >= ?1 ORDER BY height LIMIT ?2",
    )
    .bind(i64::try_from(height).unwrap_or(i64::MAX))
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    rows.iter().map(to_block).collect()
}

fn to_block(row: &SqliteRow) -> Result<StoredBlock, StorageError> {
    let height = row.try_get(0)?;
    let form = |field| StorageError::Form { height, field };
    let signer: Option<Vec<u8>> = row.try_get(6).map_err(|_| form("signer"))?;
    let signature: Option<Vec<u8>> = row.try_get(7).map_err(|_| form("signature"))?;
    let seal = match (signer, signature) {
        (None, None) => None,
        (Some(signer), Some(signature)) => Some(Seal {
            signer: Bytes(signer.try_into().map_err(|_| form("signer"))?),
            signature: Bytes(signature.try_into().map_err(|_| form("signature"))?),
        }),
        (None, Some(_)) => return Err(form("signer")),
        (Some(_), None) => return Err(form("signature")),
    };
    Ok(StoredBlock {
        height: super::to_height(height)?,
        previous_hash: to_hash(row, 1, height, "previous_hash")?,
        timestamp_ms: row.try_get(2).map_err(|_| form("timestamp_ms"))?,
        body: row.try_get(3).map_err(|_| form("body"))?,
        body_hash: to_hash(row, 4, height, "body_hash")?,
        hash: to_hash(row, 5, height, "hash")?,
        seal,
    })
}

fn to_hash(row: &SqliteRow, column: usize, height: i64, field: &'static str) -> Result<Hash, StorageError> {
    let form = || StorageError::Form { height, field };
    let bytes: Vec<u8> = row.try_get(column).map_err(|_| form())?;
    bytes.try_into().map_err(|_| form())
}

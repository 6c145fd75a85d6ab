//! The blocks' table.

use super::session::{Row, Session, Sql, Value};
use super::{StorageError, to_height};
use crate::ledger::block::{Hash, Head, Seal, StoredBlock};
use crate::ledger::bytes::{Bytes, KeyId};

/// The head of the last block that a session sees. A standby of PostgreSQL may be behind, and is not asked.
pub(in crate::ledger) async fn head(session: &mut Session<'_>) -> Result<Head, StorageError> {
    let highest = session
        .view()
        .map_or(Value::Integer(i64::MAX), |view| Value::count(view.height));
    let statement = Sql {
        sqlite: "SELECT height, timestamp_ms, hash, signer, signature, 0 FROM blocks WHERE height <= $1 \
                 ORDER BY height DESC LIMIT 1",
        postgres: "SELECT height, timestamp_ms, hash, signer, signature, pg_is_in_recovery()::integer::bigint \
                   FROM blocks WHERE height <= $1 ORDER BY height DESC LIMIT 1",
    };
    let rows = session.rows(statement, &[highest]).await?;
    let row = rows.first().ok_or(StorageError::NoBlocks)?;
    if row.integer(5)? != 0 {
        return Err(StorageError::Standby);
    }
    to_head(row)
}

/// The head of a block, if it is there.
pub(in crate::ledger) async fn head_at(
    session: &mut Session<'_>,
    height: u64,
) -> Result<Option<Head>, StorageError> {
    let rows = session
        .rows(
            "SELECT height, timestamp_ms, hash, signer, signature FROM blocks WHERE height = $1",
            &[Value::count(height)],
        )
        .await?;
    rows.first().map(to_head).transpose()
}

/// The last block, if there is one.
pub(in crate::ledger) async fn last(session: &mut Session<'_>) -> Result<Option<StoredBlock>, StorageError> {
    let rows = session
        .rows(
            "SELECT height, previous_hash, timestamp_ms, body, body_hash, hash, signer, signature FROM blocks \
             ORDER BY height DESC LIMIT 1",
            &[],
        )
        .await?;
    rows.first().map(to_block).transpose()
}

/// The last block's head, and which key signs the block after it; none where blocks are not signed.
pub(in crate::ledger) async fn tip(session: &mut Session<'_>) -> Result<(Head, Option<KeyId>), StorageError> {
    let last = last(session).await?.ok_or(StorageError::NoBlocks)?;
    Ok((last.head(), last.next_signer()?))
}

/// Adds a block. On PostgreSQL it is announced, once however many are added together.
pub(in crate::ledger) async fn append(
    session: &mut Session<'_>,
    block: &StoredBlock,
) -> Result<(), StorageError> {
    let (signer, signature) = match &block.seal {
        Some(seal) => (Value::Bytes(&seal.signer.0), Value::Bytes(&seal.signature.0)),
        None => (Value::NoBytes, Value::NoBytes),
    };
    let statement = Sql {
        sqlite: "INSERT INTO blocks (height, previous_hash, timestamp_ms, body, body_hash, hash, signer, signature) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        postgres: "WITH appended AS (INSERT INTO blocks \
                   (height, previous_hash, timestamp_ms, body, body_hash, hash, signer, signature) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING height) \
                   SELECT pg_notify('leasehold_blocks', '') FROM appended",
    };
    let values = [
        Value::count(block.height),
        Value::Bytes(&block.previous_hash),
        Value::Integer(block.timestamp_ms),
        Value::Text(&block.body),
        Value::Bytes(&block.body_hash),
        Value::Bytes(&block.hash),
        signer,
        signature,
    ];
    session.run(statement, &values).await
}

/// Up to `limit` blocks after a height.
pub(in crate::ledger) async fn after(
    session: &mut Session<'_>,
    height: u64,
    limit: usize,
) -> Result<Vec<StoredBlock>, StorageError> {
    from(session, height.saturating_add(1), limit).await
}

/// Up to `limit` blocks from a height on.
pub(in crate::ledger) async fn from(
    session: &mut Session<'_>,
    height: u64,
    limit: usize,
) -> Result<Vec<StoredBlock>, StorageError> {
    let rows = session
        .rows(
            "SELECT height, previous_hash, timestamp_ms, body, body_hash, hash, signer, signature FROM blocks \
             WHERE height >= $1 ORDER BY height LIMIT $2",
            &[Value::count(height), Value::count(limit)],
        )
        .await?;
    rows.iter().map(to_block).collect()
}

fn to_block(row: &Row) -> Result<StoredBlock, StorageError> {
    let height = row.integer(0)?;
    let form = |field| StorageError::Form { height, field };
    Ok(StoredBlock {
        height: to_height(height)?,
        previous_hash: to_hash(row, 1, height, "previous_hash")?,
        timestamp_ms: row.integer(2).map_err(|_| form("timestamp_ms"))?,
        body: row.text(3).map_err(|_| form("body"))?,
        body_hash: to_hash(row, 4, height, "body_hash")?,
        hash: to_hash(row, 5, height, "hash")?,
        seal: to_seal(row, 6, height)?,
    })
}

fn to_head(row: &Row) -> Result<Head, StorageError> {
    let height = row.integer(0)?;
    Ok(Head {
        height: to_height(height)?,
        timestamp_ms: row.integer(1).map_err(|_| StorageError::Form {
            height,
            field: "timestamp_ms",
        })?,
        hash: to_hash(row, 2, height, "hash")?,
        seal: to_seal(row, 3, height)?,
    })
}

/// From a column and the one after it.
fn to_seal(row: &Row, column: usize, height: i64) -> Result<Option<Seal>, StorageError> {
    let form = |field| StorageError::Form { height, field };
    let signer = row.bytes_if_any(column).map_err(|_| form("signer"))?;
    let signature = row
        .bytes_if_any(column.saturating_add(1))
        .map_err(|_| form("signature"))?;
    match (signer, signature) {
        (None, None) => Ok(None),
        (Some(signer), Some(signature)) => Ok(Some(Seal {
            signer: Bytes(signer.try_into().map_err(|_| form("signer"))?),
            signature: Bytes(signature.try_into().map_err(|_| form("signature"))?),
        })),
        (None, Some(_)) => Err(form("signer")),
        (Some(_), None) => Err(form("signature")),
    }
}

fn to_hash(row: &Row, column: usize, height: i64, field: &'static str) -> Result<Hash, StorageError> {
    let form = || StorageError::Form { height, field };
    row.bytes(column)
        .map_err(|_| form())?
        .try_into()
        .map_err(|_| form())
}

//! Receipts of destroyed data keys: which key it was, by the hash of its wrapped bytes, when it went, and which block of the ledger
//! allowed it. They stay.

use sha2::{Digest as _, Sha256};

use super::{Store, StoreError, now};

/// Why a data key may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The ledger says that the dataset is retired.
    Retired,
    /// The ledger has a volume under a newer version.
    Superseded,
    /// The transaction that would have needed it came to nothing.
    Unused,
}

impl Reason {
    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Superseded => "superseded",
            Self::Unused => "unused",
        }
    }
}

/// What allows a data key to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grounds {
    /// Why.
    pub reason: Reason,
    /// The ledger's block in which that is said, or as far as which the ledger was read; none where it never came to the ledger.
    pub height: Option<u64>,
    /// The transaction that says it, where that is known.
    pub transaction: Option<String>,
}

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its number.
    pub sequence: i64,
    /// Whose key.
    pub dataset_id: String,
    /// Which version of it.
    pub version: u32,
    /// What wrapped it.
    pub kek_version: u32,
    /// SHA-256 of the wrapped key.
    pub wrapped_sha256: Vec<u8>,
    /// The name of a [`Reason`].
    pub reason: String,
    /// See [`Grounds::height`].
    pub height: Option<i64>,
    /// See [`Grounds::transaction`].
    pub transaction: Option<String>,
    /// Unix seconds.
    pub destroyed_at: i64,
}

type Columns = (
    i64,
    String,
    u32,
    u32,
    Vec<u8>,
    String,
    Option<i64>,
    Option<String>,
    i64,
);

impl Store {
    /// Receipts after one, the oldest first; of one dataset where it is named.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn key_receipts(
        &self,
        dataset_id: Option<&str>,
        after: i64,
        most: u32,
    ) -> Result<Vec<Receipt>, StoreError> {
        let rows: Vec<Columns> = sqlx::query_as(
            "SELECT sequence, dataset_id, version, kek_version, wrapped_sha256, reason, ledger_height, transaction_id, destroyed_at
             FROM key_receipts WHERE sequence > ?1 AND (?2 IS NULL OR dataset_id = ?2) ORDER BY sequence LIMIT ?3",
        )
        .bind(after)
        .bind(dataset_id)
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(receipt).collect())
    }
}

fn receipt(columns: Columns) -> Receipt {
    let (
        sequence,
        dataset_id,
        version,
        kek_version,
        wrapped_sha256,
        reason,
        height,
        transaction,
        destroyed_at,
    ) = columns;
    Receipt {
        sequence,
        dataset_id,
        version,
        kek_version,
        wrapped_sha256,
        reason,
        height,
        transaction,
        destroyed_at,
    }
}

pub(super) async fn insert(
    connection: &mut sqlx::SqliteConnection,
    (dataset_id, version, kek_version): (&str, u32, u32),
    wrapped: &[u8],
    grounds: &Grounds,
) -> Result<(), StoreError> {
    let height = grounds
        .height
        .map(|height| i64::try_from(height).unwrap_or(i64::MAX));
    sqlx::query(
        "INSERT INTO key_receipts (dataset_id, version, kek_version, wrapped_sha256, reason, ledger_height, transaction_id, destroyed_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(dataset_id)
    .bind(version)
    .bind(kek_version)
    .bind(Sha256::digest(wrapped).as_slice())
    .bind(grounds.reason.name())
    .bind(height)
    .bind(&grounds.transaction)
    .bind(now())
    .execute(connection)
    .await?;
    Ok(())
}

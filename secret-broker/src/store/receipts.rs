//! Receipts of destroyed data keys: which key it was, by the hash of its wrapped bytes, when it went, and which block of the ledger
//! allowed it. They stay, each sealed by the ring over the one before, so that none is changed, taken out or put in unseen by who has not the
//! ring. What was cut off at the end, or that all seals were taken off, shows in the audit alone, which has a record of each destruction.

use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, now};
use crate::crypto;
use crate::secret::Secret;

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

/// What seals receipts: a key that the ring makes.
#[derive(Debug)]
pub struct ReceiptSeal(Secret<[u8; 32]>);

impl ReceiptSeal {
    /// Takes the key.
    #[must_use]
    pub const fn new(key: Secret<[u8; 32]>) -> Self {
        Self(key)
    }

    /// The seal of a receipt after one with another seal; after none, or one from before there were seals, that is empty.
    fn seal(&self, receipt: &Receipt, previous: &[u8]) -> Vec<u8> {
        let height = receipt.height.map(i64::to_be_bytes);
        let parts: [&[u8]; 10] = [
            previous,
            &receipt.sequence.to_be_bytes(),
            receipt.dataset_id.as_bytes(),
            &receipt.version.to_be_bytes(),
            &receipt.kek_version.to_be_bytes(),
            &receipt.wrapped_sha256,
            receipt.reason.as_bytes(),
            height.as_ref().map_or(&[], |height| height.as_slice()),
            receipt.transaction.as_deref().unwrap_or_default().as_bytes(),
            &receipt.destroyed_at.to_be_bytes(),
        ];
        crypto::keyed_hash(self.0.expose(), &parts).to_vec()
    }

    /// Whether a receipt is as it was written. Those without a seal are older than all that have one.
    fn fits(&self, receipt: &Receipt, seal: Option<&[u8]>, previous: Option<&[u8]>) -> bool {
        match seal {
            Some(seal) => self.seal(receipt, previous.unwrap_or_default()) == seal,
            None => previous.is_none(),
        }
    }
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
        let rows = sqlx::query(
            "SELECT *, (SELECT before.seal FROM key_receipts AS before WHERE before.sequence < one.sequence
                        ORDER BY before.sequence DESC LIMIT 1) AS previous
             FROM key_receipts AS one WHERE sequence > ?1 AND (?2 IS NULL OR dataset_id = ?2) ORDER BY sequence LIMIT ?3",
        )
        .bind(after)
        .bind(dataset_id)
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| self.checked(row)).collect()
    }

    fn checked(&self, row: &SqliteRow) -> Result<Receipt, StoreError> {
        let receipt = receipt(row)?;
        let (seal, previous): (Option<Vec<u8>>, Option<Vec<u8>>) =
            (row.try_get("seal")?, row.try_get("previous")?);
        let is_whole = self
            .seal
            .get()
            .is_none_or(|key| key.fits(&receipt, seal.as_deref(), previous.as_deref()));
        match is_whole {
            true => Ok(receipt),
            false => Err(StoreError::Damaged {
                table: "key_receipts",
                reason: format!("receipt {} is not as this key ring sealed it", receipt.sequence),
            }),
        }
    }
}

fn receipt(row: &SqliteRow) -> Result<Receipt, StoreError> {
    Ok(Receipt {
        sequence: row.try_get("sequence")?,
        dataset_id: row.try_get("dataset_id")?,
        version: row.try_get("version")?,
        kek_version: row.try_get("kek_version")?,
        wrapped_sha256: row.try_get("wrapped_sha256")?,
        reason: row.try_get("reason")?,
        height: row.try_get("ledger_height")?,
        transaction: row.try_get("transaction_id")?,
        destroyed_at: row.try_get("destroyed_at")?,
    })
}

pub(super) async fn insert(
    connection: &mut sqlx::SqliteConnection,
    seal: Option<&ReceiptSeal>,
    (dataset_id, version, kek_version): (&str, u32, u32),
    wrapped: &[u8],
    grounds: &Grounds,
) -> Result<(), StoreError> {
    let height = grounds
        .height
        .map(|height| i64::try_from(height).unwrap_or(i64::MAX));
    let previous: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT seal FROM key_receipts ORDER BY sequence DESC LIMIT 1")
            .fetch_optional(&mut *connection)
            .await?
            .flatten();
    let row = sqlx::query(
        "INSERT INTO key_receipts (dataset_id, version, kek_version, wrapped_sha256, reason, ledger_height, transaction_id, destroyed_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
    )
    .bind(dataset_id)
    .bind(version)
    .bind(kek_version)
    .bind(Sha256::digest(wrapped).as_slice())
    .bind(grounds.reason.name())
    .bind(height)
    .bind(&grounds.transaction)
    .bind(now())
    .fetch_one(&mut *connection)
    .await?;
    // Its number is known only now; it is the same transaction.
    if let Some(seal) = seal {
        let receipt = receipt(&row)?;
        sqlx::query("UPDATE key_receipts SET seal = ? WHERE sequence = ?")
            .bind(seal.seal(&receipt, &previous.unwrap_or_default()))
            .bind(receipt.sequence)
            .execute(connection)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::data_keys::{DataKey, Destroy, Versions};

    async fn destroyed(store: &Store, dataset: &str) {
        let key = DataKey {
            dataset_id: dataset.to_owned(),
            version: 1,
            kek_version: 1,
            wrapped: vec![1],
        };
        let mut transaction = store.write().await.unwrap();
        crate::store::data_keys::insert(&mut transaction, &key)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        let grounds = Grounds {
            reason: Reason::Unused,
            height: None,
            transaction: Some(dataset.to_owned()),
        };
        let destroy = Destroy {
            dataset_id: dataset.to_owned(),
            versions: Versions::All,
            grounds,
        };
        assert_eq!(store.destroy(&destroy).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_receipt_that_was_changed_taken_out_or_put_in_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("broker.db");
        let store = Store::open(&path).await.unwrap();
        // One from before there were seals.
        destroyed(&store, "a").await;
        store.seal_receipts(ReceiptSeal::new(Secret::new([7; 32])));
        for dataset in ["b", "c", "d"] {
            destroyed(&store, dataset).await;
        }
        assert_eq!(store.key_receipts(None, 0, 9).await.unwrap().len(), 4);
        assert_eq!(store.key_receipts(Some("c"), 0, 9).await.unwrap().len(), 1);
        for (spoil, undo, named) in [
            (
                "UPDATE key_receipts SET reason = 'retired' WHERE sequence = 3",
                "UPDATE key_receipts SET reason = 'unused' WHERE sequence = 3",
                3,
            ),
            (
                "UPDATE key_receipts SET sequence = 9 WHERE sequence = 4",
                "UPDATE key_receipts SET sequence = 4 WHERE sequence = 9",
                9,
            ),
            (
                "UPDATE key_receipts SET dataset_id = 'x' WHERE sequence = 4",
                "UPDATE key_receipts SET dataset_id = 'd' WHERE sequence = 4",
                4,
            ),
            (
                "INSERT INTO key_receipts (dataset_id, version, kek_version, wrapped_sha256, reason, destroyed_at) VALUES ('e', 1, 1, x'00', 'unused', 1)",
                "DELETE FROM key_receipts WHERE dataset_id = 'e'",
                5,
            ),
            ("DELETE FROM key_receipts WHERE sequence = 3", "SELECT 1", 4),
        ] {
            sqlx::query(spoil).execute(&store.pool).await.unwrap();
            let refused = store.key_receipts(None, 0, 9).await.unwrap_err().to_string();
            assert!(
                refused.contains(&format!("receipt {named} is not")),
                "{spoil}: {refused}"
            );
            sqlx::query(undo).execute(&store.pool).await.unwrap();
        }
    }
}

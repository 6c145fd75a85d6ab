//! Receipts of destroyed data keys: which key it was, by the hash of its wrapped bytes, when it went, and which block of the ledger
//! allowed it. They stay, each sealed by the ring over the one before, so that none is changed, taken out or put in unseen by who has not the
//! ring. What was cut off at the end, or that all seals were taken off, shows in the audit alone, which has a record of each destruction.

use sha2::{Digest as _, Sha256};

use super::data_keys::DataKey;
use super::database::{Row, Session, values};
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
        let rows = self.read().await?.rows(
            "SELECT one.sequence, one.dataset_id, one.version, one.kek_version, one.wrapped_sha256, one.reason,
                    one.ledger_height, one.transaction_id, one.destroyed_at, one.seal,
                    (SELECT older.seal FROM key_receipts AS older WHERE older.sequence < one.sequence
                     ORDER BY older.sequence DESC LIMIT 1) AS previous
             FROM key_receipts AS one
             WHERE one.sequence > $1 AND ($2 IS NULL OR one.dataset_id = $2) ORDER BY one.sequence LIMIT $3",
            values![after, dataset_id, most],
        ).await?;
        rows.iter().map(|row| self.checked(row)).collect()
    }

    fn checked(&self, row: &Row) -> Result<Receipt, StoreError> {
        let receipt = receipt(row)?;
        let (seal, previous): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get(9)?, row.get(10)?);
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

fn receipt(row: &Row) -> Result<Receipt, StoreError> {
    Ok(Receipt {
        sequence: row.get(0)?,
        dataset_id: row.get(1)?,
        version: row.number(2)?,
        kek_version: row.number(3)?,
        wrapped_sha256: row.get(4)?,
        reason: row.get(5)?,
        height: row.get(6)?,
        transaction: row.get(7)?,
        destroyed_at: row.get(8)?,
    })
}

/// Writes the receipt of a data key, in a transaction that has its turn to write.
pub(super) async fn insert(
    session: &mut Session,
    seal: Option<&ReceiptSeal>,
    key: &DataKey,
    grounds: &Grounds,
) -> Result<(), StoreError> {
    const LAST: &str = "SELECT sequence, seal FROM key_receipts ORDER BY sequence DESC LIMIT 1";
    let height = grounds
        .height
        .map(|height| i64::try_from(height).unwrap_or(i64::MAX));
    let previous = session.row(LAST, &[]).await?;
    let previous: Option<Vec<u8>> = previous.map(|row| row.get(1)).transpose()?.flatten();
    let mut receipt = Receipt {
        sequence: 0,
        dataset_id: key.dataset_id.clone(),
        version: key.version,
        kek_version: key.kek_version,
        wrapped_sha256: Sha256::digest(&key.wrapped).to_vec(),
        reason: grounds.reason.name().to_owned(),
        height,
        transaction: grounds.transaction.clone(),
        destroyed_at: now(),
    };
    session
        .run(
            "INSERT INTO key_receipts (dataset_id, version, kek_version, wrapped_sha256, reason, ledger_height, transaction_id, destroyed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            values![
                &receipt.dataset_id,
                receipt.version,
                receipt.kek_version,
                &receipt.wrapped_sha256,
                &receipt.reason,
                receipt.height,
                &receipt.transaction,
                receipt.destroyed_at,
            ],
        )
        .await?;
    // Its number is known only now; it is the same transaction.
    if let Some(seal) = seal {
        receipt.sequence = session.cell(LAST, &[]).await?.unwrap_or_default();
        session
            .run(
                "UPDATE key_receipts SET seal = $1 WHERE sequence = $2",
                values![
                    &seal.seal(&receipt, &previous.unwrap_or_default()),
                    receipt.sequence
                ],
            )
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::data_keys::{Destroy, Versions};
    use crate::store::tests::on_each;

    async fn destroyed(store: &Store, dataset: &str) {
        let key = DataKey {
            dataset_id: dataset.to_owned(),
            version: 1,
            kek_version: 1,
            wrapped: vec![1],
        };
        let mut session = store.write().await.unwrap();
        crate::store::data_keys::insert(&mut session, &key).await.unwrap();
        session.commit().await.unwrap();
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

    async fn spoilt(store: &Store, statement: &'static str) {
        let mut session = store.write().await.unwrap();
        session.rows(statement, &[]).await.unwrap();
        session.commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_receipt_that_was_changed_taken_out_or_put_in_is_named() {
        on_each("receipts", async |bench| {
        let store = bench.open().await;
        // One from before there were seals.
        destroyed(&store, "a").await;
        store.seal_receipts(ReceiptSeal::new(Secret::new([7; 32])));
        for dataset in ["b", "c", "d"] {
            destroyed(&store, dataset).await;
        }
        assert_eq!(store.key_receipts(None, 0, 9).await.unwrap().len(), 4);
        assert_eq!(store.key_receipts(Some("c"), 0, 9).await.unwrap().len(), 1);
        for (spoil, undo, named) in [
            // First: what numbers the next row may count on from a number that a row was given.
            (
                "INSERT INTO key_receipts (dataset_id, version, kek_version, wrapped_sha256, reason, destroyed_at) SELECT 'e', 1, 1, wrapped_sha256, 'unused', 1 FROM key_receipts WHERE sequence = 2",
                "DELETE FROM key_receipts WHERE dataset_id = 'e'",
                5,
            ),
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
            ("DELETE FROM key_receipts WHERE sequence = 3", "SELECT 1", 4),
        ] {
            spoilt(&store, spoil).await;
            let refused = store.key_receipts(None, 0, 9).await.unwrap_err().to_string();
            assert!(
                refused.contains(&format!("receipt {named} is not")),
                "{spoil}: {refused}"
            );
            spoilt(&store, undo).await;
        }
        })
        .await;
    }
}

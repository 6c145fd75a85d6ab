//! Wrapped data keys, one per dataset and version. They come and go with the operations that need them (see [`super::operations`]), and
//! go when the ledger says that nothing needs them ([`crate::shredding`]). Whatever goes leaves a [receipt](super::receipts).

use super::receipts::{self, Grounds, ReceiptSeal};
use super::{Store, StoreError, now};

/// A wrapped data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKey {
    /// The dataset that it encrypts.
    pub dataset_id: String,
    /// Its version, from 1.
    pub version: u32,
    /// Version of the key-encryption key that wraps it.
    pub kek_version: u32,
    /// The envelope.
    pub wrapped: Vec<u8>,
}

/// A dataset that has data keys here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldKeys {
    /// Its id.
    pub dataset_id: String,
    /// The lowest version of them.
    pub oldest: u32,
}

/// Which data keys of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// All of them: nobody reads the dataset again.
    All,
    /// Those before this one, which took over.
    Before(u32),
    /// This one.
    Only(u32),
}

impl Versions {
    /// The lowest and the highest.
    fn bounds(self) -> (i64, i64) {
        match self {
            Self::All => (0, i64::MAX),
            Self::Before(version) => (0, i64::from(version) - 1),
            Self::Only(version) => (version.into(), version.into()),
        }
    }
}

/// Data keys to destroy, and what allows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destroy {
    /// Of which dataset.
    pub dataset_id: String,
    /// Which of them.
    pub versions: Versions,
    /// What allows it.
    pub grounds: Grounds,
}

/// Dataset, version, version of the key-encryption key, envelope.
type DataKeyRow = (String, u32, u32, Vec<u8>);

impl From<DataKeyRow> for DataKey {
    fn from((dataset_id, version, kek_version, wrapped): DataKeyRow) -> Self {
        Self {
            dataset_id,
            version,
            kek_version,
            wrapped,
        }
    }
}

impl Store {
    /// The wrapped data key of a dataset.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn data_key(&self, dataset_id: &str, version: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let row: Option<(Vec<u8>,)> =
            sqlx::query_as("SELECT wrapped FROM data_keys WHERE dataset_id = ? AND version = ?")
                .bind(dataset_id)
                .bind(version)
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.map(|(wrapped,)| wrapped))
    }

    /// The newest version of a dataset's data keys; none where there is no key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_version(&self, dataset_id: &str) -> Result<Option<u32>, StoreError> {
        Ok(
            sqlx::query_scalar("SELECT max(version) FROM data_keys WHERE dataset_id = ?")
                .bind(dataset_id)
                .fetch_one(&self.pool)
                .await?,
        )
    }

    /// Datasets that have data keys here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_keys(&self) -> Result<Vec<HeldKeys>, StoreError> {
        let rows: Vec<(String, u32)> = sqlx::query_as(
            "SELECT dataset_id, min(version) FROM data_keys GROUP BY dataset_id ORDER BY dataset_id",
        )
        .fetch_all(&self.pool)
        .await?;
        let rows = rows.into_iter();
        Ok(rows
            .map(|(dataset_id, oldest)| HeldKeys { dataset_id, oldest })
            .collect())
    }

    /// The same of one dataset; none where it has no data key here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_of(&self, dataset_id: &str) -> Result<Option<HeldKeys>, StoreError> {
        let oldest: Option<u32> =
            sqlx::query_scalar("SELECT min(version) FROM data_keys WHERE dataset_id = ?")
                .bind(dataset_id)
                .fetch_one(&self.pool)
                .await?;
        Ok(oldest.map(|oldest| HeldKeys {
            dataset_id: dataset_id.to_owned(),
            oldest,
        }))
    }

    /// Destroys data keys that the ledger says nobody needs: their ciphertext opens never again, here or on the ledger. Yields how many
    /// there were. No copy of their bytes is left in the database's files once [`Store::scrub`] has passed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn destroy(&self, destroy: &Destroy) -> Result<usize, StoreError> {
        let mut transaction = self.write().await?;
        let count = delete(&mut transaction, self.seal.get(), destroy).await?;
        transaction.commit().await?;
        Ok(count)
    }

    /// How many data keys are wrapped by each version of the key-encryption key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn wrapped_by(&self) -> Result<Vec<(u32, i64)>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT kek_version, count(*) FROM data_keys GROUP BY kek_version ORDER BY kek_version",
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Some data keys of each version of the key-encryption key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn some_of_each_version(&self) -> Result<Vec<DataKey>, StoreError> {
        let rows: Vec<DataKeyRow> = sqlx::query_as(
            "SELECT dataset_id, version, kek_version, wrapped FROM
                 (SELECT *, row_number() OVER (PARTITION BY kek_version ORDER BY dataset_id, version) AS place FROM data_keys)
             WHERE place <= 3",
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(DataKey::from).collect())
    }

    /// Data keys that another version than `kek_version` wraps, after one in the order of dataset and version.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn not_wrapped_by(
        &self,
        kek_version: u32,
        after: &(String, u32),
        most: u32,
    ) -> Result<Vec<DataKey>, StoreError> {
        let rows: Vec<DataKeyRow> = sqlx::query_as(
            "SELECT dataset_id, version, kek_version, wrapped FROM data_keys
             WHERE kek_version <> ?1 AND (dataset_id, version) > (?2, ?3) ORDER BY dataset_id, version LIMIT ?4",
        )
        .bind(kek_version)
        .bind(&after.0)
        .bind(after.1)
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(DataKey::from).collect())
    }

    /// Puts another wrapping of the same data key in the place of one. Yields whether that was still there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rewrapped(&self, before: &DataKey, after: &DataKey) -> Result<bool, StoreError> {
        let mut transaction = self.write().await?;
        refuse_retired(&mut transaction, after.kek_version).await?;
        let updated = sqlx::query(
            "UPDATE data_keys SET wrapped = ?, kek_version = ? WHERE dataset_id = ? AND version = ? AND wrapped = ?",
        )
        .bind(&after.wrapped)
        .bind(after.kek_version)
        .bind(&before.dataset_id)
        .bind(before.version)
        .bind(&before.wrapped)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(updated.rows_affected() == 1)
    }

    /// Lets nothing be wrapped by a version of the key-encryption key any longer, if nothing is. Yields how many data keys are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retire_kek(&self, version: u32) -> Result<i64, StoreError> {
        let mut transaction = self.write().await?;
        let wrapped: i64 = sqlx::query_scalar("SELECT count(*) FROM data_keys WHERE kek_version = ?")
            .bind(version)
            .fetch_one(&mut *transaction)
            .await?;
        if wrapped == 0 {
            sqlx::query(
                "INSERT INTO retired_keks (version, retired_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(version)
            .bind(now())
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(wrapped)
    }
}

impl Store {
    /// Whether a version of the key-encryption key was retired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_retired_kek(&self, version: u32) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM retired_keks WHERE version = ?")
            .bind(version)
            .fetch_optional(&self.pool)
            .await?;
        Ok(found.is_some())
    }

    /// When the newest data key was made, Unix seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_data_key_at(&self) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar("SELECT max(created_at) FROM data_keys")
            .fetch_one(&self.pool)
            .await?)
    }
}

async fn refuse_retired(connection: &mut sqlx::SqliteConnection, version: u32) -> Result<(), StoreError> {
    let retired = sqlx::query("SELECT 1 FROM retired_keks WHERE version = ?")
        .bind(version)
        .fetch_optional(connection)
        .await?;
    match retired {
        Some(_) => Err(StoreError::KekRetired(version)),
        None => Ok(()),
    }
}

pub(super) async fn insert(connection: &mut sqlx::SqliteConnection, key: &DataKey) -> Result<(), StoreError> {
    refuse_retired(connection, key.kek_version).await?;
    sqlx::query("INSERT INTO data_keys (dataset_id, version, kek_version, wrapped, created_at) VALUES (?, ?, ?, ?, ?)")
        .bind(&key.dataset_id)
        .bind(key.version)
        .bind(key.kek_version)
        .bind(&key.wrapped)
        .bind(now())
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes data keys and writes their receipts.
pub(super) async fn delete(
    connection: &mut sqlx::SqliteConnection,
    seal: Option<&ReceiptSeal>,
    destroy: &Destroy,
) -> Result<usize, StoreError> {
    let (lowest, highest) = destroy.versions.bounds();
    let gone: Vec<(u32, u32, Vec<u8>)> = sqlx::query_as(
        "DELETE FROM data_keys WHERE dataset_id = ? AND version BETWEEN ? AND ? RETURNING version, kek_version, wrapped",
    )
    .bind(&destroy.dataset_id)
    .bind(lowest)
    .bind(highest)
    .fetch_all(&mut *connection)
    .await?;
    for (version, kek_version, wrapped) in &gone {
        let key = (destroy.dataset_id.as_str(), *version, *kek_version);
        receipts::insert(connection, seal, key, wrapped, &destroy.grounds).await?;
    }
    if destroy.versions == Versions::All {
        sqlx::query("DELETE FROM skeletons WHERE dataset_id = ?")
            .bind(&destroy.dataset_id)
            .execute(connection)
            .await?;
    }
    Ok(gone.len())
}

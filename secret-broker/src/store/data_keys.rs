//! Wrapped data keys, one per dataset and version. They come and go with the operations that need them (see
//! [`super::operations`]): nothing else inserts or deletes one.

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

    /// Datasets that have a data key here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn datasets_with_key(&self) -> Result<Vec<String>, StoreError> {
        let rows: Vec<(String,)> =
            sqlx::query_as("SELECT DISTINCT dataset_id FROM data_keys ORDER BY dataset_id")
                .fetch_all(&self.pool)
                .await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// Destroys the data keys of a dataset that the ledger says is retired: its ciphertext opens never again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn shred(&self, dataset_id: &str) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        delete(&mut transaction, dataset_id).await?;
        Ok(transaction.commit().await?)
    }
}

pub(super) async fn insert(connection: &mut sqlx::SqliteConnection, key: &DataKey) -> Result<(), StoreError> {
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

pub(super) async fn delete(
    connection: &mut sqlx::SqliteConnection,
    dataset_id: &str,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM data_keys WHERE dataset_id = ?")
        .bind(dataset_id)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM skeletons WHERE dataset_id = ?")
        .bind(dataset_id)
        .execute(connection)
        .await?;
    Ok(())
}

//! Directory skeletons, as the nodes last reported them. File and directory names can be personal data: they are kept here and never
//! on the ledger, and go with the dataset's key.

use super::{Store, StoreError, now};

impl Store {
    /// Replaces the skeleton of a dataset.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_skeleton(&self, dataset_id: &str, directories: &[String]) -> Result<(), StoreError> {
        let text = serde_json::Value::from(directories.to_vec()).to_string();
        sqlx::query(
            "INSERT INTO skeletons (dataset_id, directories, reported_at) VALUES (?, ?, ?)
             ON CONFLICT (dataset_id) DO UPDATE SET directories = excluded.directories, reported_at = excluded.reported_at",
        )
        .bind(dataset_id)
        .bind(text)
        .bind(now())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The skeleton of a dataset; empty where no node has looked yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn skeleton(&self, dataset_id: &str) -> Result<Vec<String>, StoreError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT directories FROM skeletons WHERE dataset_id = ?")
            .bind(dataset_id)
            .fetch_optional(&self.pool)
            .await?;
        let Some((text,)) = row else { return Ok(Vec::new()) };
        serde_json::from_str(&text).map_err(|error| StoreError::Damaged {
            table: "skeletons",
            reason: error.to_string(),
        })
    }
}

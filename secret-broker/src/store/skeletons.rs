//! Directory skeletons, as the nodes last reported them. File and directory names can be personal data: they are kept here and never
//! on the ledger, and go with the dataset's key.

use super::database::values;
use super::{Store, StoreError, now};

impl Store {
    /// Replaces the skeleton of a dataset.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_skeleton(&self, dataset_id: &str, directories: &[String]) -> Result<(), StoreError> {
        let text = serde_json::Value::from(directories.to_vec()).to_string();
        let mut session = self.write().await?;
        let there = session
            .run(
                "UPDATE skeletons SET directories = $2, reported_at = $3 WHERE dataset_id = $1",
                values![dataset_id, &text, now()],
            )
            .await?;
        if there == 0 {
            session
                .run(
                    "INSERT INTO skeletons (dataset_id, directories, reported_at) VALUES ($1, $2, $3)",
                    values![dataset_id, &text, now()],
                )
                .await?;
        }
        session.commit().await
    }

    /// The skeleton of a dataset; empty where no node has looked yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn skeleton(&self, dataset_id: &str) -> Result<Vec<String>, StoreError> {
        let found = self
            .read()
            .await?
            .cell(
                "SELECT directories FROM skeletons WHERE dataset_id = $1",
                values![dataset_id],
            )
            .await?;
        let Some(text) = found else { return Ok(Vec::new()) };
        let text: String = text;
        serde_json::from_str(&text).map_err(|error| StoreError::Damaged {
            table: "skeletons",
            reason: error.to_string(),
        })
    }
}

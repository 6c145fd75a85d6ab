//! What a person's issuer said of their roles and groups when their notebook was last bound. The notebook's account acts in these.

use super::{Store, StoreError, now};
use crate::identity::Standing;

impl Store {
    /// Remembers what an issuer told of a person whom this store knows, in place of what it told before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_standing(&self, pseudonym: &str, standing: &Standing) -> Result<(), StoreError> {
        let text = serde_json::to_string(standing).map_err(|e| damaged(&e))?;
        sqlx::query(
            "INSERT INTO standings (pseudonym, standing, told_at) VALUES (?, ?, ?)
             ON CONFLICT (pseudonym) DO UPDATE SET standing = excluded.standing, told_at = excluded.told_at",
        )
        .bind(pseudonym)
        .bind(text)
        .bind(now())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What was told of a person; nothing where no issuer was asked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn standing(&self, pseudonym: &str) -> Result<Standing, StoreError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT standing FROM standings WHERE pseudonym = ?")
            .bind(pseudonym)
            .fetch_optional(&self.pool)
            .await?;
        row.map_or_else(
            || Ok(Standing::default()),
            |(text,)| serde_json::from_str(&text).map_err(|e| damaged(&e)),
        )
    }
}

fn damaged(error: &serde_json::Error) -> StoreError {
    StoreError::Damaged {
        table: "standings",
        reason: error.to_string(),
    }
}

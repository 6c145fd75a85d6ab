//! What a person's issuer said of their roles and groups when their notebook was last bound. The notebook's account acts in these.

use super::database::values;
use super::{Store, StoreError, now};
use crate::identity::Standing;

impl Store {
    /// Remembers what an issuer told of a person whom this store knows, in place of what it told before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_standing(&self, pseudonym: &str, standing: &Standing) -> Result<(), StoreError> {
        let text = serde_json::to_string(standing).map_err(|e| damaged(&e))?;
        let mut session = self.write().await?;
        let there = session
            .run(
                "UPDATE standings SET standing = $2, told_at = $3 WHERE pseudonym = $1",
                values![pseudonym, &text, now()],
            )
            .await?;
        if there == 0 {
            session
                .run(
                    "INSERT INTO standings (pseudonym, standing, told_at) VALUES ($1, $2, $3)",
                    values![pseudonym, &text, now()],
                )
                .await?;
        }
        session.commit().await
    }

    /// What was told of a person; nothing where no issuer was asked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn standing(&self, pseudonym: &str) -> Result<Standing, StoreError> {
        let found: Option<String> = self
            .read()
            .await?
            .cell(
                "SELECT standing FROM standings WHERE pseudonym = $1",
                values![pseudonym],
            )
            .await?;
        found.map_or_else(
            || Ok(Standing::default()),
            |text| serde_json::from_str(&text).map_err(|e| damaged(&e)),
        )
    }
}

fn damaged(error: &serde_json::Error) -> StoreError {
    StoreError::Damaged {
        table: "standings",
        reason: error.to_string(),
    }
}

//! Versions of the key-encryption key that were accepted ([`crate::keys::endorsement`]).

use super::{Store, StoreError, now};
use crate::keys::endorsement::KnownKek;

impl Store {
    /// What was accepted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn known_keks(&self) -> Result<Vec<KnownKek>, StoreError> {
        let rows: Vec<(u32, Vec<u8>, Vec<u8>, bool)> = sqlx::query_as(
            "SELECT version, check_value, seal, version IN (SELECT version FROM retired_keks) FROM known_keks ORDER BY version",
        )
        .fetch_all(&self.pool)
        .await?;
        let rows = rows.into_iter();
        Ok(rows
            .map(|(version, check, seal, is_retired)| KnownKek {
                version,
                check,
                seal,
                is_retired,
            })
            .collect())
    }

    /// Notes versions that were accepted, all or none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn know_keks(&self, keks: &[KnownKek]) -> Result<(), StoreError> {
        if keks.is_empty() {
            return Ok(());
        }
        let mut transaction = self.write().await?;
        for kek in keks {
            sqlx::query(
                "INSERT INTO known_keks (version, check_value, seal, known_at) VALUES (?, ?, ?, ?)
                 ON CONFLICT (version) DO UPDATE SET check_value = excluded.check_value, seal = excluded.seal",
            )
            .bind(kek.version)
            .bind(&kek.check)
            .bind(&kek.seal)
            .bind(now())
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }
}

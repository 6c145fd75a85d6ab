//! Versions of the key-encryption key that were accepted ([`crate::keys::endorsement`]).

use super::database::values;
use super::{Store, StoreError, now};
use crate::keys::endorsement::KnownKek;

impl Store {
    /// What was accepted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn known_keks(&self) -> Result<Vec<KnownKek>, StoreError> {
        let rows = self
            .read()
            .await?
            .rows(
                "SELECT known.version, known.check_value, known.seal, retired.version FROM known_keks AS known
                 LEFT JOIN retired_keks AS retired ON retired.version = known.version ORDER BY known.version",
                &[],
            )
            .await?;
        let known = rows.iter().map(|row| {
            Ok(KnownKek {
                version: row.number(0)?,
                check: row.get(1)?,
                seal: row.get(2)?,
                is_retired: row.get::<Option<i64>>(3)?.is_some(),
            })
        });
        known.collect()
    }

    /// Notes versions that were accepted, all or none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn know_keks(&self, keks: &[KnownKek]) -> Result<(), StoreError> {
        if keks.is_empty() {
            return Ok(());
        }
        let mut session = self.write().await?;
        for kek in keks {
            let there = session
                .run(
                    "UPDATE known_keks SET check_value = $2, seal = $3 WHERE version = $1",
                    values![kek.version, &kek.check, &kek.seal],
                )
                .await?;
            if there == 0 {
                session
                    .run(
                        "INSERT INTO known_keks (version, check_value, seal, known_at) VALUES ($1, $2, $3, $4)",
                        values![kek.version, &kek.check, &kek.seal, now()],
                    )
                    .await?;
            }
        }
        session.commit().await
    }
}

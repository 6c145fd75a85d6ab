//! Wrapped data keys, one per dataset and version. They come and go with the operations that need them (see [`super::operations`]), and
//! go when the ledger says that nothing needs them ([`crate::shredding`]). Whatever goes leaves a [receipt](super::receipts).

use super::database::{Row, Session, values};
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

/// Of dataset, version, version of the key-encryption key, envelope.
fn data_key(row: &Row) -> Result<DataKey, StoreError> {
    Ok(DataKey {
        dataset_id: row.get(0)?,
        version: row.number(1)?,
        kek_version: row.number(2)?,
        wrapped: row.get(3)?,
    })
}

impl Store {
    /// The wrapped data key of a dataset.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn data_key(&self, dataset_id: &str, version: u32) -> Result<Option<Vec<u8>>, StoreError> {
        self.read()
            .await?
            .cell(
                "SELECT wrapped FROM data_keys WHERE dataset_id = $1 AND version = $2",
                values![dataset_id, version],
            )
            .await
    }

    /// The newest version of a dataset's data keys; none where there is no key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_version(&self, dataset_id: &str) -> Result<Option<u32>, StoreError> {
        let newest = self
            .read()
            .await?
            .cell(
                "SELECT max(version) FROM data_keys WHERE dataset_id = $1",
                values![dataset_id],
            )
            .await?;
        Ok(version(newest.flatten()))
    }

    /// Datasets that have data keys here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_keys(&self) -> Result<Vec<HeldKeys>, StoreError> {
        let rows = self
            .read()
            .await?
            .rows(
                "SELECT dataset_id, min(version) FROM data_keys GROUP BY dataset_id ORDER BY dataset_id",
                &[],
            )
            .await?;
        let held = rows.iter().map(|row| {
            Ok(HeldKeys {
                dataset_id: row.get(0)?,
                oldest: row.number(1)?,
            })
        });
        held.collect()
    }

    /// The same of one dataset; none where it has no data key here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_of(&self, dataset_id: &str) -> Result<Option<HeldKeys>, StoreError> {
        let oldest = self
            .read()
            .await?
            .cell(
                "SELECT min(version) FROM data_keys WHERE dataset_id = $1",
                values![dataset_id],
            )
            .await?;
        let oldest = version(oldest.flatten());
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
        let mut session = self.write().await?;
        let count = delete(&mut session, self.seal.get(), destroy).await?;
        session.commit().await?;
        Ok(count)
    }

    /// How many data keys are wrapped by each version of the key-encryption key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn wrapped_by(&self) -> Result<Vec<(u32, i64)>, StoreError> {
        let rows = self
            .read()
            .await?
            .rows(
                "SELECT kek_version, count(*) FROM data_keys GROUP BY kek_version ORDER BY kek_version",
                &[],
            )
            .await?;
        let counted = rows.iter().map(|row| Ok((row.number(0)?, row.get(1)?)));
        counted.collect()
    }

    /// Some data keys of each version of the key-encryption key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn some_of_each_version(&self) -> Result<Vec<DataKey>, StoreError> {
        let rows = self.read().await?.rows(
            "SELECT dataset_id, version, kek_version, wrapped FROM
                 (SELECT dataset_id, version, kek_version, wrapped,
                         row_number() OVER (PARTITION BY kek_version ORDER BY dataset_id, version) AS place FROM data_keys)
                 AS placed
             WHERE place <= 3",
            &[],
        ).await?;
        rows.iter().map(data_key).collect()
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
        let rows = self.read().await?.rows(
            "SELECT dataset_id, version, kek_version, wrapped FROM data_keys
             WHERE kek_version <> $1 AND (dataset_id, version) > ($2, $3) ORDER BY dataset_id, version LIMIT $4",
            values![kek_version, &after.0, after.1, most],
        ).await?;
        rows.iter().map(data_key).collect()
    }

    /// Puts another wrapping of the same data key in the place of one. Yields whether that was still there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rewrapped(&self, before: &DataKey, after: &DataKey) -> Result<bool, StoreError> {
        let mut session = self.write().await?;
        refuse_retired(&mut session, after.kek_version).await?;
        let updated = session
            .run(
                "UPDATE data_keys SET wrapped = $1, kek_version = $2 WHERE dataset_id = $3 AND version = $4 AND wrapped = $5",
                values![
                    &after.wrapped,
                    after.kek_version,
                    &before.dataset_id,
                    before.version,
                    &before.wrapped
                ],
            )
            .await?;
        session.commit().await?;
        Ok(updated == 1)
    }

    /// Lets nothing be wrapped by a version of the key-encryption key any longer, if nothing is. Yields how many data keys are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retire_kek(&self, version: u32) -> Result<i64, StoreError> {
        let mut session = self.write().await?;
        let wrapped: i64 = session
            .cell(
                "SELECT count(*) FROM data_keys WHERE kek_version = $1",
                values![version],
            )
            .await?
            .unwrap_or_default();
        if wrapped == 0 && !is_retired(&mut session, version).await? {
            session
                .run(
                    "INSERT INTO retired_keks (version, retired_at) VALUES ($1, $2)",
                    values![version, now()],
                )
                .await?;
        }
        session.commit().await?;
        Ok(wrapped)
    }
}

impl Store {
    /// Whether a version of the key-encryption key was retired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_retired_kek(&self, version: u32) -> Result<bool, StoreError> {
        is_retired(&mut self.read().await?, version).await
    }

    /// When the newest data key was made, Unix seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_data_key_at(&self) -> Result<Option<i64>, StoreError> {
        let newest = self
            .read()
            .await?
            .cell("SELECT max(created_at) FROM data_keys", &[])
            .await?;
        Ok(newest.flatten())
    }
}

/// A version, of which there is none beyond what a number of 32 bits holds.
fn version(found: Option<i64>) -> Option<u32> {
    found.and_then(|version| u32::try_from(version).ok())
}

async fn is_retired(session: &mut Session, version: u32) -> Result<bool, StoreError> {
    let found = session
        .row("SELECT 1 FROM retired_keks WHERE version = $1", values![version])
        .await?;
    Ok(found.is_some())
}

async fn refuse_retired(session: &mut Session, version: u32) -> Result<(), StoreError> {
    match is_retired(session, version).await? {
        true => Err(StoreError::KekRetired(version)),
        false => Ok(()),
    }
}

pub(super) async fn insert(session: &mut Session, key: &DataKey) -> Result<(), StoreError> {
    refuse_retired(session, key.kek_version).await?;
    session
        .run(
            "INSERT INTO data_keys (dataset_id, version, kek_version, wrapped, created_at) VALUES ($1, $2, $3, $4, $5)",
            values![
                &key.dataset_id,
                key.version,
                key.kek_version,
                &key.wrapped,
                now()
            ],
        )
        .await?;
    Ok(())
}

/// Deletes data keys and writes their receipts.
pub(super) async fn delete(
    session: &mut Session,
    seal: Option<&ReceiptSeal>,
    destroy: &Destroy,
) -> Result<usize, StoreError> {
    let (lowest, highest) = destroy.versions.bounds();
    let which = values![&destroy.dataset_id, lowest, highest];
    let gone = session
        .rows(
            "SELECT dataset_id, version, kek_version, wrapped FROM data_keys
             WHERE dataset_id = $1 AND version BETWEEN $2 AND $3 ORDER BY version",
            which,
        )
        .await?;
    session
        .run(
            "DELETE FROM data_keys WHERE dataset_id = $1 AND version BETWEEN $2 AND $3",
            which,
        )
        .await?;
    for key in &gone {
        receipts::insert(session, seal, &data_key(key)?, &destroy.grounds).await?;
    }
    if destroy.versions == Versions::All {
        session
            .run(
                "DELETE FROM skeletons WHERE dataset_id = $1",
                values![&destroy.dataset_id],
            )
            .await?;
    }
    Ok(gone.len())
}

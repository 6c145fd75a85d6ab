//! Data keys that the ledger was seen to let go, and that wait to be destroyed: a row for each dataset, so that a restart forgets none and
//! hurries none. What waits, and for what, is [`crate::shredding`]'s to say.

use super::data_keys::{self, Destroy, Versions};
use super::receipts::{Grounds, Reason};
use super::{Store, StoreError, now};
use crate::ledger::Bytes;

/// What the ledger showed when it was seen to let keys go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Height of the block that says so, or up to which the ledger was read.
    pub height: u64,
    /// The hash of that block, once it was looked at; a channel has none.
    pub block_hash: Option<Bytes<32>>,
    /// The transaction that says so, where that is known.
    pub transaction: Option<String>,
}

/// Data keys that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    /// Of which dataset.
    pub dataset_id: String,
    /// Which of them.
    pub versions: Versions,
    /// Why.
    pub reason: Reason,
    /// On what grounds.
    pub seen: Seen,
    /// Since when, Unix seconds.
    pub seen_at: i64,
    /// Since when they are due and held back.
    pub held_at: Option<i64>,
    /// When an operator let them go all the same.
    pub released_at: Option<i64>,
}

type Columns = (
    String,
    String,
    Option<u32>,
    i64,
    Option<Vec<u8>>,
    Option<String>,
    i64,
    Option<i64>,
    Option<i64>,
);

impl TryFrom<Columns> for Doomed {
    type Error = StoreError;

    fn try_from(columns: Columns) -> Result<Self, StoreError> {
        let (dataset_id, reason, before, height, hash, transaction, seen_at, held_at, released_at) = columns;
        let damaged = |reason: &str| StoreError::Damaged {
            table: "doomed_keys",
            reason: reason.to_owned(),
        };
        let reason = [Reason::Retired, Reason::Superseded]
            .into_iter()
            .find(|known| known.name() == reason)
            .ok_or_else(|| damaged("its reason is unknown"))?;
        let block_hash = hash
            .map(|hash| <[u8; 32]>::try_from(hash).map(Bytes))
            .transpose()
            .map_err(|_| damaged("its hash has not 32 bytes"))?;
        Ok(Self {
            dataset_id,
            versions: before.map_or(Versions::All, Versions::Before),
            reason,
            seen: Seen {
                height: u64::try_from(height).map_err(|_| damaged("its height is negative"))?,
                block_hash,
                transaction,
            },
            seen_at,
            held_at,
            released_at,
        })
    }
}

impl Doomed {
    /// Keys that were seen to be let go just now.
    #[must_use]
    pub fn now(dataset_id: String, versions: Versions, reason: Reason, seen: Seen) -> Self {
        Self {
            dataset_id,
            versions,
            reason,
            seen,
            seen_at: now(),
            held_at: None,
            released_at: None,
        }
    }

    const fn before(&self) -> Option<u32> {
        match self.versions {
            Versions::Before(version) => Some(version),
            Versions::All | Versions::Only(_) => None,
        }
    }
}

impl Store {
    /// Notes that keys wait. Where the same keys, or more of them, wait already for the same reason, what was noted stays: it was seen
    /// before. Yields whether it is new.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn doom(&self, doomed: &Doomed) -> Result<bool, StoreError> {
        let mut connection = self.pool.acquire().await?;
        insert(&mut connection, doomed).await
    }

    /// What waits, the longest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn doomed(&self) -> Result<Vec<Doomed>, StoreError> {
        let rows: Vec<Columns> = sqlx::query_as(
            "SELECT dataset_id, reason, before_version, ledger_height, block_hash, transaction_id, seen_at, held_at, released_at
             FROM doomed_keys WHERE destroyed_at IS NULL ORDER BY seen_at, dataset_id",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(Doomed::try_from).collect()
    }

    /// Puts other grounds in the place of those that keys wait on, from now on or since then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn see_anew(&self, doomed: &Doomed, seen: &Seen, seen_at: i64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE doomed_keys SET ledger_height = ?, block_hash = ?, transaction_id = ?, seen_at = ?, held_at = NULL, released_at = NULL
             WHERE dataset_id = ? AND destroyed_at IS NULL",
        )
        .bind(signed(seen.height))
        .bind(seen.block_hash.map(|hash| hash.0.to_vec()))
        .bind(&seen.transaction)
        .bind(seen_at)
        .bind(&doomed.dataset_id)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Notes that keys are due and held back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold_back(&self, dataset_id: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE doomed_keys SET held_at = ? WHERE dataset_id = ? AND held_at IS NULL AND destroyed_at IS NULL",
        )
        .bind(now())
        .bind(dataset_id)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Lets keys go that are held back or will be: of one dataset, or of all that wait now. Yields of how many datasets.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release(&self, dataset_id: Option<&str>) -> Result<u64, StoreError> {
        let released = sqlx::query(
            "UPDATE doomed_keys SET released_at = ?1
             WHERE (?2 IS NULL OR dataset_id = ?2) AND released_at IS NULL AND destroyed_at IS NULL",
        )
        .bind(now())
        .bind(dataset_id)
        .execute(&self.pool)
        .await?;
        Ok(released.rows_affected())
    }

    /// Destroys keys that waited, if they still do on these grounds. Yields how many there were. No copy of their bytes is left in the
    /// database's files once [`Store::scrub`] has passed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn destroy_doomed(&self, doomed: &Doomed) -> Result<usize, StoreError> {
        let mut transaction = self.write().await?;
        let noted = sqlx::query(
            "UPDATE doomed_keys SET destroyed_at = ? WHERE dataset_id = ? AND seen_at = ? AND block_hash IS ? AND destroyed_at IS NULL",
        )
        .bind(now())
        .bind(&doomed.dataset_id)
        .bind(doomed.seen_at)
        .bind(doomed.seen.block_hash.map(|hash| hash.0.to_vec()))
        .execute(&mut *transaction)
        .await?;
        if noted.rows_affected() == 0 {
            return Ok(0);
        }
        let destroy = Destroy {
            dataset_id: doomed.dataset_id.clone(),
            versions: doomed.versions,
            grounds: Grounds {
                reason: doomed.reason,
                height: Some(doomed.seen.height),
                transaction: doomed.seen.transaction.clone(),
            },
        };
        let count = data_keys::delete(&mut transaction, self.seal.get(), &destroy).await?;
        transaction.commit().await?;
        Ok(count)
    }

    /// Of how many datasets keys went since then without an operator's release, Unix seconds; what went before is forgotten.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn gone_since(&self, since: i64) -> Result<u64, StoreError> {
        sqlx::query("DELETE FROM doomed_keys WHERE destroyed_at < ?")
            .bind(since)
            .execute(&self.pool)
            .await?;
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM doomed_keys WHERE destroyed_at >= ? AND released_at IS NULL",
        )
        .bind(since)
        .fetch_one(&self.pool)
        .await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }
}

pub(super) async fn insert(
    connection: &mut sqlx::SqliteConnection,
    doomed: &Doomed,
) -> Result<bool, StoreError> {
    // Of what waits already, only less gives way: all of a dataset's keys to some, more versions to fewer.
    let inserted = sqlx::query(
        "INSERT INTO doomed_keys (dataset_id, reason, before_version, ledger_height, block_hash, transaction_id, seen_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (dataset_id) DO UPDATE SET
             reason = excluded.reason, before_version = excluded.before_version, ledger_height = excluded.ledger_height,
             block_hash = excluded.block_hash, transaction_id = excluded.transaction_id, seen_at = excluded.seen_at,
             held_at = NULL, released_at = NULL, destroyed_at = NULL
         WHERE destroyed_at IS NOT NULL
            OR (before_version IS NOT NULL AND (excluded.before_version IS NULL OR excluded.before_version > before_version))",
    )
    .bind(&doomed.dataset_id)
    .bind(doomed.reason.name())
    .bind(doomed.before())
    .bind(signed(doomed.seen.height))
    .bind(doomed.seen.block_hash.map(|hash| hash.0.to_vec()))
    .bind(&doomed.seen.transaction)
    .bind(doomed.seen_at)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// SQLite counts in signed numbers. No ledger of ours comes near their end.
fn signed(height: u64) -> i64 {
    i64::try_from(height).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doomed(versions: Versions) -> Doomed {
        let reason = match versions {
            Versions::All => Reason::Retired,
            _ => Reason::Superseded,
        };
        let seen = Seen {
            height: 7,
            block_hash: Some(Bytes([7; 32])),
            transaction: None,
        };
        Doomed::now("d".to_owned(), versions, reason, seen)
    }

    async fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("broker.db")).await.unwrap();
        (directory, store)
    }

    #[tokio::test]
    async fn what_waits_gives_way_only_to_more() {
        let (directory, store) = store().await;
        for (versions, is_new) in [
            (Versions::Before(2), true),
            (Versions::Before(2), false),
            (Versions::Before(3), true),
            (Versions::Before(2), false),
            (Versions::All, true),
            (Versions::Before(9), false),
            (Versions::All, false),
        ] {
            assert_eq!(
                store.doom(&doomed(versions)).await.unwrap(),
                is_new,
                "{versions:?}"
            );
        }
        store.close().await;
        // It is there after a restart.
        let store = Store::open(&directory.path().join("broker.db")).await.unwrap();
        let [waits] = store.doomed().await.unwrap().try_into().unwrap();
        assert_eq!((waits.versions, waits.reason), (Versions::All, Reason::Retired));
        assert_eq!(waits.seen, doomed(Versions::All).seen);
    }

    #[tokio::test]
    async fn what_went_is_counted_unless_an_operator_released_it() {
        let (_directory, store) = store().await;
        for (dataset, is_released, gone) in [("a", false, 1), ("b", true, 1), ("c", false, 2)] {
            let waits = Doomed {
                dataset_id: dataset.to_owned(),
                ..doomed(Versions::All)
            };
            store.doom(&waits).await.unwrap();
            if is_released {
                assert_eq!(store.release(Some(dataset)).await.unwrap(), 1);
            }
            store.destroy_doomed(&waits).await.unwrap();
            assert_eq!(store.gone_since(now() - 3_600).await.unwrap(), gone, "{dataset}");
        }
        assert!(store.doomed().await.unwrap().is_empty());
        assert_eq!(store.release(None).await.unwrap(), 0);
        assert_eq!(store.gone_since(now() + 1).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn on_other_grounds_than_were_looked_at_nothing_is_destroyed() {
        let (_directory, store) = store().await;
        let before = doomed(Versions::All);
        store.doom(&before).await.unwrap();
        let other = Seen {
            block_hash: Some(Bytes([8; 32])),
            ..before.seen.clone()
        };
        store.see_anew(&before, &other, before.seen_at).await.unwrap();
        assert_eq!(store.destroy_doomed(&before).await.unwrap(), 0);
        assert_eq!(store.doomed().await.unwrap().len(), 1, "it waits on");
    }
}

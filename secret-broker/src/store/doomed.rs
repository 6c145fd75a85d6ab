//! Data keys that the ledger was seen to let go, and that wait to be destroyed: a row for each dataset, so that a restart forgets none and
//! hurries none. What waits, and for what, is [`crate::shredding`]'s to say.

use super::data_keys::{self, Destroy, Versions};
use super::database::{Row, Session, values};
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

/// What of a row is asked for, where it waits still.
const WAITING: &str = "
    SELECT dataset_id, reason, before_version, ledger_height, block_hash, transaction_id, seen_at, held_at, released_at
    FROM doomed_keys WHERE destroyed_at IS NULL ORDER BY seen_at, dataset_id";
const WAITING_OF: &str = "
    SELECT dataset_id, reason, before_version, ledger_height, block_hash, transaction_id, seen_at, held_at, released_at
    FROM doomed_keys WHERE dataset_id = $1 AND destroyed_at IS NULL";

impl TryFrom<&Row> for Doomed {
    type Error = StoreError;

    fn try_from(row: &Row) -> Result<Self, StoreError> {
        let damaged = |reason: &str| StoreError::Damaged {
            table: "doomed_keys",
            reason: reason.to_owned(),
        };
        let name: String = row.get(1)?;
        let reason = [Reason::Retired, Reason::Superseded]
            .into_iter()
            .find(|known| known.name() == name)
            .ok_or_else(|| damaged("its reason is unknown"))?;
        let block_hash = row
            .get::<Option<Vec<u8>>>(4)?
            .map(|hash| <[u8; 32]>::try_from(hash).map(Bytes))
            .transpose()
            .map_err(|_| damaged("its hash has not 32 bytes"))?;
        let before = row
            .get::<Option<i64>>(2)?
            .map(u32::try_from)
            .transpose()
            .map_err(|_| damaged("its version is none"))?;
        Ok(Self {
            dataset_id: row.get(0)?,
            versions: before.map_or(Versions::All, Versions::Before),
            reason,
            seen: Seen {
                height: u64::try_from(row.get::<i64>(3)?).map_err(|_| damaged("its height is negative"))?,
                block_hash,
                transaction: row.get(5)?,
            },
            seen_at: row.get(6)?,
            held_at: row.get(7)?,
            released_at: row.get(8)?,
        })
    }
}

impl Seen {
    fn hash(&self) -> Option<&[u8]> {
        self.block_hash.as_ref().map(|hash| hash.0.as_slice())
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

    /// Whether this gives way to another: only less does, all of a dataset's keys to some, more versions to fewer.
    fn gives_way_to(&self, other: &Self) -> bool {
        match (self.before(), other.before()) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(before), Some(others)) => others > before,
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
        let mut session = self.write().await?;
        let is_new = insert(&mut session, doomed).await?;
        session.commit().await?;
        Ok(is_new)
    }

    /// What waits, the longest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn doomed(&self) -> Result<Vec<Doomed>, StoreError> {
        let rows = self.read().await?.rows(WAITING, &[]).await?;
        rows.iter().map(Doomed::try_from).collect()
    }

    /// Puts other grounds in the place of those that keys wait on, from now on or since then.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn see_anew(&self, doomed: &Doomed, seen: &Seen, seen_at: i64) -> Result<(), StoreError> {
        let mut session = self.write().await?;
        session
            .run(
                "UPDATE doomed_keys SET ledger_height = $1, block_hash = $2, transaction_id = $3, seen_at = $4,
                                        held_at = NULL, released_at = NULL
                 WHERE dataset_id = $5 AND destroyed_at IS NULL",
                values![
                    signed(seen.height),
                    seen.hash(),
                    &seen.transaction,
                    seen_at,
                    &doomed.dataset_id
                ],
            )
            .await?;
        session.commit().await
    }

    /// Notes that keys are due and held back.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold_back(&self, dataset_id: &str) -> Result<(), StoreError> {
        let mut session = self.write().await?;
        session
            .run(
                "UPDATE doomed_keys SET held_at = $1 WHERE dataset_id = $2 AND held_at IS NULL AND destroyed_at IS NULL",
                values![now(), dataset_id],
            )
            .await?;
        session.commit().await
    }

    /// Lets keys go that are held back or will be: of one dataset, or of all that wait now. Yields of how many datasets.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn release(&self, dataset_id: Option<&str>) -> Result<u64, StoreError> {
        let mut session = self.write().await?;
        let released = session
            .run(
                "UPDATE doomed_keys SET released_at = $1
                 WHERE ($2 IS NULL OR dataset_id = $2) AND released_at IS NULL AND destroyed_at IS NULL",
                values![now(), dataset_id],
            )
            .await?;
        session.commit().await?;
        Ok(released)
    }

    /// Destroys keys that waited, if they still do on these grounds. Yields how many there were. No copy of their bytes is left in the
    /// database's files once [`Store::scrub`] has passed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn destroy_doomed(&self, doomed: &Doomed) -> Result<usize, StoreError> {
        let mut session = self.write().await?;
        let waits = session
            .row(WAITING_OF, values![&doomed.dataset_id])
            .await?
            .as_ref()
            .map(Doomed::try_from)
            .transpose()?;
        let is_the_same = |waits: &Doomed| {
            (waits.seen_at, waits.seen.block_hash) == (doomed.seen_at, doomed.seen.block_hash)
        };
        if !waits.is_some_and(|waits| is_the_same(&waits)) {
            return Ok(0);
        }
        session
            .run(
                "UPDATE doomed_keys SET destroyed_at = $1 WHERE dataset_id = $2",
                values![now(), &doomed.dataset_id],
            )
            .await?;
        let destroy = Destroy {
            dataset_id: doomed.dataset_id.clone(),
            versions: doomed.versions,
            grounds: Grounds {
                reason: doomed.reason,
                height: Some(doomed.seen.height),
                transaction: doomed.seen.transaction.clone(),
            },
        };
        let count = data_keys::delete(&mut session, self.seal.get(), &destroy).await?;
        session.commit().await?;
        Ok(count)
    }

    /// Of how many datasets keys went since then without an operator's release, Unix seconds; what went before is forgotten.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn gone_since(&self, since: i64) -> Result<u64, StoreError> {
        let mut session = self.write().await?;
        session
            .run("DELETE FROM doomed_keys WHERE destroyed_at < $1", values![since])
            .await?;
        let count: i64 = session
            .cell(
                "SELECT count(*) FROM doomed_keys WHERE destroyed_at >= $1 AND released_at IS NULL",
                values![since],
            )
            .await?
            .unwrap_or_default();
        session.commit().await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }
}

/// In a transaction that has its turn to write.
pub(super) async fn insert(session: &mut Session, doomed: &Doomed) -> Result<bool, StoreError> {
    let waits = session
        .row(WAITING_OF, values![&doomed.dataset_id])
        .await?
        .as_ref()
        .map(Doomed::try_from)
        .transpose()?;
    if waits.is_some_and(|waits| !waits.gives_way_to(doomed)) {
        return Ok(false);
    }
    session
        .run(
            "DELETE FROM doomed_keys WHERE dataset_id = $1",
            values![&doomed.dataset_id],
        )
        .await?;
    session
        .run(
            "INSERT INTO doomed_keys (dataset_id, reason, before_version, ledger_height, block_hash, transaction_id, seen_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            values![
                &doomed.dataset_id,
                doomed.reason.name(),
                doomed.before(),
                signed(doomed.seen.height),
                doomed.seen.hash(),
                &doomed.seen.transaction,
                doomed.seen_at,
            ],
        )
        .await?;
    Ok(true)
}

/// Databases count in signed numbers. No ledger of ours comes near their end.
fn signed(height: u64) -> i64 {
    i64::try_from(height).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::on_each;

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

    #[tokio::test]
    async fn what_waits_gives_way_only_to_more() {
        on_each("what waits", async |bench| {
            let store = bench.open().await;
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
            let store = bench.open().await;
            let [waits] = store.doomed().await.unwrap().try_into().unwrap();
            assert_eq!((waits.versions, waits.reason), (Versions::All, Reason::Retired));
            assert_eq!(waits.seen, doomed(Versions::All).seen);
        })
        .await;
    }

    #[tokio::test]
    async fn what_went_is_counted_unless_an_operator_released_it() {
        on_each("what went", async |bench| {
            let store = bench.open().await;
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
        })
        .await;
    }

    #[tokio::test]
    async fn on_other_grounds_than_were_looked_at_nothing_is_destroyed() {
        on_each("grounds", async |bench| {
            let store = bench.open().await;
            let before = doomed(Versions::All);
            store.doom(&before).await.unwrap();
            let other = Seen {
                block_hash: Some(Bytes([8; 32])),
                ..before.seen.clone()
            };
            store.see_anew(&before, &other, before.seen_at).await.unwrap();
            assert_eq!(store.destroy_doomed(&before).await.unwrap(), 0);
            assert_eq!(store.doomed().await.unwrap().len(), 1, "it waits on");
        })
        .await;
    }
}

//! Which undecided operations are worked on next.
//!
//! Each has a time at which it is due: that of its acceptance and, after a try that came to nothing, a later one, which is kept with it
//! and so survives a restart. Those that were tried before take half of the places at most, so that however many of them can never be
//! decided, others pass. Of several people's that are due, one of each comes before the second of anybody.
//!
//! Of brokers that share the key store one holds an operation at a time, for a while that it has to make longer before it is over. Then
//! another takes it over. One that was only slow finds that it holds it no longer when it notes what came of it, and leaves it alone; what
//! both asked the ledger meanwhile was the same transaction.

use std::collections::HashSet;

use leasehold_chaincode::Command;

use super::database::{Row as Found, values};
use super::{Store, StoreError};

/// So many of those that are due the longest are looked at; one person has a few of them at most.
const LOOKED_AT: i64 = 256;

/// A broker holds an operation for so long, unless it says that it goes on.
pub const HELD_MS: i64 = 15_000;

/// Work to do.
#[derive(Debug)]
pub struct Claimed {
    /// The operation.
    pub id: String,
    /// The transaction that it is.
    pub transaction_id: String,
    /// Whether it may have been submitted before.
    pub again: bool,
    /// How many tries came to nothing.
    pub tries: u32,
    /// Whose.
    pub submitter: String,
    /// The revision that the command's dataset must have, where its caller said which.
    pub expected_revision: Option<u64>,
    /// What to ask the ledger, or why that cannot be read.
    pub command: Result<Command, String>,
}

/// How much may be claimed.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// So many at most.
    pub most: usize,
    /// So many of them at most that were tried before.
    pub most_tried: usize,
    /// Whether nobody's later operation may overtake an earlier one.
    pub in_order: bool,
    /// What is worked on already.
    pub held: HashSet<String>,
}

/// What was claimed, and when something else is due.
#[derive(Debug, Default)]
pub struct Claims {
    /// Work to do.
    pub operations: Vec<Claimed>,
    /// When the next operation is due that is not yet, Unix milliseconds.
    pub next_due_ms: Option<i64>,
}

struct Row {
    id: String,
    transaction_id: Option<String>,
    status: String,
    submitter: String,
    command: Option<String>,
    tries: i64,
    due_ms: i64,
    expected_revision: Option<i64>,
}

impl TryFrom<&Found> for Row {
    type Error = StoreError;

    fn try_from(row: &Found) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get(0)?,
            transaction_id: row.get(1)?,
            status: row.get(2)?,
            submitter: row.get(3)?,
            command: row.get(4)?,
            tries: row.get(5)?,
            due_ms: row.get(6)?,
            expected_revision: row.get(7)?,
        })
    }
}

const DUE: &str = "
    SELECT id, transaction_id, status, submitter, command, tries, due_ms, expected_revision FROM (
        SELECT id, transaction_id, status, submitter, command, tries, due_ms, expected_revision, sequence,
               row_number() OVER (PARTITION BY submitter ORDER BY sequence) AS turn FROM (
            SELECT * FROM operations AS one
            WHERE one.status IN ('pending', 'running') AND (one.tries > 0) = ($1 > 0)
              -- A time too far away was written before the clock was set back.
              AND (one.due_ms <= $2 OR one.due_ms > $2 + $3)
              AND (one.holder IS NULL OR one.holder = $7 OR one.held_until_ms <= $2 OR one.held_until_ms > $2 + 4 * $8)
              AND NOT ($4 = 1 AND EXISTS (
                SELECT 1 FROM operations AS earlier
                WHERE earlier.submitter = one.submitter AND earlier.sequence < one.sequence
                  AND earlier.status IN ('pending', 'running')))
            ORDER BY one.due_ms, one.sequence LIMIT $5) AS longest) AS fair
    ORDER BY turn, due_ms, sequence LIMIT $6";

impl Store {
    /// Operations that are not decided and due at a time: also those that were running when the broker was killed. A time that is further
    /// away than `longest_wait_ms` counts as come.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim(&self, room: &Room, now_ms: i64, longest_wait_ms: i64) -> Result<Claims, StoreError> {
        let mut session = self.write().await?;
        let mut due = Vec::new();
        for (is_tried, most) in [(false, room.most), (true, room.most_tried.min(room.most))] {
            // What is held may stand before all others.
            let limit = i64::try_from(most.saturating_add(room.held.len())).unwrap_or(i64::MAX);
            let found = session
                .rows(
                    DUE,
                    values![
                        is_tried,
                        now_ms,
                        longest_wait_ms,
                        room.in_order,
                        LOOKED_AT,
                        limit,
                        &*self.holder,
                        HELD_MS
                    ],
                )
                .await?;
            let rows = found.iter().map(Row::try_from).collect::<Result<Vec<_>, _>>()?;
            let rows = rows.into_iter().filter(|row| !room.held.contains(&row.id));
            due.extend(rows.take(most));
        }
        // Each kind is in its order already; of both, what has waited the longest comes first.
        let (fresh, tried): (Vec<Row>, Vec<Row>) = due.into_iter().partition(|row| row.tries == 0);
        let rows = merged(fresh, tried, room.most);
        for row in &rows {
            session
                .run(
                    "UPDATE operations SET status = 'running', holder = $2, held_until_ms = $3 WHERE id = $1",
                    values![&row.id, &*self.holder, now_ms.saturating_add(HELD_MS)],
                )
                .await?;
        }
        let next_due_ms = session
            .cell(
                "SELECT min(due_ms) FROM operations WHERE status IN ('pending', 'running') AND due_ms > $1",
                values![now_ms],
            )
            .await?
            .flatten();
        session.commit().await?;
        let operations = rows.into_iter().map(|row| Claimed {
            transaction_id: row.transaction_id.unwrap_or_else(|| row.id.clone()),
            again: row.status == "running",
            tries: u32::try_from(row.tries).unwrap_or(u32::MAX),
            expected_revision: row
                .expected_revision
                .and_then(|revision| u64::try_from(revision).ok()),
            command: serde_json::from_str(&row.command.unwrap_or_default())
                .map_err(|error| error.to_string()),
            id: row.id,
            submitter: row.submitter,
        });
        Ok(Claims {
            operations: operations.collect(),
            next_due_ms,
        })
    }

    /// Notes that a try came to nothing, and when the next one is due.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn defer(&self, id: &str, due_ms: i64) -> Result<(), StoreError> {
        let mut session = self.write().await?;
        session
            .run(
                "UPDATE operations SET tries = tries + 1, due_ms = $1, holder = NULL
                 WHERE id = $2 AND status IN ('pending', 'running') AND (holder IS NULL OR holder = $3)",
                values![due_ms, id, &*self.holder],
            )
            .await?;
        session.commit().await
    }

    /// Says that this broker goes on with what it holds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold_on(&self, now_ms: i64) -> Result<(), StoreError> {
        let mut session = self.write().await?;
        session
            .run(
                "UPDATE operations SET held_until_ms = $1 WHERE holder = $2 AND status = 'running'",
                values![now_ms.saturating_add(HELD_MS), &*self.holder],
            )
            .await?;
        session.commit().await
    }
}

/// The first of both in turn, by what is due the longest.
fn merged(fresh: Vec<Row>, tried: Vec<Row>, most: usize) -> Vec<Row> {
    let (mut fresh, mut tried) = (fresh.into_iter().peekable(), tried.into_iter().peekable());
    let next = || match (fresh.peek(), tried.peek()) {
        (Some(one), Some(other)) if one.due_ms > other.due_ms => tried.next(),
        (Some(_), _) => fresh.next(),
        (None, _) => tried.next(),
    };
    std::iter::from_fn(next).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::operations::{Accepted, Ending};
    use crate::store::tests::{on_each, operation};

    const LONGEST_MS: i64 = 60_000;

    /// Accepts operations, each of somebody, and has them be due in this order from 0 on.
    async fn accept(store: &Store, operations: &[(&str, &str)]) {
        for (due_ms, (id, submitter)) in (0_i64..).zip(operations) {
            let accepted = store.accept(&operation(id, submitter)).await.unwrap();
            assert!(matches!(accepted, Accepted::Operation(_)));
            let mut session = store.write().await.unwrap();
            let update = "UPDATE operations SET due_ms = $1 WHERE id = $2";
            session.run(update, values![due_ms, *id]).await.unwrap();
            session.commit().await.unwrap();
        }
    }

    fn room(most: usize, most_tried: usize) -> Room {
        Room {
            most,
            most_tried,
            ..Room::default()
        }
    }

    async fn claimed(store: &Store, room: &Room, now_ms: i64) -> Vec<String> {
        let claims = store.claim(room, now_ms, LONGEST_MS).await.unwrap();
        claims.operations.into_iter().map(|claimed| claimed.id).collect()
    }

    #[tokio::test]
    async fn what_was_tried_takes_half_of_the_places_however_much_of_it_is_due() {
        on_each("half of the places", async |bench| {
            let store = bench.open().await;
            let stuck: Vec<_> = (0..300)
                .map(|i| (format!("stuck-{i}"), format!("person-{i}")))
                .collect();
            let stuck: Vec<_> = stuck.iter().map(|(id, by)| (id.as_str(), by.as_str())).collect();
            accept(&store, &stuck).await;
            for (id, _) in &stuck {
                store.defer(id, 1).await.unwrap();
            }
            accept(
                &store,
                &[("fresh-1", "alice"), ("fresh-2", "bob"), ("fresh-3", "bob")],
            )
            .await;
            let claims = store.claim(&room(4, 2), 10, LONGEST_MS).await.unwrap();
            let tried = claims.operations.iter().filter(|claimed| claimed.tries == 1);
            assert_eq!((tried.count(), claims.operations.len()), (2, 4));
            let fresh = claimed(&store, &room(16, 8), 10).await;
            let is_fresh = |id: &&String| id.starts_with("fresh");
            assert_eq!((fresh.iter().filter(is_fresh).count(), fresh.len()), (3, 11));
            assert_eq!(claimed(&store, &room(16, 0), 10).await.len(), 3);
        })
        .await;
    }

    #[tokio::test]
    async fn of_several_people_one_operation_of_each_comes_first() {
        on_each("one of each", async |bench| {
            let store = bench.open().await;
            accept(
                &store,
                &[
                    ("a1", "a"),
                    ("a2", "a"),
                    ("a3", "a"),
                    ("b1", "b"),
                    ("b2", "b"),
                    ("c1", "c"),
                ],
            )
            .await;
            assert_eq!(claimed(&store, &room(4, 4), 10).await, ["a1", "b1", "c1", "a2"]);
            let held = Room {
                held: ["a1", "b1"].map(str::to_owned).into(),
                ..room(3, 3)
            };
            assert_eq!(claimed(&store, &held, 10).await, ["c1", "a2", "b2"]);
        })
        .await;
    }

    #[tokio::test]
    async fn a_try_that_came_to_nothing_is_due_later_also_after_a_restart() {
        on_each("tries", async |bench| {
            let before = bench.open().await;
            accept(&before, &[("a1", "a"), ("b1", "b")]).await;
            before.defer("a1", 5_000).await.unwrap();
            before.defer("a1", 9_000).await.unwrap();
            before.close().await;
            let store = bench.open().await;
            let claims = store.claim(&room(4, 4), 8_999, LONGEST_MS).await.unwrap();
            assert_eq!(claims.operations.len(), 1);
            assert_eq!(claims.next_due_ms, Some(9_000));
            store
                .finish(
                    "b1",
                    &Ending::Succeeded {
                        result: serde_json::Value::Null,
                        destroy: None,
                        waits: false,
                    },
                )
                .await
                .unwrap();
            let claims = store.claim(&room(4, 4), 9_000, LONGEST_MS).await.unwrap();
            assert_eq!(claims.next_due_ms, None);
            let [claimed] = claims.operations.as_slice() else {
                panic!("{claims:?}");
            };
            assert_eq!((claimed.id.as_str(), claimed.tries), ("a1", 2));
            // Whoever sets the clock back by a day does not wait for a day.
            store.defer("a1", 86_400_000).await.unwrap();
            let claims = store.claim(&room(4, 4), 1_000, LONGEST_MS).await.unwrap();
            assert_eq!(claims.operations.len(), 1);
        })
        .await;
    }

    #[tokio::test]
    async fn where_order_counts_nobodys_later_operation_overtakes_an_earlier_one() {
        on_each("order", async |bench| {
            let store = bench.open().await;
            accept(&store, &[("a1", "a"), ("a2", "a"), ("b1", "b")]).await;
            store.defer("a1", 500).await.unwrap();
            let in_order = Room {
                in_order: true,
                ..room(4, 4)
            };
            assert_eq!(claimed(&store, &in_order, 100).await, ["b1"]);
            assert_eq!(claimed(&store, &room(4, 4), 100).await, ["a2", "b1"]);
            assert_eq!(claimed(&store, &in_order, 500).await, ["b1", "a1"]);
        })
        .await;
    }
}

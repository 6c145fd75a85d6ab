//! The file of the records: appended to by one transaction after the other, read by pages.

use std::path::Path;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row as _, SqlSafeStr as _, SqliteConnection};

use super::record::{Event, Head, Record, SealKey, Sealed, hash};
use crate::ledger::Bytes;
use crate::sqlite;

/// Records that are looked at and taken out at once.
const PRUNED_AT_ONCE: u32 = 2_000;
/// Records that one page looks through: what a filter costs does not grow with the file.
const LOOKED_THROUGH: u64 = 50_000;

/// Why the audit cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A statement or the file failed.
    #[error("the audit failed: {0}; check the disk of its file and the rights")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the audit's schema could not be brought up to date: {0}; it may be of a newer version")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A record cannot be written as JSON or read.
    #[error("audit record {number} is damaged: {reason}; run `audit verify`")]
    Damaged {
        /// Which one.
        number: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The last record that this process wrote is gone.
    #[error(
        "the audit has not its record {0} any more: records were cut off or exchanged; keep the file, and look who wrote it"
    )]
    CutOff(Head),
    /// Nobody writes any more.
    #[error("the audit is closed; nothing is decided any more")]
    Closed,
}

/// A record as it lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number, as the file says.
    pub number: u64,
    /// Its time, as the file says: what is looked for by, and not what is hashed.
    pub at_ms: i64,
    /// The very bytes.
    pub record: String,
    /// Their hash, as the file says.
    pub hash: Bytes<32>,
    /// Its seal, as the file says.
    pub seal: Bytes<32>,
}

/// Which records are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// After this number.
    pub after: u64,
    /// Not before, milliseconds since the Unix epoch.
    pub since_ms: Option<i64>,
    /// Before, milliseconds since the Unix epoch.
    pub until_ms: Option<i64>,
    /// Of this person or machine.
    pub who: Option<String>,
    /// About this object, lease or operation.
    pub object: Option<String>,
}

/// A page of records.
#[derive(Debug, Clone)]
pub struct Page {
    /// In their order.
    pub rows: Vec<Row>,
    /// After which number there may be more.
    pub next: Option<u64>,
}

/// The file.
#[derive(Debug, Clone)]
pub struct Book {
    /// For writing alone: no reader keeps it waiting.
    pool: SqlitePool,
    readers: SqlitePool,
}

impl Book {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn open(path: &Path) -> Result<Self, AuditError> {
        let pool = sqlite::pool(1).connect_with(sqlite::options(path)).await?;
        let initial = Migration::new(
            1,
            "records".into(),
            MigrationType::Simple,
            include_str!("../../migrations/audit/0001_records.sql").into_sql_str(),
            false,
        );
        Migrator::with_migrations(vec![initial]).run(&pool).await?;
        let readers = sqlite::pool(2)
            .connect_with(sqlite::options(path).read_only(true))
            .await?;
        Ok(Self { pool, readers })
    }

    /// Appends records of events, all or none, at a time in milliseconds. Yields the new head. Where `last` is given, that record has to
    /// be there still.
    ///
    /// # Errors
    /// [`AuditError`]; nothing is written then, or all of it where the file was lost in the middle of the commit.
    pub async fn append(
        &self,
        seal: &SealKey,
        events: &[(Event, Option<u64>)],
        at_ms: i64,
        last: Option<&Head>,
    ) -> Result<Head, AuditError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if let Some(last) = last {
            let found = hash_of(&mut transaction, last.number).await?;
            if found != Some(last.hash) {
                return Err(AuditError::CutOff(*last));
            }
        }
        // Read each time: another process may have written, and an earlier commit may have failed after it was done.
        let mut head = head(&mut transaction).await?;
        for (event, repeated) in events {
            let record = Record::after(&head, event, *repeated, at_ms);
            let number = record.number;
            let damaged = |reason: String| AuditError::Damaged { number, reason };
            let text = serde_json::to_string(&record).map_err(|e| damaged(e.to_string()))?;
            head = Head {
                number,
                hash: hash(text.as_bytes()),
            };
            sqlx::query("INSERT INTO records (number, at_ms, record, hash, seal) VALUES (?, ?, ?, ?, ?)")
                .bind(signed(number))
                .bind(at_ms)
                .bind(text)
                .bind(head.hash.0.as_slice())
                .bind(seal.seal(Sealed::Record, &head).0.as_slice())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(head)
    }

    /// The last record.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn head(&self) -> Result<Head, AuditError> {
        let mut connection = self.readers.acquire().await?;
        head(&mut connection).await
    }

    /// What went by age: the last record of it, and its seal.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn base(&self) -> Result<Option<(Head, Bytes<32>)>, AuditError> {
        let row = sqlx::query("SELECT number, hash, seal FROM base")
            .fetch_optional(&self.readers)
            .await?;
        row.map(|row| {
            let number = unsigned(row.try_get("number")?);
            let head = Head {
                number,
                hash: bytes(&row, "hash", number)?,
            };
            Ok((head, bytes(&row, "seal", number)?))
        })
        .transpose()
    }

    /// Records in their order, at most `limit`, of those that one page looks through.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn page(&self, filter: &Filter, limit: u32) -> Result<Page, AuditError> {
        let base = self.base().await?.map_or(0, |(base, _)| base.number);
        let after = filter.after.max(base);
        let until = after.saturating_add(LOOKED_THROUGH);
        let newest = self.head().await?.number;
        let rows = sqlx::query(
            "SELECT number, at_ms, record, hash, seal FROM records
             WHERE number > ?1 AND number <= ?2 AND (?3 IS NULL OR at_ms >= ?3) AND (?4 IS NULL OR at_ms < ?4)
               AND (?5 IS NULL OR record ->> 'who' = ?5)
               AND (?6 IS NULL OR ?6 IN (record ->> 'object', record ->> 'lease', record ->> 'operation'))
             ORDER BY number LIMIT ?7",
        )
        .bind(signed(after))
        .bind(signed(until))
        .bind(filter.since_ms)
        .bind(filter.until_ms)
        .bind(filter.who.as_deref())
        .bind(filter.object.as_deref())
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;
        let rows: Vec<Row> = rows.iter().map(row).collect::<Result<_, _>>()?;
        let is_full = u32::try_from(rows.len()).is_ok_and(|count| count >= limit);
        let last = if is_full {
            rows.last().map(|row| row.number)
        } else {
            Some(until)
        };
        let next = last.filter(|last| *last < newest);
        Ok(Page { rows, next })
    }

    /// Takes out what is older, but never the last record, nor anything behind one that has to stay. What goes has to be as it was written:
    /// what tells its age is what its seal covers. Yields the last that went and how many did.
    ///
    /// # Errors
    /// [`AuditError`]; what went before it is out, and the rest is whole.
    pub async fn prune(&self, seal: &SealKey, before_ms: i64) -> Result<Option<(Head, u64)>, AuditError> {
        let mut gone = None;
        loop {
            let newest = self.head().await?.number;
            let rows = self.page(&Filter::default(), PRUNED_AT_ONCE).await?.rows;
            let mut last = None;
            for row in rows.iter().take_while(|row| row.number < newest) {
                let is_old = row.whole(seal)?.at_ms().is_some_and(|at_ms| at_ms < before_ms);
                if !is_old {
                    break;
                }
                last = Some(Head {
                    number: row.number,
                    hash: row.hash,
                });
            }
            let Some(last) = last else {
                return Ok(gone);
            };
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("INSERT OR REPLACE INTO base (one, number, hash, seal) VALUES (1, ?, ?, ?)")
                .bind(signed(last.number))
                .bind(last.hash.0.as_slice())
                .bind(seal.seal(Sealed::Base, &last).0.as_slice())
                .execute(&mut *transaction)
                .await?;
            let deleted = sqlx::query("DELETE FROM records WHERE number <= ?")
                .bind(signed(last.number))
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            let before = gone.map_or(0, |(_, count)| count);
            gone = Some((last, deleted.rows_affected().saturating_add(before)));
        }
    }

    /// Finishes open statements and closes the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.pool.close().await;
    }
}

impl Row {
    /// The record, if it is what was hashed and sealed.
    ///
    /// # Errors
    /// [`AuditError::Damaged`].
    pub fn whole(&self, seal: &SealKey) -> Result<Record, AuditError> {
        let number = self.number;
        let damaged = |reason: String| AuditError::Damaged { number, reason };
        let head = Head {
            number,
            hash: hash(self.record.as_bytes()),
        };
        if head.hash != self.hash || seal.seal(Sealed::Record, &head) != self.seal {
            return Err(damaged("it was not sealed by this key ring".to_owned()));
        }
        let record: Record =
            serde_json::from_str(&self.record).map_err(|error| damaged(error.to_string()))?;
        if record.number != number || record.at_ms() != Some(self.at_ms) {
            return Err(damaged("its number or time is another one".to_owned()));
        }
        Ok(record)
    }
}

fn row(row: &SqliteRow) -> Result<Row, AuditError> {
    let number = unsigned(row.try_get("number")?);
    Ok(Row {
        number,
        at_ms: row.try_get("at_ms")?,
        record: row.try_get("record")?,
        hash: bytes(row, "hash", number)?,
        seal: bytes(row, "seal", number)?,
    })
}

/// The hash of a record that is there, or of the last that went by age.
async fn hash_of(connection: &mut SqliteConnection, number: u64) -> Result<Option<Bytes<32>>, AuditError> {
    let row = sqlx::query(
        "SELECT hash FROM records WHERE number = ?1 UNION ALL SELECT hash FROM base WHERE number = ?1",
    )
    .bind(signed(number))
    .fetch_optional(connection)
    .await?;
    row.map(|row| bytes(&row, "hash", number)).transpose()
}

async fn head(connection: &mut SqliteConnection) -> Result<Head, AuditError> {
    for newest in [
        "SELECT number, hash FROM records ORDER BY number DESC LIMIT 1",
        "SELECT number, hash FROM base",
    ] {
        if let Some(row) = sqlx::query(newest).fetch_optional(&mut *connection).await? {
            let number = unsigned(row.try_get("number")?);
            let hash = bytes(&row, "hash", number)?;
            return Ok(Head { number, hash });
        }
    }
    Ok(Head::NONE)
}

fn bytes(row: &SqliteRow, column: &str, number: u64) -> Result<Bytes<32>, AuditError> {
    let found: Vec<u8> = row.try_get(column)?;
    let found: [u8; 32] = found.try_into().map_err(|_| AuditError::Damaged {
        number,
        reason: format!("its {column} has not 32 bytes"),
    })?;
    Ok(Bytes(found))
}

/// SQLite counts in signed numbers. No ledger of ours comes near their end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

//! The file of the records: appended to by one transaction after the other, read by pages.

use std::path::Path;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{Row as _, SqlSafeStr as _, SqliteConnection};

use super::record::{Event, Head, Record, SealKey, Sealed, hash};
use crate::ledger::Bytes;
use crate::sqlite;

/// Records that are taken out in one transaction.
const PRUNED_AT_ONCE: i64 = 5_000;

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
    /// Nobody writes any more.
    #[error("the audit is closed; nothing is decided any more")]
    Closed,
}

/// A record as it lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number, as the file says.
    pub number: u64,
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
    /// About this object.
    pub object: Option<String>,
}

/// The file.
#[derive(Debug, Clone)]
pub struct Book {
    pool: SqlitePool,
}

impl Book {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn open(path: &Path) -> Result<Self, AuditError> {
        let pool = sqlite::pool(3).connect_with(sqlite::options(path)).await?;
        let initial = Migration::new(
            1,
            "records".into(),
            MigrationType::Simple,
            include_str!("../../migrations/audit/0001_records.sql").into_sql_str(),
            false,
        );
        Migrator::with_migrations(vec![initial]).run(&pool).await?;
        Ok(Self { pool })
    }

    /// Appends records of events, all or none, at a time in milliseconds. Yields them and the new head.
    ///
    /// # Errors
    /// [`AuditError`]; nothing is written then, or all of it where the file was lost in the middle of the commit.
    pub async fn append(
        &self,
        seal: &SealKey,
        events: &[(Event, Option<u64>)],
        at_ms: i64,
    ) -> Result<(Vec<Record>, Head), AuditError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        // Read each time: another process may have written, and an earlier commit may have failed after it was done.
        let mut head = head(&mut transaction).await?;
        let mut records = Vec::with_capacity(events.len());
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
            records.push(record);
        }
        transaction.commit().await?;
        Ok((records, head))
    }

    /// The last record.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn head(&self) -> Result<Head, AuditError> {
        let mut connection = self.pool.acquire().await?;
        head(&mut connection).await
    }

    /// What went by age: the last record of it, and its seal.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn base(&self) -> Result<Option<(Head, Bytes<32>)>, AuditError> {
        let row = sqlx::query("SELECT number, hash, seal FROM base")
            .fetch_optional(&self.pool)
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

    /// Records in their order, at most `limit`.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn page(&self, filter: &Filter, limit: u32) -> Result<Vec<Row>, AuditError> {
        let rows = sqlx::query(
            "SELECT number, record, hash, seal FROM records
             WHERE number > ?1 AND (?2 IS NULL OR at_ms >= ?2) AND (?3 IS NULL OR at_ms < ?3)
               AND (?4 IS NULL OR record ->> 'who' = ?4) AND (?5 IS NULL OR record ->> 'object' = ?5)
             ORDER BY number LIMIT ?6",
        )
        .bind(signed(filter.after))
        .bind(filter.since_ms)
        .bind(filter.until_ms)
        .bind(filter.who.as_deref())
        .bind(filter.object.as_deref())
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let number = unsigned(row.try_get("number")?);
                Ok(Row {
                    number,
                    record: row.try_get("record")?,
                    hash: bytes(row, "hash", number)?,
                    seal: bytes(row, "seal", number)?,
                })
            })
            .collect()
    }

    /// Takes out what is older, but never the last record. Yields how many went.
    ///
    /// # Errors
    /// [`AuditError`]; what went before it is out, and the rest is whole.
    pub async fn prune(&self, seal: &SealKey, before_ms: i64) -> Result<u64, AuditError> {
        let mut gone = 0_u64;
        loop {
            let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
            let Some(last) = last_to_go(&mut transaction, before_ms).await? else {
                return Ok(gone);
            };
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
            gone = gone.saturating_add(deleted.rows_affected());
        }
    }

    /// Finishes open statements and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
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

/// The last record that may go now: before the first that has to stay, so that no gap comes to be where a clock went back.
async fn last_to_go(connection: &mut SqliteConnection, before_ms: i64) -> Result<Option<Head>, AuditError> {
    let ends = sqlx::query("SELECT min(number) AS first, max(number) AS last FROM records")
        .fetch_one(&mut *connection)
        .await?;
    let (Some(first), Some(newest)) = (
        ends.try_get::<Option<i64>, _>("first")?,
        ends.try_get::<Option<i64>, _>("last")?,
    ) else {
        return Ok(None);
    };
    let (stays,): (Option<i64>,) = sqlx::query_as("SELECT min(number) FROM records WHERE at_ms >= ?")
        .bind(before_ms)
        .fetch_one(&mut *connection)
        .await?;
    let before_what_stays = stays.unwrap_or(newest).saturating_sub(1);
    let last = before_what_stays.min(first.saturating_add(PRUNED_AT_ONCE).saturating_sub(1));
    let row = sqlx::query("SELECT number, hash FROM records WHERE number = ? AND number >= ?")
        .bind(last)
        .bind(first)
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        let number = unsigned(row.try_get("number")?);
        let hash = bytes(&row, "hash", number)?;
        Ok(Head { number, hash })
    })
    .transpose()
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

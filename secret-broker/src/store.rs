//! The broker's own database: wrapped data keys, people and their bindings, accepted operations, skeletons.
//!
//! Everything in it may be read by somebody who steals the file, so that nothing in it opens anything: data keys are wrapped, volume
//! details are ciphertext, fingerprints are keyed. What must be true together is written in one transaction.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::sqlite;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqlitePool;
use sqlx::{SqlSafeStr as _, Sqlite, Transaction};

pub mod backup;
pub mod claims;
pub mod data_keys;
pub mod doomed;
mod known_keks;
pub mod operations;
pub mod people;
pub mod receipts;
pub mod skeletons;
pub mod standing;

use receipts::ReceiptSeal;

/// The database failed; not the caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement or the file failed.
    #[error("the key store failed: {0}; check its disk and its rights")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("the key store's schema could not be brought up to date: {0}; it may be of a newer version")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The version wraps nothing any longer: it is on its way out of the key ring.
    #[error(
        "version {0} of the key-encryption key is retired; the broker takes the ring's newest when it has read it again"
    )]
    KekRetired(u32),
    /// A row holds what it should not.
    #[error("the key store has a damaged row in {table}: {reason}; restore it from a backup")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
    /// Set once the ring is open; the ring is held against the key store before.
    seal: Arc<OnceLock<ReceiptSeal>>,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = sqlite::options(path)
            .foreign_keys(true)
            // Deleted keys are overwritten, not merely unlinked.
            .pragma("secure_delete", "ON");
        let pool = sqlite::pool(4).connect_with(options).await?;
        let migration = |version, description: &'static str, sql: &'static str| {
            Migration::new(
                version,
                description.into(),
                MigrationType::Simple,
                sql.into_sql_str(),
                false,
            )
        };
        Migrator::with_migrations(vec![
            migration(1, "initial", include_str!("../migrations/store/0001_initial.sql")),
            migration(
                2,
                "transactions",
                include_str!("../migrations/store/0002_transactions.sql"),
            ),
            migration(3, "tries", include_str!("../migrations/store/0003_tries.sql")),
            migration(
                4,
                "standing",
                include_str!("../migrations/store/0004_standing.sql"),
            ),
            migration(
                5,
                "rotation",
                include_str!("../migrations/store/0005_rotation.sql"),
            ),
            migration(
                6,
                "doomed keys",
                include_str!("../migrations/store/0006_doomed_keys.sql"),
            ),
            migration(
                7,
                "known keks",
                include_str!("../migrations/store/0007_known_keks.sql"),
            ),
            migration(
                8,
                "sealed receipts",
                include_str!("../migrations/store/0008_sealed_receipts.sql"),
            ),
            migration(
                9,
                "expected revisions",
                include_str!("../migrations/store/0009_expected_revisions.sql"),
            ),
            migration(
                10,
                "operations of a person",
                include_str!("../migrations/store/0010_operations_of_a_person.sql"),
            ),
        ])
        .run(&pool)
        .await?;
        Ok(Self {
            pool,
            seal: Arc::default(),
        })
    }

    /// Has receipts sealed from now on, and checked as they are read. The first key stays.
    pub fn seal_receipts(&self, seal: ReceiptSeal) {
        let _set_before = self.seal.set(seal);
    }

    /// A transaction that holds the write lock from its start, so that what it reads stays true until it commits.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Leaves no copy of deleted or replaced bytes in the database's files: what is deleted is overwritten where it was, and here the
    /// write-ahead log, which has it from before, is emptied. Yields whether it was; a reader of something older delays that.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn scrub(&self) -> Result<bool, StoreError> {
        let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&self.pool)
            .await?;
        Ok(busy == 0)
    }

    /// Finishes open statements and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Now, Unix seconds, for the rows.
pub(crate) fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// The same in milliseconds.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

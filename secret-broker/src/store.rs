//! The broker's own database: wrapped data keys, people and their bindings, accepted operations, skeletons. It is a file, or a database of a
//! server that several brokers of the organisation share ([`database`]).
//!
//! Everything in it may be read by somebody who steals the file, so that nothing in it opens anything: data keys are wrapped, volume
//! details are ciphertext, fingerprints are keyed. What must be true together is written in one transaction.

use std::sync::{Arc, OnceLock};

mod address;
pub mod backup;
pub mod claims;
mod copying;
pub mod data_keys;
mod database;
pub mod doomed;
mod known_keks;
pub mod operations;
pub mod people;
pub mod receipts;
pub mod skeletons;
pub mod standing;

pub use address::StoreAddress;
use database::{Database, Session};
use receipts::ReceiptSeal;

/// The database failed; not the caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A statement or the file failed.
    #[error("the key store failed: {0}; check its disk and its rights, or its server")]
    Database(#[from] sqlx::Error),
    /// Its server does not answer.
    #[error("the key store's server did not answer in {0:?}; check that it can be reached")]
    Late(std::time::Duration),
    /// Its address leads nowhere.
    #[error("could not connect to the key store: {0}")]
    Address(String),
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
    database: Database,
    /// What this broker is called where it holds operations.
    holder: Arc<str>,
    /// Set once the ring is open; the ring is held against the key store before.
    seal: Arc<OnceLock<ReceiptSeal>>,
}

impl Store {
    /// Opens the database and brings its tables up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(address: impl Into<StoreAddress>) -> Result<Self, StoreError> {
        let database = Database::open(&address.into()).await?;
        let holder = match &database {
            // One broker has the file, whichever process of it: what it held when it was killed is its own.
            Database::Sqlite(_) => "broker".into(),
            Database::Postgres(_) | Database::MySql(_) => uuid::Uuid::new_v4().to_string().into(),
        };
        Ok(Self {
            database,
            holder,
            seal: Arc::default(),
        })
    }

    /// Has this broker go by a name that it has after a restart as well, so that what it held before is its own at once.
    #[must_use]
    pub fn held_by(mut self, name: &str) -> Self {
        if self.is_shared() {
            self.holder = name.into();
        }
        self
    }

    /// Whether there is a key store already.
    ///
    /// # Errors
    /// [`StoreError`] where that cannot be said.
    pub async fn exists(address: &StoreAddress) -> Result<bool, StoreError> {
        Database::exists(address).await
    }

    /// Whether other brokers may have it open.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        !matches!(self.database, Database::Sqlite(_))
    }

    /// Has receipts sealed from now on, and checked as they are read. The first key stays.
    pub fn seal_receipts(&self, seal: ReceiptSeal) {
        let _set_before = self.seal.set(seal);
    }

    /// Statements each of which is alone.
    async fn read(&self) -> Result<Session, StoreError> {
        self.database.read().await
    }

    /// A transaction that has its turn to write from its start, so that what it reads stays true until it commits.
    async fn write(&self) -> Result<Session, StoreError> {
        self.database.write().await
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read().await?.rows("SELECT 1", &[]).await?;
        Ok(())
    }

    /// Leaves no copy of deleted or replaced bytes in a file's database: what is deleted is overwritten where it was, and here the
    /// write-ahead log, which has it from before, is emptied. Yields whether it was; a reader of something older delays that. On a server
    /// there is nothing to be done from here: what wrapped the bytes has to go (`keys rotate`, `keys retire`).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn scrub(&self) -> Result<bool, StoreError> {
        match &self.database {
            Database::Sqlite(pool) => database::sqlite::scrub(pool).await,
            Database::Postgres(_) | Database::MySql(_) => Ok(true),
        }
    }

    /// Finishes open statements and closes the connections.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

#[cfg(test)]
mod tests;

/// Now, Unix seconds, for the rows.
pub(crate) fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// The same in milliseconds.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

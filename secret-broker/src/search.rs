//! Full-text search over the catalogue: an index of names, titles, keywords and descriptions that the broker makes of the ledger at its
//! start and keeps by following it, whichever ledger it is.
//!
//! The index is a file of its own that may be thrown away, and is at each start. It only finds: what is shown of a dataset is read from
//! the ledger at the time. What people type is never the index's query language: words become quoted phrases, all of which
//! have to be there, the beginnings of longer words included. However many datasets fit, one search ranks [`MOST_RANKED`] of them. A search is interrupted after two seconds,
//! and people's searches take nothing from who keeps the index.

mod query;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use leasehold_chaincode::{DatasetEntry, DatasetId, DatasetRef, EventKind, PageRequest};
use sqlx::sqlite::{SqlitePool, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::changes::Changes;
use crate::ledger::ReadError;
use crate::ledgers::{BrokerLedger, Change, Reading};
use crate::sqlite;

pub use query::{LONGEST_QUERY, MOST_WORDS};

/// Datasets that one search ranks: what fits more than these has to be said more exactly.
pub const MOST_RANKED: i64 = 2_000;
/// Datasets on a page of a search, each of which is read from the ledger.
pub const MOST_FOUND: usize = 50;
/// Searches at the same time, of everybody and of one person.
pub const MOST_SEARCHES: usize = 16;
/// See [`MOST_SEARCHES`].
pub const MOST_SEARCHES_OF_ONE: usize = 2;
/// Searches that are carried out at the same time; others wait for their turn. Who writes has a connection apart.
const READERS: u32 = 3;
/// How long one search may take, and after how many steps of SQLite's machine that is looked at.
const LONGEST_SEARCH: Duration = Duration::from_secs(2);
const STEPS: i32 = 10_000;
/// How long a search waits for what was committed before it.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How long the peer that is asked may lack a block of which another one told, and when to look again.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// After the index could not be made or kept.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

const TABLES: &str = "
    CREATE TABLE datasets (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT;
    CREATE VIRTUAL TABLE words USING fts5 (
        name, title, keywords, description,
        content = '', contentless_delete = 1, prefix = '2 3', tokenize = 'unicode61 remove_diacritics 2'
    );
";
/// A name says more than a title, and a title more than a description.
const FIND: &str = "
    SELECT datasets.id FROM (
        SELECT rowid AS number, bm25(words, 10.0, 5.0, 5.0, 1.0) AS score FROM words WHERE words MATCH ? LIMIT ?
    ) AS found JOIN datasets ON datasets.number = found.number
    ORDER BY found.score, found.number LIMIT ? OFFSET ?
";

/// Why nothing can be searched.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The index is not made yet, or has to be made anew.
    #[error("the index of the catalogue is not ready yet")]
    NotReady,
    /// Its file failed.
    #[error("the index of the catalogue failed: {0}")]
    Index(#[from] sqlx::Error),
    /// A file of an index before is in the way.
    #[error("could not remove the old index {path}: {source}; remove it yourself, nothing in it is needed")]
    OldIndex {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It did not take over what changed as fast as it came.
    #[error("the index of the catalogue does not keep up")]
    Cut,
    /// What changes is not told any longer.
    #[error("the ledger is followed no longer")]
    Unfollowed,
    /// Nobody has a block of which was told.
    #[error("no own peer has block {0} yet")]
    Behind(u64),
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] ReadError),
}

/// The index, and the last block that is in it; none before it is made.
#[derive(Debug)]
pub struct Search {
    path: PathBuf,
    index: watch::Sender<Option<(SqlitePool, u64)>>,
}

impl Search {
    /// An index in this directory; it is made by [`run`].
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            path: directory.join("search.db"),
            index: watch::Sender::new(None),
        }
    }

    /// Ids of the datasets that fit best, the best first: `limit` of them after the first `offset`. Knows of what was committed before,
    /// unless the index is a second behind.
    ///
    /// # Errors
    /// [`SearchError`].
    pub async fn find(
        &self,
        ledger: &BrokerLedger,
        words: &str,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<DatasetId>, SearchError> {
        let Some(expression) = query::expression(words) else {
            return Ok(Vec::new());
        };
        let committed = *ledger.heights().borrow();
        let mut index = self.index.subscribe();
        let caught_up = index.wait_for(|index| index.as_ref().is_none_or(|(_, height)| *height >= committed));
        // Late is better than never; and what it yields would keep the index from being told of.
        drop(tokio::time::timeout(CATCH_UP, caught_up).await);
        let pool = self.index.borrow().as_ref().map(|(pool, _)| pool.clone());
        let pool = pool.ok_or(SearchError::NotReady)?;
        let mut reader = pool.acquire().await?;
        let deadline = std::time::Instant::now() + LONGEST_SEARCH;
        // The next search on this connection has a deadline of its own.
        let mut handle = reader.lock_handle().await?;
        handle.set_progress_handler(STEPS, move || std::time::Instant::now() < deadline);
        drop(handle);
        let ids: Vec<String> = sqlx::query_scalar(FIND)
            .bind(expression)
            .bind(MOST_RANKED)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(i64::try_from(offset).unwrap_or(i64::MAX))
            .fetch_all(&mut *reader)
            .await?;
        Ok(ids.into_iter().filter_map(|id| DatasetId::new(id).ok()).collect())
    }

    /// Makes the index of what the ledger has, and keeps it for as long as changes are told.
    async fn keep(&self, ledger: &BrokerLedger, changes: &Changes) -> Result<(), SearchError> {
        let mut told = changes.listen(None).ok_or(SearchError::Unfollowed)?;
        let (writer, readers) = empty(&self.path).await?;
        // A page may be of a later state than the one before: what changed meanwhile is told afterwards.
        let mut indexed = fill(&writer, ledger, told.height).await?;
        self.index.send_replace(Some((readers.clone(), indexed)));
        while let Some(change) = told.changes.recv().await {
            take(&writer, ledger, &change).await?;
            indexed = indexed.max(change.height);
            self.index.send_replace(Some((readers.clone(), indexed)));
        }
        Err(SearchError::Cut)
    }
}

/// Makes the index and keeps it until shutdown; anew after each failure. Without it nothing but the search is missing.
pub async fn run(broker: Arc<Broker>) {
    loop {
        let kept = tokio::select! {
            kept = broker.search.keep(&broker.ledger, &broker.view.changes) => kept,
            () = broker.shutdown.cancelled() => return,
        };
        broker.search.index.send_replace(None);
        if let Err(error) = kept {
            tracing::warn!(%error, "the catalogue cannot be searched; making its index anew");
        }
        tokio::select! {
            () = tokio::time::sleep(AFTER_FAILURE) => {}
            () = broker.shutdown.cancelled() => return,
        }
    }
}

/// A new index: a connection to write it, and others to read it.
async fn empty(path: &Path) -> Result<(SqlitePool, SqlitePool), SearchError> {
    for end in ["", "-wal", "-shm"] {
        let mut old = path.as_os_str().to_owned();
        old.push(end);
        let old = PathBuf::from(old);
        match std::fs::remove_file(&old) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(SearchError::OldIndex { path: old, source });
            }
            _ => {}
        }
    }
    // Nothing in it is needed after a crash.
    let options = sqlite::options(path).synchronous(SqliteSynchronous::Off);
    let writer = sqlite::pool(1).connect_with(options.clone()).await?;
    sqlx::raw_sql(TABLES).execute(&writer).await?;
    let readers = sqlite::pool(READERS).connect_with(options).await?;
    Ok((writer, readers))
}

/// The state of one peer that has a block of which was told, and its height.
async fn state_with(ledger: &BrokerLedger, block: u64) -> Result<(Reading, u64), SearchError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (reading, height) = ledger.one_state().await?;
        if height >= block {
            return Ok((reading, height));
        }
        if Instant::now() >= deadline {
            return Err(SearchError::Behind(block));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Puts in all that the ledger has, and yields the height from which to go on.
async fn fill(pool: &SqlitePool, ledger: &BrokerLedger, told: u64) -> Result<u64, SearchError> {
    let (mut reading, height) = state_with(ledger, told).await?;
    let mut page = PageRequest::default();
    loop {
        let found = reading.datasets(&page).await?;
        let mut transaction = pool.begin().await?;
        for entry in found.items {
            put(&mut transaction, &entry).await?;
        }
        transaction.commit().await?;
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(height),
        }
    }
}

async fn take(pool: &SqlitePool, ledger: &BrokerLedger, change: &Change) -> Result<(), SearchError> {
    let is_about_words = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::DatasetRegistered {} | EventKind::DatasetDescribed {} | EventKind::DatasetRetired {}
        )
    };
    let events = change.events.iter().filter(|event| is_about_words(&event.kind));
    let ids: Vec<_> = events.filter_map(|event| event.dataset.as_ref()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let (mut reading, _) = state_with(ledger, change.height).await?;
    for id in ids {
        let entry = reading.dataset(&DatasetRef::Id(id.clone())).await?;
        let mut transaction = pool.begin().await?;
        remove(&mut transaction, id).await?;
        if let Some(entry) = entry.filter(|entry| entry.dataset.retired_at_ms.is_none()) {
            put(&mut transaction, &entry).await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

async fn remove(transaction: &mut Transaction<'_, Sqlite>, id: &DatasetId) -> Result<(), sqlx::Error> {
    for statement in [
        "DELETE FROM words WHERE rowid = (SELECT number FROM datasets WHERE id = ?)",
        "DELETE FROM datasets WHERE id = ?",
    ] {
        sqlx::query(statement)
            .bind(id.as_str())
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

async fn put(transaction: &mut Transaction<'_, Sqlite>, entry: &DatasetEntry) -> Result<(), sqlx::Error> {
    let dataset = &entry.dataset;
    let number = sqlx::query("INSERT INTO datasets (id) VALUES (?) ON CONFLICT DO NOTHING")
        .bind(dataset.id.as_str())
        .execute(&mut **transaction)
        .await?;
    // On a channel a page may come twice: one that is there is brought up to date by what follows.
    if number.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query("INSERT INTO words (rowid, name, title, keywords, description) VALUES (?, ?, ?, ?, ?)")
        .bind(number.last_insert_rowid())
        .bind(dataset.name.as_str())
        .bind(&dataset.metadata.title)
        .bind(dataset.metadata.keywords.join("\n"))
        .bind(&dataset.metadata.description)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

//! Copies of the key store. A copy opens nothing by itself: data keys in it are wrapped, and the key ring is not in it.
//!
//! One that is restored may be older than the ledger. The broker finds that out when it starts ([`crate::shredding`]). What was not decided in
//! it is not submitted again: it may have been since, and was asked for in another time.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::database::{Database, values};
use super::{Store, StoreError, now};
use super::{StoreAddress, copying};
use crate::keys::service::KeyError;
use crate::keys::{DataKeyOf, KeyRing};
use crate::{private_file, sqlite};

const PAGE: u32 = 64;
/// What the file is called, after its final name, while a copy is tried.
const RESTORING: &str = ".restoring";

/// Why a copy was not made, or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file is there, or its directory is not.
    #[error("could not make {path}: {source}; name a file that does not exist yet")]
    Create {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file cannot be read.
    #[error("could not read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is no key store, or a damaged one.
    #[error("{path} is no key store that can be used: {reason}; take another copy")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The ring does not open all of it.
    #[error(
        "the key ring does not open {count} data keys of {path}, which the log names: take the ring that wrapped them, or do without them with --accept-unopened"
    )]
    Unopened {
        /// Which file.
        path: PathBuf,
        /// So many.
        count: usize,
    },
    /// It cannot be tried.
    #[error("the copy's data keys cannot be tried now: {0}")]
    Key(#[from] KeyError),
    /// The server has a key store.
    #[error(
        "{0} has a key store already: name a database that has none, or drop the schema `leasehold_keys` (in MariaDB the database's tables) if it is really to go"
    )]
    NotEmpty(StoreAddress),
    /// The same, meanwhile.
    #[error("the key store was filled by somebody else meanwhile: stop all brokers and try again")]
    Filled,
    /// Deleted bytes may still be in its files.
    #[error("the files of {0} could not be rid of what was deleted: somebody else has it open; try again")]
    InUse(PathBuf),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Copies the database as it is now into a new file, readable by its owner alone, while others go on writing. Nothing that was deleted is
    /// in the copy.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn backup(&self, to: &Path) -> Result<(), BackupError> {
        let created = |source| BackupError::Create {
            path: to.to_owned(),
            source,
        };
        let name = to
            .to_str()
            .ok_or_else(|| created(std::io::ErrorKind::InvalidInput.into()))?;
        // SQLite takes an empty file for a new database, and leaves its mode.
        private_file::create(to, b"").map_err(created)?;
        let Database::Sqlite(pool) = &self.database else {
            return self.copy_to(to).await;
        };
        let copied = async {
            let mut connection = pool.acquire().await?;
            sqlx::query("VACUUM INTO ?")
                .bind(name)
                .execute(&mut *connection)
                .await?;
            std::fs::File::open(to)?.sync_all()?;
            Ok(())
        };
        let copied: Result<(), sqlx::Error> = copied.await;
        if copied.is_err() {
            let _half_made = std::fs::remove_file(to);
        }
        copied.map_err(|error| StoreError::from(error).into())
    }

    /// The same from a server: the copy is a file, too.
    async fn copy_to(&self, to: &Path) -> Result<(), BackupError> {
        let copied = async {
            let copy = Self::open(to).await?;
            let mut of = self.database.snapshot().await?;
            let mut into = copy.write().await?;
            copying::copy(&mut of, &mut into).await?;
            into.commit().await?;
            // Into the file itself.
            copy.scrub().await?;
            copy.close().await;
            Ok(())
        };
        let copied: Result<(), StoreError> = copied.await;
        if copied.is_err() {
            let _half_made = remove(to);
        }
        Ok(copied?)
    }

    /// Makes of a copy what a broker may go on from: operations that were not decided end with a problem, since what became of them since
    /// is not known, and the ring's versions are looked at anew. Data keys that are `lost` go, since a broker takes one that its ring does not
    /// open for a sign of another ring. Yields the operations.
    async fn settle_copy(&self, lost: &[Lost], problem: &Value) -> Result<Vec<String>, StoreError> {
        let mut session = self.write().await?;
        for key in lost {
            session
                .run(
                    "DELETE FROM data_keys WHERE dataset_id = $1 AND version = $2",
                    values![&key.dataset_id, key.version],
                )
                .await?;
        }
        let dropped = session
            .rows(
                "SELECT id FROM operations WHERE status IN ('pending', 'running') ORDER BY sequence",
                &[],
            )
            .await?;
        let dropped = dropped.iter().map(|row| row.get(0));
        let dropped = dropped.collect::<Result<_, _>>()?;
        session
            .run(
                "UPDATE operations SET status = 'failed', problem = $1, finished_at = $2, command = NULL, holder = NULL
                 WHERE status IN ('pending', 'running')",
                values![&problem.to_string(), now()],
            )
            .await?;
        session.run("DELETE FROM known_keks", &[]).await?;
        session.commit().await?;
        Ok(dropped)
    }
}

/// What to do with data keys of a copy that the ring does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unopened {
    /// Take the copy without them.
    Accept,
    /// Leave the copy alone.
    Refuse,
}

/// A data key that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Whose.
    pub dataset_id: String,
    /// Which.
    pub version: u32,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// So many data keys.
    pub keys: u64,
    /// Those that the ring does not open, and that were left out.
    pub lost: Vec<Lost>,
    /// Operations that were not decided yet: they are not submitted again, since their time is over, and are shown as failed.
    pub dropped: Vec<String>,
}

/// Makes a key store from a copy, once each data key of it was opened by an organisation's ring. Never overwrites one. Operations that were
/// not decided in it end with a `problem`. The copy is tried in the data directory, or beside the key store's file.
///
/// # Errors
/// [`BackupError`]; there is no new key store then.
pub async fn restore(
    from: &Path,
    (to, data_dir): (&StoreAddress, &Path),
    (ring, organisation): (&KeyRing, &str),
    unopened: Unopened,
    problem: &Value,
) -> Result<Restored, BackupError> {
    // Cut off, this leaves no key store in the final place.
    let beside = tried_in(to, data_dir);
    let created = |path: &Path| {
        let path = path.to_owned();
        |source| BackupError::Create { path, source }
    };
    remove(&beside).map_err(created(&beside))?;
    let place = Place::of(to).await?;
    let wrapped_by = content(from).await?.wrapped_by;
    let content = std::fs::read(from).map_err(|source| BackupError::Read {
        path: from.to_owned(),
        source,
    })?;
    private_file::create(&beside, &content).map_err(created(&beside))?;
    let made = async {
        let store = Store::open(&beside).await?;
        let made = made_usable(&store, from, (ring, organisation), unopened, problem).await;
        let placed = match (made, &place) {
            (Ok(made), Place::Server(server)) => server.fill(&store).await.map(|()| made),
            (made, _) => made,
        };
        store.close().await;
        placed
    };
    let made = made.await;
    let placed = match (made, &place) {
        (Ok(made), Place::File(to)) => std::fs::hard_link(&beside, to)
            .and_then(|()| private_file::sync_name(to))
            .map(|()| made)
            .map_err(created(to)),
        (made, _) => made,
    };
    if let Place::Server(server) = &place {
        server.close().await;
    }
    remove(&beside).map_err(created(&beside))?;
    let (lost, dropped) = placed?;
    let all: i64 = wrapped_by.iter().map(|(_, keys)| keys).sum();
    let all = u64::try_from(all).unwrap_or_default();
    Ok(Restored {
        keys: all.saturating_sub(u64::try_from(lost.len()).unwrap_or(u64::MAX)),
        lost,
        dropped,
    })
}

/// Where there is no key store yet.
enum Place {
    File(PathBuf),
    /// Tables without rows.
    Server(Store),
}

impl Place {
    async fn of(to: &StoreAddress) -> Result<Self, BackupError> {
        let StoreAddress::Sqlite(path) = to else {
            let store = Store::open(to).await?;
            if !copying::is_empty(&mut store.read().await?).await? {
                store.close().await;
                return Err(BackupError::NotEmpty(to.clone()));
            }
            return Ok(Self::Server(store));
        };
        // A journal without its database would be taken for the new one's.
        for tail in ["", "-wal", "-shm"] {
            let path = with_tail(path, tail);
            if path.exists() {
                return Err(BackupError::Create {
                    path,
                    source: std::io::ErrorKind::AlreadyExists.into(),
                });
            }
        }
        Ok(Self::File(path.clone()))
    }
}

impl Store {
    /// Has all rows of another store from now on, or none of them, if it has none.
    pub(super) async fn fill(&self, from: &Self) -> Result<(), BackupError> {
        let mut of = from.database.snapshot().await?;
        let mut into = self.write().await?;
        if !copying::is_empty(&mut into).await? {
            return Err(BackupError::Filled);
        }
        copying::copy(&mut of, &mut into).await?;
        Ok(into.commit().await?)
    }
}

fn tried_in(store: &StoreAddress, data_dir: &Path) -> PathBuf {
    match store {
        StoreAddress::Sqlite(path) => with_tail(path, RESTORING),
        _ => with_tail(&data_dir.join("broker.db"), RESTORING),
    }
}

/// Takes away what a restore of this key store left that was cut off: it has the data keys of its copy. Called where none goes on.
///
/// # Errors
/// [`BackupError::Create`].
pub fn forget_half_made(store: &StoreAddress, data_dir: &Path) -> Result<(), BackupError> {
    let path = tried_in(store, data_dir);
    remove(&path).map_err(|source| BackupError::Create { path, source })
}

async fn made_usable(
    store: &Store,
    from: &Path,
    (ring, organisation): (&KeyRing, &str),
    unopened: Unopened,
    problem: &Value,
) -> Result<(Vec<Lost>, Vec<String>), BackupError> {
    let mut lost = Vec::new();
    let mut after = (String::new(), 0);
    loop {
        // No version is numbered 0: these are all.
        let page = store.not_wrapped_by(0, &after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = (last.dataset_id.clone(), last.version);
        for key in &page {
            let of = DataKeyOf {
                organisation,
                dataset: &key.dataset_id,
                version: key.version,
            };
            match ring.unwrap(of, &key.wrapped).await {
                Ok(_) => {}
                Err(error) if error.may_pass() => return Err(error.into()),
                Err(error) => {
                    lost.push(Lost {
                        dataset_id: key.dataset_id.clone(),
                        version: key.version,
                    });
                    tracing::error!(
                        dataset = %key.dataset_id, version = key.version, kek_version = key.kek_version, %error,
                        "the key ring does not open a data key of the copy"
                    );
                }
            }
        }
    }
    if !lost.is_empty() && unopened == Unopened::Refuse {
        return Err(BackupError::Unopened {
            path: from.to_owned(),
            count: lost.len(),
        });
    }
    let dropped = store.settle_copy(&lost, problem).await?;
    match store.scrub().await? {
        true => Ok((lost, dropped)),
        false => Err(BackupError::InUse(from.to_owned())),
    }
}

fn with_tail(path: &Path, tail: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(tail);
    path.into()
}

/// A database and its journals, where they are.
fn remove(path: &Path) -> std::io::Result<()> {
    for tail in ["-wal", "-shm", ""] {
        match std::fs::remove_file(with_tail(path, tail)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What a copy has.
#[derive(Debug)]
pub struct Content {
    /// How many data keys each version of the key-encryption key wraps.
    pub wrapped_by: Vec<(u32, i64)>,
    /// Which data keys there are: see [`Store::which_data_keys`].
    pub which: [u8; 32],
}

impl Store {
    /// A hash of which data keys there are, by dataset and version: whatever wraps them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn which_data_keys(&self) -> Result<[u8; 32], StoreError> {
        let rows = self.read().await?.rows(WHICH, &[]).await?;
        let keys = rows.iter().map(|row| Ok((row.get(0)?, row.number(1)?)));
        Ok(hash_of(keys.collect::<Result<_, StoreError>>()?))
    }
}

const WHICH: &str = "SELECT dataset_id, version FROM data_keys ORDER BY dataset_id, version";

fn hash_of(keys: Vec<(String, u32)>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (dataset_id, version) in keys {
        hash.update((dataset_id.len() as u64).to_be_bytes());
        hash.update(dataset_id);
        hash.update(version.to_be_bytes());
    }
    hash.finalize().into()
}

/// What a copy has.
///
/// # Errors
/// [`BackupError::Unusable`] where it is no key store, or a damaged one.
pub async fn content(copy: &Path) -> Result<Content, BackupError> {
    let looked = look(copy).await;
    looked.map_err(|error| BackupError::Unusable {
        path: copy.to_owned(),
        reason: error.to_string(),
    })
}

async fn look(path: &Path) -> Result<Content, sqlx::Error> {
    let options = sqlite::options(path)
        .create_if_missing(false)
        .read_only(true)
        .immutable(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let found: String = sqlx::query_scalar(AssertSqlSafe("PRAGMA integrity_check(1)".to_owned()))
        .fetch_one(&mut connection)
        .await?;
    if found != "ok" {
        return Err(sqlx::Error::Protocol(found));
    }
    let wrapped_by = sqlx::query_as(
        "SELECT kek_version, count(*) FROM data_keys GROUP BY kek_version ORDER BY kek_version",
    )
    .fetch_all(&mut connection)
    .await?;
    let which = hash_of(sqlx::query_as(WHICH).fetch_all(&mut connection).await?);
    connection.close().await?;
    Ok(Content { wrapped_by, which })
}

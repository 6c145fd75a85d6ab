//! Where a ledger lies: in a SQLite file, or in PostgreSQL for several brokers. What differs between the two is in the modules
//! below; everything else asks in a [`Session`] and does not know which it is.

pub(super) mod blocks;
pub(super) mod derived;
pub(super) mod link;
mod packed;
pub(super) mod pending;
pub(super) mod place;
pub(super) mod postgres;
pub(super) mod rows;
pub(super) mod schema;
pub(super) mod session;
mod short;
pub(super) mod sqlite;

pub(super) use link::Link;
pub(super) use pending::Pending;
pub(super) use session::Session;

use super::{LedgerAddress, OpenError};
use sqlx::{Connection as _, PgConnection, SqliteConnection, SqlitePool};

/// How often a reader looks for a state that is whole.
const VIEWS: usize = 1_000;

#[derive(Debug, thiserror::Error)]
pub(super) enum StorageError {
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    #[error("{0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("a block's body is not what this version writes: {0}")]
    Body(#[from] serde_json::Error),
    #[error("the ledger has no blocks")]
    NoBlocks,
    #[error("block {height}: {field} is not of its form")]
    Form { height: i64, field: &'static str },
    #[error("the database did not answer in {0:?}; check that it can be reached")]
    Late(std::time::Duration),
    #[error("the password file {path}: {source}; check password_file and the file's rights")]
    Password {
        path: std::path::PathBuf,
        source: std::io::Error,
    },
    #[error("the database cannot hold a ledger: {0}")]
    Unfit(String),
    #[error("a channel's ledger is kept by its peers")]
    Channel,
    #[error("the state was written and its writer did not say so; try again")]
    Overtaken,
    #[error(
        "a newer version of this program wrote it (tables of version {found}, {known} is known here); use that one"
    )]
    Newer { found: i64, known: i64 },
    #[error("keys of several datasets or leases are not listed together; ask for those of one")]
    LiesApart,
    #[error("a value of the state is not text: {0}")]
    NotText(std::string::FromUtf8Error),
    #[error("{0}; trying again soon")]
    Unreachable(String),
    #[error(
        "the database's server is a standby, which is only read and may be behind; let the address in --ledger lead to the primary"
    )]
    Standby,
}

impl StorageError {
    /// Whether waiting may help: the database could not be reached, or is starting or stopping.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Late(_) | Self::Overtaken | Self::Unreachable(_) | Self::Standby => true,
            Self::Database(error) => postgres::is_passing(error),
            _ => false,
        }
    }
}

/// Whether the file itself is at fault, not a block in it.
pub(super) fn is_damage(error: &StorageError) -> bool {
    let StorageError::Database(sqlx::Error::Database(error)) = error else {
        return matches!(
            error,
            StorageError::Database(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))
        );
    };
    let code = error.code();
    if error
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .is_some()
    {
        return code.is_some_and(|code| code.starts_with("XX"));
    }
    let code = code.and_then(|code| code.parse::<u32>().ok());
    // SQLITE_CORRUPT, SQLITE_NOTADB, and SQLITE_ERROR, which a malformed schema gives.
    matches!(code.map(|code| code & 0xff), Some(1 | 11 | 26))
}

fn to_height(height: i64) -> Result<u64, StorageError> {
    u64::try_from(height).map_err(|_| StorageError::Form {
        height,
        field: "height",
    })
}

/// Keeps other processes out of a file for as long as it is held. PostgreSQL lets several in, one block at a time.
pub(super) fn lock(address: &LedgerAddress) -> Result<Option<sqlite::Lock>, OpenError> {
    match address {
        LedgerAddress::Sqlite(path) => sqlite::lock(path).map(Some),
        LedgerAddress::Postgres(_) | LedgerAddress::Fabric(_) => Ok(None),
    }
}

/// A connection that may write.
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Connection {
    pub(super) async fn open(address: &LedgerAddress) -> Result<Self, StorageError> {
        Ok(match address {
            LedgerAddress::Sqlite(path) => Self::Sqlite(sqlite::connect(path).await?),
            LedgerAddress::Postgres(address) => Self::Postgres(postgres::connect(address).await?),
            LedgerAddress::Fabric(_) => return Err(StorageError::Channel),
        })
    }

    /// A transaction in which nobody else writes; what the last one wrote is seen.
    pub(super) async fn write(&mut self) -> Result<Session<'_>, StorageError> {
        Ok(match self {
            Self::Sqlite(connection) => {
                Session::Sqlite(connection.begin_with("BEGIN IMMEDIATE").await?, None)
            }
            Self::Postgres(connection) => Session::Postgres(postgres::begin_write(connection).await?),
        })
    }

    /// A transaction that sees one state and changes nothing.
    pub(super) async fn read(&mut self) -> Result<Session<'_>, StorageError> {
        Ok(match self {
            Self::Sqlite(connection) => Session::Sqlite(connection.begin().await?, None),
            Self::Postgres(connection) => Session::Postgres(postgres::begin_read(connection).await?),
        })
    }

    pub(super) async fn close(self) -> Result<(), StorageError> {
        match self {
            Self::Sqlite(connection) => Ok(connection.close().await?),
            Self::Postgres(connection) => postgres::close(connection).await,
        }
    }
}

/// The readers' connections. Clones share them.
#[derive(Clone)]
pub(super) enum Readers {
    Sqlite(SqlitePool, Pending),
    Postgres(postgres::Pool),
}

impl Readers {
    pub(super) async fn open(address: &LedgerAddress, pending: Pending) -> Result<Self, StorageError> {
        Ok(match address {
            LedgerAddress::Sqlite(path) => Self::Sqlite(sqlite::read_pool(path).await?, pending),
            LedgerAddress::Postgres(address) => Self::Postgres(postgres::Pool::open(address)?),
            LedgerAddress::Fabric(_) => return Err(StorageError::Channel),
        })
    }

    /// A transaction that sees one state and changes nothing.
    pub(super) async fn read(&self) -> Result<Session<'static>, StorageError> {
        Ok(match self {
            Self::Sqlite(pool, pending) => read_with(pool, pending).await?,
            Self::Postgres(pool) => Session::Postgres(pool.begin_read().await?),
        })
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool, _) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// A state that is whole: what is in memory goes on where the tables end.
async fn read_with(pool: &SqlitePool, pending: &Pending) -> Result<Session<'static>, StorageError> {
    for _ in 0..VIEWS {
        // In this order, so that nothing is missing between the two. The tables may be further by now.
        let view = pending.view();
        let mut session = Session::Sqlite(pool.begin().await?, None);
        if derived::height(&mut session).await? <= view.height {
            session.see(view);
            return Ok(session);
        }
        session.rollback().await?;
        // The writer tells what it has committed right after.
        tokio::task::yield_now().await;
    }
    Err(StorageError::Overtaken)
}

//! The key store's statements, on whichever database it lies: one text for all three where it can be, and values and rows that read alike.
//!
//! A statement has `$1` and so on for its values. MariaDB knows none of these: for it they become `?`, each with its value. What has to be
//! said differently is in the module of each database below, and nowhere else.
//!
//! Whoever writes waits for its turn: one transaction at a time, of all brokers that share the store, so that what it reads stays true
//! until it commits, and no two of them can wait for each other. On a server nothing waits for ever.

pub(super) mod mysql;
pub(super) mod postgres;
pub(super) mod sqlite;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::mysql::MySqlRow;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{
    AssertSqlSafe, Decode, MySql, Postgres, Row as _, SqlSafeStr as _, Sqlite, SqlitePool, Transaction, Type,
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{StoreAddress, StoreError};

/// Connections to a server.
const CONNECTIONS: u32 = 8;
/// For a connection, and for one of the pool.
const CONNECT: Duration = Duration::from_secs(5);
/// For this broker's own turn to write; the server has its own bound.
const TURN: Duration = Duration::from_secs(20);
/// For an answer. The server gives up earlier, and says why.
const ANSWER: Duration = Duration::from_secs(40);

/// Where the tables are.
#[derive(Debug, Clone)]
pub(super) enum Database {
    Sqlite(SqlitePool),
    Postgres(postgres::Server),
    MySql(mysql::Server),
}

/// What statements run in: a transaction that writes, or a connection on which each statement is alone.
pub(super) enum Session {
    Sqlite(Held<Sqlite>),
    Postgres(Held<Postgres>),
    MySql(Held<MySql>),
}

/// A connection of the pool. A transaction that is dropped without [`Session::commit`] is rolled back.
pub(super) enum Held<D: sqlx::Database> {
    Reading(PoolConnection<D>),
    /// With this broker's own turn, where its writers take turns before they ask the server.
    Writing(Transaction<'static, D>, Option<OwnedMutexGuard<()>>),
}

impl<D: sqlx::Database> Deref for Held<D> {
    type Target = D::Connection;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Reading(connection) => connection,
            Self::Writing(transaction, _) => transaction,
        }
    }
}

impl<D: sqlx::Database> DerefMut for Held<D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Reading(connection) => connection,
            Self::Writing(transaction, _) => transaction,
        }
    }
}

impl<D: sqlx::Database> Held<D> {
    async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Reading(_) => Ok(()),
            Self::Writing(transaction, _own_turn) => transaction.commit().await,
        }
    }
}

/// What is bound to a statement.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'v> {
    Integer(Option<i64>),
    Text(Option<&'v str>),
    Bytes(Option<&'v [u8]>),
}

macro_rules! from {
    ($($kind:ty => |$value:ident| $made:expr),* $(,)?) => {$(
        impl<'v> From<$kind> for Value<'v> {
            fn from($value: $kind) -> Self {
                $made
            }
        }
    )*};
}

from! {
    i64 => |value| Self::Integer(Some(value)),
    u32 => |value| Self::Integer(Some(value.into())),
    bool => |value| Self::Integer(Some(value.into())),
    Option<i64> => |value| Self::Integer(value),
    Option<u32> => |value| Self::Integer(value.map(Into::into)),
    &'v str => |value| Self::Text(Some(value)),
    &'v String => |value| Self::Text(Some(value)),
    Option<&'v str> => |value| Self::Text(value),
    &'v Option<String> => |value| Self::Text(value.as_deref()),
    &'v [u8] => |value| Self::Bytes(Some(value)),
    &'v Vec<u8> => |value| Self::Bytes(Some(value)),
    Option<&'v [u8]> => |value| Self::Bytes(value),
}

/// Values of a statement, in the order of their numbers.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        &[$($crate::store::database::Value::from($value)),*]
    };
}
pub(super) use values;

macro_rules! bound {
    ($sql:expr, $values:expr) => {
        $values
            .into_iter()
            .fold(sqlx::query($sql), |query, value| match *value {
                Value::Integer(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::Bytes(bytes) => query.bind(bytes),
            })
    };
}

/// A row of an answer.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
    MySql(MySqlRow),
}

/// What a column may hold: an integer of 64 bits, a text or bytes, or nothing.
pub(super) trait Cell:
    for<'r> Decode<'r, Sqlite>
    + Type<Sqlite>
    + for<'r> Decode<'r, Postgres>
    + Type<Postgres>
    + for<'r> Decode<'r, MySql>
    + Type<MySql>
{
}

impl<T> Cell for T where
    T: for<'r> Decode<'r, Sqlite>
        + Type<Sqlite>
        + for<'r> Decode<'r, Postgres>
        + Type<Postgres>
        + for<'r> Decode<'r, MySql>
        + Type<MySql>
{
}

impl Row {
    /// The column at a place.
    pub(super) fn get<T: Cell>(&self, at: usize) -> Result<T, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(at),
            Self::Postgres(row) => row.try_get(at),
            Self::MySql(row) => row.try_get(at),
        }?)
    }

    /// A number that is never negative, nor large.
    pub(super) fn number(&self, at: usize) -> Result<u32, StoreError> {
        let number: i64 = self.get(at)?;
        let fits = u32::try_from(number);
        fits.map_err(|error| StoreError::Database(sqlx::Error::Decode(Box::new(error))))
    }
}

impl Session {
    /// All rows of an answer.
    pub(super) async fn rows(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(held) => {
                let rows = bound!(sql, values).fetch_all(&mut **held).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(held) => {
                let rows = in_time(bound!(sql, values).fetch_all(&mut **held)).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
            Self::MySql(held) => {
                let (sql, values) = mysql::positional(sql, values);
                let rows = bound!(AssertSqlSafe(sql), &values).fetch_all(&mut **held);
                let rows = in_time(rows).await?;
                Ok(rows.into_iter().map(Row::MySql).collect())
            }
        }
    }

    /// The first row of an answer.
    pub(super) async fn row(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// The first column of an answer's first row.
    pub(super) async fn cell<T: Cell>(
        &mut self,
        sql: &'static str,
        values: &[Value<'_>],
    ) -> Result<Option<T>, StoreError> {
        self.row(sql, values).await?.map(|row| row.get(0)).transpose()
    }

    /// Runs a statement. Yields how many rows it found to change.
    pub(super) async fn run(&mut self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite(held) => {
                let done = bound!(sql, values).execute(&mut **held).await?;
                done.rows_affected()
            }
            Self::Postgres(held) => {
                let done = in_time(bound!(sql, values).execute(&mut **held)).await?;
                done.rows_affected()
            }
            Self::MySql(held) => {
                let (sql, values) = mysql::positional(sql, values);
                let done = bound!(AssertSqlSafe(sql), &values).execute(&mut **held);
                in_time(done).await?.rows_affected()
            }
        })
    }

    /// Has rows that come be numbered after those that are there, where they came with their numbers.
    pub(super) async fn number_on(&mut self) -> Result<(), StoreError> {
        if let Self::Postgres(_) = self {
            for statement in postgres::NUMBER_ON {
                self.rows(statement, &[]).await?;
            }
        }
        Ok(())
    }

    /// Makes it last. After an error only the database knows whether it does.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(held) => Ok(held.commit().await?),
            Self::Postgres(held) => in_time(held.commit()).await,
            Self::MySql(held) => in_time(held.commit()).await,
        }
    }
}

impl Database {
    /// Opens the database and brings its tables up to date.
    pub(super) async fn open(address: &StoreAddress) -> Result<Self, StoreError> {
        Ok(match address {
            StoreAddress::Sqlite(path) => Self::Sqlite(sqlite::open(path).await?),
            StoreAddress::Postgres(address) => Self::Postgres(postgres::Server::open(address).await?),
            StoreAddress::MySql(address) => Self::MySql(mysql::Server::open(address).await?),
        })
    }

    /// Whether the tables are there.
    pub(super) async fn exists(address: &StoreAddress) -> Result<bool, StoreError> {
        match address {
            StoreAddress::Sqlite(path) => Ok(path.exists()),
            StoreAddress::Postgres(address) => postgres::Server::connect(address)?.is_there().await,
            StoreAddress::MySql(address) => mysql::Server::connect(address)?.is_there().await,
        }
    }

    /// For statements each of which is alone.
    pub(super) async fn read(&self) -> Result<Session, StoreError> {
        Ok(match self {
            Self::Sqlite(pool) => Session::Sqlite(Held::Reading(pool.acquire().await?)),
            Self::Postgres(server) => Session::Postgres(Held::Reading(server.acquire().await?)),
            Self::MySql(server) => Session::MySql(Held::Reading(server.acquire().await?)),
        })
    }

    /// Waits for its turn to write.
    pub(super) async fn write(&self) -> Result<Session, StoreError> {
        Ok(match self {
            Self::Sqlite(pool) => {
                Session::Sqlite(Held::Writing(pool.begin_with("BEGIN IMMEDIATE").await?, None))
            }
            Self::Postgres(server) => Session::Postgres(server.begin().await?),
            Self::MySql(server) => Session::MySql(server.begin().await?),
        })
    }

    /// What there is now, for as long as it takes to read it.
    pub(super) async fn snapshot(&self) -> Result<Session, StoreError> {
        Ok(match self {
            Self::Sqlite(pool) => Session::Sqlite(Held::Writing(pool.begin().await?, None)),
            Self::Postgres(server) => Session::Postgres(Held::Writing(server.snapshot().await?, None)),
            Self::MySql(server) => Session::MySql(Held::Writing(server.snapshot().await?, None)),
        })
    }

    pub(super) async fn close(&self) {
        let closed = async {
            match self {
                Self::Sqlite(pool) => pool.close().await,
                Self::Postgres(server) => server.pool.close().await,
                Self::MySql(server) => server.pool.close().await,
            }
        };
        match self {
            Self::Sqlite(_) => closed.await,
            _ => {
                if tokio::time::timeout(CONNECT, closed).await.is_err() {
                    tracing::warn!("closing the connections to the key store's database took too long");
                }
            }
        }
    }
}

/// Waits for an answer, but not for ever.
async fn in_time<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(StoreError::Late(ANSWER)),
    }
}

/// Waits for this broker's own turn to write.
async fn own_turn(turn: &Arc<Mutex<()>>) -> Result<OwnedMutexGuard<()>, StoreError> {
    let own = tokio::time::timeout(TURN, Arc::clone(turn).lock_owned()).await;
    own.map_err(|_| StoreError::Late(TURN))
}

/// Migrations by description and statements, numbered from 1.
fn migrator(migrations: &[(&'static str, &'static str)]) -> Migrator {
    let numbered = (1..).zip(migrations);
    let migrations = numbered.map(|(version, (description, statements))| {
        Migration::new(
            version,
            (*description).into(),
            MigrationType::Simple,
            statements.into_sql_str(),
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}

/// Whether these are all migrations of this version, so that a role that may make no tables is enough.
fn are_current(applied: &[i64], migrations: &[(&str, &str)]) -> bool {
    let known: Vec<i64> = (1..).zip(migrations).map(|(version, _)| version).collect();
    applied == known
}

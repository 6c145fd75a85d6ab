//! Statements on either database: one text where both understand it, a pair where they do not, and rows that read alike.

use super::pending::View;
use super::{StorageError, postgres};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Postgres, Row as _, Sqlite};
use std::sync::Arc;

/// A transaction: what statements run in. Dropped without [`Session::commit`] it is rolled back.
pub(in crate::ledger) enum Session<'c> {
    /// With what the newest blocks lead to, where that is not in the tables.
    Sqlite(sqlx::Transaction<'c, Sqlite>, Option<View>),
    Postgres(sqlx::Transaction<'c, Postgres>),
}

/// A statement with `$1` and so on for its values.
#[derive(Clone, Copy)]
pub(in crate::ledger) struct Sql {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

impl From<&'static str> for Sql {
    fn from(both: &'static str) -> Self {
        Self {
            sqlite: both,
            postgres: both,
        }
    }
}

/// What is bound to a statement.
#[derive(Clone, Copy)]
pub(in crate::ledger) enum Value<'v> {
    Integer(i64),
    Text(&'v str),
    /// A text that need not be copied.
    Shared(&'v Arc<str>),
    Bytes(&'v [u8]),
    NoBytes,
}

impl Value<'_> {
    /// A height or a number of rows.
    pub(super) fn count(number: impl TryInto<i64>) -> Self {
        Self::Integer(number.try_into().unwrap_or(i64::MAX))
    }
}

/// A row of an answer.
pub(in crate::ledger) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! bound {
    ($sql:expr, $values:expr, |$text:ident| $shared:expr) => {
        $values
            .iter()
            .fold(sqlx::query($sql), |query, value| match *value {
                Value::Integer(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::Shared($text) => query.bind($shared),
                Value::Bytes(bytes) => query.bind(bytes),
                Value::NoBytes => query.bind(None::<&[u8]>),
            })
    };
}

impl Session<'_> {
    /// What is not in the tables.
    pub(super) fn view(&self) -> Option<&View> {
        match self {
            Self::Sqlite(_, view) => view.as_ref(),
            Self::Postgres(_) => None,
        }
    }

    /// The last block that is seen, where that is said.
    pub(in crate::ledger) fn height(&self) -> Option<u64> {
        self.view().map(|view| view.height)
    }

    /// From here on the state is that after the view's block.
    pub(in crate::ledger) fn see(&mut self, seen: View) {
        if let Self::Sqlite(_, view) = self {
            *view = Some(seen);
        }
    }

    /// All rows of an answer.
    pub(in crate::ledger) async fn rows(
        &mut self,
        sql: impl Into<Sql>,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, StorageError> {
        let sql = sql.into();
        match self {
            Self::Sqlite(session, _) => {
                let rows = bound!(sql.sqlite, values, |text| Arc::clone(text))
                    .fetch_all(&mut **session)
                    .await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(session) => {
                let rows = bound!(sql.postgres, values, |text| &**text).fetch_all(&mut **session);
                let rows = postgres::in_time(rows).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Runs a statement that answers nothing.
    pub(in crate::ledger) async fn run(
        &mut self,
        sql: impl Into<Sql>,
        values: &[Value<'_>],
    ) -> Result<(), StorageError> {
        let sql = sql.into();
        match self {
            Self::Sqlite(session, _) => {
                bound!(sql.sqlite, values, |text| Arc::clone(text))
                    .execute(&mut **session)
                    .await?;
            }
            Self::Postgres(session) => {
                let done = bound!(sql.postgres, values, |text| &**text).execute(&mut **session);
                postgres::in_time(done).await?;
            }
        }
        Ok(())
    }

    /// Makes it last. After an error only the database knows whether it does.
    pub(in crate::ledger) async fn commit(self) -> Result<(), StorageError> {
        match self {
            Self::Sqlite(session, _) => Ok(session.commit().await?),
            Self::Postgres(session) => postgres::in_time(session.commit()).await,
        }
    }

    /// Undoes it.
    pub(in crate::ledger) async fn rollback(self) -> Result<(), StorageError> {
        match self {
            Self::Sqlite(session, _) => Ok(session.rollback().await?),
            Self::Postgres(session) => postgres::in_time(session.rollback()).await,
        }
    }
}

macro_rules! cell {
    ($row:expr, $at:expr) => {
        match $row {
            Row::Sqlite(row) => row.try_get($at),
            Row::Postgres(row) => row.try_get($at),
        }
    };
}

impl Row {
    pub(super) fn integer(&self, at: usize) -> Result<i64, sqlx::Error> {
        cell!(self, at)
    }

    pub(super) fn text(&self, at: usize) -> Result<String, sqlx::Error> {
        cell!(self, at)
    }

    pub(super) fn bytes(&self, at: usize) -> Result<Vec<u8>, sqlx::Error> {
        cell!(self, at)
    }

    pub(super) fn bytes_if_any(&self, at: usize) -> Result<Option<Vec<u8>>, sqlx::Error> {
        cell!(self, at)
    }
}

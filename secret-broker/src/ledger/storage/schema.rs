//! The tables: how they come to be, and whether a ledger still has them and is sound.

mod postgres;
mod sqlite;

use super::{Connection, Session, StorageError};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

/// Brings the ledger to this version's tables.
pub(in crate::ledger) async fn migrate(connection: &mut Connection) -> Result<(), StorageError> {
    match connection {
        Connection::Sqlite(connection) => sqlite::migrate(connection).await,
        Connection::Postgres(connection) => postgres::migrate(connection).await,
    }
}

/// Whether the ledger has this version's tables; none where there is no ledger at all.
pub(in crate::ledger) async fn is_current(session: &mut Session<'_>) -> Result<Option<bool>, StorageError> {
    match session {
        Session::Sqlite(session, _) => sqlite::is_current(session).await.map(Some),
        Session::Postgres(session) => postgres::is_current(session).await,
    }
}

/// What is wrong with the ledger beside its rows: its tables, guards and indexes are others, or its pages are not in order.
pub(in crate::ledger) async fn unsound(session: &mut Session<'_>) -> Result<Option<String>, StorageError> {
    match session {
        Session::Sqlite(session, _) => sqlite::unsound(session).await,
        Session::Postgres(session) => postgres::unsound(session).await,
    }
}

const OTHERS: &str = "its tables and guards are not those of this version";

/// Migrations by version, description and statements.
fn migrator(migrations: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations: Vec<_> = migrations
        .iter()
        .map(|(version, description, statements)| {
            Migration::new(
                *version,
                (*description).into(),
                MigrationType::Simple,
                AssertSqlSafe(*statements).into_sql_str(),
                false,
            )
        })
        .collect();
    Migrator::with_migrations(migrations)
}

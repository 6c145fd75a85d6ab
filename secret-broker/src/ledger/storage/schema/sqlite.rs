//! The file's tables.

use super::{OTHERS, StorageError, migrator};
use crate::ledger::storage::is_damage;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Row, SqliteConnection};

/// By version, description and statements.
const MIGRATIONS: [(i64, &str, &str); 5] = [
    (
        1,
        "blocks and what they derive",
        include_str!("../../../../migrations/ledger/0001_blocks_and_what_they_derive.sql"),
    ),
    (
        2,
        "blocks are signed",
        include_str!("../../../../migrations/ledger/0002_blocks_are_signed.sql"),
    ),
    (
        3,
        "the state may lag",
        include_str!("../../../../migrations/ledger/0003_the_state_may_lag.sql"),
    ),
    (
        4,
        "rows of a dataset lie together",
        include_str!("../../../../migrations/ledger/0004_rows_of_a_dataset_lie_together.sql"),
    ),
    (
        5,
        "history in lines and short places",
        include_str!("../../../../migrations/ledger/0005_history_in_lines_and_short_places.sql"),
    ),
];
/// The first version that can be looked at without being brought to this one.
const READABLE: i64 = 2;

pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), StorageError> {
    refuse_newer(connection).await?;
    Ok(migrator(&MIGRATIONS).run_direct(None, connection, false).await?)
}

pub(super) async fn is_current(connection: &mut SqliteConnection) -> Result<bool, StorageError> {
    refuse_newer(connection).await?;
    let row = sqlx::query("SELECT count(*) FROM pragma_table_info('blocks') WHERE name = 'signature'")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get::<i64, _>(0)? > 0)
}

/// What a later version made of a file is not known here.
async fn refuse_newer(connection: &mut SqliteConnection) -> Result<(), StorageError> {
    let newest = MIGRATIONS.iter().map(|(number, ..)| *number).max().unwrap_or(0);
    match version(connection).await? {
        Some(found) if found > newest => Err(StorageError::Newer { found, known: newest }),
        _ => Ok(()),
    }
}

pub(super) async fn unsound(connection: &mut SqliteConnection) -> Result<Option<String>, StorageError> {
    let damage = |error: sqlx::Error| {
        let error = StorageError::from(error);
        if is_damage(&error) {
            Ok(error.to_string())
        } else {
            Err(error)
        }
    };
    match sqlx::query("PRAGMA integrity_check(1)")
        .fetch_one(&mut *connection)
        .await
    {
        Ok(row) => {
            let finding: String = row.try_get(0)?;
            if finding != "ok" {
                return Ok(Some(finding));
            }
        }
        Err(error) => return damage(error).map(Some),
    }
    let mut model = SqliteConnection::connect_with(&SqliteConnectOptions::new().in_memory(true)).await?;
    let version = version(connection).await?.unwrap_or(i64::MAX);
    let known: Vec<_> = MIGRATIONS
        .into_iter()
        .filter(|(number, ..)| *number <= version.max(READABLE))
        .collect();
    migrator(&known).run_direct(None, &mut model, false).await?;
    let (expected, found) = (described(&mut model).await?, described(connection).await);
    model.close().await?;
    match found {
        Ok(found) if found == expected => Ok(None),
        Ok(_) => Ok(Some(OTHERS.to_owned())),
        Err(error) if is_damage(&error) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// The last migration that the file has had; none where it does not say.
async fn version(connection: &mut SqliteConnection) -> Result<Option<i64>, StorageError> {
    let row = sqlx::query("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await;
    match row.and_then(|row| row.try_get::<Option<i64>, _>(0)) {
        Ok(version) => Ok(version),
        Err(error) => {
            let error = StorageError::from(error);
            if is_damage(&error) { Ok(None) } else { Err(error) }
        }
    }
}

/// Tables, triggers and indexes, and which migrations made them.
async fn described(connection: &mut SqliteConnection) -> Result<Vec<(String, String)>, StorageError> {
    let rows = sqlx::query(
        "SELECT type || ' ' || name, coalesce(tbl_name, '') || ' ' || coalesce(sql, '') FROM sqlite_schema \
         UNION ALL SELECT 'migration ' || version, success || ' ' || hex(checksum) FROM _sqlx_migrations \
         ORDER BY 1",
    )
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

//! The file's tables.

use super::{OTHERS, StorageError, migrator};
use crate::ledger::storage::is_damage;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Row, SqliteConnection};

pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<(), StorageError> {
    let migrations = [
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
    ];
    Ok(migrator(&migrations).run_direct(None, connection, false).await?)
}

pub(super) async fn is_current(connection: &mut SqliteConnection) -> Result<bool, StorageError> {
    let row = sqlx::query("SELECT count(*) FROM pragma_table_info('blocks') WHERE name = 'signature'")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get::<i64, _>(0)? > 0)
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
    migrate(&mut model).await?;
    let (expected, found) = (described(&mut model).await?, described(connection).await);
    model.close().await?;
    match found {
        Ok(found) if found == expected => Ok(None),
        Ok(_) => Ok(Some(OTHERS.to_owned())),
        Err(error) if is_damage(&error) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
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

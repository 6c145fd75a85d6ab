//! The file's schema: how it comes to be, and whether the file still has it and is sound.

use super::StorageError;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Row, SqlSafeStr, SqliteConnection};

/// Brings the file to this version's schema.
pub(in crate::ledger) async fn migrate(connection: &mut SqliteConnection) -> Result<(), StorageError> {
    let migrations = [
        (
            1,
            "blocks and what they derive",
            include_str!("../../../migrations/ledger/0001_blocks_and_what_they_derive.sql"),
        ),
        (
            2,
            "blocks are signed",
            include_str!("../../../migrations/ledger/0002_blocks_are_signed.sql"),
        ),
    ];
    let migrations = migrations.map(|(version, description, statements)| {
        Migration::new(
            version,
            description.into(),
            MigrationType::Simple,
            statements.into_sql_str(),
            false,
        )
    });
    Ok(Migrator::with_migrations(migrations.into())
        .run_direct(None, connection, false)
        .await?)
}

/// Whether the file was brought to this version's schema.
pub(in crate::ledger) async fn is_current(connection: &mut SqliteConnection) -> Result<bool, StorageError> {
    let row = sqlx::query("SELECT count(*) FROM pragma_table_info('blocks') WHERE name = 'signature'")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get::<i64, _>(0)? > 0)
}

/// What is wrong with the file beside its rows: its tables, guards and indexes are others, or its pages are not in order.
pub(in crate::ledger) async fn unsound(
    connection: &mut SqliteConnection,
) -> Result<Option<String>, StorageError> {
    let damage = |error: sqlx::Error| {
        let error = StorageError::from(error);
        if super::is_damage(&error) {
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
        Ok(_) => Ok(Some(
            "its tables and guards are not those of this version".to_owned(),
        )),
        Err(error) if super::is_damage(&error) => Ok(Some(error.to_string())),
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

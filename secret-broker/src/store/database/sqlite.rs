//! The key store in a file, for one broker.

use std::path::Path;

use sqlx::sqlite::SqlitePool;

use super::migrator;
use crate::sqlite;
use crate::store::StoreError;

const MIGRATIONS: [(&str, &str); 11] = [
    (
        "initial",
        include_str!("../../../migrations/store/0001_initial.sql"),
    ),
    (
        "transactions",
        include_str!("../../../migrations/store/0002_transactions.sql"),
    ),
    ("tries", include_str!("../../../migrations/store/0003_tries.sql")),
    (
        "standing",
        include_str!("../../../migrations/store/0004_standing.sql"),
    ),
    (
        "rotation",
        include_str!("../../../migrations/store/0005_rotation.sql"),
    ),
    (
        "doomed keys",
        include_str!("../../../migrations/store/0006_doomed_keys.sql"),
    ),
    (
        "known keks",
        include_str!("../../../migrations/store/0007_known_keks.sql"),
    ),
    (
        "sealed receipts",
        include_str!("../../../migrations/store/0008_sealed_receipts.sql"),
    ),
    (
        "expected revisions",
        include_str!("../../../migrations/store/0009_expected_revisions.sql"),
    ),
    (
        "operations of a person",
        include_str!("../../../migrations/store/0010_operations_of_a_person.sql"),
    ),
    (
        "holders of operations",
        include_str!("../../../migrations/store/0011_holders_of_operations.sql"),
    ),
];

/// Connections to the file.
const CONNECTIONS: u32 = 4;

pub(super) async fn open(path: &Path) -> Result<SqlitePool, StoreError> {
    let options = sqlite::options(path)
        .foreign_keys(true)
        // Deleted keys are overwritten, not merely unlinked.
        .pragma("secure_delete", "ON");
    let pool = sqlite::pool(CONNECTIONS).connect_with(options).await?;
    migrator(&MIGRATIONS).run(&pool).await?;
    Ok(pool)
}

/// Empties the write-ahead log, which has what was overwritten. Yields whether it was; a reader of something older delays that.
pub(in crate::store) async fn scrub(pool: &SqlitePool) -> Result<bool, StoreError> {
    let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(pool)
        .await?;
    Ok(busy == 0)
}

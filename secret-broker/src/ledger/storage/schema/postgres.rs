//! The database's tables, all of them in a schema of the ledger's own.

use super::{OTHERS, StorageError, migrator};
use crate::ledger::storage::postgres::{SCHEMA, in_time};
use sqlx::{PgConnection, Row};

const MIGRATIONS: [(i64, &str, &str); 1] = [(
    1,
    "blocks and what they derive",
    include_str!("../../../../migrations/ledger-postgres/0001_blocks_and_what_they_derive.sql"),
)];
/// What [`DESCRIBE`] says of tables that the migrations made.
const DESCRIBED: &str = include_str!("../../../../migrations/ledger-postgres/described.txt");

/// A role that may not make tables is enough where they are there.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<(), StorageError> {
    if is_current(connection).await? == Some(true) {
        return Ok(());
    }
    // Two brokers may begin at the same time.
    let lock = sqlx::query("SELECT pg_advisory_lock(1818587496, 0)");
    in_time(lock.execute(&mut *connection)).await?;
    let made = make(connection).await;
    let unlock = sqlx::query("SELECT pg_advisory_unlock(1818587496, 0)");
    in_time(unlock.execute(connection)).await?;
    made
}

async fn make(connection: &mut PgConnection) -> Result<(), StorageError> {
    // Even with IF NOT EXISTS making it takes rights that a role need not have.
    let there = sqlx::query("SELECT to_regnamespace($1) IS NOT NULL").bind(SCHEMA);
    if !in_time(there.fetch_one(&mut *connection)).await?.try_get(0)? {
        in_time(sqlx::query("CREATE SCHEMA leasehold").execute(&mut *connection)).await?;
    }
    Ok(migrator(&MIGRATIONS).run_direct(None, connection, false).await?)
}

pub(super) async fn is_current(connection: &mut PgConnection) -> Result<Option<bool>, StorageError> {
    let there = sqlx::query(
        "SELECT CASE WHEN to_regnamespace($1) IS NULL THEN false \
         ELSE to_regclass('leasehold._sqlx_migrations') IS NOT NULL END",
    );
    let there = in_time(there.bind(SCHEMA).fetch_one(&mut *connection)).await?;
    if !there.try_get(0)? {
        return Ok(None);
    }
    let applied =
        sqlx::query("SELECT version FROM leasehold._sqlx_migrations WHERE success ORDER BY version");
    let applied = in_time(applied.fetch_all(connection)).await?;
    let applied: Vec<i64> = applied
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
    Ok(Some(applied == MIGRATIONS.map(|(version, ..)| version)))
}

pub(super) async fn unsound(connection: &mut PgConnection) -> Result<Option<String>, StorageError> {
    Ok((described(connection).await? != DESCRIBED).then(|| OTHERS.to_owned()))
}

/// Columns, indexes, guards and rules, and which migrations made them, a line each.
async fn described(connection: &mut PgConnection) -> Result<String, StorageError> {
    let rows = in_time(sqlx::query(DESCRIBE).fetch_all(connection)).await?;
    let mut text = String::new();
    for row in rows {
        text.push_str(&row.try_get::<String, _>(0)?);
        text.push('\n');
    }
    Ok(text)
}

const DESCRIBE: &str = "
WITH tables AS (
    SELECT oid, relname, relkind FROM pg_class
    WHERE relnamespace = to_regnamespace('leasehold') AND relname <> '_sqlx_migrations'
)
SELECT line FROM (
    SELECT format('column %s.%s %s%s%s', t.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                  CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
                  CASE WHEN c.collname <> 'default' THEN ' collate ' || c.collname ELSE '' END)
    FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid LEFT JOIN pg_collation c ON c.oid = a.attcollation
    WHERE t.relkind NOT IN ('i', 'I') AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT format('index of %s on %s, unique %s, primary %s, valid %s', t.relname, i.indkey::text, i.indisunique,
                  i.indisprimary, i.indisvalid)
    FROM tables t JOIN pg_index i ON i.indrelid = t.oid
    UNION ALL
    SELECT format('trigger %s.%s, type %s, enabled %s, calls %s', t.relname, g.tgname, g.tgtype, g.tgenabled,
                  g.tgfoid::regproc)
    FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid WHERE NOT g.tgisinternal
    UNION ALL
    SELECT format('rule %s.%s', t.relname, r.rulename) FROM tables t JOIN pg_rewrite r ON r.ev_class = t.oid
    UNION ALL
    SELECT format('row security of %s', c.relname) FROM tables t JOIN pg_class c ON c.oid = t.oid
    WHERE c.relrowsecurity
    UNION ALL
    SELECT format('function %s: %s', p.proname, p.prosrc) FROM pg_proc p
    WHERE p.pronamespace = to_regnamespace('leasehold')
    UNION ALL
    SELECT format('migration %s, %s, %s', version, success, encode(checksum, 'hex')) FROM leasehold._sqlx_migrations
) lines (line) ORDER BY line COLLATE \"C\"";

//! Whatever is changed in the database, verifying names the block and the field.

use super::*;
use crate::ledger::tests::tamper::FIELDS;
use sqlx::{AssertSqlSafe, PgConnection};

/// A ledger of several blocks, and the superuser's connection to it.
async fn tampering(test: &str) -> Option<(Arc<Server>, Bench, PgConnection, u64)> {
    let server = server::shared(test).await?;
    let database = server.database().await;
    let bench = Bench::on(&database).await;
    bench.accepted("one", register("texts")).await;
    let lease = lease_id(&bench.accepted("two", take("texts", &person("a1"))).await);
    bench.now_ms.fetch_add(1_000, Ordering::SeqCst);
    bench.accepted("three", release(&lease, &person("a1"))).await;
    let height = bench.height();
    Some((server, bench, database.connect().await, height))
}

async fn corruption(bench: &Bench) -> Corruption {
    match bench.ledger.verify().await {
        Err(VerifyError::Corrupt(corruption)) => corruption,
        other => panic!("not found: {other:?}"),
    }
}

/// Does something that the guards would refuse, and puts them back as they were.
pub(super) async fn past_the_guards(connection: &mut PgConnection, statement: &str) {
    server::run(connection, "ALTER TABLE blocks DISABLE TRIGGER blocks_stay").await;
    server::run(connection, statement).await;
    server::run(connection, "ALTER TABLE blocks ENABLE ALWAYS TRIGGER blocks_stay").await;
}

#[tokio::test]
async fn any_field_of_any_block_that_is_changed_in_postgresql_is_named() {
    let Some((_server, bench, mut connection, last)) = tampering("tampering in PostgreSQL").await else {
        return;
    };
    server::run(
        &mut connection,
        "CREATE TABLE public.kept AS SELECT * FROM blocks",
    )
    .await;
    for height in 0..=last {
        for field in FIELDS {
            let changed = match field {
                "height" => "height + 1000",
                "timestamp_ms" => "timestamp_ms + 1",
                "body" => "replace(body, 'UiSMSP', 'UiOMSP')",
                "signature" => "set_byte(signature, 5, get_byte(signature, 5) # 1)",
                "previous_hash" => "sha256(previous_hash)",
                "body_hash" => "sha256(body_hash)",
                "hash" => "sha256(hash)",
                _ => "sha256(signer)",
            };
            let change = format!("UPDATE blocks SET {field} = {changed} WHERE height = {height}");
            past_the_guards(&mut connection, &change).await;
            let found = corruption(&bench).await;
            assert_eq!((found.block, found.field), (height, field), "{found}");
            let restore = format!(
                "DELETE FROM blocks WHERE height IN ({height}, {height} + 1000); \
                 INSERT INTO blocks SELECT * FROM public.kept WHERE height = {height}"
            );
            past_the_guards(&mut connection, &restore).await;
        }
    }
    bench.ledger.verify().await.unwrap();
    for (statement, block, field) in [
        ("DELETE FROM blocks WHERE height = 2", 2, "height"),
        ("DELETE FROM blocks", 0, "height"),
    ] {
        past_the_guards(&mut connection, statement).await;
        let found = corruption(&bench).await;
        assert_eq!((found.block, found.field), (block, field), "{statement}: {found}");
        past_the_guards(
            &mut connection,
            "DELETE FROM blocks; INSERT INTO blocks SELECT * FROM public.kept",
        )
        .await;
    }
    bench.ledger.verify().await.unwrap();
    bench.ledger.close().await;
}

#[tokio::test]
async fn a_changed_state_in_postgresql_is_found_and_rebuilt_from_the_blocks() {
    let Some((_server, bench, mut connection, _)) = tampering("rebuilding in PostgreSQL").await else {
        return;
    };
    let before = bench.ledger.verify().await.unwrap();
    for (statement, field) in [
        (
            "UPDATE state SET value = replace(value, 'ending', 'active') WHERE key LIKE 'lease/%'",
            "state",
        ),
        ("DELETE FROM state", "state"),
        ("INSERT INTO state VALUES ('zzz', '1')", "state"),
        ("UPDATE transactions SET height = 1", "transactions"),
        ("INSERT INTO transactions VALUES ('zzz', 1, 0)", "transactions"),
    ] {
        server::run(&mut connection, statement).await;
        let found = corruption(&bench).await;
        assert_eq!(found.field, field, "{statement}: {found}");
        assert_eq!(bench.ledger.rebuild().await.unwrap(), before, "{statement}");
        assert_eq!(bench.ledger.verify().await.unwrap(), before, "{statement}");
    }
    bench.ledger.close().await;
}

#[tokio::test]
async fn guards_and_tables_in_postgresql_that_are_others_are_reported() {
    let Some((_server, bench, mut connection, last)) = tampering("guards in PostgreSQL").await else {
        return;
    };
    for statement in [
        "UPDATE blocks SET timestamp_ms = 0",
        "DELETE FROM blocks",
        "TRUNCATE blocks",
    ] {
        let refused = sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await;
        let refused = refused.map(drop).unwrap_err().to_string();
        assert!(refused.contains("a block never changes"), "{refused}");
    }
    for (change, undo) in [
        (
            "ALTER TABLE blocks DISABLE TRIGGER blocks_stay",
            "ALTER TABLE blocks ENABLE ALWAYS TRIGGER blocks_stay",
        ),
        (
            "ALTER TABLE state ADD COLUMN more text",
            "ALTER TABLE state DROP COLUMN more",
        ),
        (
            "CREATE RULE quiet AS ON INSERT TO transactions DO INSTEAD NOTHING",
            "DROP RULE quiet ON transactions",
        ),
        ("CREATE VIEW other AS SELECT 1 AS one", "DROP VIEW other"),
    ] {
        server::run(&mut connection, change).await;
        let found = corruption(&bench).await;
        assert_eq!((found.block, found.field), (last, "file"), "{change}: {found}");
        server::run(&mut connection, undo).await;
        bench.ledger.verify().await.unwrap();
    }
    bench.ledger.close().await;
}

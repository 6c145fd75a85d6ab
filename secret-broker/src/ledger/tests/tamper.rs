//! Whatever is changed in the file, verifying names the block and the field.

use super::*;
use crate::ledger::founding::Sealer;
use crate::ledger::storage::{blocks, rows};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

pub(super) const FIELDS: [&str; 8] = [
    "height",
    "previous_hash",
    "timestamp_ms",
    "body",
    "body_hash",
    "hash",
    "signer",
    "signature",
];

/// A closed ledger of several blocks, and a connection to its file.
async fn tampering() -> (Bench, SqliteConnection, u64) {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let lease = lease_id(&bench.accepted("two", take("texts", &person("a1"))).await);
    for tx_id in ["three", "four", "five"] {
        bench.now_ms.fetch_add(1_000, Ordering::SeqCst);
        match tx_id {
            "three" => bench.accepted(tx_id, release(&lease, &person("a1"))).await,
            "four" => {
                bench
                    .accepted(tx_id, Command::ConfirmEnd { lease: lease.clone() })
                    .await
            }
            _ => bench.accepted(tx_id, take("texts", &person("b0"))).await,
        };
    }
    let height = bench.height();
    bench.ledger.close().await;
    let connection = storage::sqlite::connect(&bench.path()).await.unwrap();
    (bench, connection, height)
}

async fn verified(bench: &Bench) -> Result<Verified, VerifyError> {
    let reads = storage::sqlite::read_pool(&bench.path()).await.unwrap();
    let mut session = storage::Session::Sqlite(reads.begin().await.unwrap(), None);
    let outcome = verify::verify(&mut session, Depth::Whole, &[]).await;
    drop(session);
    reads.close().await;
    outcome
}

async fn corruption(bench: &Bench) -> Corruption {
    match verified(bench).await {
        Err(VerifyError::Corrupt(corruption)) => corruption,
        other => panic!("not found: {other:?}"),
    }
}

/// Does something that the file's guards would refuse, and puts them back as they were.
pub(super) async fn past_the_guards<T>(
    connection: &mut SqliteConnection,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> T,
) -> T {
    let guards = sqlx::query("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    for guard in &guards {
        let drop = format!("DROP TRIGGER {}", guard.get::<String, _>(0));
        sqlx::query(AssertSqlSafe(drop))
            .execute(&mut *connection)
            .await
            .unwrap();
    }
    let done = work(connection).await;
    for guard in &guards {
        let restore = AssertSqlSafe(guard.get::<String, _>(1));
        sqlx::query(restore).execute(&mut *connection).await.unwrap();
    }
    done
}

async fn run(connection: &mut SqliteConnection, statement: String) {
    let done = past_the_guards(connection, async |connection| {
        sqlx::query(AssertSqlSafe(statement))
            .execute(connection)
            .await
            .unwrap()
    })
    .await;
    assert!(done.rows_affected() > 0);
}

#[tokio::test]
async fn any_field_of_any_block_that_is_changed_is_named() {
    let (bench, mut connection, last) = tampering().await;
    verified(&bench).await.unwrap();
    for height in 0..=last {
        for field in FIELDS {
            let changed = match field {
                "height" => "height + 1000".to_owned(),
                "timestamp_ms" => "timestamp_ms + 1".to_owned(),
                "signature" => "randomblob(64)".to_owned(),
                "body" => "replace(body, 'UiSMSP', 'UiOMSP')".to_owned(),
                _ => "randomblob(32)".to_owned(),
            };
            let read = format!("SELECT {field} FROM blocks WHERE height = {height}");
            let before = sqlx::query(AssertSqlSafe(read))
                .fetch_one(&mut connection)
                .await
                .unwrap();
            run(
                &mut connection,
                format!("UPDATE blocks SET {field} = {changed} WHERE height = {height}"),
            )
            .await;
            let found = corruption(&bench).await;
            assert_eq!((found.block, found.field), (height, field), "{found}");
            let place = if field == "height" { height + 1000 } else { height };
            let restore = AssertSqlSafe(format!("UPDATE blocks SET {field} = ?1 WHERE height = {place}"));
            let query = sqlx::query(restore);
            let query = match field {
                "height" | "timestamp_ms" => query.bind(before.get::<i64, _>(0)),
                "body" => query.bind(before.get::<String, _>(0)),
                _ => query.bind(before.get::<Vec<u8>, _>(0)),
            };
            past_the_guards(&mut connection, async |connection| {
                query.execute(connection).await.unwrap()
            })
            .await;
        }
    }
    verified(&bench).await.unwrap();
}

#[tokio::test]
async fn any_flipped_bit_of_a_body_is_found() {
    let (bench, mut connection, last) = tampering().await;
    for height in 0..=last {
        let read = format!("SELECT body FROM blocks WHERE height = {height}");
        let body: String = sqlx::query(AssertSqlSafe(read))
            .fetch_one(&mut connection)
            .await
            .unwrap()
            .get(0);
        let write = || sqlx::query("UPDATE blocks SET body = ?1 WHERE height = ?2");
        for at in (0..body.len()).step_by(17) {
            let mut bytes = body.clone().into_bytes();
            bytes[at] ^= 1;
            let query = write()
                .bind(String::from_utf8(bytes).unwrap())
                .bind(i64::try_from(height).unwrap());
            past_the_guards(&mut connection, async |connection| {
                query.execute(connection).await.unwrap()
            })
            .await;
            let found = corruption(&bench).await;
            assert_eq!((found.block, found.field), (height, "body"), "byte {at}: {found}");
        }
        let query = write().bind(body).bind(i64::try_from(height).unwrap());
        past_the_guards(&mut connection, async |connection| {
            query.execute(connection).await.unwrap()
        })
        .await;
    }
    run(
        &mut connection,
        "UPDATE blocks SET body = CAST(x'ff00' AS TEXT) WHERE height = 2".to_owned(),
    )
    .await;
    assert_eq!(corruption(&bench).await.field, "body");
}

#[tokio::test]
async fn removed_and_swapped_blocks_are_found() {
    for (statement, block, field) in [
        ("DELETE FROM blocks WHERE height = 0", 0, "height"),
        ("DELETE FROM blocks WHERE height = 3", 3, "height"),
        ("DELETE FROM blocks WHERE height = 6", 5, "state"),
        ("DELETE FROM blocks", 0, "height"),
        (
            "UPDATE blocks SET height = CASE height WHEN 2 THEN -3 WHEN 3 THEN -2 END WHERE height IN (2, 3)",
            2,
            "height",
        ),
    ] {
        let (bench, mut connection, _) = tampering().await;
        run(&mut connection, statement.to_owned()).await;
        let found = corruption(&bench).await;
        assert_eq!((found.block, found.field), (block, field), "{statement}: {found}");
        if statement.contains("CASE") {
            run(
                &mut connection,
                "UPDATE blocks SET height = -height WHERE height < 0".to_owned(),
            )
            .await;
            let found = corruption(&bench).await;
            assert_eq!(
                (found.block, found.field),
                (2, "previous_hash"),
                "swapped: {found}"
            );
        }
    }
}

/// What the broker signs with.
async fn sealer(bench: &Bench, connection: &mut SqliteConnection) -> Sealer {
    Sealer {
        ledger: blocks::from(&mut session(connection).await, 0, 1).await.unwrap()[0].hash,
        key: LedgerKey::load(&bench.options().key).unwrap(),
    }
}

/// Whoever has the key can also sign; a decision that the contract would not make is found all the same.
#[tokio::test]
async fn a_forged_decision_that_is_signed_is_found() {
    let (bench, mut connection, last) = tampering().await;
    let forged = blocks::last(&mut session(&mut connection).await)
        .await
        .unwrap()
        .unwrap();
    let head = forged.head();
    let forged = forged.body.replace("\"five\"", "\"six\"");
    let body: block::Body = serde_json::from_str(&forged).unwrap();
    let Sealer { ledger, key } = sealer(&bench, &mut connection).await;
    let block = block::StoredBlock::after(&head, &ledger, head.timestamp_ms, &body, &key).unwrap();
    let mut session = session(&mut connection).await;
    blocks::append(&mut session, &block).await.unwrap();
    session.commit().await.unwrap();
    let found = corruption(&bench).await;
    assert_eq!((found.block, found.field), (last + 1, "body"));
    assert!(found.reason.contains("leased to others"), "{found}");
}

/// What the contract answered is written anew and held against the text: it must be there to the byte.
#[tokio::test]
async fn an_answer_that_is_recorded_otherwise_and_signed_is_found_and_so_is_one_in_another_form() {
    let otherwise = "transaction five: the contract answers otherwise than is recorded";
    let in_value = |change: fn(&mut serde_json::Value)| {
        move |body: &str| {
            let mut value = serde_json::from_str(body).unwrap();
            change(&mut value);
            value
        }
    };
    let typed = |change: fn(&mut block::Transaction)| {
        move |body: &str| {
            let block::Body::Transactions(mut transactions) = serde_json::from_str(body).unwrap() else {
                panic!("{body}");
            };
            change(&mut transactions[0]);
            block::Body::Transactions(transactions)
        }
    };
    forged(typed(|five| five.events.clear()), otherwise).await;
    forged(typed(|five| five.events[0].lease = None), otherwise).await;
    let number = |five: &mut block::Transaction| five.events[0].lease.as_mut().unwrap().number += 1;
    forged(typed(number), otherwise).await;
    let other = |five: &mut block::Transaction| {
        five.result = CommandResult::Organisation {
            msp: Msp::new("UiSMSP").unwrap(),
        };
    };
    forged(typed(other), otherwise).await;
    // Its fields are in the order of the alphabet then.
    forged(in_value(|_| ()), "it is not in canonical form").await;
    let more = |value: &mut serde_json::Value| value["transactions"][0]["events"][0]["more"] = 1.into();
    forged(in_value(more), "unknown field `more`").await;
    let less = |value: &mut serde_json::Value| {
        drop(value["transactions"][0].as_object_mut().unwrap().remove("result"));
    };
    forged(in_value(less), "missing field `result`").await;
}

/// Puts another body in place of the last one, signs it and expects what is found.
async fn forged<T: serde::Serialize>(forge: impl Fn(&str) -> T, expected: &str) {
    let (bench, mut connection, last) = tampering().await;
    let sealer = sealer(&bench, &mut connection).await;
    let found = blocks::from(&mut session(&mut connection).await, last - 1, 2).await;
    let [before, there] = <[_; 2]>::try_from(found.unwrap()).unwrap();
    let body = forge(&there.body);
    let Sealer { ledger, key } = sealer;
    let block = block::StoredBlock::after(&before.head(), &ledger, there.timestamp_ms, &body, &key).unwrap();
    assert_ne!(block.body, there.body);
    run(
        &mut connection,
        format!("DELETE FROM blocks WHERE height = {last}"),
    )
    .await;
    let mut session = session(&mut connection).await;
    blocks::append(&mut session, &block).await.unwrap();
    session.commit().await.unwrap();
    let found = corruption(&bench).await;
    assert_eq!((found.block, found.field), (last, "body"), "{found}");
    assert!(found.reason.contains(expected), "{found}");
}

#[tokio::test]
async fn a_changed_state_is_found_and_rebuilt_from_the_blocks() {
    for (statement, field) in [
        (
            "UPDATE state SET value = replace(value, 'active', 'ending') WHERE value LIKE '{%\"active\"%'",
            "state",
        ),
        ("DELETE FROM state WHERE typeof(value) = 'integer'", "state"),
        // The same row where nobody looks.
        (
            "UPDATE state SET place = CAST(place || x'00' AS BLOB) WHERE value LIKE '{%\"active\"%'",
            "state",
        ),
        (
            "INSERT INTO state SELECT CAST(place || x'00' AS BLOB), value FROM state WHERE value LIKE '{%\"active\"%'",
            "state",
        ),
        // Lines of history: changed, one that no row means, one that two mean, two in each other's place, none, and of other types.
        ("UPDATE lines SET value = value || ' ' WHERE id = 2", "state"),
        ("INSERT INTO lines (value) VALUES ('{}')", "state"),
        ("INSERT INTO lines VALUES (-1, '{}')", "state"),
        ("UPDATE state SET value = 2 WHERE value = 3", "state"),
        (
            "UPDATE state SET value = CASE value WHEN 2 THEN 3 ELSE 2 END WHERE typeof(value) = 'integer' AND value IN (2, 3)",
            "state",
        ),
        ("DELETE FROM lines WHERE id = 2", "state"),
        (
            "DELETE FROM lines WHERE id = (SELECT max(id) FROM lines)",
            "state",
        ),
        ("DELETE FROM lines", "state"),
        ("UPDATE state SET value = '2' WHERE value = 2", "state"),
        (
            "UPDATE state SET value = 2.0 WHERE typeof(value) = 'integer' AND value = 2",
            "state",
        ),
        (
            "UPDATE state SET value = x'32' WHERE typeof(value) = 'integer' AND value = 2",
            "state",
        ),
        (
            "UPDATE state SET value = (SELECT lines.value FROM lines WHERE id = 2) WHERE value = 2",
            "state",
        ),
        ("DELETE FROM state", "state"),
        ("INSERT INTO state VALUES (x'ff', '1')", "state"),
        ("UPDATE transactions SET height = 1", "transactions"),
        ("DELETE FROM transactions WHERE tx_id = 'two'", "transactions"),
        ("INSERT INTO transactions VALUES ('zzz', 1, 0)", "transactions"),
    ] {
        let (mut bench, mut connection, _) = tampering().await;
        let before = verified(&bench).await.unwrap();
        run(&mut connection, statement.to_owned()).await;
        connection.close().await.unwrap();
        bench.reopen().await;
        match bench.ledger.verify().await {
            Err(VerifyError::Corrupt(found)) => assert_eq!(found.field, field, "{statement}: {found}"),
            other => panic!("{statement}: {other:?}"),
        }
        assert_eq!(bench.ledger.rebuild().await.unwrap(), before, "{statement}");
        assert_eq!(bench.ledger.verify().await.unwrap(), before, "{statement}");
        bench.accepted("after", register("after")).await;
    }
}

#[tokio::test]
async fn tables_that_are_of_another_block_than_they_say_are_found_and_rebuilt() {
    for (statement, opened) in [
        ("UPDATE derived SET height = height - 1", "not what block"),
        ("UPDATE derived SET height = height + 1", "which is not there"),
        ("DELETE FROM derived", "rows, not one"),
    ] {
        let (mut bench, mut connection, _) = tampering().await;
        let before = verified(&bench).await.unwrap();
        run(&mut connection, statement.to_owned()).await;
        assert_eq!(corruption(&bench).await.field, "state", "{statement}");
        connection.close().await.unwrap();
        let refused = Ledger::open(bench.options())
            .await
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(opened), "{statement}: {refused}");
        assert_eq!(
            rebuild(bench.path().as_path()).await.unwrap(),
            before,
            "{statement}"
        );
        bench.reopen().await;
        assert_eq!(bench.ledger.verify().await.unwrap(), before, "{statement}");
        bench.accepted("after", register("after")).await;
    }
}

#[tokio::test]
async fn a_block_can_neither_be_changed_nor_removed_by_mistake() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let mut connection = storage::sqlite::connect(&bench.path()).await.unwrap();
    for statement in ["UPDATE blocks SET timestamp_ms = 0", "DELETE FROM blocks"] {
        let refused = sqlx::query(statement)
            .execute(&mut connection)
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("a block "), "{refused}");
    }
}

#[tokio::test]
async fn a_line_of_history_is_written_once_and_goes_with_its_key() {
    let bench = Bench::new().await;
    bench.ledger.close().await;
    let mut connection = storage::sqlite::connect(&bench.path()).await.unwrap();
    let mut session = session(&mut connection).await;
    let key = ["history/", &"1".repeat(64), "/1"].concat();
    derived::write(&mut session, &[(&key, "{}")], &[]).await.unwrap();
    let lines = rows::lines(&mut session, i64::MIN, 100).await.unwrap();
    let found = derived::values(&mut session, std::slice::from_ref(&key)).await;
    assert_eq!(found.unwrap()[&key], b"{}");
    derived::write(&mut session, &[], &[&key]).await.unwrap();
    let without = rows::lines(&mut session, i64::MIN, 100).await.unwrap();
    assert_eq!(without, lines[..lines.len() - 1]);
    derived::write(&mut session, &[(&key, "{}")], &[]).await.unwrap();
    let refused = derived::write(&mut session, &[(&key, "{ }")], &[]).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("UNIQUE"), "{refused}");
    session.rollback().await.unwrap();
}

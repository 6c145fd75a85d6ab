//! All rows of one key store into another, whichever databases they are on: how a server's is copied into a file, and back.

use super::StoreError;
use super::database::{Session, Value};

/// Rows at a time.
const PAGE: i64 = 500;

/// What a column holds.
#[derive(Clone, Copy)]
enum Kind {
    Integer,
    Text,
    Bytes,
}

enum Cell {
    Integer(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

struct Table {
    /// In the order of its key, from `$2` on.
    select: &'static str,
    insert: &'static str,
    kinds: &'static [Kind],
}

use Kind::{Bytes as B, Integer as I, Text as T};

/// Those that others name come first.
const TABLES: [Table; 11] = [
    Table {
        select: "SELECT dataset_id, version, kek_version, wrapped, created_at FROM data_keys
                 ORDER BY dataset_id, version LIMIT $1 OFFSET $2",
        insert: "INSERT INTO data_keys (dataset_id, version, kek_version, wrapped, created_at) VALUES ($1, $2, $3, $4, $5)",
        kinds: &[T, I, I, B, I],
    },
    Table {
        select: "SELECT pseudonym, issuer, sub, username, created_at FROM subjects ORDER BY pseudonym LIMIT $1 OFFSET $2",
        insert: "INSERT INTO subjects (pseudonym, issuer, sub, username, created_at) VALUES ($1, $2, $3, $4, $5)",
        kinds: &[T, T, T, T, I],
    },
    Table {
        select: "SELECT notebook_uid, notebook_name, executor_uid, executor_name, namespace, pseudonym, home_claim,
                        home_sub_path, home_mount, bound_at FROM bindings ORDER BY notebook_uid LIMIT $1 OFFSET $2",
        insert: "INSERT INTO bindings (notebook_uid, notebook_name, executor_uid, executor_name, namespace, pseudonym, home_claim,
                                       home_sub_path, home_mount, bound_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        kinds: &[T, T, T, T, T, T, T, T, T, I],
    },
    Table {
        select: "SELECT pseudonym, standing, told_at FROM standings ORDER BY pseudonym LIMIT $1 OFFSET $2",
        insert: "INSERT INTO standings (pseudonym, standing, told_at) VALUES ($1, $2, $3)",
        kinds: &[T, T, I],
    },
    Table {
        select: "SELECT sequence, id, transaction_id, kind, submitter, status, command, result, problem, expected_revision,
                        tries, due_ms, created_at, finished_at FROM operations ORDER BY sequence LIMIT $1 OFFSET $2",
        insert: "INSERT INTO operations (sequence, id, transaction_id, kind, submitter, status, command, result, problem,
                                         expected_revision, tries, due_ms, created_at, finished_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        kinds: &[I, T, T, T, T, T, T, T, T, I, I, I, I, I],
    },
    Table {
        select: "SELECT submitter, idempotency_key, fingerprint, operation_id, created_at FROM idempotency_keys
                 ORDER BY submitter, idempotency_key LIMIT $1 OFFSET $2",
        insert: "INSERT INTO idempotency_keys (submitter, idempotency_key, fingerprint, operation_id, created_at)
                 VALUES ($1, $2, $3, $4, $5)",
        kinds: &[T, T, B, T, I],
    },
    Table {
        select: "SELECT dataset_id, directories, reported_at FROM skeletons ORDER BY dataset_id LIMIT $1 OFFSET $2",
        insert: "INSERT INTO skeletons (dataset_id, directories, reported_at) VALUES ($1, $2, $3)",
        kinds: &[T, T, I],
    },
    Table {
        select: "SELECT version, retired_at FROM retired_keks ORDER BY version LIMIT $1 OFFSET $2",
        insert: "INSERT INTO retired_keks (version, retired_at) VALUES ($1, $2)",
        kinds: &[I, I],
    },
    Table {
        select: "SELECT version, check_value, seal, known_at FROM known_keks ORDER BY version LIMIT $1 OFFSET $2",
        insert: "INSERT INTO known_keks (version, check_value, seal, known_at) VALUES ($1, $2, $3, $4)",
        kinds: &[I, B, B, I],
    },
    Table {
        select: "SELECT sequence, dataset_id, version, kek_version, wrapped_sha256, reason, ledger_height, transaction_id,
                        destroyed_at, seal FROM key_receipts ORDER BY sequence LIMIT $1 OFFSET $2",
        insert: "INSERT INTO key_receipts (sequence, dataset_id, version, kek_version, wrapped_sha256, reason, ledger_height,
                                           transaction_id, destroyed_at, seal)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        kinds: &[I, T, I, I, B, T, I, T, I, B],
    },
    Table {
        select: "SELECT dataset_id, reason, before_version, ledger_height, block_hash, transaction_id, seen_at, held_at,
                        released_at, destroyed_at FROM doomed_keys ORDER BY dataset_id LIMIT $1 OFFSET $2",
        insert: "INSERT INTO doomed_keys (dataset_id, reason, before_version, ledger_height, block_hash, transaction_id, seen_at,
                                          held_at, released_at, destroyed_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        kinds: &[T, T, I, I, B, T, I, I, I, I],
    },
];

/// Copies what one session sees into a store that is empty, in the other's transaction.
pub(super) async fn copy(of: &mut Session, into: &mut Session) -> Result<(), StoreError> {
    for table in &TABLES {
        let mut done = 0;
        loop {
            let rows = of.rows(table.select, &[PAGE.into(), done.into()]).await?;
            if rows.is_empty() {
                break;
            }
            done += PAGE;
            for row in &rows {
                let cells = (0..).zip(table.kinds).map(|(at, kind)| {
                    Ok(match kind {
                        Kind::Integer => Cell::Integer(row.get(at)?),
                        Kind::Text => Cell::Text(row.get(at)?),
                        Kind::Bytes => Cell::Bytes(row.get(at)?),
                    })
                });
                let cells = cells.collect::<Result<Vec<_>, StoreError>>()?;
                let values: Vec<_> = cells.iter().map(value).collect();
                into.run(table.insert, &values).await?;
            }
        }
    }
    into.number_on().await
}

fn value(cell: &Cell) -> Value<'_> {
    match cell {
        Cell::Integer(number) => Value::Integer(*number),
        Cell::Text(text) => Value::Text(text.as_deref()),
        Cell::Bytes(bytes) => Value::Bytes(bytes.as_deref()),
    }
}

/// Whether a key store has nothing in it: no row in any table.
pub(super) async fn is_empty(session: &mut Session) -> Result<bool, StoreError> {
    for table in &TABLES {
        let first = session.rows(table.select, &[1_i64.into(), 0_i64.into()]).await?;
        if !first.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::data_keys::{Destroy, Versions};
    use crate::store::doomed::{Doomed, Seen};
    use crate::store::operations::{Accepted, NewOperation};
    use crate::store::people::{Account, Binding, Home};
    use crate::store::receipts::{Grounds, Reason, ReceiptSeal};
    use crate::store::tests::{Bench, benches, data_key, operation, person};
    use crate::{identity::Standing, keys::endorsement::KnownKek, secret::Secret};

    /// Every row of every table, as text.
    async fn all(store: &Store) -> Vec<String> {
        let mut session = store.read().await.unwrap();
        let mut lines = Vec::new();
        for table in &TABLES {
            for row in session
                .rows(table.select, &[PAGE.into(), 0_i64.into()])
                .await
                .unwrap()
            {
                let cells = (0..).zip(table.kinds).map(|(at, kind)| match kind {
                    Kind::Integer => format!("{:?}", row.get::<Option<i64>>(at).unwrap()),
                    Kind::Text => format!("{:?}", row.get::<Option<String>>(at).unwrap()),
                    Kind::Bytes => format!("{:?}", row.get::<Option<Vec<u8>>>(at).unwrap()),
                });
                lines.push(cells.collect::<Vec<_>>().join("|"));
            }
        }
        lines
    }

    /// Something in each table.
    async fn fill(store: &Store) {
        store.seal_receipts(ReceiptSeal::new(Secret::new([7; 32])));
        let alice = person("alice å");
        let account = |kind: &str| Account {
            name: kind.to_owned(),
            uid: format!("uid of {kind}"),
        };
        let binding = Binding {
            pseudonym: alice.pseudonym.clone(),
            namespace: "hub".to_owned(),
            notebook: account("notebook"),
            executor: account("executor"),
            home: Home {
                claim: "claim".to_owned(),
                sub_path: "alice".to_owned(),
                mount_path: "/home/jovyan".to_owned(),
            },
        };
        store.bind(&alice, &binding).await.unwrap();
        store
            .put_standing(&alice.pseudonym, &Standing::default())
            .await
            .unwrap();
        store.put_skeleton("d", &["a".to_owned()]).await.unwrap();
        for (dataset, version) in [("d", 1), ("d", 2), ("e", 1)] {
            let accepted = NewOperation {
                data_key: Some(data_key(dataset, version)),
                idempotency: Some((format!("{dataset}{version}"), [version.to_be_bytes()[3]; 32])),
                expected_revision: (version == 2).then_some(3),
                ..operation(&format!("{dataset}-{version}"), &alice.pseudonym)
            };
            store.accept(&accepted).await.unwrap();
        }
        let known = KnownKek {
            version: 1,
            check: vec![0, 1],
            seal: vec![0xff],
            is_retired: false,
        };
        store.know_keks(&[known]).await.unwrap();
        let destroy = Destroy {
            dataset_id: "e".to_owned(),
            versions: Versions::All,
            grounds: Grounds {
                reason: Reason::Retired,
                height: Some(9),
                transaction: None,
            },
        };
        assert_eq!(store.destroy(&destroy).await.unwrap(), 1);
        assert_eq!(store.retire_kek(7).await.unwrap(), 0);
        let seen = Seen {
            height: 7,
            block_hash: Some(crate::ledger::Bytes([7; 32])),
            transaction: Some("t".to_owned()),
        };
        let doomed = Doomed::now("d".to_owned(), Versions::Before(2), Reason::Superseded, seen);
        store.doom(&doomed).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_store_moves_by_a_copy_to_any_other_database_and_nothing_of_it_is_lost() {
        const TEST: &str = "copies between databases";
        for from in benches(TEST).await {
            let source = from.open().await;
            fill(&source).await;
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("copy.db");
            source.backup(&path).await.unwrap();
            let before = all(&source).await;
            assert_eq!(before.len(), 16, "{}: {before:#?}", from.kind);
            let copy = Store::open(&path).await.unwrap();
            assert_eq!(all(&copy).await, before, "{}", from.kind);
            let content = crate::store::backup::content(&path).await.unwrap();
            assert_eq!(content.wrapped_by, [(1, 2)]);
            assert_eq!(content.which, source.which_data_keys().await.unwrap());
            for to in benches(TEST).await {
                moved(&copy, &before, &to).await;
            }
            copy.close().await;
            source.close().await;
        }
    }

    async fn moved(copy: &Store, before: &[String], to: &Bench) {
        let target = to.open().await;
        target.fill(copy).await.unwrap();
        assert_eq!(all(&target).await, before, "{}", to.kind);
        let again = target.fill(copy).await.unwrap_err().to_string();
        assert!(again.contains("filled by somebody else"), "{again}");
        // It goes on from there: numbers and seals of what comes follow those that came.
        target.seal_receipts(ReceiptSeal::new(Secret::new([7; 32])));
        let accepted = target.accept(&operation("after", "bob")).await.unwrap();
        assert!(matches!(accepted, Accepted::Operation(_)), "{}", to.kind);
        let destroy = Destroy {
            dataset_id: "d".to_owned(),
            versions: Versions::All,
            grounds: Grounds {
                reason: Reason::Unused,
                height: None,
                transaction: None,
            },
        };
        assert_eq!(target.destroy(&destroy).await.unwrap(), 2);
        assert_eq!(
            target.key_receipts(None, 0, 9).await.unwrap().len(),
            3,
            "{}",
            to.kind
        );
        target.close().await;
    }
}

//! The audit under load, after damage, and while its disk is full.

use std::path::Path;

use sqlx::{Connection as _, SqliteConnection};

use super::*;
use crate::ledger::Bytes;
use crate::secret::Secret;

fn seal_key(byte: u8) -> SealKey {
    SealKey::new(Secret::new([byte; 32]))
}

fn opened(lease: &str) -> Event {
    let origin = Origin {
        source: Some("192.0.2.7".parse().unwrap()),
        request: Some("r-1".to_owned()),
    };
    Event::new(
        "system:serviceaccount:leasehold-system:leasehold-provisioner",
        "open_volume",
        "d1",
        Decision::Allowed,
        "lease_active",
        &origin,
    )
    .of_lease(lease)
    .opening_a_credential()
}

async fn audit_with(path: &Path, count: usize) -> Head {
    let audit = Audit::open(path, seal_key(1), 2192).await.unwrap();
    for number in 0..count {
        audit.keep(opened(&format!("l{number}"))).await.unwrap();
    }
    let head = audit.book().head().await.unwrap();
    audit.close().await;
    head
}

async fn damage(path: &Path, statement: &'static str) {
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", path.display()))
        .await
        .unwrap();
    for trigger in ["records_never_change", "records_go_by_age"] {
        let drop = format!("DROP TRIGGER IF EXISTS {trigger}");
        sqlx::query(sqlx::AssertSqlSafe(drop))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    let changed = sqlx::query(statement).execute(&mut connection).await.unwrap();
    assert!(changed.rows_affected() > 0, "{statement}");
    connection.close().await.unwrap();
}

async fn verified(path: &Path, key: Option<SealKey>, noted: &[Head]) -> Result<Verified, Broken> {
    let book = Book::open(path).await.unwrap();
    let outcome = verify(&book, key.as_ref(), noted).await;
    book.close().await;
    outcome
}

#[tokio::test]
async fn records_say_who_did_what_from_where_and_follow_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let head = audit_with(&path, 3).await;
    assert_eq!(head.number, 3);
    let book = Book::open(&path).await.unwrap();
    let rows = book.page(&Filter::default(), 10).await.unwrap().rows;
    let record: Record = serde_json::from_str(&rows[2].record).unwrap();
    assert_eq!(record.number, 3);
    assert_eq!(record.verb, "open_volume");
    assert_eq!(record.lease.as_deref(), Some("l2"));
    assert_eq!(record.source, Some("192.0.2.7".parse().unwrap()));
    assert!(record.credential_opened);
    assert_eq!(record.previous, rows[1].hash);
    book.close().await;
    let whole = verified(&path, Some(seal_key(1)), &[head]).await.unwrap();
    assert_eq!((whole.first, whole.last, whole.sealed), (1, 3, true));
}

#[tokio::test]
async fn a_record_that_was_changed_removed_moved_or_put_in_is_named() {
    let cases: [(&'static str, u64); 8] = [
        (
            "UPDATE records SET record = replace(record, 'l1', 'l9') WHERE number = 2",
            2,
        ),
        ("UPDATE records SET record = record || ' ' WHERE number = 2", 2),
        ("UPDATE records SET hash = zeroblob(32) WHERE number = 3", 3),
        ("UPDATE records SET seal = zeroblob(32) WHERE number = 3", 3),
        ("DELETE FROM records WHERE number = 2", 2),
        ("DELETE FROM records WHERE number = 1", 1),
        ("UPDATE records SET number = 9 WHERE number = 4", 4),
        (
            "INSERT INTO records SELECT 6, at_ms, record, hash, seal FROM records WHERE number = 5",
            6,
        ),
    ];
    for (statement, wrong) in cases {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.db");
        audit_with(&path, 5).await;
        damage(&path, statement).await;
        let error = verified(&path, Some(seal_key(1)), &[]).await.unwrap_err();
        assert!(
            matches!(error, Broken::Record { number, .. } if number == wrong),
            "{statement}: {error}"
        );
    }
}

#[tokio::test]
async fn records_that_were_cut_off_show_by_a_head_that_was_noted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let head = audit_with(&path, 5).await;
    damage(&path, "DELETE FROM records WHERE number > 3").await;
    assert!(
        verified(&path, Some(seal_key(1)), &[]).await.is_ok(),
        "nothing inside tells"
    );
    let error = verified(&path, Some(seal_key(1)), &[head]).await.unwrap_err();
    assert!(
        matches!(error, Broken::Noted { noted, .. } if noted == head),
        "{error}"
    );
}

#[tokio::test]
async fn a_past_that_is_made_anew_without_the_key_ring_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let forged = Audit::open(&path, seal_key(2), 2192).await.unwrap();
    forged.keep(opened("l1")).await.unwrap();
    forged.close().await;
    assert!(
        verified(&path, None, &[]).await.is_ok(),
        "the chain alone is whole"
    );
    let error = verified(&path, Some(seal_key(1)), &[]).await.unwrap_err();
    assert!(matches!(error, Broken::Record { number: 1, .. }), "{error}");
}

#[tokio::test]
async fn what_went_by_age_leaves_a_chain_that_verifies_and_heads_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let book = Book::open(&path).await.unwrap();
    let key = seal_key(1);
    let append = async |lease, at_ms| {
        book.append(&key, &[(opened(lease), None)], at_ms, None)
            .await
            .unwrap()
    };
    let first = append("a", 1_000).await;
    for (lease, at_ms) in [("b", 2_000), ("c", 1_500), ("d", 3_000), ("e", 4_000)] {
        append(lease, at_ms).await;
    }
    let gone = async |before_ms| book.prune(&key, before_ms).await.unwrap().map(|(_, count)| count);
    assert_eq!(
        gone(2_000).await,
        Some(1),
        "the third is behind one that has to stay"
    );
    assert_eq!(gone(2_000).await, None);
    assert_eq!(verify(&book, Some(&key), &[first]).await.unwrap().first, 2);
    let other = Head {
        hash: Bytes([1; 32]),
        ..first
    };
    assert!(
        verify(&book, Some(&key), &[other]).await.is_err(),
        "the end of what went is known"
    );
    assert_eq!(gone(10_000).await, Some(3), "the last one stays");
    let head = append("f", 5_000).await;
    assert_eq!(head.number, 6);
    let whole = verify(&book, Some(&key), &[head, first]).await.unwrap();
    assert_eq!((whole.first, whole.last, whole.too_old), (5, 6, vec![1]));
    book.close().await;
    damage(&path, "UPDATE base SET number = number - 1").await;
    assert!(verified(&path, Some(seal_key(1)), &[]).await.is_err());
}

#[tokio::test]
async fn nobody_has_records_go_early_by_giving_them_another_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    audit_with(&path, 3).await;
    damage(&path, "UPDATE records SET at_ms = 0 WHERE number < 3").await;
    let book = Book::open(&path).await.unwrap();
    let error = book.prune(&seal_key(1), 1_000).await.unwrap_err();
    assert!(matches!(error, AuditError::Damaged { number: 1, .. }), "{error}");
    assert_eq!(book.page(&Filter::default(), 10).await.unwrap().rows.len(), 3);
    let error = verify(&book, None, &[]).await.unwrap_err();
    assert!(matches!(error, Broken::Record { number: 1, .. }), "{error}");
    book.close().await;
}

#[tokio::test]
async fn a_broker_whose_records_are_cut_off_while_it_runs_decides_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let audit = Audit::open(&path, seal_key(1), 2192).await.unwrap();
    for lease in ["a", "b", "c"] {
        audit.keep(opened(lease)).await.unwrap();
    }
    damage(&path, "DELETE FROM records WHERE number = 3").await;
    assert!(matches!(audit.keep(opened("d")).await, Err(AuditError::Closed)));
    assert!(!audit.is_well());
    audit.close().await;
}

#[tokio::test]
async fn a_record_is_small_whatever_was_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let audit = Audit::open(&path, seal_key(1), 2192).await.unwrap();
    let long = "\u{1}é".repeat(40_000);
    let event = Event::new(
        &long,
        "call",
        long.as_str(),
        Decision::Allowed,
        long.as_str(),
        &Origin::default(),
    );
    audit
        .keep(event.of_lease(&long).by_operation(&long).about(&long))
        .await
        .unwrap();
    let rows = audit.book().page(&Filter::default(), 1).await.unwrap().rows;
    assert!(rows[0].record.len() < 8_192, "{}", rows[0].record.len());
    audit.close().await;
}

#[tokio::test]
async fn records_are_neither_changed_nor_taken_out_by_mistake() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    audit_with(&path, 2).await;
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", path.display()))
        .await
        .unwrap();
    for statement in ["UPDATE records SET at_ms = 0", "DELETE FROM records"] {
        let error = sqlx::query(statement).execute(&mut connection).await.unwrap_err();
        assert!(error.to_string().contains("audit records"), "{error}");
    }
}

#[tokio::test]
async fn many_at_once_are_all_recorded_and_each_waits_for_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let audit = Arc::new(Audit::open(&path, seal_key(1), 2192).await.unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..2_000 {
        let audit = Arc::clone(&audit);
        tasks.spawn(async move { audit.keep(opened(&number.to_string())).await });
    }
    while let Some(kept) = tasks.join_next().await {
        kept.unwrap().unwrap();
    }
    audit.close().await;
    let whole = verified(&path, Some(seal_key(1)), &[]).await.unwrap();
    assert_eq!(whole.last, 2_000);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_allowed_and_a_disk_that_is_back_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let audit = Audit::open(&path, seal_key(1), 2192).await.unwrap();
    audit.keep(opened("l1")).await.unwrap();
    let mut other = SqliteConnection::connect(&format!("sqlite:{}", path.display()))
        .await
        .unwrap();
    sqlx::query("ALTER TABLE records RENAME TO elsewhere")
        .execute(&mut other)
        .await
        .unwrap();
    assert!(matches!(audit.keep(opened("l2")).await, Err(AuditError::Closed)));
    assert!(!audit.is_well());
    sqlx::query("ALTER TABLE elsewhere RENAME TO records")
        .execute(&mut other)
        .await
        .unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !audit.is_well() {
        assert!(tokio::time::Instant::now() < deadline, "it never tried again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    audit.keep(opened("l3")).await.unwrap();
    audit.close().await;
    let whole = verified(&path, Some(seal_key(1)), &[]).await.unwrap();
    assert_eq!(whole.last, 3, "the first, that it is back, and the third");
}

#[test]
fn an_event_for_a_siem_has_what_its_class_requires() {
    let record = Record::after(&Head::NONE, &opened("l1"), None, 1_760_000_000_123);
    let event = ocsf::event(&record);
    for required in [
        "activity_id",
        "actor",
        "api",
        "category_uid",
        "class_uid",
        "metadata",
        "severity_id",
        "src_endpoint",
        "time",
        "type_uid",
    ] {
        assert!(event.get(required).is_some(), "{required} is missing");
    }
    assert_eq!(event["class_uid"], 6003);
    assert_eq!(event["type_uid"], 600_302);
    assert_eq!(event["time"], 1_760_000_000_123_i64);
    assert_eq!(event["src_endpoint"]["ip"], "192.0.2.7");
    assert_eq!(event["unmapped"]["credential_opened"], true);
}

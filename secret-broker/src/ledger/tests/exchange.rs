//! A ledger leaves as a stream and comes back the same, or not at all.

use super::*;
use std::fs;
use std::path::{Path, PathBuf};

/// A closed ledger with two keys in it, and its export.
pub(super) async fn exported() -> (Bench, Vec<u8>, Receipt) {
    let mut bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    bench.ledger.close().await;
    let (key, next) = (bench.options().key, bench.directory.path().join("next.key"));
    rotate(&bench.options(), &next, false).await.unwrap();
    fs::rename(next, key).unwrap();
    bench.reopen().await;
    let lease = bench.accepted("two", take("texts", &person("a1"))).await;
    bench
        .accepted("three", release(&lease_id(&lease), &person("a1")))
        .await;
    bench.ledger.close().await;
    let mut stream = Vec::new();
    let file = LedgerFile::open(&bench.path()).await.unwrap();
    let receipt = file.export(&mut stream).await.unwrap();
    (bench, stream, receipt)
}

fn place(directory: &TempDir) -> PathBuf {
    directory.path().join("ledger.db")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn an_imported_ledger_is_the_exported_one_and_goes_on_with_its_key() {
    let (bench, stream, receipt) = exported().await;
    let directory = TempDir::new().unwrap();
    let path = place(&directory);
    let imported = import(
        &mut stream.as_slice(),
        &(&path).into(),
        std::slice::from_ref(&receipt),
        &[],
    )
    .await
    .unwrap();
    let original = LedgerFile::open(&bench.path()).await.unwrap();
    let original = original.verify(Depth::Whole, &[receipt]).await.unwrap();
    assert_eq!(imported, original);
    assert_eq!(files(directory.path()), std::slice::from_ref(&path));
    let mut again = Vec::new();
    let file = LedgerFile::open(&path).await.unwrap();
    file.export(&mut again).await.unwrap();
    assert_eq!(again, stream);
    drop(file);
    let mut options = bench.options();
    options.address = path.into();
    let ledger = Ledger::open(options).await.unwrap();
    ledger
        .submit(submission("four", register("scans")))
        .await
        .unwrap();
    assert_eq!(ledger.verify().await.unwrap().height, original.height + 1);
    ledger.close().await;
}

#[tokio::test]
async fn a_stream_with_a_line_changed_missing_twice_or_elsewhere_is_refused_and_leaves_nothing() {
    let (_bench, stream, _) = exported().await;
    let text = String::from_utf8(stream).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut streams = vec![
        String::new(),
        format!("{text}{}\n", lines[1]),
        text.trim_end().to_owned(),
    ];
    for at in 0..lines.len() {
        let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let mut without = lines.clone();
        without.remove(at);
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        let mut swapped = lines.clone();
        swapped.swap(at, (at + 1) % lines.len());
        streams.extend([
            joined(&without),
            joined(&twice),
            joined(&swapped),
            joined(&lines[..at]),
        ]);
        for byte in (3..lines[at].len()).step_by(53) {
            let mut bytes = lines[at].as_bytes().to_vec();
            bytes[byte] = if bytes[byte] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).unwrap();
            let mut lines = lines.clone();
            lines[at] = &changed;
            streams.push(joined(&lines));
        }
    }
    let directory = TempDir::new().unwrap();
    let path = place(&directory);
    for stream in streams.iter().filter(|stream| **stream != text) {
        let refused = import(&mut stream.as_bytes(), &(&path).into(), &[], &[])
            .await
            .unwrap_err();
        assert!(refused.to_string().contains("nothing was imported"), "{refused}");
        assert_eq!(files(directory.path()), Vec::<PathBuf>::new(), "{refused}");
    }
}

#[tokio::test]
async fn an_import_says_which_block_and_field_was_changed() {
    let (_bench, stream, _) = exported().await;
    let text = String::from_utf8(stream).unwrap();
    let changed = text.replacen("Texts", "Tests", 1);
    let directory = TempDir::new().unwrap();
    match import(&mut changed.as_bytes(), &place(&directory).into(), &[], &[])
        .await
        .unwrap_err()
    {
        ImportError::Block { line, found } => assert_eq!((line, found.block, found.field), (4, 2, "body")),
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn an_import_never_writes_into_what_is_there() {
    let (_bench, stream, _) = exported().await;
    let directory = TempDir::new().unwrap();
    let path = place(&directory);
    fs::write(&path, "something").unwrap();
    let refused = import(&mut stream.as_slice(), &(&path).into(), &[], &[])
        .await
        .unwrap_err();
    assert!(matches!(refused, ImportError::Exists(_)), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "something");
}

#[tokio::test]
async fn a_ledger_of_which_a_receipt_does_not_hold_is_not_imported() {
    let (_bench, stream, _) = exported().await;
    let (_other, _, receipt) = exported().await;
    let directory = TempDir::new().unwrap();
    let refused = import(&mut stream.as_slice(), &place(&directory).into(), &[receipt], &[]).await;
    assert!(
        matches!(refused, Err(ImportError::Verify(VerifyError::Receipt(_)))),
        "{refused:?}"
    );
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_ledger_is_verified_and_exported_beside_its_broker() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let file = LedgerFile::open(&bench.path()).await.unwrap();
    let verified = file.verify(Depth::Whole, &[]).await.unwrap();
    bench.accepted("two", register("scans")).await;
    assert_eq!((verified.height, bench.height()), (2, 3));
    let mut stream = Vec::new();
    assert_eq!(file.export(&mut stream).await.unwrap().height, 3);
}

/// What a killed broker leaves: the last blocks are in the log beside the file.
#[tokio::test]
async fn a_ledger_whose_broker_was_killed_is_verified_with_all_its_blocks() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let directory = TempDir::new().unwrap();
    for name in ["ledger.db", "ledger.db-wal"] {
        fs::copy(bench.directory.path().join(name), directory.path().join(name)).unwrap();
    }
    let file = LedgerFile::open(&place(&directory)).await.unwrap();
    let verified = file.verify(Depth::Whole, &[]).await.unwrap();
    assert_eq!((verified.height, verified.transactions), (2, Some(3)));
}

#[tokio::test]
async fn a_stopped_ledger_is_rebuilt_and_one_in_use_is_not() {
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    let path = bench.path();
    let refused = rebuild(&path).await.unwrap_err();
    assert!(
        matches!(refused, MaintenanceError::Open(OpenError::InUse(_))),
        "{refused}"
    );
    bench.ledger.close().await;
    let mut connection = storage::sqlite::connect(&path).await.unwrap();
    sqlx::query("DELETE FROM state")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    let file = LedgerFile::open(&path).await.unwrap();
    let damaged = file.verify(Depth::Whole, &[]).await.unwrap_err();
    assert!(damaged.to_string().contains("rebuild"), "{damaged}");
    drop(file);
    rebuild(&path).await.unwrap();
    let file = LedgerFile::open(&path).await.unwrap();
    file.verify(Depth::Whole, &[]).await.unwrap();
}

#[tokio::test]
async fn where_there_is_no_ledger_nothing_is_made() {
    let directory = TempDir::new().unwrap();
    let path = place(&directory);
    let missing = LedgerFile::open(&path).await.map(drop).unwrap_err();
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
    let missing = rebuild(&path).await.unwrap_err();
    assert!(missing.to_string().contains("check the path"), "{missing}");
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}

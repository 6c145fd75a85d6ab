//! A disk that is full, is full for a while, may not be written, or has no room for temporary files.

use super::crash::{CHILD, acknowledge, check, parse, spawn_by};
use super::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

/// A shell that mounts something, as the script says of `$0`, in a namespace of its own, and then becomes what it is given; none
/// where no namespace can be made.
pub(super) fn mounted_by(script: &str, directory: &Path) -> Option<std::process::Command> {
    let unshare = || {
        let mut unshare = std::process::Command::new("unshare");
        let mapped = (!nix::unistd::geteuid().is_root()).then_some("--map-root-user");
        unshare.arg("--mount").args(mapped);
        unshare
    };
    let made = unshare().arg("true").stderr(Stdio::null()).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("SKIPPED: a disk of a namespace's own: none can be made here (unshare --mount)");
        return None;
    }
    let mut shell = unshare();
    shell
        .args(["sh", "-c", &format!("{script} && exec \"$@\"")])
        .arg(directory);
    Some(shell)
}

/// A file size limit stands for the full disk: to SQLite both are a write that fails.
#[test]
fn a_full_disk_is_a_clear_error_and_loses_nothing() {
    if let Some(path) = std::env::var_os(CHILD) {
        return submit_until_the_disk_is_full(Path::new(&path));
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ledger.db");
    let mut shell = std::process::Command::new("sh");
    // In units of 512 bytes; without the trap the system would kill the process.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 2000; exec \"$@\"", "sh"]);
    let (mut child, lines) = spawn_by(shell, &path);
    let acknowledged: BTreeMap<_, _> = lines.iter().filter_map(|line| parse(&line)).collect();
    assert!(child.wait().unwrap().success());
    assert!(acknowledged.len() > 10, "only {}", acknowledged.len());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(check(&path, 0, &acknowledged));
}

fn submit_until_the_disk_is_full(path: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ledger = opened(path).await;
        let mut failed = None;
        for number in 0..10_000 {
            let name = format!("d{number}");
            match ledger.submit(submission(&name, register(&name))).await {
                Ok(committed) => acknowledge(&committed),
                Err(SubmitError::Storage(reason)) => failed = Some(reason),
                Err(other) => panic!("{other}"),
            }
            if failed.is_some() {
                break;
            }
        }
        assert!(failed.is_some(), "the disk was never full");
        let readable = ledger.datasets(&PageRequest::default()).await.unwrap();
        assert!(!readable.items.is_empty(), "reads go on");
        ledger.verify().await.unwrap();
        ledger.close().await;
    });
}

/// A filesystem of two megabytes, which a file beside the ledger fills and then leaves.
#[test]
fn once_a_full_disk_has_room_again_the_ledger_goes_on() {
    if let Some(path) = std::env::var_os(CHILD) {
        return fill_the_disk_and_make_room(Path::new(&path));
    }
    let directory = TempDir::new().unwrap();
    let Some(shell) = mounted_by("mount -t tmpfs -o size=2m none \"$0\"", directory.path()) else {
        return;
    };
    let (mut child, lines) = spawn_by(shell, &directory.path().join("ledger.db"));
    let acknowledged: Vec<_> = lines.iter().filter_map(|line| parse(&line)).collect();
    assert!(child.wait().unwrap().success());
    assert!(acknowledged.iter().any(|(tx_id, _)| tx_id == "after"));
}

fn fill_the_disk_and_make_room(path: &Path) {
    let ballast = path.with_file_name("ballast");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ledger = opened(path).await;
        let mut acknowledged = BTreeMap::new();
        for round in 0..3 {
            let full = std::fs::write(&ballast, vec![0; 2 << 20]).unwrap_err();
            assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
            let mut failures = 0;
            for number in 0..1_000 {
                let name = format!("d{round}-{number}");
                match ledger.submit(submission(&name, register(&name))).await {
                    Ok(committed) => {
                        assert_eq!(failures, 0, "{name} found room that was not there");
                        acknowledged.insert(name, committed.height);
                    }
                    Err(SubmitError::Storage(reason)) => {
                        assert!(reason.contains("full") || reason.contains("I/O"), "{reason}");
                        failures += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
                if failures == 3 {
                    break;
                }
            }
            assert_eq!(failures, 3, "the disk was never full");
            std::fs::remove_file(&ballast).unwrap();
            let name = format!("room{round}");
            let committed = ledger.submit(submission(&name, register(&name))).await.unwrap();
            acknowledged.insert(name, committed.height);
        }
        let after = ledger
            .submit(submission("after", register("after")))
            .await
            .unwrap();
        ledger.verify().await.unwrap();
        ledger.close().await;
        check(path, 0, &acknowledged).await;
        acknowledge(&after);
    });
}

/// As in a container: nothing may be written but the ledger's own directory.
#[test]
fn a_ledger_needs_no_directory_for_temporary_files() {
    if let Some(path) = std::env::var_os(CHILD) {
        return change_many_rows_at_once(Path::new(&path));
    }
    let directory = TempDir::new().unwrap();
    let script = "cd / && for place in / /var/tmp /usr/tmp /tmp; do if [ -d $place ]; then \
         mount --bind $place $place && mount -o remount,bind,ro $place || exit 1; fi; done; mount -t tmpfs none \"$0\"";
    let Some(mut shell) = mounted_by(script, directory.path()) else {
        return;
    };
    shell.env_remove("TMPDIR").env_remove("SQLITE_TMPDIR");
    let (mut child, lines) = spawn_by(shell, &directory.path().join("ledger.db"));
    let acknowledged: Vec<_> = lines.iter().filter_map(|line| parse(&line)).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(acknowledged.len(), 1);
}

fn change_many_rows_at_once(path: &Path) {
    let elsewhere = std::fs::write("/tmp/here", "").unwrap_err();
    assert_eq!(elsewhere.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ledger = opened(path).await;
        for round in 0..8 {
            let names: Vec<_> = (0..128).map(|number| format!("d{round}-{number}")).collect();
            let submitted = names
                .iter()
                .map(|name| ledger.submit(submission(name, register(name))));
            for committed in join_all(submitted).await {
                committed.unwrap();
            }
        }
        ledger.rebuild().await.unwrap();
        let last = ledger.submit(submission("last", register("last"))).await.unwrap();
        ledger.verify().await.unwrap();
        ledger.close().await;
        acknowledge(&last);
    });
}

/// The directory is mounted again, read-only, in a mount namespace of the child's own.
#[test]
fn on_a_read_only_disk_the_broker_says_so_and_the_ledger_is_verified_all_the_same() {
    if let Some(path) = std::env::var_os(CHILD) {
        return use_a_read_only_disk(Path::new(&path));
    }
    let directory = TempDir::new().unwrap();
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"";
    let Some(shell) = mounted_by(script, directory.path()) else {
        return;
    };
    let path = directory.path().join("ledger.db");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let acknowledged = runtime.block_on(async {
        let ledger = opened(&path).await;
        let committed = ledger.submit(submission("one", register("texts"))).await.unwrap();
        ledger.close().await;
        BTreeMap::from([(committed.tx_id.to_string(), committed.height)])
    });
    let (mut child, lines) = spawn_by(shell, &path);
    let verified: Vec<_> = lines.iter().filter_map(|line| parse(&line)).collect();
    assert_eq!(verified, [("verified".to_owned(), acknowledged["one"])]);
    assert!(child.wait().unwrap().success());
    runtime.block_on(check(&path, 0, &acknowledged));
}

fn use_a_read_only_disk(path: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let options = LedgerOptions::new(path, "UiSMSP".parse().unwrap());
        let refused = Ledger::open(options).await.map(drop).unwrap_err().to_string();
        assert!(
            refused.contains("ledger.db") && refused.contains("Read-only"),
            "{refused}"
        );
        let file = LedgerFile::open(path).await.unwrap();
        let verified = file.verify(Depth::Whole, &[]).await.unwrap();
        file.export(&mut Vec::new()).await.unwrap();
        assert_eq!(file.receipt(&[], &[]).await.unwrap().height, verified.height);
        writeln!(std::io::stdout(), "acknowledged verified at {}.", verified.height).unwrap();
    });
}

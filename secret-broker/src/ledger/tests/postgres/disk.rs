//! The database's disk is full for a while, or may not be written.

use super::*;
use crate::ledger::tests::crash::{CHILD, acknowledge, check_at, parse, spawn_by};
use crate::ledger::tests::disk::mounted_by;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command as Program;

/// This very test in a process that has a disk of its own: 96 megabytes for the server and all that it writes.
fn on_a_small_disk() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: PostgreSQL on a disk of its own: to mount one for another user takes root");
        return;
    }
    let directory = TempDir::new().unwrap();
    let mount = "mount -t tmpfs -o size=96m,mode=1777 none \"$0\"";
    let Some(mut shell) = mounted_by(mount, directory.path()) else {
        return;
    };
    shell.env("TMPDIR", directory.path());
    let (mut child, lines) = spawn_by(shell, directory.path());
    let told: Vec<_> = lines.iter().filter_map(|line| parse(&line)).collect();
    assert!(child.wait().unwrap().success());
    let skipped = told.iter().any(|(what, _)| what == "nothing");
    assert!(
        skipped || told.iter().any(|(what, _)| what == "after"),
        "{told:?}"
    );
}

/// Runs in the process that has the disk; says so where there is no PostgreSQL.
fn with_a_server(test: &str, run: impl AsyncFnOnce(Server, &Path)) {
    let disk = std::env::var_os(CHILD).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        match Server::start(test).await {
            Some(server) => run(server, Path::new(&disk)).await,
            None => println!("acknowledged nothing at 0."),
        }
    });
}

#[test]
fn a_full_disk_of_the_database_is_a_clear_error_and_loses_nothing() {
    if std::env::var_os(CHILD).is_none() {
        return on_a_small_disk();
    }
    with_a_server("a full disk in PostgreSQL", async |server, disk| {
        let database = server.database().await;
        let bench = Bench::on(&database).await;
        let ballast = disk.join("ballast");
        let mut acknowledged = BTreeMap::new();
        for round in 0..3 {
            let full = std::fs::write(&ballast, vec![0; 96 << 20]).unwrap_err();
            assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
            let mut failures = Vec::new();
            for number in 0..20_000 {
                let name = format!("d{round}-{number}");
                match bench.ledger.submit(submission(&name, register(&name))).await {
                    Ok(committed) => {
                        acknowledged.insert(name, committed.height);
                    }
                    Err(SubmitError::Storage(reason)) => failures.push(reason),
                    Err(other) => panic!("{other}"),
                }
                if failures.len() == 3 {
                    break;
                }
            }
            let said = failures
                .iter()
                .any(|reason| reason.contains("No space left on device"));
            assert!(said, "{failures:?}");
            // What is on it is read all the same, unless the database fell over it.
            std::fs::remove_file(&ballast).unwrap();
            server.restart().await;
            let name = format!("room{round}");
            let committed = trust::accepted_at_last(&bench.ledger, &name, &name).await;
            acknowledged.insert(name, committed.height);
        }
        let after = trust::accepted_at_last(&bench.ledger, "after", "after").await;
        bench.ledger.close().await;
        check_at(bench.options(), 0, &acknowledged).await;
        acknowledge(&after);
    });
}

#[test]
fn while_the_databases_disk_may_not_be_written_the_broker_says_so_and_goes_on_afterwards() {
    if std::env::var_os(CHILD).is_none() {
        return on_a_small_disk();
    }
    with_a_server("a read-only disk in PostgreSQL", async |server, _| {
        let bench = Bench::on(&server.database().await).await;
        let before = bench.accepted("before", register("before")).await;
        server.end(Signal::SIGINT);
        let data = server.data();
        mount(&["--bind"], &[&data, &data]);
        mount(&["-o", "remount,bind,ro"], &[&data]);
        let said = server.ends_by_itself().await;
        assert!(said.contains("Read-only file system"), "{said}");
        let mut said = Vec::new();
        // The first finds its connection broken.
        for _ in 0..2 {
            match bench.ledger.submit(submission("after", register("after"))).await {
                Err(SubmitError::Storage(reason)) => said.push(reason),
                other => panic!("{other:?}"),
            }
        }
        assert!(said[1].contains("No such file or directory"), "{said:?}");
        bench.is_not_opened().await;
        mount(&["-o", "remount,bind,rw"], &[&data]);
        server.restart().await;
        let after = trust::accepted_at_last(&bench.ledger, "after", "after").await;
        let acknowledged = [&before, &after].map(|one| (one.tx_id.to_string(), one.height));
        bench.ledger.close().await;
        check_at(bench.options(), 0, &BTreeMap::from(acknowledged)).await;
        acknowledge(&after);
    });
}

fn mount(options: &[&str], places: &[&Path]) {
    let mounted = Program::new("mount").args(options).args(places).status().unwrap();
    assert!(mounted.success(), "mount {options:?}");
}

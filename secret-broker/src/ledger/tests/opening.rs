//! Who may open a ledger, and what closing one means.

use super::*;

#[tokio::test]
async fn closing_commits_what_waits_and_refuses_what_comes() {
    let mut bench = Bench::new().await;
    let waiting = (0..300).map(|number| {
        let (ledger, name) = (bench.ledger.clone(), format!("d{number}"));
        async move { ledger.submit(submission(&name, register(&name))).await }
    });
    let (outcomes, ()) = tokio::join!(join_all(waiting), bench.ledger.close());
    assert!(outcomes.iter().all(Result::is_ok));
    soon("end of the writer", bench.ledger.stopped()).await;
    let late = bench.ledger.submit(submission("late", register("late"))).await;
    assert_eq!(late, Err(SubmitError::Closed));
    bench.reopen().await;
    assert_eq!(bench.ledger.verify().await.unwrap().transactions, Some(2 + 300));
}

#[tokio::test]
async fn a_ledger_is_open_once_and_for_its_own_organisation() {
    let bench = Bench::new().await;
    let second = Ledger::open(bench.options()).await.map(drop);
    assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
    bench.ledger.close().await;
    let mut options = bench.options();
    options.organisation = "UiOMSP".parse().unwrap();
    let other = Ledger::open(options).await.map(drop);
    assert!(
        matches!(other, Err(OpenError::OtherOrganisation { .. })),
        "{other:?}"
    );
    let mut options = bench.options();
    options.contract = Contract::FABRIC;
    let other = Ledger::open(options).await.map(drop);
    assert!(
        matches!(other, Err(OpenError::OtherParameters { .. })),
        "{other:?}"
    );
    Ledger::open(bench.options()).await.unwrap().close().await;
}

#[tokio::test]
async fn a_ledger_in_no_directory_cannot_be_opened_and_says_where() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("missing").join("ledger.db");
    let failed = Ledger::open(LedgerOptions::new(&path, "UiSMSP".parse().unwrap()))
        .await
        .map(drop);
    let message = failed.unwrap_err().to_string();
    assert!(message.contains("missing/ledger.db"), "{message}");
}

#[tokio::test]
async fn nobody_else_on_the_machine_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new().await;
    bench.accepted("one", register("texts")).await;
    for entry in std::fs::read_dir(bench.directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.file_name());
    }
}

//! The process is killed at random moments, again and again: what was acknowledged stays, and nothing is half there.

use super::*;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Instant;

/// Set in the child: where its ledger is.
pub(super) const CHILD: &str = "LEASEHOLD_LEDGER_CRASH_CHILD";
/// Submitters in the child.
const SUBMITTERS: usize = 8;

#[test]
fn every_acknowledged_transaction_survives_a_kill() {
    if let Some(path) = std::env::var_os(CHILD) {
        return submit_until_killed(Path::new(&path));
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ledger.db");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut acknowledged = BTreeMap::new();
    for kill in 0..kills() {
        let (mut child, lines) = spawn(&path);
        // Half of them soon after the start, whatever it does then; half of them in the middle of the work.
        let (count, patience) = match kill % 2 {
            0 => (usize::MAX, Duration::from_millis(random(250))),
            _ => (
                usize::try_from(random(200)).unwrap() + 1,
                Duration::from_secs(300),
            ),
        };
        let mut seen = wait_for(&lines, count, Instant::now() + patience);
        child.kill().unwrap();
        child.wait().unwrap();
        seen.extend(lines.iter());
        assert!(
            count == usize::MAX || seen.len() >= count,
            "kill {kill}: the child did not get going"
        );
        acknowledged.extend(seen.iter().filter_map(|line| parse(line)));
        runtime.block_on(check(&path, kill, &acknowledged));
    }
    assert!(!acknowledged.is_empty());
}

/// Ten in `make test`; more by `LEASEHOLD_SOAK_KILLS`.
pub(super) fn kills() -> u64 {
    std::env::var("LEASEHOLD_SOAK_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(10)
}

pub(super) fn random(below: u64) -> u64 {
    RandomState::new().hash_one(0) % below
}

pub(super) async fn check(path: &Path, kill: u64, acknowledged: &BTreeMap<String, u64>) {
    check_at(
        LedgerOptions::new(path, "UiSMSP".parse().unwrap()),
        kill,
        acknowledged,
    )
    .await;
}

pub(super) async fn check_at(options: LedgerOptions, kill: u64, acknowledged: &BTreeMap<String, u64>) {
    let ledger = Ledger::open(options).await.unwrap();
    let verified = ledger
        .verify()
        .await
        .unwrap_or_else(|error| panic!("after kill {kill}: {error}"));
    for (tx_id, height) in acknowledged {
        let found = ledger.transaction(&tx_id.parse().unwrap()).await.unwrap();
        let found =
            found.unwrap_or_else(|| panic!("after kill {kill}: {tx_id} was acknowledged and is gone"));
        assert_eq!(found.height, *height, "after kill {kill}: {tx_id}");
    }
    assert!(verified.transactions >= Some(u64::try_from(acknowledged.len()).unwrap()));
    ledger.close().await;
}

/// This very test once more, as a process of its own, and the lines in which it acknowledges.
fn spawn(path: &Path) -> (Child, mpsc::Receiver<String>) {
    // `env` runs what it is given, as the shell above does.
    spawn_by(std::process::Command::new("env"), path)
}

pub(super) fn spawn_by(mut command: std::process::Command, path: &Path) -> (Child, mpsc::Receiver<String>) {
    let name = std::thread::current().name().unwrap().to_owned();
    let mut child = command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (send, lines) = mpsc::channel();
    // Ends with the child's output.
    std::thread::spawn(move || {
        for line in output
            .lines()
            .map_while(Result::ok)
            .filter(|line| parse(line).is_some())
        {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    (child, lines)
}

pub(super) fn wait_for(lines: &mpsc::Receiver<String>, count: usize, deadline: Instant) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => seen.push(line),
            Err(_) => break,
        }
    }
    seen
}

/// `acknowledged <tx id> at <height>.`, anywhere in a line; one that was cut off is none.
pub(super) fn parse(line: &str) -> Option<(String, u64)> {
    let (_, rest) = line.split_once("acknowledged ")?;
    let (tx_id, height) = rest.strip_suffix('.')?.split_once(" at ")?;
    Some((tx_id.to_owned(), height.parse().ok()?))
}

pub(super) fn acknowledge(committed: &Committed) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "acknowledged {} at {}.", committed.tx_id, committed.height).unwrap();
    out.flush().unwrap();
}

fn submit_until_killed(path: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ledger = opened(path).await;
        submit_for_ever(async |submission| ledger.submit(submission).await).await;
    });
}

pub(super) async fn submit_for_ever(submit: impl AsyncFn(Submission) -> Result<Committed, SubmitError>) {
    // Of its own in each run: those of a killed one stay leased.
    let run = format!("{:08x}", random(1 << 32));
    let submitters = (0..SUBMITTERS).map(async |submitter| {
        for round in 0u64.. {
            lease_once(&submit, &run, round, submitter).await;
        }
    });
    join_all(submitters).await;
}

/// All submitters want the same few datasets, so that grants and refusals rest on each other in every block.
async fn lease_once(
    ledger: impl AsyncFn(Submission) -> Result<Committed, SubmitError>,
    run: &str,
    round: u64,
    submitter: usize,
) {
    let prefix = format!("{run}-{submitter}-{round}");
    let (name, holder) = (
        format!("d-{run}-{}", submitter % 3),
        person(&format!("{submitter:02}")),
    );
    let submit = async |step: &str, command: Command| match ledger(submission(step, command)).await {
        Ok(committed) => {
            acknowledge(&committed);
            Some(committed)
        }
        Err(SubmitError::Refused(_)) => None,
        Err(other) => panic!("{other}"),
    };
    submit(&format!("{prefix}-register"), register(&name)).await;
    if let Some(granted) = submit(&format!("{prefix}-lease"), take(&name, &holder)).await {
        let lease = lease_id(&granted);
        submit(&format!("{prefix}-release"), release(&lease, &holder)).await;
        submit(&format!("{prefix}-confirm"), Command::ConfirmEnd { lease }).await;
    }
}

//! Brokers are killed at random moments, and so is the database under them: what was acknowledged stays, and nothing is half there.

use super::*;
use crate::ledger::tests::crash::{
    CHILD, check_at, kills, parse, random, spawn_by, submit_for_ever, wait_for,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use tokio::runtime::Runtime;

/// Set in the child: where its key is.
const KEY: &str = "LEASEHOLD_LEDGER_CRASH_KEY";
/// Kills of one ledger. Looking at all of it takes longer with each, and who is not killed meanwhile makes it longer still.
const KILLS_OF_ONE: u64 = 20;
/// Longest wait of a child for its database.
const PATIENCE: Duration = Duration::from_secs(60);

fn options(address: LedgerAddress, key: &Path) -> LedgerOptions {
    let mut options = LedgerOptions::new(address, "UiSMSP".parse().unwrap());
    options.key = key.to_owned();
    options
}

#[test]
fn every_acknowledged_transaction_survives_kills_of_brokers_and_of_their_database() {
    let runtime = Runtime::new().unwrap();
    if let Some(url) = std::env::var_os(CHILD) {
        let address = url.to_str().unwrap().parse().unwrap();
        let key = std::env::var_os(KEY).unwrap();
        return runtime.block_on(submit_until_killed(options(address, Path::new(&key))));
    }
    let Some(server) = runtime.block_on(Server::start("kills in PostgreSQL")) else {
        return;
    };
    let mut acknowledged = 0;
    let kills: Vec<u64> = (0..kills()).collect();
    for some in kills.chunks(usize::try_from(KILLS_OF_ONE).unwrap()) {
        acknowledged += kill_brokers_of_a_new_ledger(&runtime, &server, some);
        println!(
            "after {} kills all {acknowledged} are there",
            some.last().unwrap() + 1
        );
    }
    assert!(acknowledged > 0);
}

/// Kills one of two brokers at each of these, and now and then the other or the server; yields how many transactions were acknowledged.
fn kill_brokers_of_a_new_ledger(runtime: &Runtime, server: &Server, kills: &[u64]) -> usize {
    let database = runtime.block_on(server.database());
    let directory = TempDir::new().unwrap();
    let key = directory.path().join("ledger.key");
    LedgerKey::load_or_create(&key).unwrap();
    let spawn = || {
        let mut command = std::process::Command::new("env");
        command.env(KEY, &key);
        spawn_by(command, Path::new(&database.url))
    };
    let mut acknowledged = BTreeMap::new();
    let (mut other, mut others_lines) = spawn();
    for kill in kills {
        let (mut child, lines) = spawn();
        let count = usize::try_from(random(100)).unwrap() + 1;
        let mut seen = wait_for(&lines, count, Instant::now() + PATIENCE);
        assert!(seen.len() >= count, "kill {kill}: the broker did not get going");
        let signal = match kill % 4 {
            1 => Some(Signal::SIGQUIT),
            3 => Some(Signal::SIGKILL),
            _ => None,
        };
        if let Some(signal) = signal {
            server.end(signal);
            runtime.block_on(server.restart());
            // Both go on by themselves.
            for lines in [&lines, &others_lines] {
                // What was acknowledged before is still in the pipe.
                seen.extend(lines.try_iter());
                let after = wait_for(lines, 5, Instant::now() + PATIENCE);
                assert!(
                    after.len() >= 5,
                    "kill {kill}: a broker did not go on after the database came back"
                );
                seen.extend(after);
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        seen.extend(lines.iter());
        if kill % 3 == 2 {
            other.kill().unwrap();
            other.wait().unwrap();
            seen.extend(others_lines.iter());
            (other, others_lines) = spawn();
        } else {
            seen.extend(others_lines.try_iter());
        }
        let new: BTreeMap<_, _> = seen.iter().filter_map(|line| parse(line)).collect();
        let options = options(database.address(), &key);
        acknowledged.extend(new.clone());
        // What was lost at one of them would still be missing after the last.
        if kills.last() == Some(kill) {
            other.kill().unwrap();
            other.wait().unwrap();
            acknowledged.extend(others_lines.iter().filter_map(|line| parse(&line)));
            runtime.block_on(check_at(options, *kill, &acknowledged));
        } else {
            runtime.block_on(check_new(options, *kill, &new));
        }
    }
    acknowledged.len()
}

/// That the chain is whole, and has what was acknowledged last.
async fn check_new(options: LedgerOptions, kill: u64, acknowledged: &BTreeMap<String, u64>) {
    let file = LedgerFile::open(&options.address).await.unwrap();
    let verified = file.verify(Depth::Chain, &[]).await;
    verified.unwrap_or_else(|error| panic!("after kill {kill}: {error}"));
    let ledger = Ledger::open(options).await.unwrap();
    for (tx_id, height) in acknowledged {
        let found = ledger.transaction(&tx_id.parse().unwrap()).await.unwrap();
        let found = found.map(|found| found.height);
        assert_eq!(found, Some(*height), "after kill {kill}: {tx_id}");
    }
    ledger.close().await;
}

async fn submit_until_killed(options: LedgerOptions) {
    let deadline = Instant::now() + PATIENCE;
    let ledger = loop {
        match Ledger::open(options.clone()).await {
            Ok(ledger) => break ledger,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let submit = async |submission: Submission| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match ledger.submit(submission.clone()).await {
                // Nothing is known: the same transaction again.
                Err(SubmitError::Storage(error)) => assert!(Instant::now() < deadline, "{error}"),
                outcome => return outcome,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    for (tx_id, command) in enrolment() {
        submit(submission(tx_id, command)).await.unwrap();
    }
    submit_for_ever(submit).await;
}

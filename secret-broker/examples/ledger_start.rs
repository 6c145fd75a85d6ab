//! Measures how long a broker takes to open a ledger in a file: with nothing noted, so that the chain is walked from its first block,
//! and with what the last clean end noted. Prints a Markdown table.
//!
//! `ledger_start [blocks] [rounds]`, by default 100000 and 5. Blocks have one registration or one lease each, as those of a broker that
//! is asked now and then.

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::error::Error;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use leasehold_chaincode::{Ciphertext, Command, Metadata, Mode, Msp, Policy, TxId};
use leasehold_secret_broker::ledger::{Ledger, LedgerOptions, Submission};

type Failure = Box<dyn Error + Send + Sync>;

/// Leases of a dataset.
const SHARED: usize = 64;
/// Submissions that wait at the same time.
const AT_ONCE: usize = 64;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let blocks = numbers.next().transpose()?.unwrap_or(100_000);
    let rounds = numbers.next().transpose()?.unwrap_or(5).max(1);
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("ledger.db");
    let mut options = LedgerOptions::new(&path, Msp::new("UiSMSP")?);
    options.block_transactions = 1;
    let ledger = Ledger::open(options.clone()).await?;
    let mut made = stream::iter(commands(blocks))
        .map(|(tx_id, command)| submit(&ledger, tx_id, command))
        .buffered(AT_ONCE);
    while let Some(submitted) = made.next().await {
        submitted?;
    }
    drop(made);
    let height = ledger.receipt().await?.height;
    ledger.close().await;
    let mib = std::fs::metadata(&path)?.len() / 1_048_576;
    println!("| {height} blocks, {mib} MiB | fastest | middle |");
    println!("| --- | --- | --- |");
    times("nothing noted", &options, rounds).await?;
    options.seen = Some(directory.path().join("ledger.seen"));
    Ledger::open(options.clone()).await?.close().await;
    times("the last block noted", &options, rounds).await
}

fn commands(blocks: usize) -> impl Iterator<Item = (String, Command)> {
    let join = Command::JoinConsortium {
        broker: "https://broker.example.org".to_owned(),
        keys: Vec::new(),
    };
    let cluster = Command::RegisterCluster {
        name: "main".to_owned(),
        keys: Vec::new(),
    };
    let enrolment = [("join".to_owned(), join), ("cluster".to_owned(), cluster)];
    let numbers = 0..blocks.saturating_sub(enrolment.len());
    enrolment.into_iter().chain(numbers.map(|number| {
        let dataset = format!("d{}", number / SHARED);
        if number % SHARED == 0 {
            return (dataset.clone(), register(dataset));
        }
        let lease = Command::Lease {
            dataset,
            subject: format!("{number:064x}"),
            mode: Some(Mode::Shared),
            ttl_seconds: None,
            groups: Vec::new(),
            wait: false,
            cluster: None,
        };
        (format!("lease-{number}"), lease)
    }))
}

fn register(name: String) -> Command {
    let mut policy = Policy::exclusive(3_600);
    policy.most_shared = leasehold_chaincode::limit::MOST_SHARED;
    Command::RegisterDataset {
        name,
        metadata: Metadata {
            title: "Texts".to_owned(),
            ..Metadata::default()
        },
        policy,
        volume_ciphertext: Ciphertext("bm90aGluZyB0byByZWFk".to_owned()),
        key_version: 1,
    }
}

async fn submit(ledger: &Ledger, tx_id: String, command: Command) -> Result<(), Failure> {
    let tx_id = TxId::new(tx_id)?;
    ledger.submit(Submission { tx_id, command }).await?;
    Ok(())
}

/// How long opening takes; closing is not measured.
async fn times(what: &str, options: &LedgerOptions, rounds: usize) -> Result<(), Failure> {
    let mut took = Vec::new();
    for _ in 0..rounds {
        let start = Instant::now();
        let ledger = Ledger::open(options.clone()).await?;
        took.push(start.elapsed());
        ledger.close().await;
    }
    took.sort_unstable();
    let at = |place: usize| took.get(place).map_or(0.0, Duration::as_secs_f64);
    println!("| {what} | {:.3} s | {:.3} s |", at(0), at(rounds / 2));
    Ok(())
}

//! A ledger on which leases are taken.

use crate::spent::{Spent, Stopwatch};
use crate::{AT_ONCE, AT_ONCE_FILLING, Failure};
use futures::StreamExt as _;
use futures::stream;
use leasehold_chaincode::{Ciphertext, Command, Metadata, Mode, Msp, Policy};
use leasehold_secret_broker::ledger::{Ledger, LedgerOptions, Submission, transaction_id};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// A ledger that grows.
pub(crate) struct Bench {
    pub(crate) ledger: Ledger,
    pub(crate) datasets: usize,
    pub(crate) leases: usize,
}

impl Bench {
    pub(crate) async fn new(path: &Path, (leases, datasets): (usize, usize)) -> Result<Self, Failure> {
        let mut options = LedgerOptions::new(path, Msp::new("UiSMSP")?);
        options.block_transactions = AT_ONCE_FILLING;
        options.queue = AT_ONCE_FILLING;
        let ledger = Ledger::open(options.clone()).await?;
        let join = Command::JoinConsortium {
            broker: "https://broker.example.org".to_owned(),
            keys: Vec::new(),
        };
        let cluster = Command::RegisterCluster {
            name: "main".to_owned(),
            keys: Vec::new(),
        };
        for command in [join, cluster] {
            submit(&ledger, command).await?;
        }
        let registrations = (0..datasets).map(|number| {
            let name = format!("d{number}");
            submit(&ledger, register(name))
        });
        all(registrations, AT_ONCE_FILLING).await?;
        let mut bench = Self {
            ledger,
            datasets,
            leases: 0,
        };
        bench.lease(leases, AT_ONCE_FILLING).await?;
        bench.ledger.close().await;
        options.block_transactions = AT_ONCE;
        bench.ledger = Ledger::open(options).await?;
        Ok(bench)
    }

    /// Takes so many leases, each by another person, on one dataset after the other.
    pub(crate) async fn lease(&mut self, count: usize, at_once: usize) -> Result<Spent, Failure> {
        let numbers = self.leases..self.leases.saturating_add(count);
        self.leases = numbers.end;
        let start = Stopwatch::start()?;
        let leases = numbers.map(|number| {
            let dataset = number % self.datasets;
            let command = Command::Lease {
                dataset: format!("d{dataset}"),
                subject: person(number),
                mode: Some(Mode::Shared),
                ttl_seconds: None,
                groups: Vec::new(),
                wait: false,
                cluster: None,
            };
            submit(&self.ledger, command)
        });
        all(leases, at_once).await?;
        // What is written later for many blocks together belongs to them all the same.
        self.ledger.settle().await;
        start.stop()
    }
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

async fn submit(ledger: &Ledger, command: Command) -> Result<(), Failure> {
    let tx_id = transaction_id()?;
    ledger.submit(Submission { tx_id, command }).await?;
    Ok(())
}

async fn all(
    submissions: impl Iterator<Item = impl Future<Output = Result<(), Failure>>>,
    at_once: usize,
) -> Result<(), Failure> {
    let mut submissions = stream::iter(submissions).buffer_unordered(at_once);
    while let Some(outcome) = submissions.next().await {
        outcome?;
    }
    Ok(())
}

/// Persons in no order.
fn person(number: usize) -> String {
    hex::encode(Sha256::digest(format!("person {number}")))
}

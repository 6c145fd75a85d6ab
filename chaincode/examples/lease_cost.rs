//! What a lease command costs the contract on a ledger with many leases, beside one with few: the ratio of both in one run.
//!
//!     cargo run --release -p leasehold-chaincode --example lease_cost
//!
//! The state is in memory and sorted, as every ledger's is; each dataset has the same number of holders, so that only the number of
//! datasets and leases differs. Deciding is the contract's work, applying the writes the state's. Both look keys up in a tree of
//! gigabytes, so that the processor waits for memory; how much a command reads and writes must not differ at all.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "whoever measures wants to see why it failed"
)]

use leasehold_chaincode::{
    Ciphertext, Command, CommandResult, Contract, MemoryState, Metadata, Mode, Policy, Role, StateError,
    StateReader, TxContext, TxId,
};
use std::cell::Cell;
use std::time::{Duration, Instant};

const HOLDERS: u64 = 10;
const FEW_DATASETS: u64 = 100;
const MANY_DATASETS: u64 = 100_000;
const BATCH: u64 = 200;
const BATCHES: u64 = 50;

struct Ledger {
    state: MemoryState,
    datasets: u64,
    transactions: u64,
    random: u64,
    cost: Cost,
}

impl Ledger {
    fn with(datasets: u64) -> Self {
        let mut ledger = Self {
            state: MemoryState::default(),
            datasets,
            transactions: 0,
            random: 1,
            cost: Cost::default(),
        };
        let (broker, keys) = ("https://broker.example.org".to_owned(), Vec::new());
        ledger.commit(&Command::JoinConsortium { broker, keys });
        let (name, keys) = ("main".to_owned(), Vec::new());
        ledger.commit(&Command::RegisterCluster { name, keys });
        for dataset in 0..datasets {
            ledger.commit(&register(dataset));
            for holder in 0..HOLDERS {
                ledger.commit(&lease(dataset, holder));
            }
        }
        ledger
    }

    fn commit(&mut self, command: &Command) -> CommandResult {
        self.transactions += 1;
        let context = TxContext {
            tx_id: TxId::new(format!("tx-{}", self.transactions)).unwrap(),
            timestamp_ms: 1_760_000_000_000 + i64::try_from(self.transactions).unwrap(),
            caller: "UiSMSP".parse().unwrap(),
            role: Role::Administrator,
        };
        let reader = Counting(&self.state, Cell::new(0));
        let start = Instant::now();
        let outcome = Contract::EMBEDDED.execute(&reader, &context, command);
        self.cost.decided += start.elapsed();
        self.cost.reads += reader.1.get();
        match outcome {
            Ok(outcome) => {
                let start = Instant::now();
                self.state.apply(&outcome.writes);
                self.cost.applied += start.elapsed();
                self.cost.writes += outcome.writes.len();
                outcome.result
            }
            Err(failure) => panic!("{command:?}: {failure}"),
        }
    }

    /// Leases of one more person on datasets all over the ledger, which end again outside of the time.
    fn batch(&mut self) -> Cost {
        let mut cost = Cost::default();
        for _ in 0..BATCH {
            self.random = self
                .random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let command = lease((self.random >> 33) % self.datasets, HOLDERS);
            let before = self.cost;
            let result = self.commit(&command);
            cost.add(self.cost.since(before));
            let CommandResult::Lease { id } = result else {
                panic!("no lease")
            };
            let (lease, subject) = (id.to_string(), person(HOLDERS));
            self.commit(&Command::Release {
                lease: lease.clone(),
                subject,
            });
            self.commit(&Command::ConfirmEnd { lease });
        }
        cost
    }
}

/// What commands cost.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    decided: Duration,
    applied: Duration,
    reads: usize,
    writes: usize,
}

impl Cost {
    fn since(self, before: Self) -> Self {
        Self {
            decided: self.decided - before.decided,
            applied: self.applied - before.applied,
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
        }
    }

    fn add(&mut self, other: Self) {
        self.decided += other.decided;
        self.applied += other.applied;
        self.reads += other.reads;
        self.writes += other.writes;
    }
}

/// Counts what is read.
struct Counting<'a>(&'a MemoryState, Cell<usize>);

impl StateReader for Counting<'_> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.1.set(self.1.get() + 1);
        self.0.get(key)
    }

    fn range(&self, start: &str, end: &str, limit: usize) -> Result<Vec<(String, Vec<u8>)>, StateError> {
        panic!("no command reads a range, {start} to {end}, {limit}")
    }
}

fn register(dataset: u64) -> Command {
    Command::RegisterDataset {
        name: format!("d{dataset}"),
        metadata: Metadata {
            title: "Texts".to_owned(),
            ..Metadata::default()
        },
        policy: Policy {
            most_shared: 64,
            ..Policy::exclusive(3_600)
        },
        volume_ciphertext: Ciphertext("bm90aGluZyB0byByZWFk".to_owned()),
        key_version: 1,
    }
}

fn lease(dataset: u64, holder: u64) -> Command {
    Command::Lease {
        dataset: format!("d{dataset}"),
        subject: person(holder),
        mode: Some(Mode::Shared),
        ttl_seconds: Some(3_600),
        groups: Vec::new(),
        wait: false,
        cluster: None,
    }
}

fn person(holder: u64) -> String {
    format!("{holder:064x}")
}

fn main() {
    let start = Instant::now();
    let mut few = Ledger::with(FEW_DATASETS);
    let mut many = Ledger::with(MANY_DATASETS);
    println!(
        "{} keys and {} keys, filled in {:.0?}",
        few.state.len(),
        many.state.len(),
        start.elapsed()
    );
    let mut batches = [Vec::new(), Vec::new()];
    for _ in 0..BATCHES {
        for (ledger, batches) in [&mut few, &mut many].into_iter().zip(&mut batches) {
            batches.push(ledger.batch());
        }
    }
    println!("\nMedian of {BATCHES} batches of {BATCH} leases.\n");
    println!("| leases | datasets | decided | applied | reads | writes |\n|---|---|---|---|---|---|");
    let [few, many] = batches;
    let rows = [(FEW_DATASETS, few), (MANY_DATASETS, many)].map(|(datasets, batches)| {
        let decided = median(&batches, |cost| cost.decided);
        let applied = median(&batches, |cost| cost.applied);
        let each = |count: fn(&Cost) -> usize| {
            batches.iter().map(count).sum::<usize>() as f64 / (BATCH * BATCHES) as f64
        };
        let (reads, writes) = (each(|cost| cost.reads), each(|cost| cost.writes));
        let leases = datasets * HOLDERS;
        println!("| {leases} | {datasets} | {decided:.1} µs | {applied:.1} µs | {reads} | {writes} |");
        (decided, applied)
    });
    let [few, many] = rows;
    println!(
        "\nratio: decided {:.2}, decided and applied {:.2}",
        many.0 / few.0,
        (many.0 + many.1) / (few.0 + few.1)
    );
}

/// Of one command, microseconds.
fn median(batches: &[Cost], of: fn(&Cost) -> Duration) -> f64 {
    let mut times: Vec<_> = batches.iter().map(of).collect();
    times.sort();
    let middle = times.get(times.len() / 2).copied().unwrap();
    middle.as_secs_f64() * 1e6 / BATCH as f64
}

//! Measures the embedded ledger against the least that the same work can cost: leases per second against bare SQLite inserts of the
//! same bytes with the same flushes, a lease on a large ledger against one on a small ledger, and verifying against `sha256sum`.
//! Both sides of each take turns in one run. Prints Markdown tables.
//!
//! `ledger_bench [leases on the large ledger] [datasets on it] [rounds]`, by default 100000, 10000 and 5.

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use leasehold_chaincode::{Ciphertext, Command, Metadata, Mode, Msp, Policy, TxId};
use leasehold_secret_broker::ledger::{Depth, Ledger, LedgerFile, LedgerOptions, Submission};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, Row, SqliteConnection};

type Failure = Box<dyn Error + Send + Sync>;

/// Submissions that wait at the same time; as many as a block takes.
const AT_ONCE: usize = 128;
/// Leases in a round.
const ROUND: usize = 2_560;
/// Leases on the small ledger before it is measured, and its datasets.
const SMALL: (usize, usize) = (1_000, 1_000);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let leases = numbers.next().transpose()?.unwrap_or(100_000);
    let datasets = numbers.next().transpose()?.unwrap_or(10_000);
    let rounds = numbers.next().transpose()?.unwrap_or(5).max(1);
    let directory = tempfile::tempdir()?;
    let large = Bench::new(&directory.path().join("large.db"), (leases, datasets)).await?;
    throughput_and_growth(directory.path(), large, rounds).await?;
    verifying(directory.path(), rounds).await
}

/// A ledger that grows.
struct Bench {
    ledger: Ledger,
    datasets: usize,
    leases: usize,
}

impl Bench {
    async fn new(path: &Path, (leases, datasets): (usize, usize)) -> Result<Self, Failure> {
        let mut options = LedgerOptions::new(path, Msp::new("UiSMSP")?);
        options.block_transactions = AT_ONCE;
        let ledger = Ledger::open(options).await?;
        let mut bench = Self {
            ledger,
            datasets,
            leases: 0,
        };
        let join = Command::JoinConsortium {
            broker: "https://broker.example.org".to_owned(),
            keys: Vec::new(),
        };
        let cluster = Command::RegisterCluster {
            name: "main".to_owned(),
            keys: Vec::new(),
        };
        for (name, command) in [("join", join), ("cluster", cluster)] {
            submit(&bench.ledger, name, command).await?;
        }
        let registrations = (0..datasets).map(|number| {
            let name = format!("d{number}");
            submit(&bench.ledger, name.clone(), register(name))
        });
        all(registrations).await?;
        while bench.leases < leases {
            bench
                .lease(ROUND.min(leases.saturating_sub(bench.leases)))
                .await?;
        }
        Ok(bench)
    }

    /// Takes so many leases, each by another person, on one dataset after the other.
    async fn lease(&mut self, count: usize) -> Result<Duration, Failure> {
        let numbers = self.leases..self.leases.saturating_add(count);
        self.leases = numbers.end;
        let start = Instant::now();
        let leases = numbers.map(|number| {
            let dataset = number % self.datasets;
            let command = Command::Lease {
                dataset: format!("d{dataset}"),
                subject: format!("{number:064x}"),
                mode: Some(Mode::Shared),
                ttl_seconds: None,
                groups: Vec::new(),
                wait: false,
                cluster: None,
            };
            submit(&self.ledger, format!("lease-{number}"), command)
        });
        all(leases).await?;
        Ok(start.elapsed())
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

async fn submit(ledger: &Ledger, tx_id: impl Into<String>, command: Command) -> Result<(), Failure> {
    let tx_id = TxId::new(tx_id.into())?;
    ledger.submit(Submission { tx_id, command }).await?;
    Ok(())
}

async fn all(
    submissions: impl Iterator<Item = impl Future<Output = Result<(), Failure>>>,
) -> Result<(), Failure> {
    let mut submissions = stream::iter(submissions).buffer_unordered(AT_ONCE);
    while let Some(outcome) = submissions.next().await {
        outcome?;
    }
    Ok(())
}

/// What a round of leases wrote: per block its transactions, and rows of the state.
struct Written {
    blocks: Vec<Vec<String>>,
    state: Vec<(String, String)>,
}

async fn written(path: &Path, ledger: &Ledger, height: u64) -> Result<Written, Failure> {
    let mut follower = ledger.follow(height);
    let mut blocks = Vec::new();
    let mut keys = Vec::new();
    let head = *ledger.heights().borrow();
    while u64::try_from(blocks.len())? < head.saturating_sub(height) {
        let Some(block) = follower.next().await? else {
            break;
        };
        let mut transactions = Vec::new();
        for transaction in &block.transactions {
            transactions.push(serde_json::to_string(transaction)?);
            let leases = transaction
                .events
                .iter()
                .filter_map(|event| event.lease.as_deref());
            keys.extend(leases.map(|lease| lease.id.to_string()));
        }
        blocks.push(transactions);
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    // A lease has a record, places in four indexes and two lines of history.
    let rows = sqlx::query(
        "SELECT key, value FROM state WHERE value IN (SELECT value FROM json_each(?1)) \
         OR key IN (SELECT 'lease/' || value FROM json_each(?1))",
    )
    .bind(serde_json::to_string(&keys)?)
    .fetch_all(&mut connection)
    .await?;
    let state = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, sqlx::Error>>()?;
    connection.close().await?;
    Ok(Written { blocks, state })
}

/// Tables that hold bytes and nothing else, opened as the ledger is.
async fn bare(path: &Path) -> Result<SqliteConnection, Failure> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    for table in [
        "CREATE TABLE transactions (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT",
        "CREATE TABLE state (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    ] {
        sqlx::query(table).execute(&mut connection).await?;
    }
    Ok(connection)
}

/// The same groups of the same bytes: one statement for the transactions, one for the state's rows, one flush a group.
async fn insert(
    connection: &mut SqliteConnection,
    written: &Written,
    state: bool,
) -> Result<Duration, Failure> {
    let groups = written.blocks.len().max(1);
    let each = written.state.len().div_ceil(groups).max(1);
    let mut rows = written.state.chunks(each);
    let mut statements = Vec::new();
    for block in &written.blocks {
        statements.push((
            serde_json::to_string(block)?,
            serde_json::to_string(rows.next().unwrap_or_default())?,
        ));
    }
    let start = Instant::now();
    for (transactions, rows) in statements {
        let mut group = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("INSERT INTO transactions (body) SELECT value FROM json_each(?1)")
            .bind(transactions)
            .execute(&mut *group)
            .await?;
        if state {
            sqlx::query("INSERT OR REPLACE INTO state (key, value) SELECT value ->> 0, value ->> 1 FROM json_each(?1)")
                .bind(rows)
                .execute(&mut *group)
                .await?;
        }
        group.commit().await?;
    }
    Ok(start.elapsed())
}

async fn throughput_and_growth(directory: &Path, mut large: Bench, rounds: usize) -> Result<(), Failure> {
    let (mut on_small, mut on_large, mut rows, mut rows_and_state) = (vec![], vec![], vec![], vec![]);
    let mut plain = bare(&directory.join("plain.db")).await?;
    let mut full = bare(&directory.join("full.db")).await?;
    let (large_leases, large_datasets) = (large.leases, large.datasets);
    for round in 0..rounds {
        // A new one each time, so that it stays small.
        let path = directory.join(format!("small-{round}.db"));
        let mut small = Bench::new(&path, SMALL).await?;
        let height = *small.ledger.heights().borrow();
        on_small.push(small.lease(ROUND).await?);
        let written = written(&path, &small.ledger, height).await?;
        rows.push(insert(&mut plain, &written, false).await?);
        rows_and_state.push(insert(&mut full, &written, true).await?);
        on_large.push(large.lease(ROUND).await?);
        small.ledger.close().await;
    }
    large.ledger.close().await;
    let [small, large, rows, both] = [on_small, on_large, rows, rows_and_state].map(median);
    let per_second = |time: Duration| ROUND as f64 / time.as_secs_f64();
    println!("| {ROUND} leases, {AT_ONCE} at once | leases/s | ledger ÷ it |\n|---|---|---|");
    println!("| ledger | {:.0} | |", per_second(small));
    println!(
        "| bare SQLite, the transactions' bytes | {:.0} | {:.2} |",
        per_second(rows),
        ratio(rows, small)
    );
    println!(
        "| bare SQLite, the transactions' and the state's bytes | {:.0} | {:.2} |",
        per_second(both),
        ratio(both, small)
    );
    println!("\n| ledger with | µs per lease | × |\n|---|---|---|");
    let micros = |time: Duration| time.as_micros() as f64 / ROUND as f64;
    println!(
        "| {} leases, {} datasets | {:.0} | |",
        SMALL.0,
        SMALL.1,
        micros(small)
    );
    println!(
        "| {large_leases} leases, {} datasets | {:.0} | {:.2} |",
        large_datasets,
        micros(large),
        ratio(large, small)
    );
    Ok(())
}

async fn verifying(directory: &Path, rounds: usize) -> Result<(), Failure> {
    let file = LedgerFile::open(&directory.join("large.db")).await?;
    // The same bytes: the blocks' bodies, one after the other.
    let bodies = directory.join("bodies");
    let options = SqliteConnectOptions::new().filename(file.path()).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let mut out = std::io::BufWriter::new(std::fs::File::create(&bodies)?);
    let mut blocks = sqlx::query("SELECT body FROM blocks ORDER BY height").fetch(&mut connection);
    let mut bytes = 0_usize;
    while let Some(row) = blocks.next().await {
        let body: String = row?.try_get(0)?;
        bytes = bytes.saturating_add(body.len());
        std::io::Write::write_all(&mut out, body.as_bytes())?;
    }
    drop(out);
    drop(blocks);
    let (mut chain, mut whole, mut sums) = (vec![], vec![], vec![]);
    for round in 0..rounds {
        let start = Instant::now();
        file.verify(Depth::Chain, &[]).await?;
        chain.push(start.elapsed());
        let start = Instant::now();
        if !Process::new("sha256sum").arg(&bodies).output()?.status.success() {
            return Err("sha256sum failed".into());
        }
        sums.push(start.elapsed());
        if round < 2 {
            let start = Instant::now();
            file.verify(Depth::Whole, &[]).await?;
            whole.push(start.elapsed());
        }
    }
    let [chain, whole, sums] = [chain, whole, sums].map(median);
    let rate = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
    let mut table = format!(
        "\n| {:.0} MB of blocks | MB/s | × sha256sum |\n|---|---|---|\n",
        bytes as f64 / 1e6
    );
    for (name, time) in [
        ("`sha256sum`", sums),
        ("`verify --chain`", chain),
        ("`verify`", whole),
    ] {
        writeln!(table, "| {name} | {:.0} | {:.2} |", rate(time), ratio(sums, time))?;
    }
    println!("{table}");
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

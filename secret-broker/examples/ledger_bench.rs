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
use leasehold_chaincode::{Ciphertext, Command, Metadata, Mode, Msp, Policy, TxId, key};
use leasehold_secret_broker::ledger::{Depth, Ledger, LedgerFile, LedgerOptions, Submission, place_of};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

type Failure = Box<dyn Error + Send + Sync>;

/// Submissions that wait at the same time; as many as a block takes.
const AT_ONCE: usize = 128;
/// The same while a ledger is filled, which is not measured.
const AT_ONCE_FILLING: usize = 2_048;
/// Leases in a round.
const ROUND: usize = 5_120;
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
        for (name, command) in [("join", join), ("cluster", cluster)] {
            submit(&ledger, name, command).await?;
        }
        let registrations = (0..datasets).map(|number| {
            let name = format!("d{number}");
            submit(&ledger, name.clone(), register(name))
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
    async fn lease(&mut self, count: usize, at_once: usize) -> Result<Spent, Failure> {
        let numbers = self.leases..self.leases.saturating_add(count);
        self.leases = numbers.end;
        let start = Stopwatch::start()?;
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

async fn submit(ledger: &Ledger, tx_id: impl Into<String>, command: Command) -> Result<(), Failure> {
    let tx_id = TxId::new(tx_id.into())?;
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

/// What a block wrote: its transactions, the places where they are found, and the rows of the state.
struct Written {
    transactions: Vec<String>,
    places: Vec<(String, u64, usize)>,
    rows: Vec<(String, String)>,
}

/// What the blocks after a height wrote.
async fn written(path: &Path, ledger: &Ledger, height: u64) -> Result<Vec<Written>, Failure> {
    let mut follower = ledger.follow(height);
    // What is read below is in the file's tables only then.
    ledger.settle().await;
    let mut groups = Vec::new();
    let head = *ledger.heights().borrow();
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    while u64::try_from(groups.len())? < head.saturating_sub(height) {
        let Some(block) = follower.next().await? else {
            break;
        };
        let mut group = Written {
            transactions: Vec::new(),
            places: Vec::new(),
            rows: Vec::new(),
        };
        let (mut places, mut told) = (Vec::new(), Vec::new());
        for (at, transaction) in block.transactions.iter().enumerate() {
            group.transactions.push(serde_json::to_string(transaction)?);
            group
                .places
                .push((transaction.tx_id.to_string(), block.height, at));
            for lease in transaction
                .events
                .iter()
                .filter_map(|event| event.lease.as_deref())
            {
                let keys = [
                    key::lease(&lease.id),
                    key::lease_of_dataset(lease),
                    key::lease_of_holder(&lease.dataset, &lease.cluster_msp, &lease.subject),
                    key::lease_in_state(lease),
                    key::lease_of_subject(lease),
                    key::dataset_status(&lease.dataset),
                ];
                places.extend(keys.map(|key| place_of(&key)));
                let [first, last] = [0, u64::MAX].map(|line| place_of(&key::lease_history(&lease.id, line)));
                told.push([first, last]);
            }
        }
        // And its line of history, and where that is found.
        let lines = sqlx::query(
            "SELECT state.place, state.value FROM json_each(?1) AS told, state \
             WHERE state.place BETWEEN told.value ->> 0 AND told.value ->> 1",
        )
        .bind(serde_json::to_string(&told)?)
        .fetch_all(&mut connection)
        .await?;
        for line in lines {
            places.push(line.try_get(0)?);
            places.push(place_of(&line.try_get::<String, _>(1)?));
        }
        let rows = sqlx::query(
            "SELECT place, value FROM state WHERE place IN (SELECT value FROM json_each(?1)) ORDER BY place",
        )
        .bind(serde_json::to_string(&places)?)
        .fetch_all(&mut connection)
        .await?;
        for row in rows {
            group.rows.push((row.try_get(0)?, row.try_get(1)?));
        }
        groups.push(group);
    }
    connection.close().await?;
    Ok(groups)
}

/// Tables that hold bytes and nothing else, opened as the ledger is.
async fn bare(path: &Path) -> Result<SqliteConnection, Failure> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .page_size(8_192)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-65536")
        .pragma("wal_autocheckpoint", "8192");
    let mut connection = SqliteConnection::connect_with(&options).await?;
    for table in [
        "CREATE TABLE transactions (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT",
        "CREATE TABLE places (tx_id TEXT NOT NULL PRIMARY KEY, height INTEGER NOT NULL, position INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE TABLE state (place TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    ] {
        sqlx::query(table).execute(&mut connection).await?;
    }
    Ok(connection)
}

/// The same groups of the same bytes, with one flush each: as many rows in a statement as the ledger has in one, which is the fastest
/// of the ways that were tried (a JSON array of rows costs SQLite three times as much).
async fn insert(
    connection: &mut SqliteConnection,
    written: &[Written],
    everything: bool,
) -> Result<Spent, Failure> {
    let statements = [
        ("INSERT INTO transactions (body) VALUES ", "(?)"),
        (
            "INSERT OR REPLACE INTO places (tx_id, height, position) VALUES ",
            "(?, ?, ?)",
        ),
        ("INSERT OR REPLACE INTO state (place, value) VALUES ", "(?, ?)"),
    ];
    let [transactions, places, rows] = statements.map(|(insert, row)| {
        [256, 16, 1].map(|count: usize| (count, [insert, &vec![row; count].join(", ")].concat()))
    });
    let start = Stopwatch::start()?;
    for block in written {
        let mut group = connection.begin_with("BEGIN IMMEDIATE").await?;
        for (chunk, statement) in chunks(&block.transactions, &transactions) {
            let query = sqlx::query(AssertSqlSafe(statement));
            let query = chunk.iter().fold(query, |query, body| query.bind(body));
            query.execute(&mut *group).await?;
        }
        if everything {
            for (chunk, statement) in chunks(&block.places, &places) {
                let query = sqlx::query(AssertSqlSafe(statement));
                let query = chunk.iter().fold(query, |query, (tx_id, height, at)| {
                    query
                        .bind(tx_id)
                        .bind(i64::try_from(*height).unwrap_or(i64::MAX))
                        .bind(i64::try_from(*at).unwrap_or(i64::MAX))
                });
                query.execute(&mut *group).await?;
            }
            for (chunk, statement) in chunks(&block.rows, &rows) {
                let query = sqlx::query(AssertSqlSafe(statement));
                let query = chunk
                    .iter()
                    .fold(query, |query, (key, value)| query.bind(key).bind(value));
                query.execute(&mut *group).await?;
            }
        }
        group.commit().await?;
    }
    start.stop()
}

/// Rows as few statements take, each with its statement.
fn chunks<'r, T>(mut rest: &'r [T], statements: &'r [(usize, String); 3]) -> Vec<(&'r [T], &'r str)> {
    let mut chunks = Vec::new();
    for (count, statement) in statements {
        while let Some((chunk, after)) = rest.split_at_checked(*count) {
            chunks.push((chunk, statement.as_str()));
            rest = after;
        }
    }
    chunks
}

async fn throughput_and_growth(directory: &Path, mut large: Bench, rounds: usize) -> Result<(), Failure> {
    let (mut on_small, mut on_large, mut rows, mut rows_and_state) = (vec![], vec![], vec![], vec![]);
    let mut plain = bare(&directory.join("plain.db")).await?;
    let mut full = bare(&directory.join("full.db")).await?;
    let (large_leases, large_datasets) = (large.leases, large.datasets);
    let (mut blocks, mut state_rows) = (0, 0);
    for round in 0..rounds {
        // A new one each time, so that it stays small.
        let path = directory.join(format!("small-{round}.db"));
        let mut small = Bench::new(&path, SMALL).await?;
        let height = *small.ledger.heights().borrow();
        on_small.push(small.lease(ROUND, AT_ONCE).await?);
        let written = written(&path, &small.ledger, height).await?;
        blocks += written.len();
        state_rows += written.iter().map(|group| group.rows.len()).sum::<usize>();
        rows.push(insert(&mut plain, &written, false).await?);
        rows_and_state.push(insert(&mut full, &written, true).await?);
        on_large.push(large.lease(ROUND, AT_ONCE).await?);
        small.ledger.close().await;
    }
    large.ledger.close().await;
    let [small, large, rows, both] = [on_small, on_large, rows, rows_and_state].map(middle);
    println!(
        "| {ROUND} leases, {AT_ONCE} at once | leases/s | ledger ÷ it | CPU µs per lease | it ÷ ledger |"
    );
    println!("|---|---|---|---|---|");
    for (name, spent) in [
        ("ledger", small),
        ("bare SQLite, the transactions' bytes", rows),
        ("bare SQLite, all the bytes", both),
    ] {
        println!(
            "| {name} | {:.0} | {:.2} | {:.0} | {:.2} |",
            ROUND as f64 / spent.time.as_secs_f64(),
            ratio(spent.time, small.time),
            micros(spent.cpu),
            ratio(spent.cpu, small.cpu)
        );
    }
    let each = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    println!(
        "\nIn blocks of {:.0}, {:.1} rows of the state to each lease.",
        each(rounds * ROUND, blocks),
        each(state_rows, rounds * ROUND)
    );
    println!("\n| ledger with | µs per lease | × | CPU µs per lease | × |\n|---|---|---|---|---|");
    for (leases, datasets, spent) in [(SMALL.0, SMALL.1, small), (large_leases, large_datasets, large)] {
        println!(
            "| {leases} leases, {datasets} datasets | {:.0} | {:.2} | {:.0} | {:.2} |",
            micros(spent.time),
            ratio(spent.time, small.time),
            micros(spent.cpu),
            ratio(spent.cpu, small.cpu)
        );
    }
    Ok(())
}

/// Of one lease of a round.
fn micros(time: Duration) -> f64 {
    time.as_micros() as f64 / ROUND as f64
}

async fn verifying(directory: &Path, rounds: usize) -> Result<(), Failure> {
    let path = directory.join("large.db");
    let file = LedgerFile::open(&path).await?;
    // The same bytes: the blocks' bodies, one after the other.
    let bodies = directory.join("bodies");
    let options = SqliteConnectOptions::new().filename(&path).read_only(true);
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
    let file_bytes = usize::try_from(std::fs::metadata(&path)?.len())?;
    let (mut chain, mut whole, mut sums, mut file_sums) = (vec![], vec![], vec![], vec![]);
    for round in 0..rounds {
        let start = Instant::now();
        file.verify(Depth::Chain, &[]).await?;
        chain.push(start.elapsed());
        let start = Instant::now();
        if !Process::new("sha256sum").arg(&bodies).output()?.status.success() {
            return Err("sha256sum failed".into());
        }
        sums.push(start.elapsed());
        if round < 3 {
            let start = Instant::now();
            if !Process::new("sha256sum").arg(&path).output()?.status.success() {
                return Err("sha256sum failed".into());
            }
            file_sums.push(start.elapsed());
            let start = Instant::now();
            file.verify(Depth::Whole, &[]).await?;
            whole.push(start.elapsed());
        }
    }
    let [chain, whole, sums, file_sums] = [chain, whole, sums, file_sums].map(median);
    let rate = |bytes: usize, time: Duration| bytes as f64 / 1e6 / time.as_secs_f64();
    let mut table = String::new();
    for (what, bytes, rows) in [
        (
            "of blocks",
            bytes,
            [("`sha256sum`", sums, sums), ("`verify --chain`", chain, sums)].as_slice(),
        ),
        (
            "of file",
            file_bytes,
            &[
                ("`sha256sum`", file_sums, file_sums),
                ("`verify`", whole, file_sums),
            ],
        ),
    ] {
        writeln!(
            table,
            "\n| {:.0} MB {what} | MB/s | × `sha256sum` |\n|---|---|---|",
            bytes as f64 / 1e6
        )?;
        for (name, time, sums) in rows {
            writeln!(
                table,
                "| {name} | {:.0} | {:.2} |",
                rate(bytes, *time),
                ratio(*sums, *time)
            )?;
        }
    }
    println!("{table}");
    Ok(())
}

/// CPU time of this process so far, its threads' and the kernel's for it.
fn cpu() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Behind the name in brackets: state and ten more, then user and system time in hundredths of a second.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11);
    let ticks = fields.take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks.saturating_mul(10)))
}

/// What a round took, and how much of the processor.
#[derive(Clone, Copy, Default)]
struct Spent {
    time: Duration,
    cpu: Duration,
}

struct Stopwatch(Instant, Duration);

impl Stopwatch {
    fn start() -> Result<Self, Failure> {
        Ok(Self(Instant::now(), cpu()?))
    }

    fn stop(self) -> Result<Spent, Failure> {
        let time = self.0.elapsed();
        let cpu = cpu()?.saturating_sub(self.1);
        Ok(Spent { time, cpu })
    }
}

fn middle(rounds: Vec<Spent>) -> Spent {
    Spent {
        time: median(rounds.iter().map(|spent| spent.time).collect()),
        cpu: median(rounds.iter().map(|spent| spent.cpu).collect()),
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

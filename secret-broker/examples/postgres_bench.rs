//! Measures the ledger in PostgreSQL against the least that the same work can cost there: leases per second against bare inserts of the
//! same bytes in the same groups, each group one transaction that the server flushes to its disk. Both take turns in one run, on a
//! server of its own in a temporary directory. Prints a Markdown table; where PostgreSQL is not installed it says so.
//!
//! `postgres_bench [rounds]`, by default 5.

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;
use leasehold_chaincode::{Ciphertext, Command, Metadata, Mode, Msp, Policy, TxId};
use leasehold_secret_broker::ledger::{Ledger, LedgerKey, LedgerOptions, Submission};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};
use sqlx::{Connection, PgConnection, Row};

type Failure = Box<dyn Error + Send + Sync>;

/// Submissions that wait at the same time; as many as a block takes.
const AT_ONCE: usize = 128;
/// Leases in a round, each of a dataset of its own, so that no row of a round is written twice.
const ROUND: usize = 2_560;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let rounds = std::env::args().nth(1).map(|text| text.parse::<usize>());
    let rounds = rounds.transpose()?.unwrap_or(5).max(1);
    let directory = tempfile::tempdir()?;
    let Some(server) = Server::start(directory.path()).await? else {
        println!(
            "SKIPPED: the ledger in PostgreSQL: PostgreSQL is not installed, or does not run as this user"
        );
        return Ok(());
    };
    let mut bare = server.connect().await?;
    for statement in [
        "CREATE TABLE transactions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL)",
        "CREATE TABLE places (tx_id text COLLATE \"C\" PRIMARY KEY, height bigint NOT NULL, position bigint NOT NULL)",
        "CREATE TABLE states (key text COLLATE \"C\" PRIMARY KEY, value text NOT NULL)",
    ] {
        sqlx::query(statement).execute(&mut bare).await?;
    }
    let ledger = filled(&server, directory.path()).await?;
    let (mut on_ledger, mut rows, mut everything) = (vec![], vec![], vec![]);
    let (mut blocks, mut state_rows) = (0_usize, 0_usize);
    for round in 0..rounds {
        let height = *ledger.heights().borrow();
        let start = Instant::now();
        lease(&ledger, round).await?;
        on_ledger.push(start.elapsed());
        let groups = written(&mut bare, height).await?;
        blocks += groups.len();
        state_rows += groups.iter().map(|group| group.states).sum::<usize>();
        rows.push(insert(&mut bare, &groups, false).await?);
        everything.push(insert(&mut bare, &groups, true).await?);
    }
    ledger.close().await;
    bare.close().await?;
    let [ledger, rows, everything] = [on_ledger, rows, everything].map(median);
    println!("| {ROUND} leases, {AT_ONCE} at once | leases/s | ledger ÷ it |\n|---|---|---|");
    for (name, time) in [
        ("ledger in PostgreSQL", ledger),
        ("bare PostgreSQL, the transactions' bytes", rows),
        ("bare PostgreSQL, all the bytes", everything),
    ] {
        println!(
            "| {name} | {:.0} | {:.2} |",
            ROUND as f64 / time.as_secs_f64(),
            time.as_secs_f64() / ledger.as_secs_f64()
        );
    }
    let each = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    println!(
        "\nIn blocks of {:.0}, {:.1} rows of the state to each lease.",
        each(rounds * ROUND, blocks),
        each(state_rows, rounds * ROUND)
    );
    Ok(())
}

/// A ledger with a dataset for each lease of a round.
async fn filled(server: &Server, directory: &Path) -> Result<Ledger, Failure> {
    let address: leasehold_secret_broker::ledger::LedgerAddress = server.url().parse()?;
    let mut options = LedgerOptions::new(address, Msp::new("UiSMSP")?);
    options.key = directory.join("ledger.key");
    options.block_transactions = AT_ONCE;
    LedgerKey::load_or_create(&options.key)?;
    let ledger = Ledger::open(options).await?;
    let join = Command::JoinConsortium {
        broker: "https://broker.example.org".to_owned(),
        keys: Vec::new(),
    };
    let cluster = Command::RegisterCluster {
        name: "main".to_owned(),
        keys: Vec::new(),
    };
    for (name, command) in [("join", join), ("cluster", cluster)] {
        submit(&ledger, name.to_owned(), command).await?;
    }
    let mut policy = Policy::exclusive(3_600);
    policy.most_shared = leasehold_chaincode::limit::MOST_SHARED;
    let registrations = (0..ROUND).map(|number| {
        let register = Command::RegisterDataset {
            name: format!("d{number}"),
            metadata: Metadata {
                title: "Texts".to_owned(),
                ..Metadata::default()
            },
            policy: policy.clone(),
            volume_ciphertext: Ciphertext("bm90aGluZyB0byByZWFk".to_owned()),
            key_version: 1,
        };
        submit(&ledger, format!("d{number}"), register)
    });
    all(registrations).await?;
    Ok(ledger)
}

/// A lease of each dataset, each by another person.
async fn lease(ledger: &Ledger, round: usize) -> Result<(), Failure> {
    let leases = (0..ROUND).map(|number| {
        let person = round.saturating_mul(ROUND).saturating_add(number);
        let command = Command::Lease {
            dataset: format!("d{number}"),
            subject: format!("{person:064x}"),
            mode: Some(Mode::Shared),
            ttl_seconds: None,
            groups: Vec::new(),
            wait: false,
            cluster: None,
        };
        submit(ledger, format!("lease-{person}"), command)
    });
    all(leases).await
}

async fn submit(ledger: &Ledger, tx_id: String, command: Command) -> Result<(), Failure> {
    let tx_id = TxId::new(tx_id)?;
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

/// What a block wrote, as JSON: its transactions, where they are, and the rows of the state.
struct Written {
    transactions: String,
    places: String,
    state: String,
    states: usize,
}

/// What the blocks after a height wrote: the rows of the transactions that wrote them.
async fn written(connection: &mut PgConnection, height: u64) -> Result<Vec<Written>, Failure> {
    let rows = sqlx::query(
        "SELECT (b.body::json -> 'transactions')::text, \
         (SELECT json_agg(json_build_array(t.tx_id, t.height, t.position))::text \
          FROM leasehold.transactions t WHERE t.height = b.height), \
         (SELECT json_agg(json_build_array(s.key, s.value) ORDER BY s.key)::text \
          FROM leasehold.state s WHERE s.xmin::text = b.xmin::text), \
         (SELECT count(*) FROM leasehold.state s WHERE s.xmin::text = b.xmin::text) \
         FROM leasehold.blocks b WHERE b.height > $1 ORDER BY b.height",
    );
    let rows = rows.bind(i64::try_from(height)?).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(Written {
                transactions: row.try_get(0)?,
                places: row.try_get(1)?,
                state: row.try_get(2)?,
                states: usize::try_from(row.try_get::<i64, _>(3)?)?,
            })
        })
        .collect()
}

/// The same groups of the same bytes: one statement a group for each table, and one flush.
async fn insert(
    connection: &mut PgConnection,
    groups: &[Written],
    everything: bool,
) -> Result<Duration, Failure> {
    let start = Instant::now();
    for written in groups {
        let mut group = connection.begin().await?;
        sqlx::query(
            "INSERT INTO transactions (body) SELECT value::text FROM json_array_elements($1::text::json)",
        )
        .bind(&written.transactions)
        .execute(&mut *group)
        .await?;
        if everything {
            sqlx::query(
                "INSERT INTO places (tx_id, height, position) \
                 SELECT value ->> 0, (value ->> 1)::bigint, (value ->> 2)::bigint FROM json_array_elements($1::text::json)",
            )
            .bind(&written.places)
            .execute(&mut *group)
            .await?;
            sqlx::query(
                "INSERT INTO states (key, value) SELECT value ->> 0, value ->> 1 FROM json_array_elements($1::text::json) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            )
            .bind(&written.state)
            .execute(&mut *group)
            .await?;
        }
        group.commit().await?;
    }
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A PostgreSQL with its usual settings, reached through a socket; ended when dropped.
struct Server {
    directory: PathBuf,
    process: Child,
}

impl Server {
    /// None where there is no PostgreSQL, or no user by whom it runs.
    async fn start(directory: &Path) -> Result<Option<Self>, Failure> {
        let Some(programs) = programs() else {
            return Ok(None);
        };
        let directory = directory.join("postgres");
        std::fs::create_dir(&directory)?;
        if geteuid().is_root() {
            let Some(user) = User::from_name("postgres")? else {
                return Ok(None);
            };
            chown(&directory, Some(user.uid), Some(user.gid))?;
            // The temporary directory above it is for its owner alone.
            let above = directory.parent().unwrap_or(&directory);
            chown(above, Some(user.uid), Some(user.gid))?;
        }
        let data = directory.join("data");
        let made = program(&programs, "initdb", &directory)
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--pgdata",
            ])
            .arg(&data)
            .output()?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into());
        }
        let process = program(&programs, "postgres", &directory)
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&directory)
            .args(["-c", "listen_addresses="])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { directory, process };
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = server.connect().await {
            if Instant::now() > deadline {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Some(server))
    }

    fn url(&self) -> String {
        format!(
            "postgres:///postgres?host={}&user=postgres",
            self.directory.display()
        )
    }

    async fn connect(&self) -> Result<PgConnection, Failure> {
        Ok(PgConnection::connect(&self.url()).await?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = i32::try_from(self.process.id()).map(|id| kill(Pid::from_raw(id), Signal::SIGINT));
        if let Ok(Ok(())) = stopped {
            drop(self.process.wait());
        }
    }
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|programs| programs.join("initdb").is_file() && programs.join("postgres").is_file())
        .collect();
    found.sort();
    found.pop()
}

/// A program of PostgreSQL, by a user that it accepts; it ends with this process.
fn program(programs: &Path, name: &str, directory: &Path) -> Process {
    let mut command = Process::new("setpriv");
    if geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    command
        .args(["--pdeathsig=QUIT", "--"])
        .arg(programs.join(name))
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

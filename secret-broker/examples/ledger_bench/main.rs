//! Measures the embedded ledger against the least that the same work can cost: leases per second against bare SQLite inserts of the
//! same bytes with the same flushes, a lease on a large ledger against one on a small ledger, and verifying against `sha256sum`.
//! Both sides of each take turns in one run. Persons are in no order; transactions have ids as the broker gives them. Prints Markdown tables.
//!
//! `ledger_bench [leases on the large ledger] [datasets on it] [rounds]`, by default 100000, 10000 and 5.

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

mod bare;
mod growing;
mod spent;
mod verifying;

use bare::{bare, insert, written};
use growing::Bench;
use spent::{Spent, middle, ratio};
use std::error::Error;
use std::path::Path;
use verifying::verifying;

type Failure = Box<dyn Error + Send + Sync>;

/// Submissions that wait at the same time; as many as a block takes.
const AT_ONCE: usize = 128;
/// The same while a ledger is filled, which is not measured.
const AT_ONCE_FILLING: usize = 2_048;
/// Leases in a round.
const ROUND: usize = 5_120;
/// Leases that are taken one after the other, each when the one before it is answered.
const ALONE: usize = 500;
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

async fn throughput_and_growth(directory: &Path, mut large: Bench, rounds: usize) -> Result<(), Failure> {
    let (mut on_small, mut on_large, mut rows, mut rows_and_state) = (vec![], vec![], vec![], vec![]);
    let (mut alone_small, mut alone_large) = (vec![], vec![]);
    let mut plain = bare(&directory.join("plain.db")).await?;
    let mut full = bare(&directory.join("full.db")).await?;
    let large_size = (large.leases, large.datasets);
    let (mut blocks, mut state_rows) = (0, 0);
    for round in 0..rounds {
        // A new one each time, so that it stays small.
        let path = directory.join(format!("small-{round}.db"));
        let mut small = Bench::new(&path, SMALL).await?;
        alone_small.push(small.lease(ALONE, 1).await?);
        alone_large.push(large.lease(ALONE, 1).await?);
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
            spent.cpu_micros(ROUND),
            ratio(spent.cpu, small.cpu)
        );
    }
    let each = |count: usize, of: usize| count as f64 / of.max(1) as f64;
    println!(
        "\nIn blocks of {:.0}, {:.1} rows of the state to each lease.",
        each(rounds * ROUND, blocks),
        each(state_rows, rounds * ROUND)
    );
    let [one_on_small, one_on_large] = [alone_small, alone_large].map(middle);
    growth(large_size, "128 at once", ROUND, small, large);
    growth(large_size, "one at a time", ALONE, one_on_small, one_on_large);
    Ok(())
}

/// What a lease costs on the large ledger, and what on the small one.
fn growth(large_size: (usize, usize), how: &str, leases: usize, small: Spent, large: Spent) {
    println!(
        "\n| {how}, on a ledger with | µs per lease | × | CPU µs per lease | × | KiB read | KiB written |"
    );
    println!("|---|---|---|---|---|---|---|");
    for ((on_it, datasets), spent) in [(SMALL, small), (large_size, large)] {
        let (read, written) = spent.kibibytes(leases);
        println!(
            "| {on_it} leases, {datasets} datasets | {:.0} | {:.2} | {:.0} | {:.2} | {read:.1} | {written:.1} |",
            spent.micros(leases),
            ratio(spent.time, small.time),
            spent.cpu_micros(leases),
            ratio(spent.cpu, small.cpu)
        );
    }
}

//! How fast a ledger is verified, beside `sha256sum` of the same bytes.

use crate::Failure;
use crate::spent::{median, ratio};
use futures::StreamExt as _;
use leasehold_secret_broker::ledger::{Depth, LedgerFile};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Row, SqliteConnection};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command as Process;
use std::time::{Duration, Instant};

pub(crate) async fn verifying(directory: &Path, rounds: usize) -> Result<(), Failure> {
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

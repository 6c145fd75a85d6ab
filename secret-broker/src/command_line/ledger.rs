//! `leasehold-secret-broker ledger …`: an operator's work on a ledger. What it finds goes to standard output as JSON, why it
//! failed to standard error.
//!
//! Exit codes: 0 done, and the ledger is as it was written; 1 it is not, or something failed; 2 wrong usage.

use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt as _, BufReader, BufWriter};

use crate::ledger::{self, Bytes, Depth, KeyId, LedgerAddress, LedgerFile, Receipt, Verified};

/// Work on a ledger.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// Where the ledger is, sqlite:PATH or postgres:URL; there is nothing to do for the ledger of a channel.
    #[arg(
        id = "ledger_address", // the service has a flag of that name
        long = "ledger",
        env = "LEASEHOLD_LEDGER",
        default_value = "sqlite:/var/lib/leasehold/ledger.db",
        hide_env_values = true,
        global = true,
        value_name = "ADDRESS"
    )]
    // Not parsed yet: what is wrong with it is told without it, for it may have a password in it.
    ledger: String,
    /// What to do.
    #[command(subcommand)]
    work: LedgerWork,
}

#[derive(Debug, Subcommand)]
enum LedgerWork {
    /// Check that the ledger is as it was written; names the first block and field that is not
    Verify {
        /// A receipt that was kept elsewhere: shows whether blocks after it were cut off, or others took its place
        #[arg(long = "receipt", value_name = "FILE")]
        receipts: Vec<PathBuf>,
        /// A key that is known to be yours (its `key_id`), for a ledger in which a key took over from a lost one
        #[arg(long = "trust-key", value_name = "KEY_ID")]
        trusted: Vec<KeyId>,
        /// Check hashes and signatures only: faster, and nothing is decided again
        #[arg(long)]
        chain: bool,
        /// Let a ledger pass that nobody signed: whoever can write it can have made all of it
        #[arg(long)]
        allow_unsigned: bool,
    },
    /// Print the signed head, to keep elsewhere, if the blocks lead to it
    Receipt {
        /// A receipt that was kept elsewhere, which must hold
        #[arg(long = "receipt", value_name = "FILE")]
        receipts: Vec<PathBuf>,
        /// A key that is known to be yours (its `key_id`), for a ledger in which a key took over from a lost one
        #[arg(long = "trust-key", value_name = "KEY_ID")]
        trusted: Vec<KeyId>,
    },
    /// Write the signed blocks as JSON lines, for a backup or another machine
    Export {
        /// A file that does not exist yet [default: standard output]
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Make a new ledger from an export, if all of it verifies
    Import {
        /// The export [default: standard input]
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// A receipt that must hold for it
        #[arg(long = "receipt", value_name = "FILE")]
        receipts: Vec<PathBuf>,
        /// A key that is known to be yours (its `key_id`), for a ledger in which a key took over from a lost one
        #[arg(long = "trust-key", value_name = "KEY_ID")]
        trusted: Vec<KeyId>,
    },
    /// Derive state, history and indexes of a ledger from its blocks anew
    Rebuild,
    /// Make the tables in PostgreSQL, so that brokers need no right to do so
    Prepare,
    /// Hand a ledger over to another key
    Rotate {
        /// The key that signs now [default: beside the ledger's file]
        #[arg(long, env = "LEASEHOLD_LEDGER_KEY", value_name = "FILE")]
        ledger_key: Option<PathBuf>,
        /// The key that signs from then on; made where it is missing
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// The key that signs now is lost: the new one signs for itself, and verifying fails unless it is told to trust it
        #[arg(long)]
        lost: bool,
        /// A key that is known to be yours (its `key_id`), where one took over from a lost one before
        #[arg(long = "trust-key", value_name = "KEY_ID")]
        trusted: Vec<KeyId>,
        /// Which ledger it must be, by its id
        #[arg(long, env = "LEASEHOLD_LEDGER_ID", value_name = "ID")]
        ledger_id: Option<Bytes<32>>,
        /// The broker's, with the `ledger.seen` that the ledger must agree with
        #[arg(
            id = "broker_data_dir",
            long = "data-dir",
            env = "LEASEHOLD_DATA_DIR",
            default_value = "/var/lib/leasehold",
            value_name = "DIRECTORY"
        )]
        data_dir: PathBuf,
    },
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Does the work.
pub async fn run(args: LedgerArgs) -> ExitCode {
    // Nobody is left to tell where standard error is closed too.
    let failed = |error: &dyn std::fmt::Display| drop(writeln!(io::stderr(), "error: {error}"));
    let address: LedgerAddress = match args.ledger.parse() {
        Ok(address) => address,
        Err(error) => {
            failed(&format!("--ledger: {error}"));
            return ExitCode::from(2);
        }
    };
    match work(args.work, &address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            failed(&error);
            ExitCode::FAILURE
        }
    }
}

async fn work(work: LedgerWork, address: &LedgerAddress) -> Result<(), Failure> {
    if let LedgerAddress::Fabric(_) = address {
        return Err("a channel's ledger is kept by its peers, so that there is no file to work on; docs/fabric.md says how it is verified and backed up".into());
    }
    match work {
        LedgerWork::Verify {
            receipts,
            trusted,
            chain,
            allow_unsigned,
        } => {
            let receipts = read_receipts(&receipts)?;
            let file = LedgerFile::open(address).await?;
            let depth = if chain { Depth::Chain } else { Depth::Whole };
            let verified = match allow_unsigned {
                true => file.verify_even_unsigned(depth, &receipts).await?,
                false => file.verify(depth, &receipts).await?,
            };
            print(&summary(&verified.vouched_for(&trusted, &receipts)?))
        }
        LedgerWork::Receipt { receipts, trusted } => {
            let receipts = read_receipts(&receipts)?;
            let file = LedgerFile::open(address).await?;
            let receipt = file.receipt(&trusted, &receipts).await?;
            print(&serde_json::to_value(receipt)?)
        }
        LedgerWork::Export { to } => {
            let file = LedgerFile::open(address).await?;
            match to {
                None => {
                    file.export(&mut standard(io::stdout())?).await?;
                    Ok(())
                }
                Some(to) => export_to(&file, &to).await,
            }
        }
        LedgerWork::Import {
            from,
            receipts,
            trusted,
        } => {
            let receipts = read_receipts(&receipts)?;
            let verified = match from {
                None => {
                    let stream = standard(io::stdin())?;
                    ledger::import(&mut BufReader::new(stream), address, &receipts, &trusted).await?
                }
                Some(from) => {
                    let open = tokio::fs::File::open(&from).await;
                    let file = open.map_err(|error| format!("cannot read {}: {error}", from.display()))?;
                    ledger::import(&mut BufReader::new(file), address, &receipts, &trusted).await?
                }
            };
            print(&summary(&verified))
        }
        LedgerWork::Rebuild => print(&summary(&ledger::rebuild(address).await?)),
        LedgerWork::Prepare => {
            ledger::prepare(address).await?;
            print(&json!({ "prepared": address.to_string() }))
        }
        LedgerWork::Rotate {
            ledger_key,
            to,
            lost,
            trusted,
            ledger_id,
            data_dir,
        } => {
            let key = ledger_key.or_else(|| address.key_beside());
            let key = key.ok_or("give the key that signs now with --ledger-key")?;
            let mut options = LedgerFile::open(address).await?.options(&key).await?;
            options.trusted = trusted;
            options.id = ledger_id;
            options.seen = Some(data_dir.join("ledger.seen"));
            let changed = ledger::rotate(&options, &to, lost).await?;
            print(&json!({
                "height": changed.height,
                "key_id": changed.key_id,
                "start_the_broker_with": format!("--ledger-key {}", to.display()),
            }))
        }
    }
}

/// Standard input or output as a file, whose end and errors are its own.
fn standard(stream: impl AsFd) -> io::Result<tokio::fs::File> {
    let descriptor = stream.as_fd().try_clone_to_owned()?;
    Ok(tokio::fs::File::from_std(std::fs::File::from(descriptor)))
}

async fn export_to(file: &LedgerFile, to: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| format!("cannot write {}: {error}", to.display());
    let mut options = tokio::fs::OpenOptions::new();
    // As private as the ledger itself.
    options.write(true).create_new(true).mode(0o600);
    let out = options.open(to).await.map_err(failed)?;
    let mut out = BufWriter::new(out);
    let receipt = match file.export(&mut out).await {
        Ok(receipt) => receipt,
        Err(error) => {
            std::fs::remove_file(to).map_err(failed)?;
            return Err(error.into());
        }
    };
    out.shutdown().await.map_err(failed)?;
    out.into_inner().sync_all().await.map_err(failed)?;
    print(&serde_json::to_value(receipt)?)
}

fn read_receipts(paths: &[PathBuf]) -> Result<Vec<Receipt>, Failure> {
    let read = |path: &PathBuf| {
        let failed = |error: &dyn std::fmt::Display| format!("{} is no receipt: {error}", path.display());
        let text = std::fs::read(path).map_err(|error| failed(&error))?;
        serde_json::from_slice(&text).map_err(|error| failed(&error).into())
    };
    paths.iter().map(read).collect()
}

fn summary(verified: &Verified) -> Value {
    json!({
        "ledger_id": verified.ledger_id,
        "height": verified.height,
        "head_hash": verified.head_hash,
        "key_id": verified.key_id,
        "unvouched_keys": verified.unvouched_keys,
        "transactions": verified.transactions,
        "body_bytes": verified.body_bytes,
    })
}

fn print(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)?;
    writeln!(io::stdout(), "{text}").map_err(|error| format!("cannot write the answer: {error}").into())
}

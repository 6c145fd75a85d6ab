//! `leasehold-secret-broker keys …`: an operator's work on the key ring and the key store. What it finds goes to standard output as JSON, why it
//! failed to standard error.
//!
//! The broker may run meanwhile: it reads the ring again, and both leave the key store to each other a transaction at a time. `restore` is for
//! a broker that is stopped.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::config::Pkcs11Args;
use crate::keys::rewrap::rewrap;
use crate::keys::{KeyRing, rotation};
use crate::store::Store;
use crate::store::backup;
use crate::store::receipts::Receipt;

const PAGE: u32 = 500;

/// Work on the keys.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(flatten)]
    places: Places,
    /// What to do.
    #[command(subcommand)]
    work: KeysWork,
}

/// Where everything is.
#[derive(Debug, Args)]
struct Places {
    /// The broker's, with its key store
    #[arg(
        id = "keys_data_dir", // the service has a flag of that name
        long = "data-dir",
        env = "LEASEHOLD_DATA_DIR",
        default_value = "/var/lib/leasehold",
        value_name = "DIRECTORY",
        global = true
    )]
    data_dir: PathBuf,
    /// The key ring; `<data-dir>/keys` where absent
    #[arg(
        id = "keys_kek_file",
        long = "kek-file",
        env = "LEASEHOLD_KEK_FILE",
        value_name = "FILE",
        global = true
    )]
    kek_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum KeysWork {
    /// Make a new key ring; refuses to overwrite one
    Init {
        #[command(flatten)]
        pkcs11: Pkcs11Args,
    },
    /// Add a version of the key-encryption key, which wraps from then on; a running broker wraps all data keys anew
    Rotate {
        #[command(flatten)]
        pkcs11: Pkcs11Args,
    },
    /// Wrap all data keys anew, as a running broker does by itself
    Rewrap {
        #[command(flatten)]
        pkcs11: Pkcs11Args,
        /// MSP id of the organisation that runs the broker
        #[arg(
            id = "keys_organisation",
            long = "organisation",
            env = "LEASEHOLD_ORGANISATION"
        )]
        organisation: String,
    },
    /// Destroy a version of the key-encryption key, if nothing is wrapped by it
    Retire {
        /// Which one
        version: u32,
        #[command(flatten)]
        pkcs11: Pkcs11Args,
    },
    /// Show the versions of the key-encryption key, and how many data keys each wraps
    Status {
        #[command(flatten)]
        pkcs11: Pkcs11Args,
    },
    /// Print the receipts of destroyed data keys, one JSON object per line
    Receipts,
    /// Copy the key store, of a running broker too
    Backup {
        /// A file that does not exist yet
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Make the key store from a copy, if there is none; the broker must be stopped
    Restore {
        /// The copy
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Does the work.
pub async fn run(args: KeysArgs) -> ExitCode {
    match work(args.work, &args.places).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell where standard error is closed too.
            drop(writeln!(io::stderr(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

impl Places {
    fn ring(&self) -> PathBuf {
        self.kek_file
            .clone()
            .unwrap_or_else(|| self.data_dir.join("keys"))
    }

    fn database(&self) -> PathBuf {
        self.data_dir.join("broker.db")
    }

    /// The key store; never a new one, which would say that there are no keys.
    async fn store(&self) -> Result<Store, Failure> {
        let path = self.database();
        if !path.exists() {
            let path = path.display();
            return Err(format!("there is no key store {path}; check --data-dir").into());
        }
        Ok(Store::open(&path).await?)
    }
}

async fn work(work: KeysWork, places: &Places) -> Result<(), Failure> {
    let ring = places.ring();
    match work {
        KeysWork::Init { pkcs11 } => {
            rotation::create(&ring, pkcs11.settings()?.as_ref()).await?;
        }
        KeysWork::Rotate { pkcs11 } => {
            let version = rotation::rotate(&ring, pkcs11.settings()?.as_ref()).await?;
            print(&json!({"current": version}))?;
        }
        KeysWork::Rewrap { pkcs11, organisation } => {
            let ring = KeyRing::load(&ring, pkcs11.settings()?.as_ref()).await?;
            let store = places.store().await?;
            let came = rewrap(&store, &ring, &organisation, &CancellationToken::new()).await;
            let scrubbed = store.scrub().await;
            store.close().await;
            let came = came?;
            scrubbed?;
            print(&json!({"current": ring.current(), "rewrapped": came.done, "stuck": came.stuck}))?;
            if came.stuck > 0 {
                return Err("some data keys cannot be opened; the log names them".into());
            }
        }
        KeysWork::Retire { version, pkcs11 } => retire(places, version, &pkcs11).await?,
        KeysWork::Status { pkcs11 } => {
            let ring = KeyRing::load(&ring, pkcs11.settings()?.as_ref()).await?;
            let store = places.store().await?;
            let wrapped_by = store.wrapped_by().await;
            store.close().await;
            print(&status(&ring, &wrapped_by?))?;
        }
        KeysWork::Receipts => {
            let store = places.store().await?;
            let mut after = 0;
            loop {
                let page = store.key_receipts(None, after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.sequence;
                page.iter().try_for_each(|receipt| print(&shown(receipt)))?;
            }
            store.close().await;
        }
        KeysWork::Backup { to } => {
            let store = places.store().await?;
            let copied = store.backup(&to).await;
            store.close().await;
            copied?;
            print(&json!({"copied": places.database(), "to": to}))?;
        }
        KeysWork::Restore { from } => {
            let keys = backup::restore(&from, &places.database()).await?;
            print(&json!({"restored": places.database(), "data_keys": keys}))?;
        }
    }
    Ok(())
}

/// First the key store says that nothing is wrapped by it nor ever will be, then it goes: cut off in between, this can be done again.
async fn retire(places: &Places, version: u32, pkcs11: &Pkcs11Args) -> Result<(), Failure> {
    let pkcs11 = pkcs11.settings()?;
    rotation::may_go(&places.ring(), version)?;
    let store = places.store().await?;
    let wrapped = store.retire_kek(version).await;
    store.close().await;
    let wrapped = wrapped?;
    if wrapped > 0 {
        return Err(format!(
            "version {version} wraps {wrapped} data keys: a running broker wraps them anew by itself, else do it with `keys rewrap`; then retire it"
        )
        .into());
    }
    rotation::remove(&places.ring(), version, pkcs11.as_ref()).await?;
    print(&json!({"retired": version}))
}

fn status(ring: &KeyRing, wrapped_by: &[(u32, i64)]) -> Value {
    let wrapped = |version: u32| {
        let row = wrapped_by.iter().find(|(by, _)| *by == version);
        row.map_or(0, |(_, keys)| *keys)
    };
    let versions = ring.versions();
    let lost: Vec<_> = wrapped_by
        .iter()
        .filter(|(by, _)| versions.iter().all(|(version, _)| version != by))
        .map(|(version, keys)| json!({"version": version, "data_keys": keys}))
        .collect();
    let versions: Vec<_> = versions
        .iter()
        .map(|(version, place)| json!({"version": version, "place": place, "data_keys": wrapped(*version)}))
        .collect();
    json!({"current": ring.current(), "versions": versions, "wrapped_by_lost_versions": lost})
}

fn shown(receipt: &Receipt) -> Value {
    json!({
        "sequence": receipt.sequence,
        "dataset": receipt.dataset_id,
        "version": receipt.version,
        "key_encryption_key": receipt.kek_version,
        "wrapped_sha256": hex::encode(&receipt.wrapped_sha256),
        "reason": receipt.reason,
        "ledger_height": receipt.height,
        "transaction": receipt.transaction,
        "destroyed_at": receipt.destroyed_at,
    })
}

fn print(value: &Value) -> Result<(), Failure> {
    writeln!(io::stdout(), "{value}").map_err(|error| format!("could not write the answer: {error}").into())
}

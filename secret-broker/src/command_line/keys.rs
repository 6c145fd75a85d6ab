//! `leasehold-secret-broker keys …`: an operator's work on the key ring and the key store. What it finds goes to standard output as JSON, why it
//! failed to standard error.
//!
//! The broker may run meanwhile: it reads the ring again, and both leave key store and audit to each other a transaction at a time. `restore`
//! is for a broker that is stopped. What changes something is recorded in the broker's audit before it is done.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage.

mod copies;
mod places;
mod shown;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::config::Pkcs11Args;
use crate::keys::rewrap::rewrap;
use crate::keys::{KeyRing, rotation};
use crate::store::Store;
use copies::Restore;
use places::Places;
use shown::print;

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
    /// Destroy a version of the key-encryption key, if nothing is wrapped by it and the key store was copied since
    #[command(group = clap::ArgGroup::new("copied").required(true))]
    Retire {
        /// Which one
        version: u32,
        /// Receipt of a copy that needs it no longer, as `keys backup` writes it beside the copy
        #[arg(long, group = "copied", value_name = "FILE")]
        backup_receipt: Option<PathBuf>,
        /// Do without a copy: what older ones hold is lost
        #[arg(long, group = "copied")]
        without_backup: bool,
        /// The token has it no longer, as an operator has looked: take its line out of the ring
        #[arg(long)]
        key_is_gone: bool,
        #[command(flatten)]
        pkcs11: Pkcs11Args,
    },
    /// Show the versions of the key-encryption key, and how many data keys each wraps
    Status {
        #[command(flatten)]
        pkcs11: Pkcs11Args,
    },
    /// Print the receipts of destroyed data keys, one JSON object per line; names the first that is not as it was sealed
    Receipts {
        #[command(flatten)]
        pkcs11: Pkcs11Args,
    },
    /// Print whose data keys are to be destroyed and are still here, one JSON object per line
    Doomed,
    /// Let data keys go that are held back, or will be, since too many would go at once: make sure before that it is the right ledger
    #[command(group = clap::ArgGroup::new("whose").required(true))]
    Release {
        /// Of this dataset, by id
        #[arg(group = "whose", value_name = "DATASET")]
        dataset: Option<String>,
        /// Of all that wait now
        #[arg(long, group = "whose")]
        all: bool,
        #[command(flatten)]
        pkcs11: Pkcs11Args,
    },
    /// Copy the key store, of a running broker too
    Backup {
        /// A file that does not exist yet
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        #[command(flatten)]
        pkcs11: Pkcs11Args,
    },
    /// Make the key store from a copy, if there is none and the ring opens what is in the copy; the broker must be stopped
    Restore {
        /// The copy
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// MSP id of the organisation that runs the broker
        #[arg(
            id = "keys_restore_organisation",
            long = "organisation",
            env = "LEASEHOLD_ORGANISATION"
        )]
        organisation: String,
        /// Do without the data keys that the ring does not open: their datasets are lost
        #[arg(long)]
        accept_unopened: bool,
        #[command(flatten)]
        pkcs11: Pkcs11Args,
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

async fn work(work: KeysWork, places: &Places) -> Result<(), Failure> {
    let ring = places.ring();
    match work {
        KeysWork::Init { pkcs11 } => Ok(rotation::create(&ring, pkcs11.settings()?.as_ref()).await?),
        KeysWork::Rotate { pkcs11 } => {
            let rotated = async {
                let version = rotation::rotate(&ring, pkcs11.settings()?.as_ref()).await?;
                print(&json!({"current": version}))
            };
            places.recorded(&pkcs11, "rotate_ring", "", rotated).await
        }
        KeysWork::Rewrap { pkcs11, organisation } => {
            let rewrapped = rewrap_all(places, &pkcs11, &organisation);
            places.recorded(&pkcs11, "wrap_data_keys", "", rewrapped).await
        }
        KeysWork::Retire {
            version,
            backup_receipt,
            key_is_gone,
            pkcs11,
            ..
        } => {
            let retiring = Retiring {
                version,
                backup_receipt,
                key_is_gone,
            };
            let retired = retire(places, &pkcs11, &retiring);
            let object = version.to_string();
            places.recorded(&pkcs11, "retire_kek", &object, retired).await
        }
        KeysWork::Status { pkcs11 } => {
            let ring = KeyRing::load(&ring, pkcs11.settings()?.as_ref()).await?;
            let store = places.store().await?;
            let (wrapped_by, doomed) = (store.wrapped_by().await, store.doomed().await);
            store.close().await;
            print(&shown::status(&ring, &wrapped_by?, &doomed?))
        }
        KeysWork::Receipts { pkcs11 } => receipts(places, &pkcs11).await,
        KeysWork::Doomed => {
            let store = places.store().await?;
            let doomed = store.doomed().await;
            store.close().await;
            doomed?.iter().try_for_each(|one| print(&shown::doomed(one)))
        }
        KeysWork::Release { dataset, pkcs11, .. } => {
            let dataset = dataset.as_deref();
            let released = release(places, dataset);
            let object = dataset.unwrap_or("all");
            places
                .recorded(&pkcs11, "release_data_keys", object, released)
                .await
        }
        KeysWork::Backup { to, pkcs11 } => {
            let copied = copies::backup_to(places, &pkcs11, &to);
            places.recorded(&pkcs11, "copy_key_store", "", copied).await
        }
        KeysWork::Restore {
            from,
            organisation,
            accept_unopened,
            pkcs11,
        } => {
            let what = Restore {
                from: &from,
                organisation: &organisation,
                accept_unopened,
            };
            let restored = copies::restore(places, &pkcs11, what);
            places.recorded(&pkcs11, "restore_key_store", "", restored).await
        }
    }
}

async fn rewrap_all(places: &Places, pkcs11: &Pkcs11Args, organisation: &str) -> Result<(), Failure> {
    let ring = KeyRing::load(&places.ring(), pkcs11.settings()?.as_ref()).await?;
    let store = places.store().await?;
    let rewrapped = async {
        store
            .know_keks(&ring.accept(&store.known_keks().await?).await?)
            .await?;
        let came = rewrap(&store, &ring, organisation, &CancellationToken::new()).await?;
        store.scrub().await?;
        Ok::<_, Failure>(came)
    };
    let came = rewrapped.await;
    store.close().await;
    let came = came?;
    print(&json!({"current": ring.current(), "rewrapped": came.done, "stuck": came.stuck}))?;
    if came.stuck > 0 {
        return Err("some data keys cannot be opened; the log names them".into());
    }
    Ok(())
}

async fn receipts(places: &Places, pkcs11: &Pkcs11Args) -> Result<(), Failure> {
    let ring = KeyRing::load(&places.ring(), pkcs11.settings()?.as_ref()).await?;
    let store = places.store().await?;
    store.seal_receipts(ring.receipt_seal());
    let mut after = 0;
    loop {
        let page = store.key_receipts(None, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        page.iter().try_for_each(|one| print(&shown::receipt(one)))?;
    }
    store.close().await;
    Ok(())
}

/// The broker finds it within seconds. The delay is not lifted, and the ledger is still asked again.
async fn release(places: &Places, dataset: Option<&str>) -> Result<(), Failure> {
    let store = places.store().await?;
    let released = store.release(dataset).await;
    store.close().await;
    match released? {
        0 => Err("no such data keys wait to be released; `keys doomed` lists what does".into()),
        datasets => print(&json!({"released_datasets": datasets})),
    }
}

struct Retiring {
    version: u32,
    backup_receipt: Option<PathBuf>,
    key_is_gone: bool,
}

/// First the key store says that nothing is wrapped by it nor ever will be, then it goes: cut off in between, this can be done again.
async fn retire(places: &Places, pkcs11: &Pkcs11Args, retiring: &Retiring) -> Result<(), Failure> {
    let version = retiring.version;
    rotation::may_go(&places.ring(), version)?;
    let store = places.store().await?;
    let may_go = may_go(places, pkcs11, &store, retiring).await;
    store.close().await;
    if !may_go? {
        return print(&json!({"retired": version, "before": true}));
    }
    let settings = pkcs11.settings()?;
    rotation::remove(&places.ring(), version, settings.as_ref(), retiring.key_is_gone).await?;
    print(&json!({"retired": version}))
}

/// Whether a version may go; it may not where it went before.
async fn may_go(
    places: &Places,
    pkcs11: &Pkcs11Args,
    store: &Store,
    retiring: &Retiring,
) -> Result<bool, Failure> {
    let version = retiring.version;
    if !rotation::versions(&places.ring())?.contains(&version) {
        return match store.is_retired_kek(version).await? {
            true => Ok(false),
            false => Err(format!(
                "the key ring has no version {version}, nor was one retired here: nothing was destroyed; check --kek-file and --data-dir"
            )
            .into()),
        };
    }
    if let Some(receipt) = &retiring.backup_receipt {
        copies::is_backed_up(places, pkcs11, store, version, receipt).await?;
    }
    // What vouches for a newer version must not go before that was accepted.
    if store
        .known_keks()
        .await?
        .iter()
        .all(|known| known.version <= version)
    {
        let ring = KeyRing::load(&places.ring(), pkcs11.settings()?.as_ref()).await?;
        store
            .know_keks(&ring.accept(&store.known_keks().await?).await?)
            .await?;
    }
    match store.retire_kek(version).await? {
        0 => Ok(true),
        wrapped => Err(format!(
            "version {version} wraps {wrapped} data keys: a running broker wraps them anew by itself, else do it with `keys rewrap`; then retire it"
        )
        .into()),
    }
}

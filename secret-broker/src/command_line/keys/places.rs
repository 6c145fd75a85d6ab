//! Where an operator's command finds ring, key store and audit, and how it records there what it does.
//!
//! The audit's chain has one writer at a time: its file's write lock, which is taken for each record, whether the broker runs or not. What
//! cannot be recorded is not done.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use crate::audit::{Book, Decision, Event, Origin, SealKey};
use crate::config::Pkcs11Args;
use crate::keys;
use crate::store::{Store, StoreAddress, now_ms};

/// Where everything is.
#[derive(Debug, Args)]
pub(super) struct Places {
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
    /// The key store: `sqlite:PATH`, `postgres://USER@HOST/DATABASE` or `mysql://USER@HOST/DATABASE`; `sqlite:<data-dir>/broker.db` where absent
    #[arg(
        id = "keys_store",
        long = "store",
        env = "LEASEHOLD_STORE",
        hide_env_values = true,
        value_name = "STORE",
        global = true
    )]
    store: Option<StoreAddress>,
    /// Record nothing: for a copy of the ring away from the broker's volume
    #[arg(id = "keys_without_audit", long = "without-audit", global = true)]
    without_audit: bool,
}

impl Places {
    pub(super) fn ring(&self) -> PathBuf {
        self.kek_file
            .clone()
            .unwrap_or_else(|| self.data_dir.join("keys"))
    }

    pub(super) fn database(&self) -> StoreAddress {
        let given = self.store.clone();
        given.unwrap_or_else(|| StoreAddress::Sqlite(self.data_dir.join("broker.db")))
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The key store by its name: a file's path, or a server's URL without its password.
    pub(super) fn shown(&self) -> String {
        match self.database() {
            StoreAddress::Sqlite(path) => path.display().to_string(),
            server => server.to_string(),
        }
    }

    /// The key store; never a new one, which would say that there are no keys.
    pub(super) async fn store(&self) -> Result<Store, Failure> {
        let address = self.database();
        if !Store::exists(&address).await? {
            return Err(format!("there is no key store {address}; check --data-dir and --store").into());
        }
        Ok(Store::open(&address).await?)
    }

    /// Does a work that is recorded before: what cannot be recorded is not done. That it failed is recorded as well.
    pub(super) async fn recorded<T>(
        &self,
        pkcs11: &Pkcs11Args,
        verb: &'static str,
        object: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let Some(records) = self.records(pkcs11).await? else {
            return work.await;
        };
        records
            .keep(verb, object, Decision::Allowed, "by_operator")
            .await?;
        let done = work.await;
        let noted = match &done {
            Ok(_) => Ok(()),
            Err(_) => records.keep(verb, object, Decision::Denied, "failed").await,
        };
        records.book.close().await;
        // Why it failed matters more.
        let done = done?;
        noted?;
        Ok(done)
    }

    async fn records(&self, pkcs11: &Pkcs11Args) -> Result<Option<Records>, Failure> {
        if self.without_audit {
            return Ok(None);
        }
        let path = self.data_dir.join("audit.db");
        if !path.exists() {
            let directory = self.data_dir.display();
            return Err(format!(
                "there is no audit in {directory} to record this in; check --data-dir, run this where the broker's volume is, or say --without-audit for a copy of the ring"
            )
            .into());
        }
        Ok(Some(self.open(&path, pkcs11).await?))
    }

    async fn open(&self, path: &Path, pkcs11: &Pkcs11Args) -> Result<Records, Failure> {
        // The seal alone: of a ring that cannot be used as it is, too.
        let seal = keys::audit_seal_of(&self.ring(), pkcs11.settings()?.as_ref()).await?;
        let book = Book::open(path).await?;
        Ok(Records { book, seal })
    }
}

struct Records {
    book: Book,
    seal: SealKey,
}

impl Records {
    async fn keep(
        &self,
        verb: &'static str,
        object: &str,
        decision: Decision,
        reason: &str,
    ) -> Result<(), Failure> {
        let event = Event::new("operator", verb, object, decision, reason, &Origin::default());
        let kept = self
            .book
            .append(&self.seal, &[(event, None)], now_ms(), None)
            .await;
        match kept {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(format!("this cannot be recorded, and what cannot be is not done: {error}").into())
            }
        }
    }
}

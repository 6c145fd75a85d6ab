//! A key store of each kind for a test: in a file, in PostgreSQL and in MariaDB.

use std::sync::Arc;

use leasehold_databases::{mariadb, postgres};
use tempfile::TempDir;

use crate::store::{Store, StoreAddress};

/// What is kept as long as the test runs.
enum Kept {
    Directory(#[expect(dead_code, reason = "kept")] TempDir),
    Postgres(#[expect(dead_code, reason = "kept")] Arc<postgres::Server>),
    MariaDb(#[expect(dead_code, reason = "kept")] Arc<mariadb::Server>),
}

pub struct Bench {
    pub kind: &'static str,
    pub address: StoreAddress,
    _kept: Kept,
}

impl Bench {
    /// Another broker's, of the same key store.
    pub async fn open(&self) -> Store {
        Store::open(&self.address).await.unwrap()
    }

    pub fn file() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            kind: "SQLite",
            address: StoreAddress::Sqlite(directory.path().join("broker.db")),
            _kept: Kept::Directory(directory),
        }
    }
}

/// An empty place of each kind that can be had here.
pub async fn benches(test: &str) -> Vec<Bench> {
    let mut benches = vec![Bench::file()];
    if let Some(server) = postgres::shared(&format!("{test} in PostgreSQL")).await {
        benches.push(Bench {
            kind: "PostgreSQL",
            address: server.database().await.url.parse().unwrap(),
            _kept: Kept::Postgres(server),
        });
    }
    if let Some(server) = mariadb::shared(&format!("{test} in MariaDB")).await {
        benches.push(Bench {
            kind: "MariaDB",
            address: server.database().await.url.parse().unwrap(),
            _kept: Kept::MariaDb(server),
        });
    }
    benches
}

/// Holds a key store of each kind to a promise.
pub async fn on_each(test: &str, promise: impl AsyncFn(Bench)) {
    for bench in benches(test).await {
        println!("{test}: {}", bench.kind);
        promise(bench).await;
    }
}

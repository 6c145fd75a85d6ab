//! Where a test's brokers keep ledger and keys, and a client that asks again until it hears an answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use leasehold_databases::{mariadb, postgres};
use serde_json::Value;

use crate::fixture::{Fixture, PATIENCE, Setting, registration};

/// A database for the key store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    MariaDb,
}

/// Servers, kept as long as the test runs.
pub struct Place {
    pub setting: Setting,
    /// Address of another, empty database for a key store.
    pub elsewhere: Option<String>,
    _postgres: Option<Arc<postgres::Server>>,
    _mariadb: Option<Arc<mariadb::Server>>,
    _directory: tempfile::TempDir,
}

impl Place {
    /// The ledger is in PostgreSQL with a key store that is on a server, so that replicas may share both; else beside the key store.
    pub async fn of(kind: Kind, test: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut place = Self {
            setting: Setting::default(),
            elsewhere: None,
            _postgres: None,
            _mariadb: None,
            _directory: directory,
        };
        if kind == Kind::Sqlite {
            return Some(place);
        }
        let ledger = postgres::shared(test).await?;
        let (store, elsewhere) = match kind {
            Kind::MariaDb => {
                let server = mariadb::shared(test).await?;
                let urls = (server.database().await.url, server.database().await.url);
                place._mariadb = Some(server);
                urls
            }
            // One database may hold both.
            _ => (String::new(), ledger.database().await.url),
        };
        let database = ledger.database().await.url;
        let store = if store.is_empty() { database.clone() } else { store };
        let key = place.key().display().to_string();
        place.setting.arguments = ["--ledger", &database, "--ledger-key", &key]
            .map(str::to_owned)
            .into();
        // For `keys …` too.
        let variable = ("LEASEHOLD_STORE".to_owned(), store);
        place.setting.environment.push(variable);
        leasehold_secret_broker::ledger::LedgerKey::load_or_create(&place.key()).unwrap();
        place.elsewhere = Some(elsewhere);
        place._postgres = Some(ledger);
        Some(place)
    }

    fn key(&self) -> PathBuf {
        self._directory.path().join("ledger.key")
    }
}

/// Registers a dataset, and asks again under the same key, whichever broker answers, until it is accepted. Yields where to look.
pub async fn accepted(brokers: &[Arc<Fixture>], token: &str, name: &str) -> String {
    let start = Instant::now();
    loop {
        for broker in brokers {
            if let Some(location) = tried(broker, token, name).await {
                return location;
            }
        }
        wait(start, "a write to be accepted after retries").await;
    }
}

/// Until the next look. What is looked for from tasks cannot be a borrowed closure.
async fn wait(since: Instant, what: &str) {
    assert!(since.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn tried(broker: &Fixture, token: &str, name: &str) -> Option<String> {
    let request = broker
        .client()
        .post(broker.rest_url_now("/v1/datasets")?)
        .bearer_auth(token)
        .header("idempotency-key", name)
        .json(&registration(name));
    let answer = request.send().await.ok()?;
    match answer.status().as_u16() {
        202 => Some(answer.headers()["location"].to_str().unwrap().to_owned()),
        // Too many that are undecided, or a broker that is about to stop.
        429 | 500..=599 => None,
        other => panic!("{name}: {other}: {}", answer.text().await.unwrap()),
    }
}

/// Waits until an operation is decided, at whichever broker answers.
pub async fn decided(brokers: &[Arc<Fixture>], token: &str, location: &str) -> Value {
    let start = Instant::now();
    loop {
        for broker in brokers {
            if let Some(operation) = shown(broker, token, location).await
                && matches!(operation["status"].as_str(), Some("succeeded" | "failed"))
            {
                return operation;
            }
        }
        wait(start, "an operation to be decided").await;
    }
}

async fn shown(broker: &Fixture, token: &str, location: &str) -> Option<Value> {
    let url = broker.rest_url_now(location)?;
    let answer = broker.client().get(url).bearer_auth(token).send().await.ok()?;
    match answer.status().is_success() {
        true => answer.json().await.ok(),
        false => None,
    }
}

/// The names in a broker's catalogue, page by page, sorted; one that is there twice is there twice.
pub async fn catalogue(broker: &Fixture, token: &str) -> Vec<String> {
    let (mut names, mut path) = (Vec::new(), "/v1/datasets?limit=100".to_owned());
    loop {
        let page = broker.call("GET", &path, token, None).await.body;
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/datasets?limit=100&after={next}"),
            None => break,
        }
    }
    names.sort();
    names
}

//! The key store in PostgreSQL, for several brokers: in a schema of its own, so that the ledger may be in the same database.
//!
//! Turns to write are an advisory lock of the transaction. What was committed is on the server's disk, whatever its
//! `synchronous_commit` says for others.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres, Row as _, Transaction};
use tokio::sync::Mutex;

use super::{CONNECT, CONNECTIONS, Held, are_current, in_time, migrator, own_turn};
use crate::ledger::PostgresAddress;
use crate::store::StoreError;

const MIGRATIONS: [(&str, &str); 1] = [(
    "initial",
    include_str!("../../../migrations/store-postgres/0001_initial.sql"),
)];

/// What the server allows a connection, and that its names are the key store's.
const SETTINGS: [(&str, &str); 4] = [
    ("statement_timeout", "30s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("search_path", "leasehold_keys,pg_temp"),
];

/// Rows that came with their numbers are not known to what numbers the next.
pub(super) const NUMBER_ON: [&str; 2] = [
    "SELECT setval(pg_get_serial_sequence('operations', 'sequence'), coalesce(max(sequence), 0) + 1, false) FROM operations",
    "SELECT setval(pg_get_serial_sequence('key_receipts', 'sequence'), coalesce(max(sequence), 0) + 1, false) FROM key_receipts",
];

/// A database, and the connections to it.
#[derive(Debug, Clone)]
pub(in crate::store) struct Server {
    address: PostgresAddress,
    pub(super) pool: PgPool,
    /// Of this broker's own writers one at a time waits for its turn among all, so that readers find a connection.
    turn: Arc<Mutex<()>>,
}

impl Server {
    pub(super) fn connect(address: &PostgresAddress) -> Result<Self, StoreError> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT)
            .after_connect(|connection, _| Box::pin(prepare(connection)))
            .connect_lazy_with(options(address)?);
        Ok(Self {
            address: address.clone(),
            pool,
            turn: Arc::default(),
        })
    }

    /// Brings the tables up to date, unless they are.
    pub(super) async fn open(address: &PostgresAddress) -> Result<Self, StoreError> {
        let server = Self::connect(address)?;
        if server
            .applied()
            .await?
            .is_none_or(|applied| !are_current(&applied, &MIGRATIONS))
        {
            server.migrate().await?;
        }
        Ok(server)
    }

    pub(super) async fn is_there(&self) -> Result<bool, StoreError> {
        Ok(self.applied().await?.is_some())
    }

    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        let acquired = in_time(self.pool.acquire()).await;
        self.unless_renamed(acquired)
    }

    pub(super) async fn begin(&self) -> Result<Held<Postgres>, StoreError> {
        let own = own_turn(&self.turn).await?;
        // The turn is asked for in a transaction that sqlx knows of: one in the same text as BEGIN would stay open in the pool, with the
        // turn or aborted, where the wait for it fails or is given up.
        let begun = async {
            let mut transaction = self.pool.begin().await?;
            // At this level each statement sees what was committed before it, so that what is read after the lock is the last there is.
            sqlx::query("SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE")
                .execute(&mut *transaction)
                .await?;
            sqlx::query(
                "SELECT pg_advisory_xact_lock(1818587496, 'leasehold_keys.operations'::regclass::oid::integer)",
            )
            .execute(&mut *transaction)
            .await?;
            Ok(transaction)
        };
        let begun = self.unless_renamed(in_time(begun).await)?;
        Ok(Held::Writing(begun, Some(own)))
    }

    pub(super) async fn snapshot(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let begun = in_time(self.pool.begin_with(BEGIN)).await;
        self.unless_renamed(begun)
    }

    fn unless_renamed<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if done.is_err() {
            // The password may be another one by now.
            self.pool.set_connect_options(options(&self.address)?);
        }
        done
    }

    /// Which migrations the tables have been through; none where there are no tables.
    async fn applied(&self) -> Result<Option<Vec<i64>>, StoreError> {
        let mut connection = self.acquire().await?;
        let there = sqlx::query("SELECT to_regclass('leasehold_keys._sqlx_migrations') IS NOT NULL");
        if !in_time(there.fetch_one(&mut *connection)).await?.try_get(0)? {
            return Ok(None);
        }
        let applied =
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version");
        Ok(Some(in_time(applied.fetch_all(&mut *connection)).await?))
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let mut connection = self.acquire().await?;
        let mut alone = in_time(connection.begin()).await?;
        // Two brokers may begin at the same time.
        let lock = sqlx::query("SELECT pg_advisory_xact_lock(1818587496, 1)");
        in_time(lock.execute(&mut *alone)).await?;
        // Even with IF NOT EXISTS making it takes rights that a role need not have.
        let there = sqlx::query("SELECT to_regnamespace('leasehold_keys') IS NOT NULL");
        if !in_time(there.fetch_one(&mut *alone)).await?.try_get(0)? {
            in_time(sqlx::query("CREATE SCHEMA leasehold_keys").execute(&mut *alone)).await?;
        }
        in_time(alone.commit()).await?;
        Ok(migrator(&MIGRATIONS).run(&mut *connection).await?)
    }
}

fn options(address: &PostgresAddress) -> Result<PgConnectOptions, StoreError> {
    Ok(address
        .connect_options()
        .map_err(StoreError::Address)?
        .application_name("leasehold-secret-broker")
        .options(SETTINGS)
        .disable_statement_logging())
}

/// Whether a server is fit for keys: it writes, durably, and takes any text.
async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let found = sqlx::query(
        "SELECT current_setting('server_encoding'), pg_is_in_recovery(), \
         CASE WHEN current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') \
         THEN set_config('synchronous_commit', 'on', false) END",
    );
    let found = found.fetch_one(connection).await?;
    let unfit = |reason: &str| Err(sqlx::Error::Configuration(reason.into()));
    if found.try_get::<&str, _>(0)? != "UTF8" {
        return unfit("make a database with encoding UTF8");
    }
    if found.try_get(1)? {
        return unfit("the server is a standby; let the address in --store lead to the primary");
    }
    Ok(())
}

//! The ledger in PostgreSQL: how brokers connect, and how their appends take turns.
//!
//! Whoever writes holds a lock of the ledger's own until its transaction ends, and reads the head only then, so that blocks follow
//! each other whichever broker appends them. Nothing waits for ever: connecting, statements, the lock and idle transactions have
//! their time. An acknowledged block is on the server's disk, whatever its `synchronous_commit` says for others.

use super::StorageError;
use crate::ledger::PostgresAddress;
use arc_swap::ArcSwap;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection, PgConnection, PgPool, Postgres, Row as _, Transaction};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where the tables are.
pub(in crate::ledger) const SCHEMA: &str = "leasehold";
/// On which every appended block is announced.
const CHANNEL: &str = "leasehold_blocks";
/// Readers at once, and one that listens.
const READERS: u32 = 9;
const CONNECT: Duration = Duration::from_secs(5);
const LEAVE: Duration = Duration::from_secs(1);
/// For an answer. The server gives up earlier, and says why.
const ANSWER: Duration = Duration::from_secs(40);
/// What the server allows a connection, and that its names are the ledger's.
const SETTINGS: [(&str, &str); 4] = [
    ("statement_timeout", "30s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("search_path", "leasehold,pg_temp"),
];

/// Waits for an answer, but not for ever. A connection that was given up on is of no use any more.
pub(super) async fn in_time<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StorageError> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(StorageError::Late(ANSWER)),
    }
}

/// Whether the server could not be reached, was starting or stopping, or had no place left.
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("08") || code.starts_with("57") || code.starts_with("53")),
        _ => false,
    }
}

fn options(address: &PostgresAddress) -> Result<PgConnectOptions, StorageError> {
    Ok(address
        .options()?
        .application_name("leasehold-secret-broker")
        .options(SETTINGS)
        .disable_statement_logging())
}

/// A connection that was checked to be fit for a ledger.
pub(super) async fn connect(address: &PostgresAddress) -> Result<PgConnection, StorageError> {
    let options = options(address)?;
    let connected = tokio::time::timeout(CONNECT, PgConnection::connect_with(&options)).await;
    let mut connection = connected.map_err(|_| StorageError::Late(CONNECT))??;
    let found = sqlx::query(
        "SELECT current_setting('server_encoding'), pg_is_in_recovery(), current_setting('fsync'), \
         CASE WHEN current_setting('synchronous_commit') IN ('off', 'local', 'remote_write') \
         THEN set_config('synchronous_commit', 'on', false) END",
    );
    let found = in_time(found.fetch_one(&mut connection)).await?;
    let encoding: String = found.try_get(0)?;
    if encoding != "UTF8" {
        let reason = format!("its encoding is {encoding}; make a database with encoding UTF8");
        return Err(StorageError::Unfit(reason));
    }
    if found.try_get(1)? {
        return Err(StorageError::Standby);
    }
    if found.try_get::<String, _>(2)? == "off" {
        tracing::warn!(ledger = %address, "the database runs with fsync=off: a power failure may lose acknowledged transactions");
    }
    Ok(connection)
}

/// Takes leave of a server, which need not be there any more.
pub(super) async fn close(connection: PgConnection) -> Result<(), StorageError> {
    match tokio::time::timeout(LEAVE, connection.close()).await {
        Ok(closed) => Ok(closed?),
        Err(_) => Err(StorageError::Late(LEAVE)),
    }
}

/// Waits for its turn to write.
pub(super) async fn begin_write(
    connection: &mut PgConnection,
) -> Result<Transaction<'_, Postgres>, StorageError> {
    // At this level each statement sees what was committed before it, so that the head that is read after the lock is the last one.
    in_time(connection.begin_with(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
         SELECT pg_advisory_xact_lock(1818587496, 'leasehold.blocks'::regclass::oid::integer)",
    ))
    .await
}

const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

pub(super) async fn begin_read(
    connection: &mut PgConnection,
) -> Result<Transaction<'_, Postgres>, StorageError> {
    in_time(connection.begin_with(BEGIN_READ)).await
}

/// The readers' connections.
#[derive(Clone)]
pub(in crate::ledger) struct Pool {
    address: PostgresAddress,
    pool: PgPool,
    /// Connections from before are not used any more.
    oldest: Arc<ArcSwap<Instant>>,
}

impl Pool {
    pub(super) fn open(address: &PostgresAddress) -> Result<Self, StorageError> {
        let oldest = Arc::new(ArcSwap::from_pointee(Instant::now()));
        let since = Arc::clone(&oldest);
        let pool = PgPoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(CONNECT)
            .before_acquire(move |_, connection| {
                let fit = connection.age <= since.load().elapsed();
                Box::pin(async move { Ok(fit) })
            });
        Ok(Self {
            address: address.clone(),
            pool: pool.connect_lazy_with(options(address)?),
            oldest,
        })
    }

    /// From now on connections are made anew: the address may lead to another server by now.
    pub(in crate::ledger) fn renew(&self) {
        self.oldest.store(Arc::new(Instant::now()));
    }

    pub(super) async fn begin_read(&self) -> Result<Transaction<'static, Postgres>, StorageError> {
        let begun = in_time(self.pool.begin_with(BEGIN_READ)).await;
        if begun.is_err() {
            // The password may be another one by now.
            self.pool.set_connect_options(options(&self.address)?);
        }
        begun
    }

    pub(super) async fn close(&self) {
        if tokio::time::timeout(CONNECT, self.pool.close()).await.is_err() {
            tracing::warn!("closing the connections to the ledger's database took too long");
        }
    }

    /// Hears of blocks that are appended from now on.
    pub(in crate::ledger) async fn listen(&self) -> Result<PgListener, StorageError> {
        let mut listener = in_time(PgListener::connect_with(&self.pool)).await?;
        in_time(listener.listen(CHANNEL)).await?;
        Ok(listener)
    }
}

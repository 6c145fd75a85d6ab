//! The key store in MariaDB or MySQL, for several brokers.
//!
//! Turns to write are the lock of a row. Texts compare by their bytes, and what does not fit is refused and never cut.

use std::fmt::Write as _;
use std::sync::Arc;

use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, MySql, MySqlConnection, MySqlPool, Row as _, Transaction};
use tokio::sync::Mutex;

use super::{CONNECT, CONNECTIONS, Held, Value, are_current, in_time, migrator, own_turn};
use crate::store::StoreError;
use crate::store::address::MySqlAddress;

const MIGRATIONS: [(&str, &str); 1] = [(
    "initial",
    include_str!("../../../migrations/store-mysql/0001_initial.sql"),
)];

/// What either server allows a connection.
const SETTINGS: &str = "SET SESSION innodb_lock_wait_timeout = 10, \
    sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'";
/// So that what is read after the lock is the last there is.
const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
/// The rest has another name, or none, on each of them.
const OF_MARIADB: &str = "SET SESSION max_statement_time = 30, idle_transaction_timeout = 60";
const OF_MYSQL: &str = "SET SESSION max_execution_time = 30000";

/// A database, and the connections to it.
#[derive(Debug, Clone)]
pub(in crate::store) struct Server {
    address: MySqlAddress,
    pub(super) pool: MySqlPool,
    /// Of this broker's own writers one at a time waits for its turn among all, so that readers find a connection.
    turn: Arc<Mutex<()>>,
}

impl Server {
    pub(super) fn connect(address: &MySqlAddress) -> Result<Self, StoreError> {
        let pool = MySqlPoolOptions::new()
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
    pub(super) async fn open(address: &MySqlAddress) -> Result<Self, StoreError> {
        let server = Self::connect(address)?;
        if server
            .applied()
            .await?
            .is_none_or(|applied| !are_current(&applied, &MIGRATIONS))
        {
            // Which lets one broker do it at a time.
            migrator(&MIGRATIONS).run(&server.pool).await?;
        }
        Ok(server)
    }

    pub(super) async fn is_there(&self) -> Result<bool, StoreError> {
        Ok(self.applied().await?.is_some())
    }

    pub(super) async fn acquire(&self) -> Result<PoolConnection<MySql>, StoreError> {
        let acquired = in_time(self.pool.acquire()).await;
        self.unless_renamed(acquired)
    }

    pub(super) async fn begin(&self) -> Result<Held<MySql>, StoreError> {
        let own = own_turn(&self.turn).await?;
        let begun = async {
            let mut transaction = self.pool.begin().await?;
            sqlx::query("SELECT number FROM turns WHERE number = 1 FOR UPDATE")
                .fetch_one(&mut *transaction)
                .await?;
            Ok(transaction)
        };
        let begun = self.unless_renamed(in_time(begun).await)?;
        Ok(Held::Writing(begun, Some(own)))
    }

    pub(super) async fn snapshot(&self) -> Result<Transaction<'static, MySql>, StoreError> {
        const BEGIN: &str = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
             START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
        let begun = self.pool.begin_with(BEGIN);
        self.unless_renamed(in_time(begun).await)
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
        let there = sqlx::query(
            "SELECT count(*) FROM information_schema.tables \
             WHERE table_schema = database() AND table_name = '_sqlx_migrations'",
        );
        if in_time(there.fetch_one(&mut *connection))
            .await?
            .try_get::<i64, _>(0)?
            == 0
        {
            return Ok(None);
        }
        let applied =
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version");
        Ok(Some(in_time(applied.fetch_all(&mut *connection)).await?))
    }
}

fn options(address: &MySqlAddress) -> Result<MySqlConnectOptions, StoreError> {
    Ok(address.options()?.disable_statement_logging())
}

async fn prepare(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let found =
        sqlx::query("SELECT CAST(version() AS CHAR), CAST(@@innodb_flush_log_at_trx_commit AS SIGNED)");
    let found = found.fetch_one(&mut *connection).await?;
    let version: String = found.try_get(0)?;
    if found.try_get::<i64, _>(1)? != 1 {
        tracing::warn!(
            "the key store's database runs with innodb_flush_log_at_trx_commit other than 1: a power failure may lose acknowledged operations and data keys"
        );
    }
    let others = if version.contains("MariaDB") {
        OF_MARIADB
    } else {
        OF_MYSQL
    };
    for setting in [SETTINGS, ISOLATION, others] {
        sqlx::raw_sql(AssertSqlSafe(setting))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// A statement with `?` for its values, and these as often as they are named.
pub(super) fn positional<'v>(sql: &str, values: &[Value<'v>]) -> (String, Vec<Value<'v>>) {
    let mut text = String::with_capacity(sql.len());
    let mut named = Vec::with_capacity(values.len());
    let mut parts = sql.split('$');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = part.strip_suffix(rest).unwrap_or_default();
        let value = number
            .parse::<usize>()
            .ok()
            .and_then(|number| values.get(number.checked_sub(1)?));
        match value {
            Some(value) => {
                named.push(*value);
                text.push('?');
            }
            // The server says what is wrong with it.
            None => {
                let _into_memory = write!(text, "${number}");
            }
        }
        text.push_str(rest);
    }
    (text, named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_its_own_value_however_often_it_is_named() {
        let values = [Value::from(1_i64), Value::from("two")];
        let (sql, named) = positional("a = $2 AND (b = $1 OR c > $1 + 10) AND d = $2", &values);
        assert_eq!(sql, "a = ? AND (b = ? OR c > ? + 10) AND d = ?");
        let named: Vec<_> = named
            .iter()
            .map(|value| matches!(value, Value::Text(Some("two"))))
            .collect();
        assert_eq!(named, [true, false, false, true]);
    }
}

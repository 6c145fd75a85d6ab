//! The writer's connection, which is taken anew after a failure: what an earlier transaction left in the old one is not known, and
//! a database that went away comes back.

use super::{Connection, Session, StorageError};
use crate::ledger::LedgerAddress;
use std::time::Duration;
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A connection, or when to try for one again.
pub(in crate::ledger) struct Link {
    address: LedgerAddress,
    connection: Option<Connection>,
    pause: Duration,
    /// Why there is none, and until when nobody tries.
    down: Option<(String, Instant)>,
}

impl Link {
    pub(in crate::ledger) const fn new(address: LedgerAddress, connection: Connection) -> Self {
        Self {
            address,
            connection: Some(connection),
            pause: FIRST_PAUSE,
            down: None,
        }
    }

    /// A transaction in which nobody else writes. Where the database was away a moment ago the answer comes at once.
    pub(in crate::ledger) async fn write(&mut self) -> Result<Session<'_>, StorageError> {
        if self.connection.is_none() {
            match &self.down {
                Some((reason, until)) if Instant::now() < *until => {
                    return Err(StorageError::Unreachable(reason.clone()));
                }
                _ => {}
            }
            match Connection::open(&self.address).await {
                Ok(connection) => self.connection = Some(connection),
                Err(error) => {
                    self.down = Some((error.to_string(), Instant::now() + self.pause));
                    self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
                    return Err(error);
                }
            }
        }
        let connection = self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        let session = connection.write().await?;
        (self.pause, self.down) = (FIRST_PAUSE, None);
        Ok(session)
    }

    /// Closes the connection; the next transaction takes another one.
    pub(in crate::ledger) async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "closing a connection to the ledger failed; what was committed is safe");
        }
    }
}

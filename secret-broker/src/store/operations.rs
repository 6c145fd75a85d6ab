//! Accepted work. A row is durable before its caller hears 202; it is decided exactly once, whatever is killed in between, because it
//! names the transaction that it will be and the ledger takes each transaction once.

use leasehold_chaincode::Command;
use serde_json::Value;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::data_keys::{self, DataKey, Destroy};
use super::doomed::{self, Doomed, Seen};
use super::{Store, StoreError, now, now_ms};

/// Remembered answers are given again for this long.
const IDEMPOTENCY_SECONDS: i64 = 24 * 3600;
/// Finished operations can be read for this long.
const RETENTION_SECONDS: i64 = 30 * 24 * 3600;

/// Writes of one person that may wait to be decided.
pub const MOST_UNDECIDED: i64 = 32;

/// A write to accept.
#[derive(Debug)]
pub struct NewOperation {
    /// A UUID.
    pub id: String,
    /// The transaction that it will be.
    pub transaction_id: String,
    /// Whose, a pseudonym.
    pub submitter: String,
    /// What the ledger will be asked.
    pub command: Command,
    /// The data key that goes with a registration.
    pub data_key: Option<DataKey>,
    /// The caller's idempotency key and the keyed fingerprint of the request.
    pub idempotency: Option<(String, [u8; 32])>,
    /// The revision that the command's dataset must have when it is submitted, where there is one.
    pub expected_revision: Option<u64>,
}

/// What became of a request to accept.
#[derive(Debug, Clone, PartialEq)]
pub enum Accepted {
    /// A new operation, or the one that the same request made before.
    Operation(OperationRow),
    /// The idempotency key was used for another request.
    KeyReused,
    /// Too many of the submitter's operations are not decided yet.
    TooMany,
}

/// An operation as its submitter sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationRow {
    /// A UUID.
    pub id: String,
    /// The command's name.
    pub kind: String,
    /// Whose.
    pub submitter: String,
    /// `pending`, `running`, `succeeded` or `failed`.
    pub status: String,
    /// What it made.
    pub result: Option<Value>,
    /// Why it failed.
    pub problem: Option<Value>,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds.
    pub finished_at: Option<i64>,
}

/// How an operation ended.
#[derive(Debug)]
pub enum Ending {
    /// The ledger has it.
    Succeeded {
        /// What it made.
        result: Value,
        /// Data keys that nothing needs any longer: a retired dataset's, or those before the one that took over.
        destroy: Option<Destroy>,
        /// Whether they wait until the ledger has gone on saying so ([`super::doomed`]).
        waits: bool,
    },
    /// The ledger refused it.
    Failed {
        /// Why.
        problem: Value,
        /// The data key that was made for it and that nothing is encrypted under.
        destroy: Option<Destroy>,
    },
}

impl Ending {
    /// Whether data keys go with it.
    #[must_use]
    pub const fn destroys(&self) -> bool {
        match self {
            Self::Succeeded { destroy, .. } | Self::Failed { destroy, .. } => destroy.is_some(),
        }
    }
}

impl Store {
    /// The operation that an idempotency key stands for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replay(
        &self,
        submitter: &str,
        key: &str,
        fingerprint: &[u8; 32],
    ) -> Result<Option<Accepted>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        replay(&mut connection, submitter, key, fingerprint).await
    }

    /// Accepts a write, with all that belongs to it, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accept(&self, operation: &NewOperation) -> Result<Accepted, StoreError> {
        let command = serde_json::to_string(&operation.command).map_err(|error| StoreError::Damaged {
            table: "operations",
            reason: error.to_string(),
        })?;
        let mut transaction = self.write().await?;
        if let Some((key, fingerprint)) = &operation.idempotency
            && let Some(before) = replay(&mut transaction, &operation.submitter, key, fingerprint).await?
        {
            return Ok(before);
        }
        let undecided: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM operations WHERE submitter = ? AND status IN ('pending', 'running')",
        )
        .bind(&operation.submitter)
        .fetch_one(&mut *transaction)
        .await?;
        if undecided >= MOST_UNDECIDED {
            return Ok(Accepted::TooMany);
        }
        sqlx::query("INSERT INTO operations (id, transaction_id, kind, submitter, status, command, created_at, due_ms, expected_revision) VALUES (?, ?, ?, ?, 'pending', ?, ?, ?, ?)")
            .bind(&operation.id)
            .bind(&operation.transaction_id)
            .bind(operation.command.name())
            .bind(&operation.submitter)
            .bind(command)
            .bind(now())
            .bind(now_ms())
            .bind(operation.expected_revision.map(|revision| i64::try_from(revision).unwrap_or(i64::MAX)))
            .execute(&mut *transaction)
            .await?;
        if let Some(key) = &operation.data_key {
            data_keys::insert(&mut transaction, key).await?;
        }
        if let Some((key, fingerprint)) = &operation.idempotency {
            sqlx::query("INSERT INTO idempotency_keys (submitter, key, fingerprint, operation_id, created_at) VALUES (?, ?, ?, ?, ?)")
                .bind(&operation.submitter)
                .bind(key)
                .bind(fingerprint.as_slice())
                .bind(&operation.id)
                .bind(now())
                .execute(&mut *transaction)
                .await?;
        }
        let row = fetch(&mut transaction, &operation.id).await?;
        transaction.commit().await?;
        row.map(Accepted::Operation).ok_or_else(|| StoreError::Damaged {
            table: "operations",
            reason: "a row just written is missing".to_owned(),
        })
    }

    /// An operation, for its submitter only.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn operation(&self, id: &str, submitter: &str) -> Result<Option<OperationRow>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(fetch(&mut connection, id)
            .await?
            .filter(|row| row.submitter == submitter))
    }

    /// So many of a person's operations, the last first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn latest_operations(
        &self,
        submitter: &str,
        most: i64,
    ) -> Result<Vec<OperationRow>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let rows = sqlx::query(
            "SELECT id, kind, submitter, status, result, problem, created_at, finished_at FROM operations
             WHERE submitter = ? ORDER BY sequence DESC LIMIT ?",
        )
        .bind(submitter)
        .bind(most)
        .fetch_all(&mut *connection)
        .await?;
        rows.iter().map(operation).collect()
    }

    /// Records how an operation ended, and takes away the key that nobody needs any longer, or notes that it waits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finish(&self, id: &str, ending: &Ending) -> Result<(), StoreError> {
        let (status, result, problem, destroy, waits) = match ending {
            Ending::Succeeded {
                result,
                destroy,
                waits,
            } => ("succeeded", Some(result.to_string()), None, destroy, *waits),
            Ending::Failed { problem, destroy } => {
                ("failed", None, Some(problem.to_string()), destroy, false)
            }
        };
        let mut transaction = self.write().await?;
        sqlx::query(
            "UPDATE operations SET status = ?, result = ?, problem = ?, finished_at = ?, command = NULL WHERE id = ?",
        )
        .bind(status)
        .bind(result)
        .bind(problem)
        .bind(now())
        .bind(id)
        .execute(&mut *transaction)
        .await?;
        match destroy {
            // What the ledger says of a dataset is looked at again before its keys go.
            Some(destroy) if waits => {
                let seen = Seen {
                    height: destroy.grounds.height.unwrap_or_default(),
                    block_hash: None,
                    transaction: destroy.grounds.transaction.clone(),
                };
                let id = destroy.dataset_id.clone();
                let doomed = Doomed::now(id, destroy.versions, destroy.grounds.reason, seen);
                doomed::insert(&mut transaction, &doomed).await?;
            }
            Some(destroy) => {
                data_keys::delete(&mut transaction, self.seal.get(), destroy).await?;
            }
            None => {}
        }
        Ok(transaction.commit().await?)
    }

    /// Forgets idempotency keys and finished operations that are old.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_old_operations(&self) -> Result<(), StoreError> {
        let mut transaction = self.write().await?;
        sqlx::query("DELETE FROM idempotency_keys WHERE created_at < ?")
            .bind(now() - IDEMPOTENCY_SECONDS)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM operations WHERE finished_at < ?")
            .bind(now() - RETENTION_SECONDS)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}

async fn replay(
    connection: &mut sqlx::SqliteConnection,
    submitter: &str,
    key: &str,
    fingerprint: &[u8; 32],
) -> Result<Option<Accepted>, StoreError> {
    let row: Option<(Vec<u8>, String)> = sqlx::query_as(
        "SELECT fingerprint, operation_id FROM idempotency_keys WHERE submitter = ? AND key = ?",
    )
    .bind(submitter)
    .bind(key)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((before, id)) = row else { return Ok(None) };
    if before != fingerprint {
        return Ok(Some(Accepted::KeyReused));
    }
    Ok(fetch(connection, &id).await?.map(Accepted::Operation))
}

async fn fetch(
    connection: &mut sqlx::SqliteConnection,
    id: &str,
) -> Result<Option<OperationRow>, StoreError> {
    let row = sqlx::query(
        "SELECT id, kind, submitter, status, result, problem, created_at, finished_at FROM operations WHERE id = ?",
    )
    .bind(id)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(operation).transpose()
}

fn operation(row: &SqliteRow) -> Result<OperationRow, StoreError> {
    let json = |text: Option<String>| {
        text.map(|t| serde_json::from_str(&t))
            .transpose()
            .map_err(|error| StoreError::Damaged {
                table: "operations",
                reason: error.to_string(),
            })
    };
    Ok(OperationRow {
        id: row.try_get("id")?,
        kind: row.try_get("kind")?,
        submitter: row.try_get("submitter")?,
        status: row.try_get("status")?,
        result: json(row.try_get("result")?)?,
        problem: json(row.try_get("problem")?)?,
        created_at: row.try_get("created_at")?,
        finished_at: row.try_get("finished_at")?,
    })
}

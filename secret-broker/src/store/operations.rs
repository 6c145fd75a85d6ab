//! Accepted work. A row is durable before its caller hears 202; it is decided exactly once, whatever is killed in between, because it
//! names the transaction that it will be and the ledger takes each transaction once.

use leasehold_chaincode::Command;
use serde_json::Value;

use super::data_keys::{self, DataKey, Destroy};
use super::database::{Row, Session, values};
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
        replay(&mut self.read().await?, submitter, key, fingerprint).await
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
        let mut session = self.write().await?;
        if let Some((key, fingerprint)) = &operation.idempotency
            && let Some(before) = replay(&mut session, &operation.submitter, key, fingerprint).await?
        {
            return Ok(before);
        }
        let undecided: Option<i64> = session
            .cell(
                "SELECT count(*) FROM operations WHERE submitter = $1 AND status IN ('pending', 'running')",
                values![&operation.submitter],
            )
            .await?;
        if undecided.unwrap_or_default() >= MOST_UNDECIDED {
            return Ok(Accepted::TooMany);
        }
        let expected = operation
            .expected_revision
            .map(|revision| i64::try_from(revision).unwrap_or(i64::MAX));
        session
            .run(
                "INSERT INTO operations (id, transaction_id, kind, submitter, status, command, created_at, due_ms, expected_revision)
                 VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7, $8)",
                values![
                    &operation.id,
                    &operation.transaction_id,
                    operation.command.name(),
                    &operation.submitter,
                    &command,
                    now(),
                    now_ms(),
                    expected,
                ],
            )
            .await?;
        if let Some(key) = &operation.data_key {
            data_keys::insert(&mut session, key).await?;
        }
        if let Some((key, fingerprint)) = &operation.idempotency {
            session
                .run(
                    "INSERT INTO idempotency_keys (submitter, idempotency_key, fingerprint, operation_id, created_at)
                     VALUES ($1, $2, $3, $4, $5)",
                    values![
                        &operation.submitter,
                        key,
                        fingerprint.as_slice(),
                        &operation.id,
                        now()
                    ],
                )
                .await?;
        }
        let row = fetch(&mut session, &operation.id).await?;
        session.commit().await?;
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
        let found = fetch(&mut self.read().await?, id).await?;
        Ok(found.filter(|row| row.submitter == submitter))
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
        let rows = self
            .read()
            .await?
            .rows(
                "SELECT id, kind, submitter, status, result, problem, created_at, finished_at FROM operations
                 WHERE submitter = $1 ORDER BY sequence DESC LIMIT $2",
                values![submitter, most],
            )
            .await?;
        rows.iter().map(operation).collect()
    }

    /// Records how an operation ended, and takes away the key that nobody needs any longer, or notes that it waits. Yields whether this was
    /// the first to say so: where another broker holds it by now or has ended it, nothing is changed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finish(&self, id: &str, ending: &Ending) -> Result<bool, StoreError> {
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
        let mut session = self.write().await?;
        let first = session
            .run(
                "UPDATE operations SET status = $1, result = $2, problem = $3, finished_at = $4, command = NULL
                 WHERE id = $5 AND status IN ('pending', 'running') AND (holder IS NULL OR holder = $6)",
                values![status, &result, &problem, now(), id, &*self.holder],
            )
            .await?;
        if first == 0 {
            return Ok(false);
        }
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
                doomed::insert(&mut session, &doomed).await?;
            }
            Some(destroy) => {
                data_keys::delete(&mut session, self.seal.get(), destroy).await?;
            }
            None => {}
        }
        session.commit().await?;
        Ok(true)
    }

    /// Operations, and whose each is, that another broker ended since then, Unix seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ended_by_others(&self, since: i64) -> Result<Vec<(String, String)>, StoreError> {
        let rows = self
            .read()
            .await?
            .rows(
                "SELECT id, submitter FROM operations WHERE finished_at >= $1 AND holder <> $2 ORDER BY sequence",
                values![since, &*self.holder],
            )
            .await?;
        rows.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
    }

    /// Forgets idempotency keys and finished operations that are old.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_old_operations(&self) -> Result<(), StoreError> {
        let mut session = self.write().await?;
        session
            .run(
                "DELETE FROM idempotency_keys WHERE created_at < $1",
                values![now() - IDEMPOTENCY_SECONDS],
            )
            .await?;
        session
            .run(
                "DELETE FROM operations WHERE finished_at < $1",
                values![now() - RETENTION_SECONDS],
            )
            .await?;
        session.commit().await
    }
}

async fn replay(
    session: &mut Session,
    submitter: &str,
    key: &str,
    fingerprint: &[u8; 32],
) -> Result<Option<Accepted>, StoreError> {
    let found = session
        .row(
            "SELECT fingerprint, operation_id FROM idempotency_keys WHERE submitter = $1 AND idempotency_key = $2",
            values![submitter, key],
        )
        .await?;
    let Some(row) = found else { return Ok(None) };
    if row.get::<Vec<u8>>(0)? != fingerprint {
        return Ok(Some(Accepted::KeyReused));
    }
    let id: String = row.get(1)?;
    Ok(fetch(session, &id).await?.map(Accepted::Operation))
}

async fn fetch(session: &mut Session, id: &str) -> Result<Option<OperationRow>, StoreError> {
    let found = session
        .row(
            "SELECT id, kind, submitter, status, result, problem, created_at, finished_at FROM operations WHERE id = $1",
            values![id],
        )
        .await?;
    found.as_ref().map(operation).transpose()
}

fn operation(row: &Row) -> Result<OperationRow, StoreError> {
    let json = |text: Option<String>| {
        text.map(|t| serde_json::from_str(&t))
            .transpose()
            .map_err(|error| StoreError::Damaged {
                table: "operations",
                reason: error.to_string(),
            })
    };
    Ok(OperationRow {
        id: row.get(0)?,
        kind: row.get(1)?,
        submitter: row.get(2)?,
        status: row.get(3)?,
        result: json(row.get(4)?)?,
        problem: json(row.get(5)?)?,
        created_at: row.get(6)?,
        finished_at: row.get(7)?,
    })
}

//! Accepted work, done in its order, some of it at once where the ledger is a channel: each is submitted to the ledger under its own
//! id, as often as it takes to hear an answer.
//!
//! A broker that is killed between the ledger's answer and its own note finds the operation still running, submits it again under the
//! same id, and hears the same answer.
//!
//! A data key goes only when its dataset cannot come to be: where what became of a registration is not known, it stays.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use leasehold_chaincode::{Command, CommandResult, DatasetId, Refusal, TxId};
use serde_json::json;

use crate::api::problem::ApiProblem;
use crate::audit::{self, Decision};
use crate::broker::Broker;
use crate::fabric::Recorded;
use crate::ledger::{Submission, SubmitError};
use crate::store::StoreError;
use crate::store::operations::{Claimed, Ending};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Nobody should have to wake the worker, but a wake-up that was lost must not matter.
const LOOK_ANYWAY: Duration = Duration::from_secs(10);

/// Works until shutdown.
pub async fn work(broker: Arc<Broker>) {
    let mut pause = FIRST_PAUSE;
    let mut last_cleaning = None;
    while !broker.shutdown.is_cancelled() {
        if last_cleaning.is_none_or(|at: std::time::Instant| at.elapsed() > Duration::from_secs(3600)) {
            last_cleaning = Some(std::time::Instant::now());
            if let Err(error) = broker.store.forget_old_operations().await {
                tracing::warn!(%error, "could not forget old operations");
            }
        }
        let wait = match step(&broker).await {
            Ok(true) => {
                pause = FIRST_PAUSE;
                continue;
            }
            Ok(false) => LOOK_ANYWAY,
            Err(error) => {
                tracing::warn!(%error, "could not work on operations; trying again");
                let wait = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = broker.accepted.notified() => {}
            () = broker.shutdown.cancelled() => return,
        }
    }
}

/// What kept an operation from being decided; it is tried again.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ledger(#[from] SubmitError),
}

/// Decides the oldest operations, as many as the ledger takes at once; `false` when there is none.
async fn step(broker: &Broker) -> Result<bool, StepError> {
    let claimed = broker.store.claim(broker.ledger.at_once()).await?;
    let is_any = !claimed.is_empty();
    let decided = futures::future::join_all(claimed.iter().map(|claimed| decide(broker, claimed))).await;
    decided.into_iter().collect::<Result<(), _>>()?;
    Ok(is_any)
}

async fn decide(broker: &Broker, claimed: &Claimed) -> Result<(), StepError> {
    let ending = match &claimed.command {
        Ok(command) => submit(broker, claimed, command.clone()).await?,
        Err(reason) => {
            tracing::error!(operation = %claimed.id, %reason, "an accepted operation cannot be read");
            failed(&ApiProblem::unreadable_operation(), None)
        }
    };
    let counter = match &ending {
        Ending::Succeeded { .. } => &broker.metrics.operations_succeeded,
        Ending::Failed { .. } => &broker.metrics.operations_failed,
    };
    broker.store.finish(&claimed.id, &ending).await?;
    counter.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn failed(problem: &ApiProblem, discard_key: Option<String>) -> Ending {
    let problem = serde_json::to_value(problem.body_without_id()).unwrap_or_default();
    Ending::Failed { problem, discard_key }
}

async fn submit(broker: &Broker, claimed: &Claimed, command: Command) -> Result<Ending, StepError> {
    let verb = command.name();
    let registers = matches!(command, Command::RegisterDataset { .. });
    let removed = removed(&command);
    let ids = (
        TxId::new(claimed.id.clone()),
        TxId::new(claimed.transaction_id.clone()),
    );
    let (Ok(tx_id), Ok(transaction)) = ids else {
        return Ok(failed(&ApiProblem::unreadable_operation(), None));
    };
    let dataset = DatasetId::derive(&transaction);
    // Otherwise the dataset may come to be after all, and would never be opened without its key. One too many does no harm.
    let is_lost = !claimed.again || broker.ledger.refuses_for_good();
    let recorded = Recorded {
        transaction,
        again: claimed.again,
    };
    let submission = Submission { tx_id, command };
    let denied = |code: &str| audit::record(&claimed.submitter, verb, &claimed.id, Decision::Denied, code);
    match broker.ledger.submit_recorded(submission, &recorded).await {
        Ok(committed) => {
            let (result, object) = match &committed.result {
                CommandResult::Dataset { id, name } => (json!({"dataset": id, "name": name}), id.to_string()),
                CommandResult::Lease { id } => {
                    let dataset = committed.events.first().and_then(|event| event.dataset.as_ref());
                    (json!({"lease": id, "dataset": dataset}), id.to_string())
                }
                CommandResult::Trace { id } => (json!({"trace": id}), id.to_string()),
                CommandResult::Organisation { msp } => (json!({"organisation": msp}), msp.to_string()),
                CommandResult::Cluster { msp, name } => {
                    (json!({"organisation": msp, "cluster": name}), name.to_string())
                }
            };
            audit::record(&claimed.submitter, verb, &object, Decision::Allowed, "committed");
            let shred = removed.filter(|named| is_same(named, &committed.result));
            Ok(Ending::Succeeded { result, shred })
        }
        Err(SubmitError::Refused(refusal)) => {
            denied(refusal.code());
            // A dataset of this very id may exist if the id was used before: its key is needed then.
            let is_lost = is_lost && !matches!(refusal, Refusal::TransactionReused { .. });
            let discard_key = (registers && is_lost).then(|| dataset.to_string());
            Ok(failed(&ApiProblem::refused(&refusal), discard_key))
        }
        Err(SubmitError::Abandoned(reason)) => {
            let problem = ApiProblem::not_committed(&reason);
            denied(problem.code());
            let discard_key = (registers && is_lost).then(|| dataset.to_string());
            Ok(failed(&problem, discard_key))
        }
        Err(SubmitError::Unknown(reason)) => {
            let problem = ApiProblem::outcome_unknown(&reason);
            denied(problem.code());
            Ok(failed(&problem, None))
        }
        Err(error) => Err(error.into()),
    }
}

/// The dataset that a command retires, by id.
fn removed(command: &Command) -> Option<String> {
    match command {
        Command::RemoveDataset { dataset, .. } => Some(dataset.clone()),
        _ => None,
    }
}

/// Whether the ledger says of the dataset that the command names that it is retired. On a channel a peer writes the answer: it must not
/// choose whose key is destroyed.
fn is_same(named: &str, result: &CommandResult) -> bool {
    let is_same = matches!(result, CommandResult::Dataset { id, .. } if id.as_str() == named);
    if !is_same {
        tracing::error!(
            dataset = named,
            "the ledger answered the removal of a dataset with another one; its data key is kept"
        );
    }
    is_same
}

#[cfg(test)]
mod tests {
    use super::*;
    use leasehold_chaincode::{DatasetName, LeaseId};

    #[test]
    fn only_the_key_of_the_dataset_that_the_command_names_is_destroyed() {
        let id = |digit: &str| DatasetId::new(digit.repeat(64)).unwrap();
        let command = Command::RemoveDataset {
            dataset: id("a").into(),
            force: false,
        };
        let named = removed(&command).unwrap();
        let dataset = |id| CommandResult::Dataset {
            id,
            name: DatasetName::new("texts").unwrap(),
        };
        assert!(is_same(&named, &dataset(id("a"))));
        assert!(!is_same(&named, &dataset(id("b"))));
        let lease = CommandResult::Lease {
            id: LeaseId::new("a".repeat(32)).unwrap(),
        };
        assert!(!is_same(&named, &lease));
        let release = Command::Release {
            lease: "a".repeat(32),
            subject: "a1".repeat(32),
        };
        assert_eq!(removed(&release), None);
    }
}

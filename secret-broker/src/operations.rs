//! Accepted work: each operation is submitted to the ledger under its own id, as often as it takes to hear an answer, some of them at
//! once where the ledger is a channel.
//!
//! One that cannot be decided is tried again after a wait that doubles each time, and gives way to others meanwhile: see
//! [`crate::store::claims`]. On the embedded ledger nobody's later operation overtakes an earlier one.
//!
//! Replicas that share the key store take what is to be done from it, each operation one at a time; what one of them was killed over another
//! finds and takes over.
//!
//! A broker that is killed between the ledger's answer and its own note finds the operation still running, submits it again under the
//! same id, and hears the same answer.
//!
//! An operation whose caller said which revision of the dataset it is meant for is submitted only while the dataset has it, read right
//! before. The contract knows of no such condition: what another transaction changes between that look and this one's endorsement, or on the
//! embedded ledger its place in a block, is not seen. On a channel it is not proposed anew once another transaction came between.
//!
//! A data key goes only when its dataset cannot come to be: where what became of a registration is not known, it stays.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use leasehold_chaincode::{Command, CommandResult, DatasetId, DatasetRef, PageRequest, Refusal, TxId};
use serde_json::json;
use tokio::task::{JoinError, JoinSet};

use crate::api::conditions::dataset_tag;
use crate::api::problem::ApiProblem;
use crate::audit::{Decision, Event, Origin};
use crate::broker::Broker;
use crate::fabric::Recorded;
use crate::ledger::{ReadError, Submission, SubmitError};
use crate::store::claims::{Claimed, Claims, Room};
use crate::store::data_keys::{Destroy, Versions};
use crate::store::operations::Ending;
use crate::store::receipts::{Grounds, Reason};
use crate::store::{StoreError, now_ms};

/// Bound of the wait after an operation's first try; it doubles with each up to the longest. A random part of it is waited, half at
/// least.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After the store failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Nobody should have to wake the worker, but a wake-up that was lost must not matter.
const LOOK_ANYWAY: Duration = Duration::from_secs(10);
/// Nobody wakes it for what a replica leaves behind, and what this one holds it has to say again.
const LOOK_AT_SHARED: Duration = Duration::from_secs(3);

/// What kept an operation from being decided; it is tried again.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ledger(#[from] SubmitError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the audit cannot record what is decided")]
    Audit,
}

/// Works until shutdown, and ends what it has begun by then.
pub async fn work(broker: Arc<Broker>) {
    // Tasks, since each may hold the store's write lock while this one waits for it.
    let mut under_way = JoinSet::new();
    // What is worked on, and whether it was tried before.
    let mut held: HashMap<String, bool> = HashMap::new();
    let mut last_cleaning = None;
    while !broker.shutdown.is_cancelled() {
        if last_cleaning.is_none_or(|at: std::time::Instant| at.elapsed() > Duration::from_secs(3600)) {
            last_cleaning = Some(std::time::Instant::now());
            if let Err(error) = broker.store.forget_old_operations().await {
                tracing::warn!(%error, "could not forget old operations");
            }
        }
        if broker.store.is_shared()
            && !held.is_empty()
            && let Err(error) = broker.store.hold_on(now_ms()).await
        {
            tracing::warn!(%error, "could not say that operations are still worked on; another replica may take them over");
        }
        let wait = match claim(&broker, &held).await {
            Ok(claims) => {
                for claimed in claims.operations {
                    held.insert(claimed.id.clone(), claimed.tries > 0);
                    under_way.spawn(try_once(Arc::clone(&broker), claimed));
                }
                let look = match broker.store.is_shared() {
                    true => LOOK_AT_SHARED,
                    false => LOOK_ANYWAY,
                };
                until(claims.next_due_ms).min(look)
            }
            Err(error) => {
                tracing::warn!(%error, "could not look for operations; trying again");
                AFTER_FAILURE
            }
        };
        tokio::select! {
            Some(ended) = under_way.join_next() => {
                let (id, noted) = unless_panicked(ended);
                held.remove(&id);
                if let Err(error) = noted {
                    tracing::warn!(operation = %id, %error, "could not note what became of a try; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(AFTER_FAILURE) => {}
                        () = broker.shutdown.cancelled() => {}
                    }
                }
            }
            () = tokio::time::sleep(wait) => {}
            () = broker.accepted.notified() => {}
            () = broker.shutdown.cancelled() => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// What a task yields. Where it panicked, so does the worker, and the broker ends.
fn unless_panicked<T>(ended: Result<T, JoinError>) -> T {
    match ended {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Takes what is due, as far as there is room beside what is held.
async fn claim(broker: &Broker, held: &HashMap<String, bool>) -> Result<Claims, StoreError> {
    let at_once = broker.ledger.at_once();
    let tried = held.values().filter(|is_tried| **is_tried).count();
    let room = Room {
        most: at_once.saturating_sub(held.len()),
        most_tried: at_once.div_ceil(2).saturating_sub(tried),
        in_order: at_once == 1,
        held: held.keys().cloned().collect(),
    };
    if room.most == 0 {
        return Ok(Claims::default());
    }
    let longest_ms = i64::try_from(LONGEST_WAIT.as_millis()).unwrap_or(i64::MAX);
    broker.store.claim(&room, now_ms(), longest_ms).await
}

/// How long nothing is due.
fn until(due_ms: Option<i64>) -> Duration {
    let wait = due_ms.and_then(|due_ms| u64::try_from(due_ms.saturating_sub(now_ms())).ok());
    wait.map_or(LOOK_ANYWAY, Duration::from_millis).min(LOOK_ANYWAY)
}

/// How long to wait after so many tries; `random` chooses the part of it.
fn pause(tries: u32, random: u64) -> Duration {
    let bound = FIRST_WAIT
        .saturating_mul(2_u32.saturating_pow(tries))
        .min(LONGEST_WAIT);
    let half = bound / 2;
    let part = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_millis(random % part)
}

/// Tries to decide an operation, or notes when that is tried again. Yields which it was, and whether that could be noted.
async fn try_once(broker: Arc<Broker>, claimed: Claimed) -> (String, Result<(), StoreError>) {
    let noted = match decide(&broker, &claimed).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let wait = pause(claimed.tries, getrandom::u64().unwrap_or_default());
            tracing::warn!(operation = %claimed.id, tries = claimed.tries, ?wait, %error, "could not decide an operation; trying again");
            let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
            broker
                .store
                .defer(&claimed.id, now_ms().saturating_add(wait_ms))
                .await
        }
    };
    (claimed.id, noted)
}

async fn decide(broker: &Broker, claimed: &Claimed) -> Result<(), StepError> {
    if !broker.audit.is_well() {
        return Err(StepError::Audit);
    }
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
    if !broker.store.finish(&claimed.id, &ending).await? {
        tracing::info!(operation = %claimed.id, "another replica has taken an operation over meanwhile, and says how it ended");
        return Ok(());
    }
    broker.tell(&claimed.submitter, &claimed.id);
    if ending.destroys() {
        broker.key_work.notify_one();
    }
    counter.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

fn failed(problem: &ApiProblem, destroy: Option<Destroy>) -> Ending {
    let problem = serde_json::to_value(problem.body_without_id()).unwrap_or_default();
    Ending::Failed { problem, destroy }
}

async fn submit(broker: &Broker, claimed: &Claimed, command: Command) -> Result<Ending, StepError> {
    let verb = command.name();
    let about = about(&command);
    let ids = (
        TxId::new(claimed.id.clone()),
        TxId::new(claimed.transaction_id.clone()),
    );
    let (Ok(tx_id), Ok(transaction)) = ids else {
        return Ok(failed(&ApiProblem::unreadable_operation(), None));
    };
    let unused = made_for(&command, &transaction).map(|(dataset_id, versions)| Destroy {
        dataset_id,
        versions,
        grounds: Grounds {
            reason: Reason::Unused,
            height: None,
            transaction: Some(transaction.to_string()),
        },
    });
    let needless = made_needless(&command);
    // Otherwise the dataset may come to be after all, and would never be opened without its key. One too many does no harm.
    let is_lost = !claimed.again || broker.ledger.refuses_for_good();
    let recorded = Recorded {
        transaction,
        again: claimed.again,
        conditional: claimed.expected_revision.is_some(),
    };
    let submission = Submission { tx_id, command };
    // What became of it is on disk before it counts as done. Where that fails it is tried again, and hears the same answer.
    let keep = async |object: &str, decision, code: &str| {
        let origin = Origin::default();
        let event = Event::new(&claimed.submitter, verb, object, decision, code, &origin);
        let event = event.by_operation(&claimed.id);
        broker.audit.keep(event).await.map_err(|_| StepError::Audit)
    };
    let denied = async |code: &str| keep(&about, Decision::Denied, code).await;
    if let Some(revision) = claimed.expected_revision
        && let Some(problem) = changed(broker, &about, revision, &recorded).await?
    {
        let decision = match problem.code() {
            "outcome_unknown" => Decision::Unknown,
            _ => Decision::Denied,
        };
        keep(&about, decision, problem.code()).await?;
        return Ok(failed(&problem, unused.filter(|_| is_lost)));
    }
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
            keep(&object, Decision::Allowed, "committed").await?;
            let destroy = needless
                .filter(|(named, _, _)| is_same(named, &committed.result))
                .map(|(dataset_id, versions, reason)| Destroy {
                    dataset_id,
                    versions,
                    grounds: Grounds {
                        reason,
                        height: Some(committed.height),
                        transaction: Some(committed.tx_id.to_string()),
                    },
                });
            // A channel's answer is one peer's, which nobody has signed.
            let is_retired = |destroy: &Destroy| destroy.grounds.reason == Reason::Retired;
            let waits = destroy.as_ref().is_some_and(is_retired) || !broker.ledger.refuses_for_good();
            Ok(Ending::Succeeded {
                result,
                destroy,
                waits,
            })
        }
        Err(SubmitError::Refused(refusal)) => {
            denied(refusal.code()).await?;
            // A dataset of this very id may exist if the id was used before: its key is needed then.
            let is_lost = is_lost && !matches!(refusal, Refusal::TransactionReused { .. });
            Ok(failed(&ApiProblem::refused(&refusal), unused.filter(|_| is_lost)))
        }
        Err(SubmitError::Abandoned(reason)) => {
            // None of its transactions counts: where the dataset is not as it was expected, that is why.
            let problem = match claimed.expected_revision {
                None => None,
                Some(revision) => {
                    let first = Recorded {
                        again: false,
                        ..recorded
                    };
                    changed(broker, &about, revision, &first).await?
                }
            };
            let problem = problem.unwrap_or_else(|| ApiProblem::not_committed(&reason));
            denied(problem.code()).await?;
            Ok(failed(&problem, unused.filter(|_| is_lost)))
        }
        Err(SubmitError::Unknown(reason)) => {
            let problem = ApiProblem::outcome_unknown(&reason);
            keep(&about, Decision::Unknown, problem.code()).await?;
            Ok(failed(&problem, None))
        }
        Err(error) => Err(error.into()),
    }
}

/// Why an operation is not submitted that was meant for one revision of its dataset; nothing while the dataset has it, or had it when an
/// earlier try of this very operation was committed.
async fn changed(
    broker: &Broker,
    dataset: &str,
    expected: u64,
    recorded: &Recorded,
) -> Result<Option<ApiProblem>, ReadError> {
    let Ok(id) = DatasetId::new(dataset) else {
        return Ok(None);
    };
    // What is not there the contract refuses.
    let Some(entry) = broker.ledger.dataset(&DatasetRef::Id(id.clone())).await? else {
        return Ok(None);
    };
    if entry.status.revision == expected {
        return Ok(None);
    }
    if recorded.again {
        let mut page = PageRequest {
            after: Some(format!("{expected:020}")),
            ..PageRequest::default()
        };
        loop {
            let since = broker.ledger.history(&id, &page).await?;
            if since
                .items
                .iter()
                .any(|entry| entry.tx_id == recorded.transaction)
            {
                return Ok(None);
            }
            match since.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        if !broker.ledger.refuses_for_good() {
            let why = "the dataset has changed, and an earlier try may still be on its way to a block";
            return Ok(Some(ApiProblem::outcome_unknown(why)));
        }
    }
    Ok(Some(ApiProblem::precondition_failed(dataset_tag(&entry))))
}

/// The lease or dataset that a command names, for the audit: refusals of the same kind are counted by it.
#[must_use]
pub fn about(command: &Command) -> String {
    let fields = serde_json::to_value(command).unwrap_or_default();
    let named = fields.get("lease").or_else(|| fields.get("dataset"));
    let named = named
        .or_else(|| fields.get("name"))
        .and_then(serde_json::Value::as_str);
    named.unwrap_or_default().to_owned()
}

/// The data key that was made for a command, and is of no use where that comes to nothing.
fn made_for(command: &Command, transaction: &TxId) -> Option<(String, Versions)> {
    match command {
        Command::RegisterDataset { .. } => Some((DatasetId::derive(transaction).to_string(), Versions::All)),
        Command::ReplaceVolume {
            dataset, key_version, ..
        } => Some((dataset.clone(), Versions::Only(*key_version))),
        _ => None,
    }
}

/// The data keys, by the dataset's id, that nobody needs once a command is committed.
fn made_needless(command: &Command) -> Option<(String, Versions, Reason)> {
    match command {
        Command::RemoveDataset { dataset, .. } => Some((dataset.clone(), Versions::All, Reason::Retired)),
        Command::ReplaceVolume {
            dataset, key_version, ..
        } => Some((
            dataset.clone(),
            Versions::Before(*key_version),
            Reason::Superseded,
        )),
        _ => None,
    }
}

/// Whether the ledger's answer is about the dataset that the command names. On a channel a peer writes the answer: it must not choose
/// whose key is destroyed.
fn is_same(named: &str, result: &CommandResult) -> bool {
    let is_same = matches!(result, CommandResult::Dataset { id, .. } if id.as_str() == named);
    if !is_same {
        tracing::error!(
            dataset = named,
            "the ledger answered a change of a dataset with another one; its data keys are kept"
        );
    }
    is_same
}

#[cfg(test)]
mod tests {
    use super::*;
    use leasehold_chaincode::{DatasetName, LeaseId};

    #[test]
    fn the_wait_doubles_up_to_the_longest_and_a_part_of_it_is_chance() {
        let ms = |tries, random| pause(tries, random).as_millis();
        assert_eq!([ms(0, 0), ms(1, 0), ms(2, 0), ms(3, 0)], [50, 100, 200, 400]);
        assert_eq!([ms(0, 49), ms(1, 199), ms(3, 123)], [99, 199, 523]);
        for tries in [10, 100, u32::MAX] {
            assert!((30_000..60_000).contains(&ms(tries, u64::MAX)), "{tries}");
        }
    }

    #[test]
    fn only_the_key_of_the_dataset_that_the_command_names_is_destroyed() {
        let id = |digit: &str| DatasetId::new(digit.repeat(64)).unwrap();
        let command = Command::RemoveDataset {
            dataset: id("a").into(),
            force: false,
        };
        let (named, versions, _) = made_needless(&command).unwrap();
        assert_eq!(versions, Versions::All);
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
        assert_eq!(made_needless(&release), None);
    }

    #[test]
    fn a_key_that_took_over_outlives_those_before_it_and_one_that_did_not_goes_alone() {
        let id = DatasetId::new("a".repeat(64)).unwrap();
        let command = Command::ReplaceVolume {
            dataset: id.clone().into(),
            volume_ciphertext: leasehold_chaincode::Ciphertext(String::new()),
            key_version: 3,
        };
        let (_, versions, reason) = made_needless(&command).unwrap();
        assert_eq!((versions, reason), (Versions::Before(3), Reason::Superseded));
        let transaction = TxId::new("any").unwrap();
        let unused = made_for(&command, &transaction);
        assert_eq!(unused, Some((id.to_string(), Versions::Only(3))));
    }
}

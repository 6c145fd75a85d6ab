//! Ends leases, places in lines and requests when their time is over: submits the end of each lease that is due, then sleeps until the next one is.
//!
//! Everything it needs is on the ledger, so that a restart loses nothing. Each try is a transaction of its own, since one that lost to
//! another cannot be used again; the contract takes one end of a lease and refuses the next. After a try that came to nothing it rests
//! for a moment, whatever happens on the ledger meanwhile: the peer that shows a lease as due may be behind the one that refuses its end.
//!
//! Where clients choose the time of their transactions, a lease can be ended by time only when that is over by more than a clock may
//! be wrong ([`BrokerLedger::end_margin_ms`]); its holder cannot use it from its expiry on all the same. Leases with which this
//! organisation has nothing to do are left to those who have, unless these do not end them for a while.

use std::sync::Arc;
use std::time::Duration;

use leasehold_chaincode::{Command, InvalidId, Lease, LeaseState, Msp, PageRequest, Refusal, TxId};
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, Event};
use crate::ledger::{ReadError, Submission, SubmitError, transaction_id};
use crate::ledgers::{BrokerLedger, concerns};

const LONGEST_SLEEP: Duration = Duration::from_secs(60);
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long other organisations have to end their own leases.
const OTHERS_FIRST: Duration = Duration::from_secs(10 * 60);
/// How many leases are ended before it looks again what is due: requests that nobody decided must not keep active leases waiting.
const MOST_AT_ONCE: usize = 64;
/// How many leases with which this organisation has nothing to do are ended beside these: another one may have as many due as it likes.
const MOST_OF_OTHERS_AT_ONCE: usize = 8;
/// States that time ends, the most urgent first.
const TIMED: [LeaseState; 3] = [LeaseState::Active, LeaseState::Waiting, LeaseState::Requested];

/// Runs until shutdown.
pub async fn run(ledger: BrokerLedger, audit: Arc<Audit>, organisation: Msp, shutdown: CancellationToken) {
    let mut heights = ledger.heights();
    loop {
        heights.mark_unchanged();
        let pause = match end_due_leases(&ledger, &audit, &organisation).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "could not look for leases that are due; trying again");
                None
            }
        };
        let Some(pause) = pause else {
            tokio::select! {
                () = tokio::time::sleep(AFTER_FAILURE) => continue,
                () = shutdown.cancelled() => return,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = heights.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

/// From when on this broker ends a lease.
fn ends_at_ms(lease: &Lease, organisation: &Msp, margin_ms: i64) -> i64 {
    let others_first_ms = i64::try_from(OTHERS_FIRST.as_millis()).unwrap_or(i64::MAX);
    let patience_ms = if concerns(lease, organisation) {
        0
    } else {
        others_first_ms
    };
    lease
        .due_at_ms()
        .saturating_add(margin_ms)
        .saturating_add(patience_ms)
}

/// Ends what is due and yields how long nothing will be; none where an end came to nothing.
async fn end_due_leases(
    ledger: &BrokerLedger,
    audit: &Audit,
    organisation: &Msp,
) -> Result<Option<Duration>, ReadError> {
    let margin_ms = ledger.end_margin_ms();
    let now_ms = chrono::Utc::now().timestamp_millis();
    let mut failed = false;
    let mut due = Vec::new();
    let mut pause = LONGEST_SLEEP;
    for state in TIMED {
        let mut page = PageRequest::default();
        loop {
            let found = ledger
                .leases_due(state, now_ms.saturating_sub(margin_ms), &page)
                .await?;
            due.extend(found.items);
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
    }
    let is_due = |lease: &Lease| {
        let early_ms = ends_at_ms(lease, organisation, margin_ms).saturating_sub(now_ms);
        if early_ms > 0 {
            pause = pause.min(milliseconds(early_ms));
        }
        early_ms <= 0
    };
    due.retain(is_due);
    let (all, first) = (due.len(), own_first(due, organisation));
    if first.len() < all {
        pause = Duration::ZERO;
    }
    for lease in first {
        failed |= !end(ledger, audit, &lease).await;
    }
    if failed {
        return Ok(None);
    }
    let one = PageRequest {
        after: None,
        limit: 1,
    };
    for state in TIMED {
        if let Some(lease) = ledger.leases_in(state, &one).await?.items.first() {
            let ends_at_ms = ends_at_ms(lease, organisation, margin_ms);
            let now_ms = chrono::Utc::now().timestamp_millis();
            pause = pause.min(milliseconds(ends_at_ms.saturating_sub(now_ms)));
        }
    }
    Ok(Some(pause))
}

/// What is ended before it looks again: the organisation's own, the most urgent first, then some of the others'.
fn own_first(due: Vec<Lease>, organisation: &Msp) -> Vec<Lease> {
    let (mut own, mut others): (Vec<_>, Vec<_>) =
        due.into_iter().partition(|lease| concerns(lease, organisation));
    own.truncate(MOST_AT_ONCE);
    others.truncate(MOST_OF_OTHERS_AT_ONCE);
    own.append(&mut others);
    own
}

/// Whether this broker has ended it.
async fn end(ledger: &BrokerLedger, audit: &Audit, lease: &Lease) -> bool {
    let id = lease.id.to_string();
    let ended = match expiry_of(lease) {
        Ok(submission) => ledger.submit(submission).await,
        Err(error) => Err(SubmitError::Abandoned(error.to_string())),
    };
    match ended {
        Ok(_) => {
            let event = Event::own("expire", id.as_str(), "expired").of_lease(&id);
            if let Err(error) = audit.keep(event).await {
                tracing::error!(lease = %id, %error, "the end of a lease could not be recorded");
            }
            true
        }
        // Its holder was faster, or another broker.
        Err(SubmitError::Refused(Refusal::LeaseNotActive { .. })) => false,
        Err(error) => {
            tracing::warn!(lease = %id, %error, "could not end a lease that is due; trying again");
            false
        }
    }
}

/// One try to end it.
fn expiry_of(lease: &Lease) -> Result<Submission, InvalidId> {
    Ok(Submission {
        tx_id: TxId::new(format!("expire-{}", transaction_id()?))?,
        command: Command::Expire {
            lease: lease.id.to_string(),
        },
    })
}

fn milliseconds(milliseconds: i64) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::audit::{Filter, SealKey};
    use crate::ledger::{Committed, Ledger, LedgerOptions};
    use crate::secret::Secret;
    use leasehold_chaincode::{
        Ciphertext, Contract, DatasetId, DatasetName, LeaseId, Metadata, Mode, Mount, Policy, Subject,
    };
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    fn msp(name: &str) -> Msp {
        Msp::new(name).unwrap()
    }

    /// A lease of `UiOMSP`'s cluster, of before clusters had names.
    pub(crate) fn lease() -> Lease {
        Lease {
            id: LeaseId::new("0".repeat(32)).unwrap(),
            number: 1,
            dataset: DatasetId::new("0".repeat(64)).unwrap(),
            dataset_name: DatasetName::new("texts").unwrap(),
            owner: msp("UiSMSP"),
            subject: Subject::new("a1".repeat(32)).unwrap(),
            cluster_msp: msp("UiOMSP"),
            cluster: None,
            mode: Mode::Exclusive,
            ttl_seconds: 60,
            max_ttl_seconds: 60,
            asked_at_ms: 0,
            until_ms: 1_000,
            waits: false,
            grant: None,
            state: LeaseState::Requested,
            end: None,
            mount: Mount::Pending {},
        }
    }

    #[test]
    fn each_try_to_end_a_lease_is_another_transaction() {
        let (first, second) = (expiry_of(&lease()).unwrap(), expiry_of(&lease()).unwrap());
        assert_eq!(first.command, second.command);
        assert_ne!(first.tx_id, second.tx_id);
    }

    #[test]
    fn leases_of_others_that_are_due_keep_none_of_its_own_waiting() {
        let mut foreign = lease();
        foreign.owner = msp("OtherMSP");
        foreign.cluster_msp = msp("OtherMSP");
        let mut due = vec![foreign; 1_000];
        due.extend(vec![lease(); 70]);
        let first = own_first(due, &msp("UiSMSP"));
        let own = first.iter().filter(|lease| lease.owner == msp("UiSMSP")).count();
        assert_eq!(
            (own, first.len()),
            (MOST_AT_ONCE, MOST_AT_ONCE + MOST_OF_OTHERS_AT_ONCE)
        );
        assert!(first.iter().take(own).all(|lease| lease.owner == msp("UiSMSP")));
    }

    /// As one that a peer behind the others shows as due.
    #[tokio::test]
    async fn an_end_that_is_refused_counts_as_a_failure_after_which_it_rests() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.db");
        let options = LedgerOptions::new(path, Msp::new("UiSMSP").unwrap());
        let ledger = BrokerLedger::Embedded(Ledger::open(options).await.unwrap());
        let audit = audit(&directory).await;
        assert!(!end(&ledger, &audit, &lease()).await);
        ledger.close().await;
    }

    async fn audit(directory: &tempfile::TempDir) -> Audit {
        let seal = SealKey::new(Secret::new([1; 32]));
        Audit::open(&directory.path().join("audit.db"), seal, 1)
            .await
            .unwrap()
    }

    /// A ledger whose organisation has enrolled and whose clock stands at the number that comes with it.
    async fn ledger(directory: &tempfile::TempDir) -> (BrokerLedger, Arc<AtomicI64>) {
        let mut options = LedgerOptions::new(directory.path().join("ledger.db"), msp("UiSMSP"));
        let clock_ms = Arc::new(AtomicI64::new(0));
        options.clock = Arc::new({
            let clock_ms = Arc::clone(&clock_ms);
            move || clock_ms.load(Ordering::SeqCst)
        });
        let ledger = BrokerLedger::Embedded(Ledger::open(options).await.unwrap());
        let join = Command::JoinConsortium {
            broker: "https://broker.example.org".to_owned(),
            keys: Vec::new(),
        };
        submit(&ledger, join).await;
        let cluster = Command::RegisterCluster {
            name: "main".to_owned(),
            keys: Vec::new(),
        };
        submit(&ledger, cluster).await;
        (ledger, clock_ms)
    }

    async fn submit(ledger: &BrokerLedger, command: Command) -> Committed {
        let tx_id = TxId::new(uuid::Uuid::new_v4().to_string()).unwrap();
        ledger.submit(Submission { tx_id, command }).await.unwrap()
    }

    /// A lease of 50 s of a new dataset.
    async fn taken(ledger: &BrokerLedger, dataset: &str) -> Lease {
        let register = Command::RegisterDataset {
            name: dataset.to_owned(),
            metadata: Metadata {
                title: "Texts".to_owned(),
                ..Metadata::default()
            },
            policy: Policy::exclusive(3_600),
            volume_ciphertext: Ciphertext("bm90aGluZyB0byByZWFk".to_owned()),
            key_version: 1,
        };
        submit(ledger, register).await;
        let take = Command::Lease {
            dataset: dataset.to_owned(),
            subject: "a1".repeat(32),
            mode: None,
            ttl_seconds: Some(50),
            groups: Vec::new(),
            wait: false,
            cluster: None,
        };
        *submit(ledger, take).await.events[0].lease.clone().unwrap()
    }

    /// To the millisecond, however long the machine takes to look.
    #[tokio::test]
    async fn it_ends_what_is_due_and_sleeps_until_the_very_moment_of_the_next_expiry() {
        let now_ms = || chrono::Utc::now().timestamp_millis();
        let directory = tempfile::tempdir().unwrap();
        let (ledger, clock_ms) = ledger(&directory).await;
        let audit = audit(&directory).await;
        clock_ms.store(now_ms() - 50_000, Ordering::SeqCst);
        let due = taken(&ledger, "texts").await;
        clock_ms.store(now_ms(), Ordering::SeqCst);
        let pause = end_due_leases(&ledger, &audit, &msp("UiSMSP")).await.unwrap();
        assert_eq!(pause, Some(LONGEST_SLEEP), "there is no other lease");
        let ended = ledger.lease(&due.id).await.unwrap().unwrap();
        assert_eq!(ended.state, LeaseState::Ending);
        let events = audit.book().page(&Filter::default(), 10).await.unwrap().rows;
        assert!(
            events.iter().any(|row| row.record.contains(due.id.as_str())),
            "the end is recorded: {events:?}"
        );

        let next = taken(&ledger, "scans").await;
        let left_ms = || next.due_at_ms() - now_ms();
        let most = milliseconds(left_ms());
        let pause = end_due_leases(&ledger, &audit, &msp("UiSMSP"))
            .await
            .unwrap()
            .unwrap();
        let least = milliseconds(left_ms());
        assert!(
            (least..=most).contains(&pause),
            "{pause:?} is not between {least:?} and {most:?}"
        );
        ledger.close().await;
    }

    #[test]
    fn a_lease_is_ended_after_the_margin_and_anothers_only_if_nobody_else_does() {
        let lease = lease();
        let margin_ms = Contract::FABRIC.end_margin_ms;
        for (organisation, ends_at_ms_) in [
            ("UiSMSP", 1_000 + margin_ms),
            ("UiOMSP", 1_000 + margin_ms),
            ("UiBMSP", 1_000 + margin_ms + 600_000),
        ] {
            assert_eq!(
                ends_at_ms(&lease, &msp(organisation), margin_ms),
                ends_at_ms_,
                "{organisation}"
            );
        }
        assert_eq!(ends_at_ms(&lease, &msp("UiSMSP"), 0), 1_000);
    }
}

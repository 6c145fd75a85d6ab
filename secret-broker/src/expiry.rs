//! Ends leases, places in lines and requests when their time is over: submits the end of each lease that is due, then sleeps until the next one is.
//!
//! Everything it needs is on the ledger, so that a restart loses nothing. The transaction's id is made of the lease's, so that the
//! end is committed once however often it is submitted.

use std::time::Duration;

use leasehold_chaincode::{Command, LeaseState, PageRequest, Refusal, TxId};
use tokio_util::sync::CancellationToken;

use crate::audit::{self, Decision};
use crate::ledger::{Ledger, ReadError, Submission, SubmitError};

const LONGEST_SLEEP: Duration = Duration::from_secs(60);
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// States that time ends.
const TIMED: [LeaseState; 3] = [LeaseState::Active, LeaseState::Waiting, LeaseState::Requested];

/// Runs until shutdown.
pub async fn run(ledger: Ledger, shutdown: CancellationToken) {
    let mut heights = ledger.heights();
    loop {
        heights.mark_unchanged();
        let pause = match end_due_leases(&ledger).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "could not look for leases that are due; trying again");
                AFTER_FAILURE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = heights.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

/// Ends what is due and yields how long nothing will be.
async fn end_due_leases(ledger: &Ledger) -> Result<Duration, ReadError> {
    let now_ms = chrono::Utc::now().timestamp_millis();
    let mut failed = false;
    let mut due = Vec::new();
    for state in TIMED {
        let page = ledger.leases_due(state, now_ms, &PageRequest::default()).await?;
        due.extend(page.items);
    }
    for lease in due {
        let id = lease.id.to_string();
        let Ok(tx_id) = TxId::new(format!("expire-{id}")) else {
            continue;
        };
        match ledger
            .submit(Submission {
                tx_id,
                command: Command::Expire { lease: id.clone() },
            })
            .await
        {
            Ok(_) => audit::record("broker", "expire", &id, Decision::Allowed, "expired"),
            // Its holder was faster.
            Err(SubmitError::Refused(Refusal::LeaseNotActive { .. })) => {}
            Err(error) => {
                tracing::warn!(lease = %id, %error, "could not end a lease that is due; trying again");
                failed = true;
            }
        }
    }
    if failed {
        return Ok(AFTER_FAILURE);
    }
    let one = PageRequest {
        after: None,
        limit: 1,
    };
    let mut pause = LONGEST_SLEEP;
    for state in TIMED {
        if let Some(lease) = ledger.leases_in(state, &one).await?.items.first() {
            let remaining_ms = lease
                .due_at_ms()
                .saturating_sub(chrono::Utc::now().timestamp_millis());
            pause = pause.min(Duration::from_millis(u64::try_from(remaining_ms).unwrap_or(0)));
        }
    }
    Ok(pause)
}

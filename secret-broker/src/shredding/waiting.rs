//! Destroys the data keys that wait for it, once the ledger has said for long enough that nobody needs them, and not those of too many
//! datasets at once.
//!
//! A key that is gone is gone for good, and a ledger that says so may be the wrong one: swapped, rolled back, forked. So it is asked twice,
//! a delay apart: it must still have the block in which it was seen to say so, by its hash (on a channel the transaction), and say the same
//! now. Where it does not, the keys stay and the delay begins anew. Past so many datasets an hour the rest is held back, until an operator
//! lets it go or its hour comes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{CompareError, needless, said_in, seen};
use crate::audit::Event;
use crate::broker::Broker;
use crate::ledgers::{BrokerLedger, Reading};
use crate::store::data_keys::Versions;
use crate::store::doomed::{Doomed, Seen};
use crate::store::now;

const HOUR_SECONDS: i64 = 3_600;

/// What keeps many keys from being destroyed by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brake {
    /// So long the ledger has to go on saying that keys may go.
    pub delay: Duration,
    /// Keys of so many datasets go in an hour.
    pub most_per_hour: u64,
}

/// What happens to keys that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Wait,
    HoldBack,
    Destroy,
}

/// What the ledger says the second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Same,
    /// It is not the ledger that said so before, or it has changed its mind.
    Otherwise(&'static str),
    /// It was not read as far as before.
    Behind,
}

impl Brake {
    /// `gone` keys of that many datasets went within the hour.
    fn verdict(self, doomed: &Doomed, gone: u64, now: i64) -> Verdict {
        let delay = i64::try_from(self.delay.as_secs()).unwrap_or(i64::MAX);
        // With a clock that was set back it waits longer, never shorter.
        if now.saturating_sub(doomed.seen_at) < delay {
            return Verdict::Wait;
        }
        if doomed.released_at.is_none() && gone >= self.most_per_hour {
            return Verdict::HoldBack;
        }
        Verdict::Destroy
    }
}

/// Destroys what is due. Yields how many data keys went.
///
/// # Errors
/// [`CompareError`]; what is left is tried again.
pub async fn carry_out(broker: &Broker) -> Result<usize, CompareError> {
    let mut gone = broker
        .store
        .gone_since(now().saturating_sub(HOUR_SECONDS))
        .await?;
    let (mut keys, mut waiting, mut held_back, mut newly_held) = (0, 0, 0, 0_u64);
    for doomed in broker.store.doomed().await? {
        let doomed = looked_at(broker, doomed).await?;
        match broker.config.brake.verdict(&doomed, gone, now()) {
            Verdict::Wait => waiting += 1,
            Verdict::HoldBack => {
                held_back += 1;
                if doomed.held_at.is_none() {
                    newly_held += 1;
                    broker.store.hold_back(&doomed.dataset_id).await?;
                }
            }
            Verdict::Destroy => match destroy(broker, &doomed).await? {
                Some(destroyed) => {
                    keys += destroyed;
                    gone += u64::from(doomed.released_at.is_none());
                }
                None => waiting += 1,
            },
        }
    }
    broker
        .metrics
        .destructions_waiting
        .store(waiting, Ordering::Relaxed);
    broker
        .metrics
        .destructions_held_back
        .store(held_back, Ordering::Relaxed);
    if newly_held > 0 {
        tracing::error!(
            datasets = held_back,
            most_per_hour = broker.config.brake.most_per_hour,
            "the ledger says of more datasets than may go in an hour that they are retired; their data keys are held back: make sure that it is the right ledger, look at `keys doomed`, and let them go with `keys release`"
        );
    }
    Ok(keys)
}

/// A block's hash is noted with the first look at it, and the delay begins then: nobody can exchange the ledger in between.
async fn looked_at(broker: &Broker, mut doomed: Doomed) -> Result<Doomed, CompareError> {
    if doomed.seen.block_hash.is_some() || !matches!(broker.ledger, BrokerLedger::Embedded(_)) {
        return Ok(doomed);
    }
    let (mut reading, _) = broker.ledger.one_state().await?;
    doomed.seen.block_hash = reading.block_hash(doomed.seen.height).await?;
    if doomed.seen.block_hash.is_some() {
        doomed.seen_at = now();
        (doomed.held_at, doomed.released_at) = (None, None);
        broker
            .store
            .see_anew(&doomed, &doomed.seen, doomed.seen_at)
            .await?;
    }
    Ok(doomed)
}

/// Asks the ledger once more and destroys the keys if it says the same. Yields how many there were; none where they stay for now.
async fn destroy(broker: &Broker, doomed: &Doomed) -> Result<Option<usize>, CompareError> {
    let (mut reading, height) = broker.ledger.one_state().await?;
    let reason = match again(broker, &mut reading, height, doomed).await? {
        Again::Behind => return Ok(None),
        Again::Otherwise(reason) => reason,
        Again::Same => {
            // On disk before anything is gone.
            let event = Event::own("shred", doomed.dataset_id.as_str(), doomed.reason.name());
            broker.audit.keep(event).await?;
            let keys = broker.store.destroy_doomed(doomed).await?;
            tracing::info!(dataset = %doomed.dataset_id, reason = doomed.reason.name(), keys, "destroyed data keys that the ledger says nobody needs");
            return Ok(Some(keys));
        }
    };
    tracing::error!(
        dataset = %doomed.dataset_id, height = doomed.seen.height, reason,
        "the ledger is not the one that let data keys go, or says otherwise now; they are kept"
    );
    let event = Event::own("spare_data_keys", doomed.dataset_id.as_str(), reason);
    broker.audit.tell(event).await;
    match still_needless(broker, &mut reading, height, doomed).await? {
        Some(seen) => broker.store.see_anew(doomed, &seen, now()).await?,
        None => broker.store.spare(&doomed.dataset_id).await?,
    }
    Ok(None)
}

async fn again(
    broker: &Broker,
    reading: &mut Reading,
    height: u64,
    doomed: &Doomed,
) -> Result<Again, CompareError> {
    let Seen {
        height: seen_height,
        block_hash,
        transaction,
    } = &doomed.seen;
    if reading.is_embedded() {
        let found = reading.block_hash(*seen_height).await?;
        if block_hash.is_none() || found != *block_hash {
            return Ok(Again::Otherwise("block_gone"));
        }
    } else {
        if height < *seen_height {
            return Ok(Again::Behind);
        }
        let said = said_in(reading, &doomed.dataset_id, doomed.reason).await?;
        if said.is_none() || said.map(|id| id.to_string()) != *transaction {
            return Ok(Again::Otherwise("transaction_gone"));
        }
    }
    let Some(held) = broker.store.held_of(&doomed.dataset_id).await? else {
        return Ok(Again::Same);
    };
    let needless = needless(broker, reading, &held).await?;
    Ok(match needless {
        Some(now) if covers(now.versions, doomed.versions) => Again::Same,
        _ => Again::Otherwise("needed_again"),
    })
}

/// What the ledger shows now, where it says the same on other grounds.
async fn still_needless(
    broker: &Broker,
    reading: &mut Reading,
    height: u64,
    doomed: &Doomed,
) -> Result<Option<Seen>, CompareError> {
    let Some(held) = broker.store.held_of(&doomed.dataset_id).await? else {
        return Ok(None);
    };
    match needless(broker, reading, &held).await? {
        Some(now) if covers(now.versions, doomed.versions) => Ok(Some(
            seen(reading, height, &doomed.dataset_id, doomed.reason).await?,
        )),
        _ => Ok(None),
    }
}

/// Whether all of these are among those.
fn covers(those: Versions, these: Versions) -> bool {
    match (those, these) {
        (Versions::All, _) => true,
        (Versions::Before(those), Versions::Before(these)) => those >= these,
        _ => those == these,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::receipts::Reason;

    const BRAKE: Brake = Brake {
        delay: Duration::from_secs(100),
        most_per_hour: 2,
    };

    fn doomed(seen_at: i64, released_at: Option<i64>) -> Doomed {
        let seen = Seen {
            height: 1,
            block_hash: None,
            transaction: None,
        };
        Doomed {
            seen_at,
            released_at,
            ..Doomed::now("d".to_owned(), Versions::All, Reason::Retired, seen)
        }
    }

    #[test]
    fn keys_go_after_the_delay_and_past_the_brake_only_if_an_operator_says_so() {
        let none = Brake {
            delay: Duration::ZERO,
            most_per_hour: 0,
        };
        for (brake, seen_at, released_at, gone, verdict) in [
            (BRAKE, 900, None, 0, Verdict::Destroy),
            (BRAKE, 901, None, 0, Verdict::Wait),
            // A release lifts the brake, not the delay.
            (BRAKE, 901, Some(950), 9, Verdict::Wait),
            (BRAKE, 900, None, 1, Verdict::Destroy),
            (BRAKE, 900, None, 2, Verdict::HoldBack),
            (BRAKE, 900, Some(950), 2, Verdict::Destroy),
            // The clock was set back.
            (BRAKE, 5_000, None, 0, Verdict::Wait),
            (none, 1_000, None, 0, Verdict::HoldBack),
            (none, 1_000, Some(1), 0, Verdict::Destroy),
        ] {
            let found = brake.verdict(&doomed(seen_at, released_at), gone, 1_000);
            assert_eq!(found, verdict, "{brake:?} {seen_at} {released_at:?} {gone}");
        }
    }

    #[test]
    fn what_the_ledger_says_now_has_to_cover_what_waits() {
        let (all, two, three) = (Versions::All, Versions::Before(2), Versions::Before(3));
        for (those, these, does) in [
            (all, all, true),
            (all, two, true),
            (two, all, false),
            (three, two, true),
            (two, two, true),
            (two, three, false),
        ] {
            assert_eq!(covers(those, these), does, "{those:?} {these:?}");
        }
    }
}

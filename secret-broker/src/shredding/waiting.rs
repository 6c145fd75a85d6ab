//! Destroys the data keys that wait for it, once the ledger has said for long enough that nobody needs them, and not those of too many
//! datasets at once.
//!
//! A key that is gone is gone for good, and a ledger that says so may be the wrong one: swapped, rolled back, forked. So it is asked again
//! and again until a delay is over: it must still have the block in which it was seen to say so, by its hash (on a channel the transaction),
//! and say the same now. Where it does not, the keys stay and the delay begins anew. While the broker is stopped nobody asks. Past so many
//! datasets an hour the rest is held back, until an operator lets it go or its hour comes.
//!
//! The delay counts by the node's clock. One that jumps while the broker runs destroys nothing.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{CompareError, needless, said_in, seen};
use crate::audit::Event;
use crate::broker::Broker;
use crate::ledgers::{BrokerLedger, Reading};
use crate::store::data_keys::Versions;
use crate::store::doomed::{Doomed, Seen};
use crate::store::now;

const HOUR_SECONDS: i64 = 3_600;
/// How often the ledger is asked about keys whose delay is not over.
const ASK_EVERY: Duration = Duration::from_secs(60);
/// So much the clock may differ from what has passed since the broker began, which is more than a clock is set by.
const MOST_DRIFT_SECONDS: u64 = 3_600;

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

/// What is remembered from one look to the next while the broker runs.
#[derive(Debug)]
pub struct Watch {
    began: (Instant, i64),
    asked: Option<Instant>,
    /// Of which datasets it was told that the ledger says otherwise.
    told: HashSet<String>,
}

impl Watch {
    /// Begins.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            began: (Instant::now(), now()),
            asked: None,
            told: HashSet::new(),
        }
    }

    fn is_clock_wrong(&self) -> bool {
        let (began, clock) = self.began;
        is_wrong(clock, began.elapsed(), now())
    }

    /// Whether all are asked about in this pass.
    fn asks_all(&mut self) -> bool {
        let asks = self.asked.is_none_or(|at| at.elapsed() >= ASK_EVERY);
        if asks {
            self.asked = Some(Instant::now());
        }
        asks
    }
}

/// Whether a clock jumped that showed this, so long ago.
fn is_wrong(clock: i64, passed: Duration, now: i64) -> bool {
    let passed = i64::try_from(passed.as_secs()).unwrap_or(i64::MAX);
    clock.saturating_add(passed).abs_diff(now) > MOST_DRIFT_SECONDS
}

/// What the ledger says when it is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Same,
    /// It is not the ledger that said so before, or it has changed its mind.
    Otherwise(&'static str),
    /// It was not read as far as before.
    Behind,
}

impl Brake {
    fn delay_seconds(self) -> i64 {
        i64::try_from(self.delay.as_secs()).unwrap_or(i64::MAX)
    }

    /// Whether a ledger that is not read as far as it was is not waited for any longer: the height was none, perhaps.
    fn gives_up(self, doomed: &Doomed, now: i64) -> bool {
        let delay = self.delay_seconds();
        let ask_every = i64::try_from(ASK_EVERY.as_secs()).unwrap_or(i64::MAX);
        now.saturating_sub(doomed.seen_at) >= delay.saturating_add(delay.max(ask_every))
    }

    /// `gone` keys of that many datasets went within the hour.
    fn verdict(self, doomed: &Doomed, gone: u64, now: i64) -> Verdict {
        if now.saturating_sub(doomed.seen_at) < self.delay_seconds() {
            return Verdict::Wait;
        }
        if doomed.released_at.is_none() && gone >= self.most_per_hour {
            return Verdict::HoldBack;
        }
        Verdict::Destroy
    }
}

/// Asks the ledger about what waits, and destroys what is due. Yields how many data keys went. Keys of a dataset that cannot be looked at
/// stay, and those of the others are looked at.
///
/// # Errors
/// [`CompareError`] where the key store or the ledger as a whole cannot be read; what is left is tried again.
pub async fn carry_out(broker: &Broker, watch: &mut Watch) -> Result<usize, CompareError> {
    let mut gone = broker
        .store
        .gone_since(now().saturating_sub(HOUR_SECONDS))
        .await?;
    let waits = broker.store.doomed().await?;
    watch
        .told
        .retain(|told| waits.iter().any(|one| one.dataset_id == *told));
    let asks_all = watch.asks_all();
    if asks_all && !waits.is_empty() && watch.is_clock_wrong() {
        tracing::error!(
            "the clock was changed by more than an hour since the broker began: no data keys are destroyed; set it right and start the broker anew"
        );
    }
    let (mut keys, mut waiting, mut held_back, mut newly_held) = (0, 0, 0, 0_u64);
    for doomed in waits {
        let came = match looked_after(broker, watch, asks_all, &doomed, gone).await {
            Ok(came) => came,
            Err(error) => {
                tracing::error!(dataset = %doomed.dataset_id, %error, "could not look after data keys that are to be destroyed; they stay, and it is tried again");
                broker.ledger.ready().await?;
                Came::Waits
            }
        };
        match came {
            Came::Waits => waiting += 1,
            Came::HeldBack => {
                held_back += 1;
                newly_held += u64::from(doomed.held_at.is_none());
            }
            Came::Destroyed(destroyed) => {
                keys += destroyed;
                gone += u64::from(doomed.released_at.is_none());
            }
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

/// What became of keys in one pass.
enum Came {
    Waits,
    HeldBack,
    Destroyed(usize),
}

async fn looked_after(
    broker: &Broker,
    watch: &mut Watch,
    asks_all: bool,
    doomed: &Doomed,
    gone: u64,
) -> Result<Came, CompareError> {
    let doomed = looked_at(broker, doomed.clone()).await?;
    let verdict = broker.config.brake.verdict(&doomed, gone, now());
    if (asks_all || verdict == Verdict::Destroy) && !asked(broker, watch, &doomed).await? {
        return Ok(Came::Waits);
    }
    match verdict {
        Verdict::Wait => Ok(Came::Waits),
        Verdict::HoldBack => {
            broker.store.hold_back(&doomed.dataset_id).await?;
            Ok(Came::HeldBack)
        }
        Verdict::Destroy if watch.is_clock_wrong() => Ok(Came::Waits),
        Verdict::Destroy => {
            // On disk before anything is gone.
            let event = Event::own("shred", doomed.dataset_id.as_str(), doomed.reason.name());
            broker.audit.keep(event).await?;
            let keys = broker.store.destroy_doomed(&doomed).await?;
            tracing::info!(dataset = %doomed.dataset_id, reason = doomed.reason.name(), keys, "destroyed data keys that the ledger says nobody needs");
            Ok(Came::Destroyed(keys))
        }
    }
}

/// A block's hash is noted with the first look at it, and the delay begins then: nobody can exchange the ledger in between. It begins as well
/// where the clock was ahead when it began.
async fn looked_at(broker: &Broker, mut doomed: Doomed) -> Result<Doomed, CompareError> {
    let is_ahead = doomed.seen_at > now();
    let is_embedded = matches!(broker.ledger, BrokerLedger::Embedded(_));
    if !is_ahead && (doomed.seen.block_hash.is_some() || !is_embedded) {
        return Ok(doomed);
    }
    if doomed.seen.block_hash.is_none() && is_embedded {
        let (mut reading, _) = broker.ledger.one_state().await?;
        doomed.seen.block_hash = reading.block_hash(doomed.seen.height).await?;
    }
    if is_ahead || doomed.seen.block_hash.is_some() {
        doomed.seen_at = now();
        (doomed.held_at, doomed.released_at) = (None, None);
        broker
            .store
            .see_anew(&doomed, &doomed.seen, doomed.seen_at)
            .await?;
    }
    Ok(doomed)
}

/// Asks the ledger once more. Yields whether it says the same; else the keys wait anew for it to say so.
async fn asked(broker: &Broker, watch: &mut Watch, doomed: &Doomed) -> Result<bool, CompareError> {
    let (mut reading, height) = broker.ledger.one_state().await?;
    match again(broker, &mut reading, height, doomed).await? {
        Again::Same => {
            watch.told.remove(&doomed.dataset_id);
            return Ok(true);
        }
        Again::Behind if !broker.config.brake.gives_up(doomed, now()) => return Ok(false),
        Again::Behind => tracing::error!(
            dataset = %doomed.dataset_id, seen_height = doomed.seen.height, height,
            "the ledger is not read as far as when it let data keys go, for long: what it says now counts, and the delay begins anew"
        ),
        Again::Otherwise(reason) => {
            if watch.told.insert(doomed.dataset_id.clone()) {
                tracing::error!(
                    dataset = %doomed.dataset_id, height = doomed.seen.height, reason,
                    "the ledger is not the one that let data keys go, or says otherwise now; they are kept"
                );
                let event = Event::own("spare_data_keys", doomed.dataset_id.as_str(), reason);
                broker.audit.tell(event).await;
            }
        }
    }
    let needless = still_needless(broker, &mut reading, height, doomed).await?;
    // The row stays, or nothing would look for them before the next start. What it then says is looked at anew.
    let seen = needless.unwrap_or(Seen {
        height,
        block_hash: None,
        transaction: None,
    });
    broker.store.see_anew(doomed, &seen, now()).await?;
    Ok(false)
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
            // The clock was set back: it waits longer, never shorter.
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

    #[test]
    fn a_ledger_that_stays_behind_is_given_up_after_one_more_delay() {
        let none = Brake {
            delay: Duration::ZERO,
            ..BRAKE
        };
        for (brake, seen_at, gives_up) in [
            (BRAKE, 800, true),
            (BRAKE, 801, false),
            (none, 940, true),
            (none, 941, false),
            (BRAKE, 5_000, false),
        ] {
            let found = brake.gives_up(&doomed(seen_at, None), 1_000);
            assert_eq!(found, gives_up, "{brake:?} {seen_at}");
        }
    }

    #[test]
    fn a_clock_that_jumps_by_more_than_an_hour_is_wrong() {
        let passed = Duration::from_secs(10_000);
        for (now, wrong) in [(11_000, false), (14_600, false), (14_601, true), (7_399, true)] {
            assert_eq!(is_wrong(1_000, passed, now), wrong, "{now}");
        }
    }
}

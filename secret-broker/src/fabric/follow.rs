//! Follows the contract's events from a block on, and vouches for them as long as it is in touch with the peer that sends them.
//!
//! A peer sends nothing while nothing happens, so that a stream that broke without a word looks like one on which nothing happens.
//! Beside the stream the follower therefore asks for the chain's height again and again, over the same connections. What it has told
//! is vouched for while that is answered and the stream has stood for a moment at a peer that answers; a peer that does not is left.
//!
//! What it cannot see is a peer that answers and is itself cut off from the ordering service.

use std::time::Duration;

use fabric_gateway_client::{Checkpoint, Events, EventsError, Start};
use futures::future::BoxFuture;
use leasehold_chaincode::Event;
use tokio::time::Instant;

use super::answer::Told;
use super::channel::{Channel, VOUCHED};
use crate::ledger::ReadError;

/// Between two looks at the peer.
const PULSE: Duration = Duration::from_millis(400);
/// How long a stream must have stood: what it had to make up for has arrived by then.
const SETTLED: Duration = Duration::from_secs(1);
/// After streams were refused or nobody gave one.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A reader of all transactions with events after a block.
pub struct Follower {
    channel: Channel,
    start: Start,
    events: Events,
    /// When the peer is looked at next.
    pulse_at: Instant,
    /// A look that is under way; whether it was answered.
    pulse: Option<(Instant, BoxFuture<'static, bool>)>,
    failing: bool,
}

enum Came {
    Event(Result<fabric_gateway_client::Event, EventsError>),
    PulseDue,
    Pulse(bool),
    Stop,
}

impl Channel {
    /// Every transaction with events in the blocks after `height`, the past ones first, none left out.
    #[must_use]
    pub fn follow(&self, height: u64) -> Follower {
        let start = Start::Block(height.saturating_add(1));
        Follower {
            events: self.present().contract.events(start.clone()),
            channel: self.clone(),
            start,
            pulse_at: Instant::now(),
            pulse: None,
            failing: false,
        }
    }
}

impl Follower {
    /// The next transaction's block and events; none once the channel is closed. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ReadError`] when an event is not understood: to go on would be to miss it. Peers that fail are waited for.
    pub async fn next(&mut self) -> Result<Option<(u64, Vec<Event>)>, ReadError> {
        loop {
            match self.wait().await {
                Came::Stop => return Ok(None),
                Came::PulseDue => self.look(),
                Came::Pulse(answered) => self.looked(answered),
                Came::Event(Ok(event)) => {
                    let told = Told::parse(&event.payload).map_err(ReadError::Storage)?;
                    self.start = Start::After(Checkpoint {
                        block: event.block,
                        transaction_id: event.transaction_id,
                    });
                    self.channel.inner.heights.send_replace(event.block);
                    return Ok(Some((event.block, told.events)));
                }
                Came::Event(Err(error)) => {
                    self.channel.vouch(None);
                    self.failing = true;
                    tracing::warn!(%error, "no peer sends the channel's events; trying again");
                    // The identity may be another one by now.
                    self.events = self.channel.present().contract.events(self.start.clone());
                    tokio::select! {
                        () = tokio::time::sleep(AFTER_FAILURE) => {}
                        () = self.channel.inner.stop.cancelled() => {}
                    }
                }
            }
        }
    }

    async fn wait(&mut self) -> Came {
        let pulse = async {
            match &mut self.pulse {
                Some((_, pulse)) => Came::Pulse(pulse.await),
                None => {
                    tokio::time::sleep_until(self.pulse_at).await;
                    Came::PulseDue
                }
            }
        };
        tokio::select! {
            // What has come is told before it is vouched for.
            biased;
            () = self.channel.inner.stop.cancelled() => Came::Stop,
            event = self.events.next() => Came::Event(event),
            came = pulse => came,
        }
    }

    fn look(&mut self) {
        let identity = self.channel.present();
        let channel = self.channel.clone();
        let pulse = async move { channel.height(&identity.quick).await.is_ok() };
        self.pulse = Some((Instant::now(), Box::pin(pulse)));
    }

    fn looked(&mut self, answered: bool) {
        let since = self.pulse.take().map_or_else(Instant::now, |(since, _)| since);
        self.pulse_at = since + PULSE;
        self.events.leave_failed_peer();
        let settled = self.events.stands().is_some_and(|stood| stood >= SETTLED);
        let fine = answered && settled;
        self.channel.vouch(fine.then(|| since + VOUCHED));
        if fine && std::mem::take(&mut self.failing) {
            tracing::info!("a peer sends the channel's events again");
        }
    }
}

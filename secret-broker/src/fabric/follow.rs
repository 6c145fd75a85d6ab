//! Follows the contract's events from a block on, and vouches for them as long as it is in touch with the peer that sends them.
//!
//! A peer sends nothing while nothing happens, so that a stream that broke without a word looks like one on which nothing happens.
//! Beside the stream the follower therefore asks the very peer at which the stream is, and no other, how far it is, over the same
//! connection. What it has told is vouched for while that peer answers, has the blocks that were heard of before, and the stream has
//! stood there for a moment; where it is another organisation's, one of this organisation's has to answer through it too. A peer that does
//! not answer is left.
//!
//! The other peers of the profile are asked as well, less often: those of this organisation's may know of blocks that the peer of the
//! stream has not. Then nothing is vouched for, and for one that has them all the peer is left.
//!
//! A stream that is at another peer than the preferred one goes back there once that one answers and has all that was heard of.
//!
//! What it cannot see is that all peers of this organisation's that it can ask are cut off from the ordering service.

use std::time::Duration;

use fabric_gateway_client::{Checkpoint, Events, EventsError, OnePeer, Start};
use futures::future::{BoxFuture, join_all};
use leasehold_chaincode::Event;
use tokio::time::Instant;

use super::answer::Told;
use super::channel::{Channel, VOUCHED};
use crate::ledger::ReadError;

/// Between two looks at the peer.
const PULSE: Duration = Duration::from_millis(400);
/// Between two looks at the other peers.
const OTHERS: Duration = Duration::from_secs(1);
/// How long a peer may be behind before the stream goes to one that is not.
const BEHIND: Duration = Duration::from_secs(2);
/// How long a stream must have stood, and have sent nothing that its peer had long before: what it had to make up for has arrived by then.
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
    /// A look that is under way.
    pulse: Option<Pulse>,
    /// A look at a peer that is preferred to that of the stream.
    better: Option<BoxFuture<'static, Option<Seen>>>,
    /// When the other peers are looked at next, and a look that is under way.
    others_at: Instant,
    others: Option<BoxFuture<'static, Heard>>,
    heard: Heard,
    /// Since when the peer of the stream has less than is known.
    behind_since: Option<Instant>,
    /// How many blocks the peer of the stream had at the last look.
    peer_blocks: u64,
    /// Block and time of the last event.
    told: Option<(u64, Instant)>,
    /// When the last event came of a block that was not the peer's newest any longer: there is more to come.
    backlog_at: Option<Instant>,
    /// How many blocks an own peer was seen to have, or events came of.
    known: u64,
    failing: bool,
}

/// A look at the peer of the stream.
struct Pulse {
    since: Instant,
    /// How many blocks were known then: what was told since says nothing against a peer that answered before.
    known: u64,
    peer: OnePeer,
    answer: BoxFuture<'static, Option<Seen>>,
}

/// What a look at a peer showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// How many blocks the peer itself has.
    blocks: u64,
    /// How many one of this organisation's has, the same where it is that.
    own: u64,
}

/// What the last look at all other peers showed.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    /// The most blocks that one of this organisation's has.
    own: u64,
    /// The most that any has.
    any: u64,
}

enum Came {
    Event(Result<fabric_gateway_client::Event, EventsError>),
    PulseDue,
    Pulse(Option<Seen>),
    Better(Option<Seen>),
    Others(Heard),
    Stop,
}

impl Channel {
    /// Every transaction with events in the blocks after `height`, the past ones first, none left out.
    #[must_use]
    pub fn follow(&self, height: u64) -> Follower {
        let start = Start::Block(height.saturating_add(1));
        let known = height.max(*self.inner.heights.borrow()).saturating_add(1);
        Follower {
            events: self.present().contract.events(start.clone()),
            channel: self.clone(),
            start,
            pulse_at: Instant::now(),
            pulse: None,
            better: None,
            others_at: Instant::now(),
            others: None,
            heard: Heard::default(),
            behind_since: None,
            peer_blocks: known,
            told: None,
            backlog_at: None,
            known,
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
                Came::Pulse(seen) => self.looked(seen),
                Came::Better(seen) => self.go_back(seen),
                Came::Others(heard) => {
                    self.others = None;
                    self.heard = heard;
                }
                Came::Event(Ok(event)) => {
                    let told = Told::parse(&event.payload).map_err(ReadError::Storage)?;
                    self.start = Start::After(Checkpoint {
                        block: event.block,
                        transaction_id: event.transaction_id,
                    });
                    let (now, blocks) = (Instant::now(), event.block.saturating_add(1));
                    self.known = self.known.max(blocks);
                    self.told = Some((event.block, now));
                    self.backlog_at = (blocks < self.peer_blocks).then_some(now);
                    // Whoever waits hears of each event. What was known before is not unknown for one that comes late.
                    let heights = &self.channel.inner.heights;
                    heights.send_modify(|told| *told = event.block.max(*told));
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
                Some(pulse) => Came::Pulse((&mut pulse.answer).await),
                None => {
                    tokio::time::sleep_until(self.pulse_at).await;
                    Came::PulseDue
                }
            }
        };
        let better = async {
            match &mut self.better {
                Some(better) => Came::Better(better.await),
                None => std::future::pending().await,
            }
        };
        let others = async {
            match &mut self.others {
                Some(others) => Came::Others(others.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // What has come is told before it is vouched for.
            biased;
            () = self.channel.inner.stop.cancelled() => Came::Stop,
            event = self.events.next() => Came::Event(event),
            came = pulse => came,
            came = better => came,
            came = others => came,
        }
    }

    fn look(&mut self) {
        let identity = self.channel.present();
        let Some(peer) = self.events.peer() else {
            // It rests, or opens a stream when it is next asked for an event.
            self.pulse_at = Instant::now() + PULSE;
            return;
        };
        if self.better.is_none() {
            let better = self.events.better_peer();
            let better = better.map(|better| self.channel.clone().seen(better.through(&identity.quick)));
            self.better = better.map(|look| Box::pin(look) as BoxFuture<'static, _>);
        }
        if self.others.is_none() && self.others_at <= Instant::now() {
            self.others_at = Instant::now() + OTHERS;
            let others = identity.quick.peers().into_iter();
            let others = others.filter(|other| !other.is(&peer) && !other.rests());
            self.others = Some(Box::pin(self.channel.clone().heard(others.collect())));
        }
        let look = self.channel.clone().seen(peer.through(&identity.quick));
        self.pulse = Some(Pulse {
            since: Instant::now(),
            known: self.known,
            peer,
            answer: Box::pin(look),
        });
    }

    fn looked(&mut self, seen: Option<Seen>) {
        let Some(pulse) = self.pulse.take() else {
            return;
        };
        let Pulse {
            since, known, peer, ..
        } = pulse;
        self.pulse_at = since + PULSE;
        self.events.leave_failed_peer();
        if !self.events.peer().is_some_and(|now| now.is(&peer)) {
            // Of a stream that is gone. What was vouched for before stays so for as long as it was.
            return;
        }
        let is_up_to_date = seen.is_some_and(|seen| seen.blocks >= known);
        // From the next look on: a block is at one peer a moment before it is at another.
        self.known = self
            .known
            .max(seen.map_or(0, |seen| seen.own))
            .max(self.heard.own);
        if let Some(seen) = seen {
            self.peer_blocks = seen.blocks;
            // What came while the peer was asked is seen against what it answered.
            let came = self
                .told
                .filter(|(block, at)| *at >= since && block.saturating_add(1) < seen.blocks);
            self.backlog_at = came.map(|(_, at)| at).or(self.backlog_at);
        }
        let stood = self.events.stands().unwrap_or_default();
        if !is_up_to_date {
            self.channel.vouch(None);
            if seen.is_some() {
                self.leave_if_behind(&peer);
            }
            return;
        }
        self.behind_since = None;
        if stood >= SETTLED && self.backlog_at.is_none_or(|at| at.elapsed() >= SETTLED) {
            self.channel.vouch(Some(since + VOUCHED));
            if std::mem::take(&mut self.failing) {
                tracing::info!("a peer sends the channel's events again");
            }
        }
    }

    /// The peer has less than is known: where that lasts and another has all of it, the stream goes on there.
    fn leave_if_behind(&mut self, peer: &OnePeer) {
        let since = *self.behind_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= BEHIND && self.heard.any >= self.known {
            tracing::warn!(
                peer = peer.address(),
                "a peer is behind the others and is left; check that it hears of the ordering service"
            );
            self.behind_since = None;
            self.events.leave_peer();
        }
    }

    /// A preferred peer was looked at: it has the stream, unless it would tell less than is known.
    fn go_back(&mut self, seen: Option<Seen>) {
        self.better = None;
        if seen.is_some_and(|seen| seen.blocks >= self.known) {
            tracing::info!("a preferred peer is well again and has the stream of the channel's events");
            self.events.open_anew();
        }
    }
}

impl Channel {
    /// How far a peer is, and one of this organisation's that it reaches; none where either does not answer.
    async fn seen(self, peer: OnePeer) -> Option<Seen> {
        let (name, organisation) = (&self.inner.name, &self.inner.organisation);
        let height = peer.height(name).await.ok()?;
        let own = if height.msp_id == *organisation {
            height.blocks
        } else {
            peer.gateway().height_of(name, organisation).await.ok()?
        };
        Some(Seen {
            blocks: height.blocks,
            own,
        })
    }

    /// How far those of these peers are that answer.
    async fn heard(self, peers: Vec<OnePeer>) -> Heard {
        let heights = join_all(peers.iter().map(|peer| peer.height(&self.inner.name))).await;
        let mut heard = Heard::default();
        for height in heights.into_iter().flatten() {
            heard.any = heard.any.max(height.blocks);
            if height.msp_id == self.inner.organisation {
                heard.own = heard.own.max(height.blocks);
            }
        }
        heard
    }
}

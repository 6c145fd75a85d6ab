//! The events of a chaincode: one after the other, none twice and none left out, also where a peer ends its stream.
//!
//! A peer sends the events of a block together, and sends nothing, not even the answer's headers, before the first: a stream that is
//! open looks like one that is being opened.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use fabric_wire::gateway as wire;
use fabric_wire::gateway::seek_position::Type;
use futures::future::BoxFuture;
use prost::Message as _;
use tokio::time::{Instant, Sleep, sleep};
use tonic::{Status, Streaming};

use crate::error::{Attempts, EventsError};
use crate::failover::Deadline;
use crate::failure::{Failure, Operation, read};
use crate::gateway::{Gateway, report_of, signed};
use crate::link::order;
use crate::peer::OnePeer;
use crate::proposal::{Target, TransactionId};
use crate::retry::{chance, jittered};
use crate::signer::SignError;

/// So often every peer is tried in a row before the caller hears of it.
const ROUNDS: usize = 3;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A stream that lasted longer was a good one: what comes after is no continued failure.
const LASTED: Duration = Duration::from_secs(30);

/// From where events are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// From the next block on, whichever that is when the stream opens.
    Next,
    /// From this block on, whether it exists already or not.
    Block(u64),
    /// From the event after this one.
    After(Checkpoint),
}

/// Up to which event all are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Number of its block.
    pub block: u64,
    /// Its transaction, which must be that of an [`Event`]: after any other a peer waits for ever.
    pub transaction_id: TransactionId,
}

/// An event of a transaction that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Number of its block.
    pub block: u64,
    /// Its transaction; it has no other event.
    pub transaction_id: TransactionId,
    /// Name, as the chaincode set it.
    pub name: String,
    /// Content, as the chaincode set it.
    pub payload: Bytes,
}

impl Event {
    /// To go on after this event.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            block: self.block,
            transaction_id: self.transaction_id.clone(),
        }
    }
}

/// A stream of events. Dropped, it is closed.
pub struct Events {
    gateway: Gateway,
    target: Target,
    start: Start,
    state: State,
    ready: VecDeque<Event>,
    failures: usize,
    attempts: Attempts,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events")
            .field("target", &self.target)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

type Block = wire::ChaincodeEventsResponse;
type Opening = BoxFuture<'static, Result<Result<Streaming<Block>, Status>, SignError>>;

enum State {
    Closed,
    Resting(Pin<Box<Sleep>>),
    Opening {
        opening: Opening,
        place: usize,
        since: Instant,
    },
    Open {
        stream: Box<Streaming<Block>>,
        place: usize,
        since: Instant,
    },
}

/// What came next on a stream.
enum Came {
    Opened(Streaming<Block>, usize, Instant),
    Block(Block, usize),
    Unsigned(SignError),
    Broke {
        failure: Failure,
        place: usize,
        lasted: bool,
    },
    Nothing,
}

impl Events {
    pub(crate) fn new(gateway: Gateway, target: Target, start: Start) -> Self {
        Self {
            gateway,
            target,
            start,
            state: State::Closed,
            ready: VecDeque::new(),
            failures: 0,
            attempts: Attempts::default(),
        }
    }

    /// The next event, however long that takes. May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// Where no peer gives events, after each was tried several times. Asking again goes on where it stopped, with one exception:
    /// [`EventsError::Gap`].
    pub async fn next(&mut self) -> Result<Event, EventsError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.start = Start::After(event.checkpoint());
                return Ok(event);
            }
            match self.wait().await {
                Came::Nothing => self.state = self.open(),
                Came::Opened(stream, place, since) => {
                    let stream = Box::new(stream);
                    self.state = State::Open { stream, place, since };
                }
                Came::Block(block, place) => {
                    if let Some(link) = self.gateway.links().get(place) {
                        link.did_well();
                    }
                    (self.failures, self.attempts) = (0, Attempts::default());
                    self.ready.extend(events(block));
                }
                Came::Unsigned(error) => {
                    self.state = State::Closed;
                    return Err(error.into());
                }
                Came::Broke {
                    failure,
                    place,
                    lasted,
                } => {
                    self.state = State::Closed;
                    self.broke(failure, place, lasted)?;
                }
            }
        }
    }

    /// For how long the present stream has been asked for, at a peer that answers what else it is asked; none where there is no stream,
    /// or its peer failed lately. A connection that is dead is silent, and so is one on which nothing happens: who asks the same peers
    /// something else meanwhile, and looks here, can tell one from the other.
    #[must_use]
    pub fn stands(&self) -> Option<Duration> {
        let (place, since) = self.streaming()?;
        let now = Instant::now();
        let link = self.gateway.links().get(place)?;
        (!link.rests(now)).then(|| now.saturating_duration_since(since))
    }

    /// The peer at which the present stream is, or is being opened.
    #[must_use]
    pub fn peer(&self) -> Option<OnePeer> {
        let (place, _) = self.streaming()?;
        let link = self.gateway.links().get(place)?;
        Some(OnePeer::new(&self.gateway, link))
    }

    /// The peer that is preferred to that at which the present stream is, once its rest after a failure is over; none where the stream is
    /// at the best. Whoever is given it is the one who tries it: it rests on for all others until it answers.
    #[must_use]
    pub fn better_peer(&self) -> Option<OnePeer> {
        let (place, _) = self.streaming()?;
        let now = Instant::now();
        let mut better = self.gateway.links().iter().take(place);
        let tried = better.find(|link| !link.rests(now) && !link.look(now).rests(now))?;
        Some(OnePeer::new(&self.gateway, tried))
    }

    /// Gives up a stream whose peer failed lately when it was asked something else; the next one is opened at another, after the last
    /// event that was given. One from [`Start::Next`] without an event yet is kept: nobody knows after what.
    pub fn leave_failed_peer(&mut self) {
        if self.streaming().is_some() && self.stands().is_none() {
            self.open_anew();
        }
    }

    /// Gives up a stream whose peer answers and is of no use, and has that peer rest as one that failed, so that the next stream is opened
    /// at another. One from [`Start::Next`] without an event yet is kept, as by [`Events::open_anew`].
    pub fn leave_peer(&mut self) {
        if self.start == Start::Next {
            return;
        }
        if let Some((place, _)) = self.streaming()
            && let Some(link) = self.gateway.links().get(place)
        {
            link.failed(Instant::now());
        }
        self.open_anew();
    }

    /// Gives up the stream; the next one is opened at the peer that is preferred of those that did not fail lately, after the last event
    /// that was given. One from [`Start::Next`] without an event yet is kept: nobody knows after what.
    pub fn open_anew(&mut self) {
        if self.start != Start::Next {
            // What lies here was not given, and comes again.
            self.ready.clear();
            self.state = State::Closed;
        }
    }

    fn streaming(&self) -> Option<(usize, Instant)> {
        match &self.state {
            State::Closed | State::Resting(_) => None,
            State::Opening { place, since, .. } | State::Open { place, since, .. } => Some((*place, *since)),
        }
    }

    async fn wait(&mut self) -> Came {
        match &mut self.state {
            State::Closed => Came::Nothing,
            State::Resting(rest) => {
                rest.await;
                Came::Nothing
            }
            State::Opening {
                opening,
                place,
                since,
            } => match opening.await {
                Ok(Ok(stream)) => Came::Opened(stream, *place, *since),
                Ok(Err(status)) => Came::Broke {
                    failure: read(Operation::Events, &status),
                    place: *place,
                    lasted: since.elapsed() > LASTED,
                },
                Err(error) => Came::Unsigned(error),
            },
            State::Open { stream, place, .. } => {
                let failure = match stream.message().await {
                    Ok(Some(block)) => return Came::Block(block, *place),
                    Ok(None) => Failure::Unavailable {
                        reason: "the peer ended the stream".to_owned(),
                        sent: true,
                    },
                    Err(status) => read(Operation::Events, &status),
                };
                Came::Broke {
                    failure,
                    place: *place,
                    lasted: false,
                }
            }
        }
    }

    /// Begins to open a stream at the peer whose turn it is.
    fn open(&self) -> State {
        let links = self.gateway.links();
        let now = Instant::now();
        let healths: Vec<_> = links.iter().map(|link| link.look(now)).collect();
        let place = order(now, &healths).into_iter().next().unwrap_or_default();
        let Some(mut client) = links.get(place).map(|link| link.client()) else {
            return State::Closed;
        };
        let credentials = self.gateway.credentials();
        let deadline = Deadline::new(self.gateway.deadlines().attempt);
        let request: Bytes = self.request(credentials.creator()).encode_to_vec().into();
        let opening = async move {
            let signature = signed(deadline, &credentials, &request).await?;
            let request = wire::SignedChaincodeEventsRequest { request, signature };
            Ok(client
                .chaincode_events(request)
                .await
                .map(tonic::Response::into_inner))
        };
        State::Opening {
            opening: Box::pin(opening),
            place,
            since: now,
        }
    }

    fn request(&self, creator: &Bytes) -> wire::ChaincodeEventsRequest {
        let specified = |number| Type::Specified(wire::SeekSpecified { number });
        let (position, after) = match &self.start {
            Start::Next => (Type::NextCommit(wire::SeekNextCommit {}), String::new()),
            Start::Block(number) => (specified(*number), String::new()),
            Start::After(checkpoint) => (specified(checkpoint.block), checkpoint.transaction_id.to_string()),
        };
        wire::ChaincodeEventsRequest {
            channel_id: self.target.channel.clone(),
            chaincode_id: self.target.chaincode.clone(),
            identity: creator.clone(),
            start_position: Some(wire::SeekPosition {
                r#type: Some(position),
            }),
            after_transaction_id: after,
        }
    }

    /// Notes a stream that broke, and says so where there have been too many.
    fn broke(&mut self, failure: Failure, place: usize, lasted: bool) -> Result<(), EventsError> {
        let peers = self.gateway.links().len();
        if lasted {
            (self.failures, self.attempts) = (0, Attempts::default());
        }
        self.failures += 1;
        let (reason, sent) = match &failure {
            Failure::Unavailable { reason, sent } => (reason.clone(), *sent),
            other => (report_of(other.clone()).to_string(), false),
        };
        if let Some(link) = self.gateway.links().get(place) {
            // A peer that refuses is asked last as well: the next may not.
            link.failed(Instant::now());
            self.attempts.note(&link.address, reason);
        }
        if sent && self.start == Start::Next {
            self.failures = 0;
            return Err(EventsError::Gap);
        }
        let rejected = matches!(failure, Failure::Rejected(_));
        if self.failures >= peers * if rejected { 1 } else { ROUNDS } {
            self.failures = 0;
            let attempts = std::mem::take(&mut self.attempts);
            return Err(match failure {
                Failure::Rejected(report) => EventsError::Rejected(report),
                _ => EventsError::Unavailable(attempts),
            });
        }
        if self.failures >= peers {
            let doublings = u32::try_from(self.failures / peers).unwrap_or(u32::MAX);
            let wait = jittered(FIRST_WAIT, LONGEST_WAIT, doublings, chance());
            self.state = State::Resting(Box::pin(sleep(wait)));
        }
        Ok(())
    }
}

fn events(block: Block) -> impl Iterator<Item = Event> {
    let number = block.block_number;
    block.events.into_iter().map(move |event| Event {
        block: number,
        transaction_id: TransactionId::unchecked(event.tx_id),
        name: event.event_name,
        payload: event.payload,
    })
}

//! One peer's stream, from REGISTER to its end: who may say what when, and which answer belongs to which transaction.
//!
//! One loop reads the stream, owns the handlers and writes what is not a handler's own request. It never waits for the peer to read:
//! what it has to say is owed and sent when there is room, so that a peer that reads slowly stalls its own transactions and
//! nothing else.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fabric_wire::protos::{self, ChaincodeMessage, chaincode_message::Type};
use futures::{Stream, StreamExt as _, stream};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tracing::{debug, error, info, warn};

use crate::lane::{Batching, Lane, TransactionKey};
use crate::limits::Limits;
use crate::server::Chaincode;
use crate::stub::Stub;

/// Messages that wait for the connection to take them.
const OUTBOUND_QUEUE: usize = 64;

type Outbound = Result<ChaincodeMessage, Status>;

/// The state of one stream.
pub(crate) struct Session<C> {
    chaincode: Arc<C>,
    limits: Limits,
    phase: Phase,
    deadline: Instant,
    out: mpsc::Sender<Outbound>,
    /// Messages of the session's own that are still to be sent.
    owed: VecDeque<ChaincodeMessage>,
    owed_keepalives: u64,
    answers: HashMap<TransactionKey, mpsc::Sender<ChaincodeMessage>>,
    handlers: JoinSet<ChaincodeMessage>,
    keys: HashMap<Id, TransactionKey>,
    /// Ends the outbound stream when the session is dropped, whoever else could still write to it.
    _end: DropGuard,
    farewell: Arc<Mutex<Option<Status>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// REGISTER is sent.
    Created,
    /// REGISTERED has come.
    Registered,
    /// READY has come, with what the peer takes in batches.
    Ready(Batching),
    /// Transactions run to their end and no new one begins.
    Draining,
}

/// Why a stream ended.
enum End {
    /// The peer closed it, or the drain is done.
    Orderly(&'static str),
    /// It broke, or the peer broke the protocol.
    Broken(Status),
}

impl<C: Chaincode> Session<C> {
    /// A session and the stream of what it says, which begins with REGISTER.
    pub(crate) fn new(
        chaincode: Arc<C>,
        chaincode_id: &str,
        limits: Limits,
    ) -> (Self, impl Stream<Item = Outbound> + Send + use<C>) {
        let (out, queue) = mpsc::channel(OUTBOUND_QUEUE);
        let ended = CancellationToken::new();
        let farewell = Arc::new(Mutex::new(None));
        let last_word = Arc::clone(&farewell);
        let outbound = ReceiverStream::new(queue)
            .take_until(ended.clone().cancelled_owned())
            .chain(
                stream::once(async move { last_word.lock().unwrap_or_else(PoisonError::into_inner).take() })
                    .filter_map(|status| async move { status.map(Err) }),
            );
        let register = ChaincodeMessage {
            r#type: Type::Register.into(),
            payload: protos::ChaincodeId {
                name: chaincode_id.to_owned(),
                ..protos::ChaincodeId::default()
            }
            .encode_to_vec()
            .into(),
            ..ChaincodeMessage::default()
        };
        let deadline = Instant::now() + limits.registration;
        let session = Self {
            chaincode,
            limits,
            phase: Phase::Created,
            deadline,
            out,
            owed: VecDeque::from([register]),
            owed_keepalives: 0,
            answers: HashMap::new(),
            handlers: JoinSet::new(),
            keys: HashMap::new(),
            _end: ended.drop_guard(),
            farewell,
        };
        (session, outbound)
    }

    /// Serves the stream to its end.
    pub(crate) async fn run(
        mut self,
        mut inbound: impl Stream<Item = Result<ChaincodeMessage, Status>> + Unpin,
        shutdown: CancellationToken,
    ) {
        let end = self.serve(&mut inbound, &shutdown).await;
        // Every call that waits for an answer fails now; handlers get the time of a drain to notice.
        self.answers.clear();
        match end {
            End::Orderly(why) => info!(why, "the peer's stream ended"),
            End::Broken(status) => {
                warn!(status = %status.message(), "the peer's stream broke");
                *self.farewell.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
            }
        }
        let Self {
            mut handlers,
            limits,
            _end: end,
            ..
        } = self;
        drop(end);
        let all_ended = async { while handlers.join_next().await.is_some() {} };
        if tokio::time::timeout(limits.drain, all_ended).await.is_err() {
            warn!("handlers of an ended stream did not end by themselves and are stopped");
        }
        handlers.shutdown().await;
    }

    async fn serve(
        &mut self,
        inbound: &mut (impl Stream<Item = Result<ChaincodeMessage, Status>> + Unpin),
        shutdown: &CancellationToken,
    ) -> End {
        let out = self.out.clone();
        loop {
            let draining = self.phase == Phase::Draining;
            let owing = !self.owed.is_empty() || self.owed_keepalives > 0;
            if draining && !owing && self.handlers.is_empty() {
                return self.flush().await;
            }
            tokio::select! {
                permit = out.reserve(), if owing => match permit {
                    Ok(permit) => {
                        let keepalive = ChaincodeMessage { r#type: Type::Keepalive.into(), ..ChaincodeMessage::default() };
                        permit.send(Ok(self.owed.pop_front().unwrap_or_else(|| {
                            self.owed_keepalives = self.owed_keepalives.saturating_sub(1);
                            keepalive
                        })));
                    }
                    Err(_) => return End::Orderly("the connection is gone"),
                },
                message = inbound.next() => match message {
                    Some(Ok(message)) => if let Err(status) = self.receive(message) {
                        return End::Broken(status);
                    },
                    None => return End::Orderly("the peer closed it"),
                    Some(Err(status)) => return End::Broken(status),
                },
                Some(ended) = self.handlers.join_next_with_id(), if !self.handlers.is_empty() => self.complete(ended),
                () = shutdown.cancelled(), if !draining => {
                    self.phase = Phase::Draining;
                    self.deadline = Instant::now() + self.limits.drain;
                }
                () = tokio::time::sleep_until(self.deadline), if !matches!(self.phase, Phase::Ready(_)) => {
                    return self.overdue();
                }
            }
        }
    }

    /// What the passing of the deadline means.
    fn overdue(&self) -> End {
        match self.phase {
            Phase::Draining => End::Broken(Status::unavailable(
                "the chaincode server shut down before transactions ended",
            )),
            Phase::Created | Phase::Registered | Phase::Ready(_) => {
                error!(
                    "the peer did not register this chaincode in time: is CHAINCODE_ID the id of a package it has installed?"
                );
                End::Broken(Status::deadline_exceeded(
                    "the peer did not register this chaincode in time",
                ))
            }
        }
    }

    /// Waits until the connection has taken everything, but no longer than the drain may take.
    async fn flush(&self) -> End {
        let room_for_all = self.out.reserve_many(OUTBOUND_QUEUE);
        match tokio::time::timeout_at(self.deadline, room_for_all).await {
            Ok(_) => End::Orderly("the chaincode server shuts down"),
            Err(_) => End::Broken(Status::unavailable(
                "the chaincode server shut down while the peer did not read",
            )),
        }
    }

    fn receive(&mut self, message: ChaincodeMessage) -> Result<(), Status> {
        let kind = message.r#type();
        match (kind, self.phase) {
            (Type::Keepalive, _) => self.owed_keepalives = self.owed_keepalives.saturating_add(1),
            (Type::Registered, Phase::Created) => self.phase = Phase::Registered,
            (Type::Ready, Phase::Registered) => {
                let batching = Batching::decode(&message.payload)
                    .map_err(|error| Status::invalid_argument(format!("READY cannot be decoded: {error}")))?;
                info!(
                    batch_writes = batching.writes,
                    batch_reads = batching.reads,
                    "a peer is ready"
                );
                self.phase = Phase::Ready(batching);
            }
            (Type::Init | Type::Transaction, Phase::Ready(batching)) => self.begin(message, batching),
            (Type::Init | Type::Transaction, Phase::Draining) => {
                self.refuse(&key_of(&message), "the chaincode server shuts down");
            }
            (Type::Error, Phase::Created | Phase::Registered) => {
                let reason = String::from_utf8_lossy(&message.payload).into_owned();
                return Err(Status::failed_precondition(format!(
                    "the peer refuses to register this chaincode: {reason}"
                )));
            }
            (Type::Response | Type::Error, Phase::Ready(_) | Phase::Draining) => self.deliver(message),
            // Shutdown was asked for before the peer had said these.
            (Type::Registered | Type::Ready, Phase::Draining) => {}
            _ => {
                let what = format!("{} is out of place ({:?})", kind.as_str_name(), self.phase);
                return Err(Status::failed_precondition(what));
            }
        }
        Ok(())
    }

    /// Starts the handler of a transaction.
    fn begin(&mut self, message: ChaincodeMessage, batching: Batching) {
        let key = key_of(&message);
        if self.answers.contains_key(&key) {
            // An answer would end the one that runs.
            warn!(
                txid = key.txid,
                "the peer sent a transaction that already runs; ignored"
            );
            return;
        }
        if self.answers.len() >= self.limits.transactions_per_stream {
            return self.refuse(&key, "too many transactions run at once");
        }
        let input = match protos::ChaincodeInput::decode(message.payload.clone()) {
            Ok(input) => input,
            Err(error) => return self.refuse(&key, &format!("the input cannot be decoded: {error}")),
        };
        let (sender, answers) = mpsc::channel(1);
        let lane = Lane::new(
            key.clone(),
            batching,
            self.limits.message_bytes,
            self.out.clone(),
            answers,
        );
        let stub = Stub::new(lane, input, message.proposal.as_ref());
        let chaincode = Arc::clone(&self.chaincode);
        let limits = self.limits.clone();
        let init = message.r#type() == Type::Init;
        let handler = self
            .handlers
            .spawn(async move { execute(&*chaincode, &stub, init, &limits).await });
        self.keys.insert(handler.id(), key.clone());
        self.answers.insert(key, sender);
    }

    /// Owes the peer the last message of a transaction. The transaction is forgotten first: its id may come again at once.
    fn complete(&mut self, ended: Result<(Id, ChaincodeMessage), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(key) = self.keys.remove(&id) else { return };
        self.answers.remove(&key);
        match ended {
            Ok((_, message)) => self.owed.push_back(message),
            Err(error) => {
                error!(txid = key.txid, channel = key.channel_id, %error, "a handler panicked");
                self.refuse(&key, "the chaincode panicked");
            }
        }
    }

    fn deliver(&self, message: ChaincodeMessage) {
        let key = key_of(&message);
        let Some(sender) = self.answers.get(&key) else {
            debug!(txid = key.txid, "an answer came for a transaction that has ended");
            return;
        };
        if sender.try_send(message).is_err() {
            warn!(txid = key.txid, "the peer answered what was not asked; ignored");
        }
    }

    fn refuse(&mut self, key: &TransactionKey, reason: &str) {
        self.owed
            .push_back(key.message(Type::Error, Bytes::copy_from_slice(reason.as_bytes())));
    }
}

fn key_of(message: &ChaincodeMessage) -> TransactionKey {
    TransactionKey {
        channel_id: message.channel_id.clone(),
        txid: message.txid.clone(),
    }
}

/// Runs a handler and makes its answer a message.
async fn execute<C: Chaincode>(chaincode: &C, stub: &Stub, init: bool, limits: &Limits) -> ChaincodeMessage {
    let key = &stub.lane.key;
    let failed = |reason: String| key.message(Type::Error, reason.into_bytes());
    let handler = async {
        if init {
            chaincode.init(stub).await
        } else {
            chaincode.invoke(stub).await
        }
    };
    let Ok(response) = tokio::time::timeout(limits.transaction, handler).await else {
        warn!(
            txid = key.txid,
            channel = key.channel_id,
            "a handler took too long"
        );
        return failed(format!(
            "the chaincode gave no answer in {} ms",
            limits.transaction.as_millis()
        ));
    };
    let event = stub.take_event().filter(|_| response.is_success());
    let message = ChaincodeMessage {
        chaincode_event: event,
        ..key.message(Type::Completed, protos::Response::from(response).encode_to_vec())
    };
    let bytes = message.encoded_len();
    if bytes > limits.message_bytes {
        return failed(format!(
            "the chaincode's answer has {bytes} bytes; the limit is {}",
            limits.message_bytes
        ));
    }
    message
}

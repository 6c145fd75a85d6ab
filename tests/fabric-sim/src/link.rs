//! A simulated peer's stream to one chaincode: it registers it, sends it transactions and answers it.
//!
//! A second request of a transaction that comes before the first is answered is dropped without a word, as a real peer does, and
//! counted as a violation.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fabric_wire::protos::{self, ChaincodeMessage, chaincode_message::Type};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::answers::{Collections, Context};
use crate::peer::Peer;
use crate::raw::{RawPeer, package_id};
use crate::simulation::Simulation;

/// Channel id and transaction id.
type Key = (String, String);

/// Why a transaction got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No chaincode of this name is attached and ready.
    #[error("chaincode {0} is not attached")]
    Unknown(String),
    /// The stream ended while the transaction ran.
    #[error("the chaincode's stream ended")]
    Ended,
    /// The chaincode gave no answer in the time of a transaction.
    #[error("the chaincode gave no answer within {0:?}")]
    Late(Duration),
}

/// A transaction to be run, or to be run within another.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) message: ChaincodeMessage,
    pub(crate) simulation: Arc<Mutex<Simulation>>,
    pub(crate) msp_id: String,
}

/// The way to a link's task.
#[derive(Clone)]
pub(crate) struct LinkHandle {
    runs: mpsc::UnboundedSender<(Run, oneshot::Sender<ChaincodeMessage>)>,
}

impl LinkHandle {
    pub(crate) async fn run(&self, run: Run, patience: Duration) -> Result<ChaincodeMessage, LinkError> {
        let (done, answer) = oneshot::channel();
        self.runs.send((run, done)).map_err(|_| LinkError::Ended)?;
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer.map_err(|_| LinkError::Ended),
            Err(_) => Err(LinkError::Late(patience)),
        }
    }
}

/// What a link knows of its chaincode and its peer.
pub(crate) struct Link {
    pub(crate) chaincode: String,
    pub(crate) package_id: String,
    pub(crate) collections: Arc<Collections>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) batches: Option<u32>,
    pub(crate) keepalive: Duration,
    pub(crate) violations: Arc<AtomicUsize>,
}

struct Running {
    context: Context,
    proposal: Option<protos::SignedProposal>,
    done: oneshot::Sender<ChaincodeMessage>,
    /// Whether a request is being answered.
    busy: bool,
}

impl Link {
    /// The handle, what tells that the chaincode is registered, and the link's work, which ends with the stream or with `stop`.
    pub(crate) fn split(
        self,
        stream: RawPeer,
        stop: CancellationToken,
    ) -> (
        LinkHandle,
        oneshot::Receiver<()>,
        impl Future<Output = ()> + Send + use<>,
    ) {
        let (runs, queue) = mpsc::unbounded_channel();
        let (ready, registered) = oneshot::channel();
        let work = async move {
            tokio::select! {
                () = self.drive(stream, queue, ready) => {}
                () = stop.cancelled() => {}
            }
        };
        (LinkHandle { runs }, registered, work)
    }

    async fn drive(
        self,
        mut stream: RawPeer,
        mut queue: mpsc::UnboundedReceiver<(Run, oneshot::Sender<ChaincodeMessage>)>,
        ready: oneshot::Sender<()>,
    ) {
        match stream.receive().await {
            Ok(Some(register))
                if register.r#type() == Type::Register && package_id(&register) == self.package_id =>
            {
                stream.admit(self.batches);
                let _nobody_waits_any_more = ready.send(());
            }
            // A real peer is silent to a package id that it does not have, and keeps the stream.
            Ok(Some(register)) => {
                warn!(
                    package_id = package_id(&register),
                    wanted = self.package_id,
                    "simulated peer: unknown package id"
                );
                while let Ok(Some(_)) = stream.receive().await {}
                return;
            }
            Ok(None) | Err(_) => return,
        }
        let mut running: HashMap<Key, Running> = HashMap::new();
        let mut asked: VecDeque<ChaincodeMessage> = VecDeque::new();
        let mut nested: FuturesUnordered<BoxFuture<'_, ChaincodeMessage>> = FuturesUnordered::new();
        let mut keepalive = tokio::time::interval(self.keepalive);
        // On a slow machine those that were missed would come in a burst, and no answer between them.
        keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = std::pin::pin!(tokio::task::yield_now());
        loop {
            tokio::select! {
                biased;
                message = stream.receive() => match message {
                    Ok(Some(message)) => self.receive(message, &mut running, &mut asked),
                    Ok(None) | Err(_) => return,
                },
                Some(answer) = nested.next(), if !nested.is_empty() => reply(&stream, &mut running, answer),
                Some((run, done)) = queue.recv() => self.begin(run, done, &stream, &mut running),
                // After messages, so that all that has come is seen before the next answer and a second request is noticed; before
                // keepalives, which on a slow machine are always due and would let no answer pass. The turn is kept over what comes
                // in between: one that began anew each time would never be over.
                () = turn.as_mut(), if !asked.is_empty() => {
                    turn.set(tokio::task::yield_now());
                    if let Some(request) = asked.pop_front() {
                        self.answer(&stream, request, &mut running, &mut nested);
                    }
                }
                _ = keepalive.tick() => {
                    stream.send(ChaincodeMessage { r#type: Type::Keepalive.into(), ..ChaincodeMessage::default() });
                }
            }
        }
    }

    fn begin(
        &self,
        run: Run,
        done: oneshot::Sender<ChaincodeMessage>,
        stream: &RawPeer,
        running: &mut HashMap<Key, Running>,
    ) {
        let key = key_of(&run.message);
        let is_init = run.message.r#type() == Type::Init;
        if running.contains_key(&key) {
            let _given_up = done.send(answer_to(
                &run.message,
                Type::Error,
                "the transaction already runs on this chaincode",
            ));
            return;
        }
        let context = Context::new(
            run.simulation,
            self.chaincode.clone(),
            Arc::clone(&self.collections),
            run.msp_id,
            is_init,
        );
        running.insert(
            key,
            Running {
                context,
                proposal: run.message.proposal.clone(),
                done,
                busy: false,
            },
        );
        stream.send(run.message);
    }

    fn receive(
        &self,
        message: ChaincodeMessage,
        running: &mut HashMap<Key, Running>,
        asked: &mut VecDeque<ChaincodeMessage>,
    ) {
        let key = key_of(&message);
        match message.r#type() {
            Type::Keepalive => {}
            Type::Completed | Type::Error => {
                if let Some(run) = running.remove(&key) {
                    let _given_up = run.done.send(message);
                }
            }
            _ => match running.get_mut(&key) {
                Some(run) if !run.busy => {
                    run.busy = true;
                    asked.push_back(message);
                }
                Some(_) => {
                    self.violations.fetch_add(1, Ordering::Relaxed);
                    warn!(
                        txid = message.txid,
                        "simulated peer: a second request before the first was answered; dropped"
                    );
                }
                None => asked.push_back(message),
            },
        }
    }

    fn answer<'n>(
        &'n self,
        stream: &RawPeer,
        request: ChaincodeMessage,
        running: &mut HashMap<Key, Running>,
        nested: &mut FuturesUnordered<BoxFuture<'n, ChaincodeMessage>>,
    ) {
        let Some(run) = running.get_mut(&key_of(&request)) else {
            return stream.send(answer_to(&request, Type::Error, "no such transaction runs"));
        };
        let kind = request.r#type();
        if kind == Type::InvokeChaincode {
            let run = Run {
                message: ChaincodeMessage {
                    proposal: run.proposal.clone(),
                    ..request
                },
                simulation: Arc::clone(&run.context.simulation),
                msp_id: run.context.msp_id.clone(),
            };
            nested.push(Box::pin(self.invoke(run)));
            return;
        }
        let answer = match run.context.answer(kind, request.payload.clone()) {
            Ok(payload) => answer_to(&request, Type::Response, payload),
            Err(reason) => answer_to(
                &request,
                Type::Error,
                format!("{} failed: {reason}", kind.as_str_name()),
            ),
        };
        reply(stream, running, answer);
    }

    /// Runs another chaincode in the same simulation.
    async fn invoke(&self, run: Run) -> ChaincodeMessage {
        let request = run.message.clone();
        let result = async {
            let spec = protos::ChaincodeSpec::decode(run.message.payload.clone())
                .map_err(|error| error.to_string())?;
            let target = spec.chaincode_id.map(|id| id.name).unwrap_or_default();
            let (name, channel) = target.split_once('/').unwrap_or((&target, &request.channel_id));
            if channel != request.channel_id {
                return Err(format!("the simulated network has no channel {channel}"));
            }
            let message = ChaincodeMessage {
                r#type: Type::Transaction.into(),
                payload: spec.input.unwrap_or_default().encode_to_vec().into(),
                ..run.message.clone()
            };
            self.peer
                .run(name, Run { message, ..run })
                .await
                .map_err(|error| error.to_string())
        };
        match result.await {
            Ok(last) => answer_to(&request, Type::Response, last.encode_to_vec()),
            Err(reason) => answer_to(
                &request,
                Type::Error,
                format!("INVOKE_CHAINCODE failed: {reason}"),
            ),
        }
    }
}

fn reply(stream: &RawPeer, running: &mut HashMap<Key, Running>, answer: ChaincodeMessage) {
    if let Some(run) = running.get_mut(&key_of(&answer)) {
        run.busy = false;
    }
    stream.send(answer);
}

fn key_of(message: &ChaincodeMessage) -> Key {
    (message.channel_id.clone(), message.txid.clone())
}

fn answer_to(request: &ChaincodeMessage, kind: Type, payload: impl Into<Bytes>) -> ChaincodeMessage {
    ChaincodeMessage {
        r#type: kind.into(),
        payload: payload.into(),
        txid: request.txid.clone(),
        channel_id: request.channel_id.clone(),
        ..ChaincodeMessage::default()
    }
}

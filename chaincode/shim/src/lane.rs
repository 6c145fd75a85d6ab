//! The way of one transaction to the peer and back: at most one request is outstanding, whatever the handler does.
//!
//! A peer that gets a second request of a transaction before it answered the first drops the second without a word. So requests wait for
//! one another here, and where a handler gave up on a call (a `select!`, a time-out), the next one first takes the answer that is
//! still to come.

use std::sync::{Mutex as StdMutex, PoisonError};

use bytes::Bytes;
use fabric_wire::protos::{self, ChaincodeMessage, chaincode_message::Type};
use prost::Message;
use tokio::sync::{Mutex, mpsc};
use tonic::Status;

use crate::error::CallError;

/// What tells transactions on one stream apart: channel id and transaction id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TransactionKey {
    pub(crate) channel_id: String,
    pub(crate) txid: String,
}

impl TransactionKey {
    pub(crate) fn message(&self, kind: Type, payload: impl Into<Bytes>) -> ChaincodeMessage {
        ChaincodeMessage {
            r#type: kind.into(),
            payload: payload.into(),
            txid: self.txid.clone(),
            channel_id: self.channel_id.clone(),
            ..ChaincodeMessage::default()
        }
    }
}

/// What the peer takes in batches: 0 where it takes none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Batching {
    pub(crate) writes: usize,
    pub(crate) reads: usize,
}

impl Batching {
    /// From the payload of READY, which is empty before Fabric 3.1.
    pub(crate) fn decode(ready: &Bytes) -> Result<Self, prost::DecodeError> {
        let offer = protos::ChaincodeAdditionalParams::decode(ready.clone())?;
        let size = |offered: bool, size: u32| {
            if offered {
                usize::try_from(size).unwrap_or(usize::MAX)
            } else {
                0
            }
        };
        Ok(Self {
            writes: size(offer.use_write_batch, offer.max_size_write_batch),
            reads: size(offer.use_get_multiple_keys, offer.max_size_get_multiple_keys),
        })
    }
}

/// One transaction's requests.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) key: TransactionKey,
    pub(crate) batching: Batching,
    pub(crate) message_bytes: usize,
    out: mpsc::Sender<Result<ChaincodeMessage, Status>>,
    inbox: Mutex<Inbox>,
    /// Iterators that were dropped before their end; closed before the next request.
    abandoned: StdMutex<Vec<String>>,
}

#[derive(Debug)]
struct Inbox {
    answers: mpsc::Receiver<ChaincodeMessage>,
    outstanding: bool,
}

impl Lane {
    pub(crate) fn new(
        key: TransactionKey,
        batching: Batching,
        message_bytes: usize,
        out: mpsc::Sender<Result<ChaincodeMessage, Status>>,
        answers: mpsc::Receiver<ChaincodeMessage>,
    ) -> Self {
        let inbox = Mutex::new(Inbox {
            answers,
            outstanding: false,
        });
        Self {
            key,
            batching,
            message_bytes,
            out,
            inbox,
            abandoned: StdMutex::default(),
        }
    }

    /// Asks and waits for the payload of the answer.
    pub(crate) async fn call(&self, kind: Type, request: &impl Message) -> Result<Bytes, CallError> {
        let mut inbox = self.inbox.lock().await;
        while let Some(id) = self.next_abandoned() {
            self.exchange(&mut inbox, Type::QueryStateClose, &protos::QueryStateClose { id })
                .await?;
        }
        self.exchange(&mut inbox, kind, request).await
    }

    /// The same, decoded.
    pub(crate) async fn ask<A: Message + Default>(
        &self,
        kind: Type,
        request: &impl Message,
    ) -> Result<A, CallError> {
        let answer = self.call(kind, request).await?;
        A::decode(answer).map_err(|error| CallError::unintelligible(kind, error))
    }

    /// Leaves an iterator to be closed with the next request. The peer itself closes those that remain when the transaction ends.
    pub(crate) fn abandon(&self, iterator: String) {
        self.abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(iterator);
    }

    fn next_abandoned(&self) -> Option<String> {
        self.abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    async fn exchange(
        &self,
        inbox: &mut Inbox,
        kind: Type,
        request: &impl Message,
    ) -> Result<Bytes, CallError> {
        let name = kind.as_str_name();
        let ended = || CallError::StreamEnded { request: name };
        let message = self.key.message(kind, request.encode_to_vec());
        let bytes = message.encoded_len();
        if bytes > self.message_bytes {
            return Err(CallError::TooLarge {
                request: name,
                bytes,
                limit: self.message_bytes,
            });
        }
        if inbox.outstanding {
            inbox.answers.recv().await.ok_or_else(ended)?;
            inbox.outstanding = false;
        }
        // From the permit to the flag there is no await: a call that is given up on either was sent and is outstanding, or neither.
        let permit = self.out.reserve().await.map_err(|_| ended())?;
        permit.send(Ok(message));
        inbox.outstanding = true;
        let answer = inbox.answers.recv().await.ok_or_else(ended)?;
        inbox.outstanding = false;
        match answer.r#type() {
            Type::Response => Ok(answer.payload),
            Type::Error => Err(CallError::Refused {
                request: name,
                message: String::from_utf8_lossy(&answer.payload).into_owned(),
            }),
            other => Err(CallError::unintelligible(
                kind,
                format!("it is a {}", other.as_str_name()),
            )),
        }
    }
}

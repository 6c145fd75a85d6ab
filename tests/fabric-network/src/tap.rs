//! A tap on the stream between a real peer and a chaincode: it passes every message on and writes it down.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use fabric_wire::protos::{ChaincodeMessage, chaincode_server};
use fabric_wire::{ChaincodeClient, ChaincodeServer};
use futures::future::ready;
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::process::{FabricError, io};

const MESSAGE_BYTES: usize = 100 << 20;

/// One message of a transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptLine {
    /// Who sent it: `peer` or `chaincode`.
    pub from: String,
    /// Its type, for people.
    pub kind: String,
    /// The message, hexadecimal, with the fields that `fabric-wire` knows.
    pub message: String,
}

/// What one peer and the chaincode said, in the order in which the tap saw it.
pub type Transcript = Vec<TranscriptLine>;

/// The tap. It listens where the peer dials.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    listener: TcpListener,
    streams: Arc<Mutex<Vec<Transcript>>>,
}

impl Tap {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn bind() -> Result<Self, FabricError> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(io("cannot bind a tap"))?;
        let address = listener
            .local_addr()
            .map_err(io("cannot ask for the tap's port"))?;
        Ok(Self {
            address,
            listener,
            streams: Arc::default(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What it has written down, a transcript a stream, as long as somebody looks.
    #[must_use]
    pub fn streams(&self) -> Arc<Mutex<Vec<Transcript>>> {
        Arc::clone(&self.streams)
    }

    /// Passes streams on to the chaincode at `target` until `stop`.
    ///
    /// # Errors
    /// Where the transport fails.
    pub async fn run(self, target: String, stop: CancellationToken) -> Result<(), tonic::transport::Error> {
        let channel = Endpoint::from_shared(format!("http://{target}"))?.connect_lazy();
        let service = ChaincodeServer::new(Service {
            channel,
            streams: self.streams,
        })
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES);
        let served = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(self.listener));
        tokio::select! {
            served = served => served,
            () = stop.cancelled() => Ok(()),
        }
    }
}

/// What writes down the messages of one side of a stream.
fn note(
    streams: &Arc<Mutex<Vec<Transcript>>>,
    number: usize,
    from: &'static str,
) -> impl Fn(&ChaincodeMessage) + Send + 'static {
    let streams = Arc::clone(streams);
    move |message| {
        let line = TranscriptLine {
            from: from.to_owned(),
            kind: message.r#type().as_str_name().to_owned(),
            message: hex::encode(message.encode_to_vec()),
        };
        if let Some(stream) = streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(number)
        {
            stream.push(line);
        }
    }
}

struct Service {
    channel: Channel,
    streams: Arc<Mutex<Vec<Transcript>>>,
}

#[tonic::async_trait]
impl chaincode_server::Chaincode for Service {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ChaincodeMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<ChaincodeMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let number = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.push(Transcript::new());
            streams.len() - 1
        };
        let inbound = request
            .into_inner()
            .filter_map(|message| ready(message.ok()))
            .inspect(note(&self.streams, number, "peer"));
        let mut client = ChaincodeClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES);
        let noted = note(&self.streams, number, "chaincode");
        let outbound = client
            .connect(inbound)
            .await?
            .into_inner()
            .inspect(move |message| {
                if let Ok(message) = message {
                    noted(message);
                }
            });
        Ok(Response::new(Box::pin(outbound)))
    }
}

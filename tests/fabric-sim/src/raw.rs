//! The bare stream to a chaincode: what a test sends and receives message by message.

use std::time::Duration;

use bytes::Bytes;
use fabric_wire::ChaincodeClient;
use fabric_wire::protos::{
    ChaincodeAdditionalParams, ChaincodeId, ChaincodeMessage, chaincode_message::Type,
};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, Streaming};

/// As a real peer's.
const MESSAGE_BYTES: usize = 100 << 20;

/// Certificates of a peer as a client, in PEM.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Roots of the chaincode's certificate.
    pub root: String,
    /// Certificate and key of the peer, where the chaincode wants them.
    pub identity: Option<(String, String)>,
}

/// How to reach a chaincode: what `connection.json` says.
#[derive(Debug, Clone)]
pub struct Dial {
    /// `host:port`.
    pub address: String,
    /// None for plain text.
    pub tls: Option<Tls>,
}

/// Why a chaincode could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address or the certificates cannot be used, or nobody answers.
    #[error("cannot reach the chaincode: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// It answers and refuses the stream.
    #[error("the chaincode refuses the stream: {0}")]
    Refused(Box<Status>),
}

/// What became of the wait for a message.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// Nothing came in time.
    #[error("no message came within {0:?}")]
    Late(Duration),
    /// The chaincode closed the stream in order.
    #[error("the chaincode closed the stream")]
    Closed,
    /// The stream broke, or the chaincode said why it ends.
    #[error("the stream broke: {0}")]
    Broken(Box<Status>),
    /// Another message came than the one that should.
    #[error("{0} came out of turn")]
    OutOfTurn(&'static str),
}

impl Dial {
    /// Without TLS.
    pub fn plain(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            tls: None,
        }
    }

    /// Opens the stream.
    ///
    /// # Errors
    /// Where the chaincode cannot be reached or refuses.
    pub async fn open(&self) -> Result<RawPeer, DialError> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address))?;
        if let Some(Tls { root, identity }) = &self.tls {
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(root));
            if let Some((certificate, key)) = identity {
                tls = tls.identity(Identity::from_pem(certificate, key));
            }
            endpoint = endpoint.tls_config(tls)?;
        }
        let channel = endpoint.tcp_nodelay(true).connect().await?;
        let mut client = ChaincodeClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX);
        let (out, queue) = mpsc::unbounded_channel();
        let answer = client.connect(UnboundedReceiverStream::new(queue)).await;
        let inbound = answer
            .map_err(|status| DialError::Refused(Box::new(status)))?
            .into_inner();
        Ok(RawPeer {
            out: Some(out),
            inbound,
        })
    }
}

/// One end of a stream, without any rules.
#[derive(Debug)]
pub struct RawPeer {
    out: Option<mpsc::UnboundedSender<ChaincodeMessage>>,
    inbound: Streaming<ChaincodeMessage>,
}

impl RawPeer {
    /// Sends a message as it is. One that is sent after [`RawPeer::hang_up`] or on a dead stream is lost.
    pub fn send(&self, message: ChaincodeMessage) {
        if let Some(out) = &self.out {
            let _lost_with_the_stream = out.send(message);
        }
    }

    /// A message of a type, for a transaction of channel `channel`.
    #[must_use]
    pub fn message(kind: Type, txid: &str, payload: impl Into<Bytes>) -> ChaincodeMessage {
        ChaincodeMessage {
            r#type: kind.into(),
            payload: payload.into(),
            txid: txid.to_owned(),
            channel_id: "channel".to_owned(),
            ..ChaincodeMessage::default()
        }
    }

    /// Closes this side.
    pub fn hang_up(&mut self) {
        self.out = None;
    }

    /// The next message.
    ///
    /// # Errors
    /// Where none comes within `patience`.
    pub async fn next(&mut self, patience: Duration) -> Result<ChaincodeMessage, RawError> {
        match tokio::time::timeout(patience, self.receive()).await {
            Err(_) => Err(RawError::Late(patience)),
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(RawError::Closed),
            Ok(Err(status)) => Err(RawError::Broken(Box::new(status))),
        }
    }

    pub(crate) async fn receive(&mut self) -> Result<Option<ChaincodeMessage>, Status> {
        self.inbound.message().await
    }

    /// Takes REGISTER, answers as a peer that has the package, offers batches, and gives the package id.
    ///
    /// # Errors
    /// Where REGISTER does not come within `patience`.
    pub async fn register(&mut self, batches: Option<u32>, patience: Duration) -> Result<String, RawError> {
        let register = self.next(patience).await?;
        if register.r#type() != Type::Register {
            return Err(RawError::OutOfTurn(register.r#type().as_str_name()));
        }
        self.admit(batches);
        Ok(package_id(&register))
    }

    pub(crate) fn admit(&self, batches: Option<u32>) {
        let offer = batches.map(|size| ChaincodeAdditionalParams {
            use_write_batch: true,
            max_size_write_batch: size,
            use_get_multiple_keys: true,
            max_size_get_multiple_keys: size,
        });
        let ready = offer.map(|offer| offer.encode_to_vec()).unwrap_or_default();
        for (kind, payload) in [(Type::Registered, Vec::new()), (Type::Ready, ready)] {
            self.send(ChaincodeMessage {
                r#type: kind.into(),
                payload: payload.into(),
                ..ChaincodeMessage::default()
            });
        }
    }
}

/// The package id in REGISTER; empty where it is none.
pub(crate) fn package_id(register: &ChaincodeMessage) -> String {
    ChaincodeId::decode(register.payload.clone())
        .map(|id| id.name)
        .unwrap_or_default()
}

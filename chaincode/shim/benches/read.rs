//! What one read of the state costs through the shim, beside the bare round trip on the same kind of stream; prints a table.
//!
//!     cargo bench -p fabric-shim --bench read
//!
//! One process, two threads: a chaincode, and a peer that answers each GET_STATE at once. The bare side is a gRPC server that sends the
//! same messages and waits for the same answers, without registering, correlating, limits or anything else.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

use std::pin::Pin;
use std::time::{Duration, Instant};

use fabric_shim::{Bytes, Chaincode, Config, Response, Server, Stub};
use fabric_sim::{Dial, RawPeer};
use fabric_wire::ChaincodeServer;
use fabric_wire::protos::chaincode_message::Type;
use fabric_wire::protos::{self, ChaincodeInput, ChaincodeMessage, GetState};
use futures::Stream;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};

const ROUNDS: usize = 11;
const READS: u32 = 5_000;
const PATIENCE: Duration = Duration::from_secs(20);
const VALUE: [u8; 400] = [b'x'; 400];

fn key(number: u32) -> String {
    format!("a/key/as/long/as/the/contracts/{number:08}")
}

struct Reads;

#[fabric_shim::async_trait]
impl Chaincode for Reads {
    async fn invoke(&self, stub: &Stub) -> Response {
        for number in 0..READS {
            match stub.get_state(&key(number)).await {
                Ok(Some(value)) if value.len() == VALUE.len() => {}
                other => return Response::error(format!("{other:?}")),
            }
        }
        Response::success("")
    }
}

/// The same conversation, said by hand.
struct Bare;

#[tonic::async_trait]
impl protos::chaincode_server::Chaincode for Bare {
    type ConnectStream = Pin<Box<dyn Stream<Item = Result<ChaincodeMessage, Status>> + Send>>;

    async fn connect(
        &self,
        request: Request<Streaming<ChaincodeMessage>>,
    ) -> Result<tonic::Response<Self::ConnectStream>, Status> {
        let mut peer = request.into_inner();
        let (out, queue) = mpsc::channel(16);
        // Ends with the stream.
        tokio::spawn(async move {
            while let Ok(Some(transaction)) = peer.message().await {
                for number in 0..READS {
                    let asked = GetState {
                        key: key(number),
                        ..GetState::default()
                    };
                    let asked = RawPeer::message(Type::GetState, &transaction.txid, asked.encode_to_vec());
                    out.send(Ok(asked)).await.unwrap();
                    let answer = peer.message().await.unwrap().unwrap();
                    assert_eq!(answer.payload.len(), VALUE.len());
                }
                let done = RawPeer::message(Type::Completed, &transaction.txid, Vec::new());
                out.send(Ok(done)).await.unwrap();
            }
        });
        Ok(tonic::Response::new(Box::pin(ReceiverStream::new(queue))))
    }
}

/// One transaction, every read of it answered.
async fn transaction(peer: &mut RawPeer, txid: &str) -> Duration {
    let input = ChaincodeInput {
        args: vec![Bytes::from_static(b"read")],
        ..ChaincodeInput::default()
    };
    let start = Instant::now();
    peer.send(RawPeer::message(Type::Transaction, txid, input.encode_to_vec()));
    let mut reads = 0;
    loop {
        let message = peer.next(PATIENCE).await.unwrap();
        match message.r#type() {
            Type::GetState => {
                reads += 1;
                peer.send(RawPeer::message(Type::Response, txid, VALUE.to_vec()));
            }
            Type::Completed => break,
            other => panic!("{}", other.as_str_name()),
        }
    }
    assert_eq!(reads, READS);
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).unwrap().as_secs_f64() * 1e6 / f64::from(READS)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = Config::new(address.clone(), "reads:0123".to_owned());
    let shim = tokio::spawn(Server::new(Reads, config).serve_on(listener, stop.clone()));
    let mut through = Dial::plain(address).open().await.unwrap();
    through.register(Some(1_000), PATIENCE).await.unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let bare = tonic::transport::Server::builder()
        .add_service(ChaincodeServer::new(Bare))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
    let bare = tokio::spawn(bare);
    let mut direct = Dial::plain(address).open().await.unwrap();

    let (mut shims, mut bares) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        shims.push(transaction(&mut through, &format!("tx-{round}")).await);
        bares.push(transaction(&mut direct, &format!("tx-{round}")).await);
    }
    let (shims, bares) = (median(shims), median(bares));
    println!(
        "| one read of {} bytes, {READS} one after the other | µs | × |",
        VALUE.len()
    );
    println!("|---|---|---|");
    println!("| bare round trip | {bares:.1} | 1 |");
    println!("| through the shim | {shims:.1} | {:.2} |", shims / bares);
    drop((through, direct));
    stop.cancel();
    shim.await.unwrap().unwrap();
    bare.await.unwrap().unwrap();
}

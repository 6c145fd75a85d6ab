//! The least that a webhook in Rust can be: axum on rustls that reads a body and answers with as many bytes as it is told.
//! `load` compares the webhook with it.

#[path = "support/listen.rs"]
mod listen;
#[path = "support/pin.rs"]
mod pin;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use listen::listen;
use pin::{Failure, pin};
use tokio_rustls::TlsAcceptor;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let core = arguments.next().ok_or("give the core to run on")?.parse()?;
    let answer = arguments.next().ok_or("give the size of the answer")?.parse()?;
    pin(core)?;
    tokio::runtime::Runtime::new()?.block_on(run(Bytes::from(vec![b' '; answer])))
}

async fn run(answer: Bytes) -> Result<(), Failure> {
    let echo = async |State(answer): State<Bytes>, body: Bytes| {
        std::hint::black_box(body);
        ([("content-type", "application/json")], answer)
    };
    let router = Router::new().route("/mutate", post(echo)).with_state(answer);
    let (listener, tls) = listen().await?;
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = TowerToHyperService::new(router);
            let _ = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

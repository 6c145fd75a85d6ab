//! The TLS listener: `/mutate` and `/validate`, POST, JSON, bounded in size and time. Hyper without a router, since two paths
//! need none. HTTP/1.1 only, which the API server speaks to webhooks: a connection is then one request at a time, and to count
//! connections is to count requests.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::callers::{Caller, Callers, Held, Limits};
use super::{Admission, Reply, before, problem};
use crate::review::Stage;

/// A review carries an object and its former self; etcd takes none of more than 1.5 MiB.
pub const MAX_BODY_BYTES: usize = 7 << 19;
/// Of a larger body, this much is read and thrown away before the connection is given up.
const MOST_DISCARDED_BYTES: usize = 16 << 20;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A connection that is being closed may take this long, and as long as a review may.
const CLOSING: Duration = Duration::from_secs(5);
/// Left of the API server's own patience for the way back.
const WAY_BACK: Duration = Duration::from_millis(250);
const GAVE_WAY: &str = "it gave way to a caller with fewer connections";
const DRAIN: Duration = Duration::from_secs(15);
/// Of a request's head; the API server sends a few hundred bytes.
const HTTP1_BUFFER: usize = 64 << 10;

/// Serves until `shutdown`, then lets reviews in flight end.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    admission: Arc<Admission>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let connections = TaskTracker::new();
    let callers = Callers::new(&limits);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: others have to close first.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(caller) = callers.connect(peer.ip()) else {
            tracing::debug!(peer = %peer.ip(), "too many connections; one is refused");
            admission.metrics().bad_request("connection");
            continue;
        };
        let connection = Connection {
            caller: Arc::new(caller),
            admission: Arc::clone(&admission),
            patience: limits.patience,
            idle: limits.idle,
            shutdown: shutdown.clone(),
        };
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            if let Err(error) = connection.run(stream, acceptor).await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!("connections were still open after {DRAIN:?}");
    }
}

struct Connection {
    caller: Arc<Caller>,
    admission: Arc<Admission>,
    patience: Duration,
    idle: Duration,
    shutdown: CancellationToken,
}

impl Connection {
    /// Serves one connection until it ends, idles for too long, or everything is shut down.
    async fn run(
        self,
        stream: TcpStream,
        acceptor: TlsAcceptor,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        stream.set_nodelay(true)?;
        let stream = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => shaken??,
            () = self.caller.evicted() => return Err(GAVE_WAY.into()),
        };
        self.caller.shaken();
        // A sign of life at each request's begin and end.
        let (busy, mut life) = watch::channel(());
        let busy = Arc::new(busy);
        let service = service_fn(|request| {
            let (admission, caller, busy) = (
                Arc::clone(&self.admission),
                Arc::clone(&self.caller),
                Arc::clone(&busy),
            );
            let patience = self.patience;
            busy.send_replace(());
            async move {
                let response = respond(request, &admission, &caller, patience).await;
                busy.send_replace(());
                Ok::<_, Infallible>(response)
            }
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.idle)
            .max_buf_size(HTTP1_BUFFER);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        loop {
            // A review takes less time than a connection may idle, so that none is cut off.
            tokio::select! {
                ended = connection.as_mut() => return Ok(ended?),
                () = self.shutdown.cancelled() => break,
                () = self.caller.evicted() => return Err(GAVE_WAY.into()),
                alive = tokio::time::timeout(self.idle, life.changed()) => if alive.is_err() { break },
            }
        }
        connection.as_mut().graceful_shutdown();
        Ok(tokio::time::timeout(CLOSING + self.patience, connection).await??)
    }
}

async fn respond(
    request: Request<Incoming>,
    admission: &Admission,
    caller: &Caller,
    patience: Duration,
) -> Response<Full<Bytes>> {
    let _asking = caller.ask();
    let reply = match accept(&request) {
        Err(reply) => reply,
        Ok(stage) => {
            let deadline = Instant::now() + patience_of(&request, patience);
            match receive(request, caller, deadline).await {
                Ok((body, _held)) => return response(admission.answer(stage, body, deadline).await),
                Err(reply) => reply,
            }
        }
    };
    admission.metrics().bad_request(match reply.status {
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
        StatusCode::REQUEST_TIMEOUT => "timeout",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded",
        _ => "malformed",
    });
    response(reply)
}

fn accept(request: &Request<Incoming>) -> Result<Stage, Reply> {
    let stage = match request.uri().path() {
        "/mutate" => Stage::Mutating,
        "/validate" => Stage::Validating,
        _ => {
            return Err(problem(
                StatusCode::NOT_FOUND,
                "not_found",
                "there is /mutate and /validate",
            ));
        }
    };
    if request.method() != Method::POST {
        return Err(problem(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "send a POST",
        ));
    }
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "an AdmissionReview is sent as application/json",
        ));
    }
    Ok(stage)
}

/// The whole body, and the room it takes.
async fn receive(
    request: Request<Incoming>,
    caller: &Caller,
    deadline: Instant,
) -> Result<(Bytes, Held), Reply> {
    let overloaded = || {
        problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "overloaded",
            "too many reviews are read or decided at once; send it again",
        )
    };
    let held = before(deadline, hold(&request, caller)).await.flatten();
    let held = held.ok_or_else(overloaded)?;
    let body = tokio::select! {
        body = before(deadline, read(request)) => body,
        () = held.evicted() => return Err(overloaded()),
    };
    let late = || {
        problem(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "the body did not arrive in time",
        )
    };
    let body = body.ok_or_else(late)??;
    if held.decide() {
        Ok((body, held))
    } else {
        Err(overloaded())
    }
}

/// Room for the whole body before any of it is read. One that is too large is not kept and needs none.
async fn hold(request: &Request<Incoming>, caller: &Caller) -> Option<Held> {
    let size = request.body().size_hint();
    let most = size.upper().unwrap_or(u64::MAX).min(MAX_BODY_BYTES as u64);
    let kept = size.lower() <= MAX_BODY_BYTES as u64;
    let bytes = if kept { usize::try_from(most).ok()? } else { 0 };
    caller.hold(bytes).await
}

/// The whole body. One that is too large is read on for a while and thrown away: a client that is still sending when we
/// answer and close sees a broken connection instead of the answer.
async fn read(request: Request<Incoming>) -> Result<Bytes, Reply> {
    let announced = usize::try_from(request.body().size_hint().lower()).unwrap_or(usize::MAX);
    let mut body = request.into_body();
    let mut first: Option<Bytes> = None;
    let mut more: Vec<u8> = Vec::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Err(problem(
                StatusCode::BAD_REQUEST,
                "malformed",
                "the body broke off",
            ));
        };
        let data = frame.into_data().unwrap_or_default();
        seen += data.len();
        if seen.max(announced) > MAX_BODY_BYTES {
            (first, more) = (None, Vec::new());
            if seen > MOST_DISCARDED_BYTES {
                break;
            }
            continue;
        }
        // Most bodies arrive in one piece and are not copied.
        if first.is_none() && more.is_empty() {
            first = Some(data);
            continue;
        }
        if let Some(first) = first.take() {
            more.reserve(announced.max(first.len() + data.len()));
            more.extend_from_slice(&first);
        }
        more.extend_from_slice(&data);
    }
    if seen.max(announced) > MAX_BODY_BYTES {
        return Err(too_large());
    }
    Ok(first.unwrap_or_else(|| more.into()))
}

fn too_large() -> Reply {
    problem(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        "the AdmissionReview is larger than any object of Kubernetes can make it",
    )
}

/// The API server says how long it waits: `?timeout=5s`.
fn patience_of(request: &Request<Incoming>, ours: Duration) -> Duration {
    let theirs = request
        .uri()
        .query()
        .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("timeout=")))
        .and_then(|timeout| timeout.strip_suffix('s')?.parse::<u32>().ok())
        .map(|seconds| Duration::from_secs(seconds.into()).saturating_sub(WAY_BACK));
    theirs.map_or(ours, |theirs| theirs.min(ours))
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = reply.status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if reply.status == StatusCode::METHOD_NOT_ALLOWED {
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

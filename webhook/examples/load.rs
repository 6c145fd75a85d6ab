//! Measures the webhook beside a bare echo of the same request and answer sizes: CPU per review from the process's own
//! accounting, throughput, p50 and p99, at 1, 8 and 64 connections, interleaved, each process on its own core. HTTP/1.1, as
//! the API server calls webhooks. Prints a Markdown table.
//!
//! `cargo build --release -p leasehold-webhook --examples && target/release/examples/load [seconds] [rounds]`

#![allow(clippy::print_stdout, reason = "a table is what it is for")]

#[path = "support/pin.rs"]
mod pin;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use pin::{Failure, pin};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const CONNECTIONS: [usize; 3] = [1, 8, 64];
const CLIENT_CORE: usize = 0;
const SERVER_CORE: usize = 1;

struct Server {
    child: Child,
    port: u16,
    tls: TlsConnector,
}

#[derive(Clone, Copy, Default)]
struct Figures {
    cpu_us: f64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    pin(CLIENT_CORE)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(compare(Duration::from_secs(seconds), rounds))
}

async fn compare(time: Duration, rounds: usize) -> Result<(), Failure> {
    let webhook = Server::start("admission", &[])?;
    let mut first = webhook.connect().await?;
    let injected = Bytes::from(recorded());
    let untouched = untouched(&ask(&mut first, &injected).await?)?;
    let cases = [
        ("injected", injected),
        ("refused", refused()),
        ("untouched", untouched),
    ];
    println!("| review | connections | | CPU µs | reviews/s | p50 µs | p99 µs |");
    println!("|---|---|---|---|---|---|---|");
    for (case, body) in cases {
        let answer = ask(&mut first, &body).await?;
        verify(case, &answer)?;
        let echo = Server::start("echo", &[answer.len().to_string()])?;
        for connections in CONNECTIONS {
            let mut ours = Vec::new();
            let mut theirs = Vec::new();
            for _ in 0..rounds {
                ours.push(webhook.measure(&body, connections, time).await?);
                theirs.push(echo.measure(&body, connections, time).await?);
            }
            let (ours, theirs) = (median(&ours), median(&theirs));
            print_row(case, connections, "webhook", ours);
            print_row(case, connections, "echo", theirs);
            println!(
                "| {case} | {connections} | **ratio** | {:.2} | {:.2} | {:.2} | {:.2} |",
                ours.cpu_us / theirs.cpu_us,
                ours.per_second / theirs.per_second,
                ours.p50_us / theirs.p50_us,
                ours.p99_us / theirs.p99_us,
            );
        }
    }
    Ok(())
}

fn print_row(case: &str, connections: usize, who: &str, f: Figures) {
    println!(
        "| {case} | {connections} | {who} | {:.1} | {:.0} | {:.0} | {:.0} |",
        f.cpu_us, f.per_second, f.p50_us, f.p99_us
    );
}

impl Server {
    fn start(example: &str, arguments: &[String]) -> Result<Self, Failure> {
        let program = std::env::current_exe()?.with_file_name(example);
        let mut child = Command::new(&program)
            .arg(SERVER_CORE.to_string())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}; build all examples", program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        let port = lines.next().ok_or("the server ended")??.parse()?;
        let mut pem = String::new();
        for line in lines {
            let line = line?;
            pem.push_str(&line);
            pem.push('\n');
            if line.starts_with("-----END") {
                break;
            }
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            child,
            port,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = self
            .tls
            .connect(ServerName::try_from("localhost")?, stream)
            .await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// The server's CPU time so far.
    fn cpu(&self) -> Result<Duration, Failure> {
        // Nanoseconds on a CPU of each thread; `stat` counts in ticks of 10 ms.
        let mut total = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            total += text.split(' ').next().ok_or("no schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(total))
    }

    async fn measure(&self, body: &Bytes, connections: usize, time: Duration) -> Result<Figures, Failure> {
        let mut senders = Vec::new();
        for _ in 0..connections {
            senders.push(self.connect().await?);
        }
        for sender in &mut senders {
            ask(sender, body).await?;
        }
        let (began, cpu) = (Instant::now(), self.cpu()?);
        let mut tasks = tokio::task::JoinSet::new();
        for mut sender in senders {
            let body = body.clone();
            tasks.spawn(async move {
                let mut took = Vec::new();
                while began.elapsed() < time {
                    let asked = Instant::now();
                    ask(&mut sender, &body).await?;
                    took.push(asked.elapsed());
                }
                Ok::<_, Failure>(took)
            });
        }
        let mut took: Vec<Duration> = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            took.extend(ended??);
        }
        let (wall, cpu) = (began.elapsed(), self.cpu()? - cpu);
        took.sort_unstable();
        let count = took.len() as f64;
        let at = |share: f64| {
            took.get((count * share) as usize)
                .map_or(0.0, |took| took.as_secs_f64() * 1e6)
        };
        Ok(Figures {
            cpu_us: cpu.as_secs_f64() * 1e6 / count,
            per_second: count / wall.as_secs_f64(),
            p50_us: at(0.50),
            p99_us: at(0.99),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, body: &Bytes) -> Result<Bytes, Failure> {
    sender.ready().await?;
    let request = http::Request::post("/mutate?timeout=5s")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(body.clone()))?;
    let answer = sender.send_request(request).await?;
    if answer.status() != http::StatusCode::OK {
        return Err(format!("answered {}", answer.status()).into());
    }
    Ok(answer.into_body().collect().await?.to_bytes())
}

fn verify(case: &str, answer: &[u8]) -> Result<(), Failure> {
    let answer: serde_json::Value = serde_json::from_slice(answer)?;
    let response = answer.get("response").ok_or("no response")?;
    let allowed = response.get("allowed") == Some(&true.into());
    let fits = match case {
        "injected" => allowed && response.get("patch").is_some(),
        "untouched" => allowed && response.get("patch").is_none(),
        _ => !allowed,
    };
    if fits {
        Ok(())
    } else {
        Err(format!("{case} was answered with {answer}").into())
    }
}

fn median(all: &[Figures]) -> Figures {
    let of = |pick: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = all.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Figures {
        cpu_us: of(|f| f.cpu_us),
        per_second: of(|f| f.per_second),
        p50_us: of(|f| f.p50_us),
        p99_us: of(|f| f.p99_us),
    }
}

/// The recorded pod of a jupyterflow job, run by an executor as Leasehold makes them.
fn recorded() -> String {
    include_str!("../tests/fixtures/pod-job.json").replace(
        "\"serviceAccountName\":\"alice\"",
        "\"serviceAccountName\":\"wf-alice-0123456789abcdef\"",
    )
}

fn refused() -> Bytes {
    recorded()
        .replace(
            "\"workflows.argoproj.io/completed\":\"false\"",
            "\"app\":\"jupyterhub\"",
        )
        .into()
}

/// What a second pass sees: everything is in place.
fn untouched(answer: &[u8]) -> Result<Bytes, Failure> {
    let answer: serde_json::Value = serde_json::from_slice(answer)?;
    let patch = answer
        .pointer("/response/patch")
        .and_then(|patch| patch.as_str())
        .ok_or("no patch")?;
    let patch: json_patch::Patch =
        serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(patch)?)?;
    let mut review: serde_json::Value = serde_json::from_str(&recorded())?;
    json_patch::patch(review.pointer_mut("/request/object").ok_or("no object")?, &patch)?;
    Ok(review.to_string().into())
}

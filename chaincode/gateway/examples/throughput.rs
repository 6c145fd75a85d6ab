//! How many transactions a second one client gets through real Fabric, by how many it has under way; prints a table.
//!
//!     LEASEHOLD_FABRIC_BIN=/path/to/bin cargo run --release -p fabric-gateway-client --example throughput
//!
//! The network, the chaincode and the client share the machine. The chaincode does nothing, or reads a key of its own and writes it.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fabric_gateway_client::{Call, Config, Contract, CredentialFiles, Gateway, Peer};
use fabric_network::{Binaries, Network, ORGANISATIONS, SKIPPED};
use fabric_shim::{Chaincode, Response, Server, Stub};
use futures::future::join_all;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long each row is measured.
const SPAN: Duration = Duration::from_secs(5);

struct Writes;

#[fabric_shim::async_trait]
impl Chaincode for Writes {
    async fn invoke(&self, stub: &Stub) -> Response {
        let parameters = stub.parameters();
        let Some(key) = parameters.first().map(|key| String::from_utf8_lossy(key)) else {
            return Response::success("");
        };
        match stub.get_state(&key).await {
            Ok(_) => stub.put_state(&key, vec![b'x'; 100]).await.map(|()| "").into(),
            Err(error) => Response::error(error.to_string()),
        }
    }
}

/// Takes `clients` at once through `call` for [`SPAN`]; how long each took, in its order, and how many failed.
async fn measure(clients: usize, call: impl AsyncFn(usize) -> bool) -> (Vec<Duration>, usize, Duration) {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let each = join_all((0..clients).map(async |_| {
        let (mut took, mut failed) = (Vec::new(), 0);
        while start.elapsed() < SPAN {
            let begun = Instant::now();
            if call(next.fetch_add(1, Ordering::Relaxed)).await {
                took.push(begun.elapsed());
            } else {
                failed += 1;
            }
        }
        (took, failed)
    }));
    let each = each.await;
    let span = start.elapsed();
    let failed = each.iter().map(|(_, failed)| failed).sum();
    let mut took: Vec<_> = each.into_iter().flat_map(|(took, _)| took).collect();
    took.sort();
    (took, failed, span)
}

async fn row(what: &str, clients: usize, call: impl AsyncFn(usize) -> bool) {
    let (took, failed, span) = measure(clients, call).await;
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
    println!(
        "{what:24} {clients:4} at once: {:7.1} a second, p50 {:6.1} ms, p99 {:6.1} ms, {failed} failed",
        f64::from(u32::try_from(took.len()).unwrap()) / span.as_secs_f64(),
        at(50).as_secs_f64() * 1e3,
        at(99).as_secs_f64() * 1e3,
    );
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(binaries) = Binaries::find()? else {
        println!("{SKIPPED}");
        return Ok(());
    };
    let network = Network::start(binaries).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let chaincode = network.package("writes", &address, None).await?;
    let config = fabric_shim::Config::new(address, chaincode.package_id.clone());
    let stop = CancellationToken::new();
    let served = tokio::spawn(Server::new(Writes, config).serve_on(listener, stop.clone()));
    network.deploy(&chaincode, &[]).await?;
    let contract = contract(&network).await?;
    while contract.submit(&Call::new("nothing")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "Fabric {}, {} peers",
        network.version().await?,
        ORGANISATIONS.len()
    );
    for (run, clients) in [1, 16, 64, 128, 256].into_iter().enumerate() {
        row("no-op", clients, async |_| {
            contract.submit(&Call::new("nothing")).await.is_ok()
        })
        .await;
        row("read and write 100 bytes", clients, async |number| {
            let call = Call::new("write").argument(format!("{run}-{number}"));
            contract.submit(&call).await.is_ok()
        })
        .await;
        row("evaluate", clients, async |number| {
            let call = Call::new("write").argument(format!("{run}-{number}"));
            contract.evaluate(&call).await.is_ok()
        })
        .await;
    }
    network.stop().await?;
    stop.cancel();
    served.await??;
    Ok(())
}

async fn contract(network: &Network) -> Result<Contract, Box<dyn std::error::Error>> {
    let mut peers = Vec::new();
    for organisation in ORGANISATIONS {
        let peer = network.peer(organisation)?;
        peers.push(Peer::tls(peer.address, std::fs::read(peer.roots)?));
    }
    let user = network.user("Org1")?;
    let files = CredentialFiles {
        msp_id: user.msp_id,
        certificate: user.certificate,
        key: user.key,
    };
    let gateway = Gateway::new(Config::new(peers), files.read().await?)?;
    Ok(gateway.contract(network.channel(), "writes"))
}

//! Keeps a [`LeaseIndex`] fed: connects, takes the snapshot, applies changes, and begins anew after any break, waiting a
//! jittered and growing while between attempts. Never gives up; ends only at shutdown.

use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use leasehold_broker_client::machines::MachinesClient;
use leasehold_broker_wire::machines::WatchLeasesResponse;
use tokio_util::sync::CancellationToken;

use super::LeaseIndex;

/// The broker sends a heartbeat at least every 500 ms; a stream that is silent this long is dead.
const SILENCE: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows the broker's lease stream until `shutdown`.
pub async fn follow(client: MachinesClient, index: Arc<LeaseIndex>, shutdown: CancellationToken) {
    follow_stream(|| client.watch_leases(), &index, shutdown).await;
}

/// The same over any source of the stream; `connect` is called anew after each break.
pub async fn follow_stream<S, E>(
    mut connect: impl FnMut() -> S,
    index: &LeaseIndex,
    shutdown: CancellationToken,
) where
    S: Stream<Item = Result<WatchLeasesResponse, E>>,
    E: Display,
{
    let mut pause = SHORTEST_PAUSE;
    loop {
        let began = Instant::now();
        let broke = tokio::select! {
            () = shutdown.cancelled() => return,
            broke = drain(connect(), index) => broke,
        };
        // A connection that held for a while was a good one: try again soon.
        pause = if began.elapsed() > LONGEST_PAUSE {
            SHORTEST_PAUSE
        } else {
            pause
        };
        tracing::warn!(error = %broke, retry_in = ?pause, "the lease stream of the broker broke");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(jittered(pause)) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn drain<S, E>(stream: S, index: &LeaseIndex) -> String
where
    S: Stream<Item = Result<WatchLeasesResponse, E>>,
    E: Display,
{
    let mut stream = std::pin::pin!(stream);
    index.begin_snapshot();
    loop {
        match tokio::time::timeout(SILENCE, stream.next()).await {
            Ok(Some(Ok(message))) => {
                if let Err(error) = index.apply(message, Instant::now()) {
                    tracing::error!(%error, "a message of the lease stream was not understood");
                }
            }
            Ok(Some(Err(error))) => return error.to_string(),
            Ok(None) => return "the broker closed the stream".to_owned(),
            Err(_) => return format!("silent for {SILENCE:?}"),
        }
    }
}

/// Between half and the whole of `pause`, so that replicas don't reconnect in step.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1000;
    pause / 2 + pause.mul_f64(random as f64 / 2000.0)
}

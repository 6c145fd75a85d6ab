//! A broker is killed at random moments under load, on each database: what was accepted happens once.
//!
//! `LEASEHOLD_SOAK_KILLS` is how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::fixture::{Fixture, eventually};
use crate::place::{Kind, Place, accepted, catalogue, decided};

const CLIENTS: usize = 3;

fn kills() -> usize {
    let told = std::env::var("LEASEHOLD_SOAK_KILLS").ok();
    told.and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_is_lost_or_done_twice_however_often_the_broker_is_killed_on_sqlite() {
    killed(Kind::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_is_lost_or_done_twice_however_often_the_broker_is_killed_on_postgresql() {
    killed(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_operation_is_lost_or_done_twice_however_often_the_broker_is_killed_on_mariadb() {
    killed(Kind::MariaDb).await;
}

async fn killed(kind: Kind) {
    let Some(place) = Place::of(kind, &format!("kills on {kind:?}")).await else {
        return;
    };
    let broker = Arc::new(Fixture::start_quiet(place.setting.clone()).await);
    let steward = broker.person("steward");
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (broker, stop, count) = (Arc::clone(&broker), Arc::clone(&stop), Arc::clone(&count));
        clients.spawn(async move {
            let brokers = [broker];
            let mut written = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // A token lasts for minutes alone.
                let steward = brokers[0].person("steward");
                let name = format!("texts-{client}-{}", written.len());
                let location = accepted(&brokers, &steward, &name).await;
                count.fetch_add(1, Ordering::Relaxed);
                written.push((name, location));
                if written.len() % 8 == 0 {
                    // Not more than the broker keeps up with.
                    let (_, location) = written.last().unwrap();
                    decided(&brokers, &steward, location).await;
                }
            }
            written
        });
    }
    for kill in 0..kills() {
        // Somewhere between two acknowledgements.
        let more = count.load(Ordering::Relaxed) + 1 + usize::try_from(random(6)).unwrap();
        eventually("the broker to get going", async || {
            (count.load(Ordering::Relaxed) >= more).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_micros(random(20_000))).await;
        broker.kill();
        broker.run().await;
        if kill % 20 == 19 {
            println!(
                "{kind:?}: {} writes acknowledged after {} kills",
                count.load(Ordering::Relaxed),
                kill + 1
            );
        }
    }
    stop.store(true, Ordering::Relaxed);
    let written: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    let brokers = [Arc::clone(&broker)];
    for (name, location) in &written {
        let operation = decided(&brokers, &broker.person("steward"), location).await;
        assert_eq!(operation["status"], "succeeded", "{name}: {operation}");
    }
    let mut expected: Vec<_> = written.iter().map(|(name, _)| name.clone()).collect();
    expected.sort();
    assert_eq!(
        catalogue(&broker, &steward).await,
        expected,
        "each once, and no other"
    );
    assert_eq!(broker.wrapped_by(), [(1, u64::try_from(expected.len()).unwrap())]);
    println!(
        "{kind:?}: {} kills, {} writes, none lost, none twice",
        kills(),
        written.len()
    );
}

fn random(bound: u64) -> u64 {
    getrandom::u64().unwrap() % bound
}

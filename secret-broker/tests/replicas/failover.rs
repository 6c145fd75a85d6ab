//! Two replicas share a key store, and one of them is killed.

use std::sync::Arc;
use std::time::Duration;

use leasehold_broker_wire::machines as wire;
use tokio::task::JoinSet;

use crate::fixture::{Fixture, eventually};
use crate::place::{Kind, Place, accepted, catalogue, decided};

/// At the same time.
const CLIENTS: usize = 4;
/// Of each.
const WRITES: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_in_postgresql_one_is_killed_and_no_write_fails_after_retry() {
    one_is_killed(Kind::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_in_mariadb_one_is_killed_and_no_write_fails_after_retry() {
    one_is_killed(Kind::MariaDb).await;
}

async fn one_is_killed(kind: Kind) {
    let Some(place) = Place::of(kind, &format!("two replicas on {kind:?}")).await else {
        return;
    };
    let one = Arc::new(Fixture::start_quiet(place.setting.clone()).await);
    let other = Arc::new(one.replica().await);
    let steward = one.person("steward");
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        // Half of them ask the one first, half the other.
        let mut brokers = [Arc::clone(&one), Arc::clone(&other)];
        if client % 2 == 1 {
            brokers.reverse();
        }
        let steward = steward.clone();
        clients.spawn(async move {
            let mut written = Vec::new();
            for write in 0..WRITES {
                let name = format!("texts-{client}-{write}");
                let location = accepted(&brokers, &steward, &name).await;
                written.push((name, location));
            }
            written
        });
    }
    // In the middle of it.
    eventually("some writes to be decided", async || {
        (catalogue(&other, &steward).await.len() >= 3).then_some(())
    })
    .await;
    one.kill();
    let written: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    let brokers = [Arc::clone(&one), Arc::clone(&other)];
    for (name, location) in &written {
        let operation = decided(&brokers, &steward, location).await;
        assert_eq!(operation["status"], "succeeded", "{name}: {operation}");
    }
    let mut expected: Vec<_> = written.iter().map(|(name, _)| name.clone()).collect();
    expected.sort();
    assert_eq!(catalogue(&other, &steward).await, expected, "each once");
    // Whoever asks again hears of the same operation.
    let (name, location) = &written[0];
    assert_eq!(&accepted(&brokers, &steward, name).await, location);
    // The other opens what the one registered, and the one is back with all of it.
    one.run().await;
    assert_eq!(catalogue(&one, &steward).await, expected);
    assert_eq!(other.wrapped_by(), [(1, u64::try_from(expected.len()).unwrap())]);
    println!("{kind:?}: {} writes, none failed, none twice", written.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bound_at_one_replica_the_other_knows_of() {
    let Some(place) = Place::of(Kind::Postgres, "bindings at two replicas").await else {
        return;
    };
    let one = Fixture::start_quiet(place.setting.clone()).await;
    let other = one.replica().await;
    let mut stream = other
        .machine("leasehold-webhook")
        .await
        .watch_leases(wire::WatchLeasesRequest::default())
        .await
        .unwrap()
        .into_inner();
    let account = |name: &str| {
        Some(wire::ServiceAccount {
            namespace: "hub".to_owned(),
            name: name.to_owned(),
            uid: format!("uid of {name}").replace(' ', "-"),
        })
    };
    let request = wire::BindServiceAccountsRequest {
        username: "alice".to_owned(),
        notebook: account("notebook"),
        executor: account("executor"),
        home: Some(wire::Home {
            claim: "claim-alice".to_owned(),
            sub_path: String::new(),
            mount_path: "/home/jovyan".to_owned(),
        }),
        ..Default::default()
    };
    one.machine("leasehold-spawner-hook")
        .await
        .bind_service_accounts(request)
        .await
        .unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(60), async {
        while let Some(said) = stream.message().await.unwrap() {
            if let Some(wire::watch_leases_response::Change::Binding(binding)) = said.change {
                return Some(binding);
            }
        }
        None
    });
    let binding = heard
        .await
        .expect("the other replica tells of the binding")
        .unwrap();
    assert_eq!(binding.notebook.unwrap().uid, "uid-of-notebook");
}

//! The way of a dataset between two organisations whose brokers share a channel; told alike on simulated and on real peers.

use std::time::Duration;

use futures::StreamExt as _;
use leasehold_broker_wire::machines as wire;
use leasehold_broker_wire::machines::watch_leases_response::Change;
use serde_json::{Value, json};
use tonic::{Code, Streaming};

use crate::fixture::{Answer, Fixture, PATIENCE, eventually, registration};

pub type Stream = Streaming<wire::WatchLeasesResponse>;

/// What a machine of a broker's cluster is told of leases from now on.
pub async fn watch(broker: &Fixture) -> Stream {
    let mut machine = broker.machine("leasehold-provisioner").await;
    let stream = machine.watch_leases(wire::WatchLeasesRequest {}).await;
    stream.unwrap().into_inner()
}

/// The next message.
pub async fn message(stream: &mut Stream) -> Change {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    next.expect("a message in time")
        .expect("no end")
        .unwrap()
        .change
        .unwrap()
}

/// The next message but heartbeats; none where only those came for a while.
pub async fn change(stream: &mut Stream, patience: Duration) -> Option<Change> {
    let next = async {
        loop {
            match stream.next().await.expect("no end").unwrap().change.unwrap() {
                Change::Heartbeat(_) => {}
                change => return change,
            }
        }
    };
    tokio::time::timeout(patience, next).await.ok()
}

/// The next lease that is told.
pub async fn lease(stream: &mut Stream) -> wire::Lease {
    loop {
        match change(stream, PATIENCE).await.expect("a lease in time") {
            Change::Lease(lease) => return lease,
            Change::Bookmark(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Waits for a heartbeat.
pub async fn heartbeat(stream: &mut Stream) {
    while !matches!(message(stream).await, Change::Heartbeat(_)) {}
}

/// Asks for a lease; yields what the operation became. A request that is refused at once is one that failed.
pub async fn ask(broker: &Fixture, dataset: &str, token: &str) -> Value {
    let accepted = broker
        .call("POST", "/v1/leases", token, Some(json!({ "dataset": dataset })))
        .await;
    if accepted.status != 202 {
        return json!({"status": "failed", "problem": accepted.body});
    }
    broker.decided(&accepted, token).await
}

/// The answer's code at once, or that of the operation.
pub async fn code_of(broker: &Fixture, answer: Answer, token: &str) -> String {
    if answer.status != 202 {
        return answer.code().to_owned();
    }
    let operation = broker.decided(&answer, token).await;
    let kind = operation["problem"]["type"].as_str().unwrap_or_default();
    kind.rsplit(':').next().unwrap_or_default().to_owned()
}

/// Registers, leases, is refused, mounts, releases and hands over.
pub async fn a_dataset_goes_its_way(owner: &Fixture, other: &Fixture, name: &str) {
    let dataset = owner.register(name).await;
    let bob = other.person("bob");
    let catalogue = eventually("the other organisation to see the dataset", async || {
        let found = other
            .call("GET", &format!("/v1/datasets/{name}"), &bob, None)
            .await;
        (found.status == 200).then_some(found.body)
    })
    .await;
    assert_eq!(catalogue["id"], dataset.as_str());
    let steward = other.person("steward");
    let foreign = other
        .call("DELETE", &format!("/v1/datasets/{name}"), &steward, None)
        .await;
    assert_eq!(code_of(other, foreign, &steward).await, "not_owner");
    let twice = other
        .call("POST", "/v1/datasets", &steward, Some(registration(name)))
        .await;
    assert_eq!(code_of(other, twice, &steward).await, "dataset_name_taken");

    let (mut here, mut there) = (watch(owner).await, watch(other).await);
    let lease_id = other.lease(name, &bob).await;
    let told = lease(&mut there).await;
    assert_eq!(
        (told.lease_id.as_str(), told.state()),
        (lease_id.as_str(), wire::LeaseState::Active)
    );
    // Whoever's dataset it is, another organisation's lease is nothing to this one's cluster.
    while let Some(change) = change(&mut here, Duration::from_millis(500)).await {
        assert!(matches!(change, Change::Bookmark(_)), "{change:?}");
    }
    let mut provisioner = other.machine("leasehold-provisioner").await;
    let opened = provisioner
        .open_volume(wire::OpenVolumeRequest {
            lease_id: lease_id.clone(),
        })
        .await;
    assert_eq!(
        opened.unwrap_err().code(),
        Code::FailedPrecondition,
        "only its owner's broker opens it"
    );
    let mut foreign = owner.machine("leasehold-provisioner").await;
    let opened = foreign
        .open_volume(wire::OpenVolumeRequest {
            lease_id: lease_id.clone(),
        })
        .await;
    assert_eq!(
        opened.unwrap_err().code(),
        Code::NotFound,
        "a lease of another organisation's cluster"
    );

    let alice = owner.person("alice");
    let taken = eventually("the owner's peer to know the lease", async || {
        let answer = owner
            .call("POST", "/v1/leases", &alice, Some(json!({ "dataset": name })))
            .await;
        Some(code_of(owner, answer, &alice).await).filter(|code| !code.is_empty())
    })
    .await;
    assert_eq!(taken, "lease_conflict");

    let released = other
        .call("DELETE", &format!("/v1/leases/{lease_id}"), &bob, None)
        .await;
    assert_eq!(other.decided(&released, &bob).await["status"], "succeeded");
    assert_eq!(lease(&mut there).await.state(), wire::LeaseState::Ending);
    provisioner
        .confirm_end(wire::ConfirmEndRequest {
            lease_id: lease_id.clone(),
        })
        .await
        .unwrap();
    assert_eq!(lease(&mut there).await.state(), wire::LeaseState::Ended);

    let own = eventually("the dataset to be free", async || {
        let answer = owner
            .call("POST", "/v1/leases", &alice, Some(json!({ "dataset": name })))
            .await;
        let operation = if answer.status == 202 {
            owner.decided(&answer, &alice).await
        } else {
            Value::Null
        };
        operation["result"]["lease"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(lease(&mut here).await.lease_id, own);
    let volume = foreign
        .open_volume(wire::OpenVolumeRequest {
            lease_id: own.clone(),
        })
        .await;
    let volume: Value = serde_json::from_slice(&volume.unwrap().into_inner().volume).unwrap();
    assert_eq!(
        volume,
        registration(name)["volume"],
        "what was sealed for the transaction's dataset opens"
    );
    let history = owner
        .call(
            "GET",
            &format!("/v1/datasets/{name}/history"),
            &owner.person("steward"),
            None,
        )
        .await
        .body;
    let whose: Vec<_> = history["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["by"].clone())
        .collect();
    assert_eq!(
        whose.len(),
        5,
        "registered, leased, released, confirmed, leased: {history}"
    );
    owner
        .call("DELETE", &format!("/v1/leases/{own}"), &alice, None)
        .await;
}

/// Two people of two organisations ask for one dataset at the same time: one gets it, the other hears why not.
pub async fn of_two_who_race_one_gets_it(one: &Fixture, another: &Fixture, name: &str) {
    let (alice, bob) = (one.person("alice"), another.person("bob"));
    one.register(name).await;
    eventually("both to see the dataset", async || {
        let path = format!("/v1/datasets/{name}");
        let (here, there) = tokio::join!(
            one.call("GET", &path, &alice, None),
            another.call("GET", &path, &bob, None)
        );
        (here.status == 200 && there.status == 200).then_some(())
    })
    .await;
    let (here, there) = tokio::join!(ask(one, name, &alice), ask(another, name, &bob));
    let statuses = [&here["status"], &there["status"]];
    assert!(
        statuses.iter().any(|status| *status == "succeeded"),
        "{here} {there}"
    );
    let loser = if here["status"] == "failed" { here } else { there };
    assert_eq!(
        loser["problem"]["type"], "urn:leasehold:problem:lease_conflict",
        "{loser}"
    );
}

/// The catalogue is searched at the broker that is asked, whoever registered what is found.
pub async fn what_one_registers_the_other_finds(owner: &Fixture, other: &Fixture) {
    owner.register("chest-scans").await;
    let bob = other.person("bob");
    let found = async |words: &str| {
        let path = format!("/v1/datasets?q={words}");
        let page = other.call("GET", &path, &bob, None).await;
        let items = page.body["items"].as_array().map(Vec::len);
        (items == Some(1)).then(|| page.body["items"][0]["owner"].clone())
    };
    let owned = eventually("the other broker to find it", async || found("scans").await).await;
    assert_eq!(owned, json!("UiSMSP"));
    let token = owner.person("steward");
    let removed = owner
        .call("DELETE", "/v1/datasets/chest-scans", &token, None)
        .await;
    assert_eq!(owner.decided(&removed, &token).await["status"], "succeeded");
    eventually("it to be found no longer", async || {
        found("scans").await.is_none().then_some(())
    })
    .await;
}

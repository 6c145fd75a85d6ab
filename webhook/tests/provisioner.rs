//! The provisioner as a whole, against an API server and a broker in memory: a lease becomes a claim, its end takes everything
//! away, and a kill after any write is made good by the next process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "provisioner/fake_api.rs"]
#[allow(dead_code)]
mod fake_api;
#[path = "provisioner/fake_broker.rs"]
mod fake_broker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use fake_api::FakeApi;
use fake_broker::{FakeBroker, lease};
use kube::Api;
use leasehold_broker_wire::machines::MountState;
use leasehold_webhook::provisioner::election::{Election, lead};
use leasehold_webhook::provisioner::{ProvisionerArguments, run_on};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const LEADER: &str = "/apis/coordination.k8s.io/v1/namespaces/leasehold-system/leases/leasehold-provisioner";
const PODS: &str = "/api/v1/namespaces/hub/pods";
const LONG: Duration = Duration::from_secs(3600);

fn volume() -> String {
    format!("/api/v1/persistentvolumes/leasehold-{ID}")
}

fn claim() -> String {
    format!("/api/v1/namespaces/hub/persistentvolumeclaims/leasehold-{ID}")
}

fn secret() -> String {
    format!("/api/v1/namespaces/leasehold-system/secrets/leasehold-{ID}")
}

fn probe() -> String {
    format!("/api/v1/namespaces/leasehold-system/pods/leasehold-probe-{ID}")
}

fn cluster() -> FakeApi {
    let api = FakeApi::new();
    let users = json!({"metadata": {"name": "hub", "labels": {"leasehold.dev/users": "true"}}});
    api.put("/api/v1/namespaces/hub", users);
    let node = json!({"metadata": {"name": "node-1", "labels": {"kubernetes.io/hostname": "host-1"}}});
    api.put("/api/v1/nodes/node-1", node);
    api
}

/// A pod that holds the lease's claim; unlabelled, to show that labels do not decide.
fn holder(api: &FakeApi, name: &str) -> String {
    let path = format!("/api/v1/namespaces/hub/pods/{name}");
    let volumes = json!([{"name": "d", "persistentVolumeClaim": {"claimName": format!("leasehold-{ID}")}}]);
    api.put(
        &path,
        json!({"metadata": {"name": name}, "spec": {"containers": [], "volumes": volumes}}),
    );
    path
}

/// The same with the webhook's label, so that the watch shows it.
fn marked_holder(api: &FakeApi, name: &str) -> String {
    let path = holder(api, name);
    let mut pod = api.get(&path).unwrap();
    pod["metadata"]["labels"] = json!({"leasehold.dev/dataset-pod": "true"});
    api.put(&path, pod);
    path
}

struct Provisioner {
    running: JoinHandle<()>,
    shutdown: CancellationToken,
    _files: tempfile::TempDir,
}

impl Provisioner {
    async fn start(api: &FakeApi, broker: &FakeBroker, pod: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let token = files.path().join("token");
        std::fs::write(&token, "token").unwrap();
        let arguments = ProvisionerArguments::parse_from([
            "leasehold-provisioner",
            "--probe-image=probe",
            "--local-roots=UiSMSP=/srv/uis",
            &format!("--broker-url=http://{}", broker.address),
            &format!("--broker-token-file={}", token.display()),
            &format!("--pod-name={pod}"),
        ]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        let running = run_on(api.client(), listener, arguments, shutdown.clone());
        let running = tokio::spawn(async move { running.await.unwrap() });
        Self {
            running,
            shutdown,
            _files: files,
        }
    }

    /// As SIGTERM would.
    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }

    /// As SIGKILL would.
    async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is left of leases in the cluster.
fn remains(api: &FakeApi) -> Vec<String> {
    api.paths()
        .into_iter()
        .filter(|path| path.contains("leasehold-aaa") || path.contains("probe"))
        .collect()
}

#[tokio::test]
async fn a_lease_becomes_a_claim_that_is_reported_with_its_skeleton() {
    let (api, broker) = (cluster(), FakeBroker::start().await);
    let provisioner = Provisioner::start(&api, &broker, "p-1").await;
    broker.set(lease('a', LONG));
    until("it is reported", || broker.is(ID, MountState::Ready)).await;
    until("the probe is gone", || api.get(&probe()).is_none()).await;

    assert_eq!(broker.skeleton(), ["a", "a/b"]);
    let (volume, claim) = (api.get(&volume()).unwrap(), api.get(&claim()).unwrap());
    assert_eq!(volume["spec"]["claimRef"]["uid"], claim["metadata"]["uid"]);
    assert_eq!(volume["spec"]["local"]["path"], "/srv/uis/texts");
    assert!(volume["spec"]["nodeAffinity"].to_string().contains("host-1"));
    assert_eq!(claim["status"]["phase"], "Bound");
    for path in api.paths().into_iter().filter(|path| *path != secret()) {
        // "hunter2" in base64 as well.
        let object = api.get(&path).unwrap().to_string();
        assert!(
            !object.contains("hunter2") && !object.contains("aHVudGVyMg"),
            "{path}"
        );
    }
    provisioner.stop().await;
}

#[tokio::test]
async fn an_ended_lease_takes_its_pods_claim_volume_and_secret_and_is_confirmed_last() {
    let (api, broker) = (cluster(), FakeBroker::start().await);
    let provisioner = Provisioner::start(&api, &broker, "p-1").await;
    broker.set(lease('a', LONG));
    until("it is reported", || broker.is(ID, MountState::Ready)).await;
    until("the probe is gone", || api.get(&probe()).is_none()).await;
    let pods = [holder(&api, "running"), holder(&api, "finished")];
    let bystander = "/api/v1/namespaces/hub/pods/bystander";
    api.put(
        bystander,
        json!({"metadata": {"name": "bystander"}, "spec": {"containers": []}}),
    );
    let before = api.writes().len();

    broker.end(ID);
    until("it is confirmed", || broker.ended(ID)).await;
    assert_eq!(remains(&api), [""; 0]);
    assert!(api.get(bystander).is_some());
    let deletes: Vec<String> = api
        .writes()
        .split_off(before)
        .into_iter()
        .filter(|write| write.starts_with("DELETE"))
        .collect();
    let expected =
        [claim(), pods[1].clone(), pods[0].clone(), volume(), secret()].map(|path| format!("DELETE {path}"));
    assert_eq!(deletes, expected);
    provisioner.stop().await;
}

#[tokio::test]
async fn the_pods_that_the_watch_shows_are_ended_even_while_no_list_is_answered() {
    let (api, broker) = (cluster(), FakeBroker::start().await);
    let provisioner = Provisioner::start(&api, &broker, "p-1").await;
    broker.set(lease('a', LONG));
    until("it is reported", || broker.is(ID, MountState::Ready)).await;
    let pods = [marked_holder(&api, "one"), marked_holder(&api, "two")];
    api.leaves_unanswered(PODS);

    broker.end(ID);
    until("it is confirmed", || broker.ended(ID)).await;
    assert!(pods.iter().all(|pod| api.get(pod).is_none()));
    provisioner.stop().await;
}

#[tokio::test]
async fn a_search_asks_for_a_few_pods_at_a_time_and_finds_the_last_of_many() {
    let (api, broker) = (cluster(), FakeBroker::start().await);
    let provisioner = Provisioner::start(&api, &broker, "p-1").await;
    broker.set(lease('a', LONG));
    until("it is reported", || broker.is(ID, MountState::Ready)).await;
    for i in 0..40 {
        let name = format!("bystander-{i}");
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": []}});
        api.put(&format!("{PODS}/{name}"), pod);
    }
    let last = holder(&api, "zzz");

    broker.end(ID);
    until("it is confirmed", || broker.ended(ID)).await;
    assert!(api.get(&last).is_none());
    assert_eq!(
        api.largest_page(PODS),
        Some(5),
        "a pod may be as large as 1.5 MiB"
    );
    let watched = api.largest_page("/api/v1/pods");
    assert_eq!(
        watched,
        Some(5),
        "the first list of a watch is held whole as well"
    );
    provisioner.stop().await;
}

#[tokio::test]
async fn a_lease_that_runs_out_while_the_broker_is_away_loses_its_claim_in_time() {
    let (api, broker) = (cluster(), FakeBroker::start().await);
    let provisioner = Provisioner::start(&api, &broker, "p-1").await;
    broker.set(lease('a', Duration::from_secs(15)));
    until("it is reported", || broker.is(ID, MountState::Ready)).await;
    let pod = holder(&api, "running");
    broker.stop();
    let expires = broker.lease(ID).unwrap().expires_at_ms;
    until("all is gone", || {
        remains(&api).is_empty() && api.get(&pod).is_none()
    })
    .await;
    let now = fake_broker::now_ms();
    assert!(
        (expires..expires + 30_000).contains(&now),
        "{} ms after its end",
        now - expires
    );
    provisioner.kill().await;
}

#[tokio::test]
async fn orphans_are_removed_but_nothing_is_before_the_broker_has_spoken() {
    let (api, broker) = (cluster(), FakeBroker::start().await);
    let labels = json!({"leasehold.dev/lease": ID});
    let name = format!("leasehold-{ID}");
    api.put(&secret(), json!({"metadata": {"name": name, "labels": labels}}));
    let spec = json!({"volumeName": name});
    api.put(
        &claim(),
        json!({"metadata": {"name": name, "labels": labels}, "spec": spec}),
    );
    let gone = FakeBroker::start().await;
    gone.stop();
    let blind = Provisioner::start(&api, &gone, "p-1").await;
    let renewed = || {
        api.writes()
            .iter()
            .filter(|write| write.ends_with("leases/leasehold-provisioner"))
            .count()
    };
    until("it has led for a while", || renewed() > 3).await;
    assert_eq!(remains(&api).len(), 2);
    blind.stop().await;

    let provisioner = Provisioner::start(&api, &broker, "p-1").await;
    until("the orphans are gone", || remains(&api).is_empty()).await;
    assert!(broker.told().is_empty(), "the broker knows no such lease");
    provisioner.stop().await;
}

#[tokio::test]
async fn a_finding_is_reported_by_its_code_and_heals_with_the_directory() {
    let (api, broker) = (cluster(), FakeBroker::start().await);
    api.probe_answers(|_| r#"{"ok":false,"code":"path_missing","message":"it is missing"}"#.into());
    let provisioner = Provisioner::start(&api, &broker, "p-1").await;
    broker.set(lease('a', LONG));
    until("the finding is reported", || broker.is(ID, MountState::Failed)).await;
    assert_eq!(broker.told(), ["MOUNT_STATE_FAILED path_missing"]);
    assert!(api.get(&claim()).is_none() && api.get(&secret()).is_none());

    api.probe_answers(|command| {
        assert_eq!(
            command,
            ["leasehold-probe", "--root", "/root-under-test", "--path", "texts"]
        );
        r#"{"ok":true,"skeleton":[]}"#.into()
    });
    until("it heals", || broker.is(ID, MountState::Ready)).await;
    assert_eq!(
        broker.told(),
        ["MOUNT_STATE_FAILED path_missing", "MOUNT_STATE_READY "]
    );
    provisioner.stop().await;
}

#[tokio::test]
async fn what_is_mounted_was_looked_at_even_if_its_owner_names_another_place_each_time() {
    let (api, broker) = (cluster(), FakeBroker::start().await);
    let looked_at = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&looked_at);
    api.probe_answers(move |command| {
        seen.lock().unwrap().push(command.last().unwrap().clone());
        r#"{"ok":true,"skeleton":[]}"#.into()
    });
    // For the first probe, its Secret; the second probe, its Secret, its volume.
    broker.opens_next(&[
        "/srv/uis/decoy",
        "/srv/uis/unseen",
        "/srv/uis/texts",
        "/srv/uis/texts",
        "/srv/uis/unseen",
    ]);
    let provisioner = Provisioner::start(&api, &broker, "p-1").await;
    broker.set(lease('a', LONG));
    until("it is reported", || broker.is(ID, MountState::Ready)).await;
    assert_eq!(*looked_at.lock().unwrap(), ["decoy", "texts"]);
    let volume = api.get(&volume()).unwrap();
    assert_eq!(volume["spec"]["local"]["path"], "/srv/uis/texts");
    provisioner.stop().await;
}

/// One life and end of a lease, during which the process dies instead of its `n`th write and another takes over. False if
/// there were fewer writes.
async fn killed_instead_of_write(n: usize) -> bool {
    let (api, broker) = (cluster(), FakeBroker::start().await);
    broker.set(lease('a', LONG));
    let writes = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&writes);
    api.gate(move |write| {
        // The leader's own record is no step.
        write.contains("/leases") || counting.fetch_add(1, Ordering::SeqCst) != n
    });
    let hit = || writes.load(Ordering::SeqCst) > n;

    let mut provisioner = Provisioner::start(&api, &broker, "p-1").await;
    until("it is ready or stuck", || {
        broker.is(ID, MountState::Ready) || hit()
    })
    .await;
    if hit() {
        provisioner.kill().await;
        provisioner = Provisioner::start(&api, &broker, "p-1").await;
        until("it is ready after all", || broker.is(ID, MountState::Ready)).await;
    }
    let pod = holder(&api, "running");
    broker.end(ID);
    until("it is over or stuck", || broker.ended(ID) || hit()).await;
    if hit() && !broker.ended(ID) {
        provisioner.kill().await;
        provisioner = Provisioner::start(&api, &broker, "p-1").await;
        until("it is over after all", || broker.ended(ID)).await;
    }
    assert_eq!(remains(&api), [""; 0]);
    assert!(api.get(&pod).is_none());
    assert_eq!(broker.told().last().unwrap(), "ENDED");
    provisioner.stop().await;
    hit()
}

#[tokio::test]
async fn killed_instead_of_any_write_the_next_process_finishes_what_was_begun() {
    let all = futures::future::join_all((0..9).map(killed_instead_of_write)).await;
    let reached = all.iter().filter(|hit| **hit).count();
    assert!(
        reached >= 8,
        "a life of a lease has at least eight writes, only {reached} were interrupted"
    );
}

#[tokio::test]
async fn one_replica_leads_and_after_its_stop_the_other_does() {
    let (api, broker) = (cluster(), FakeBroker::start().await);
    let first = Provisioner::start(&api, &broker, "p-1").await;
    until("the first leads", || api.get(LEADER).is_some()).await;
    let second = Provisioner::start(&api, &broker, "p-2").await;
    broker.set(lease('a', LONG));
    until("it is reported", || broker.is(ID, MountState::Ready)).await;
    let holder = || api.get(LEADER).unwrap()["spec"]["holderIdentity"].clone();
    assert_eq!(holder(), "p-1");

    first.stop().await;
    let heir = holder();
    assert!(
        heir == "" || heir == "p-2",
        "a leader that stops hands over at once, and {heir} holds on"
    );
    broker.end(ID);
    until("the second finishes it", || broker.ended(ID)).await;
    assert_eq!(holder(), "p-2");
    second.stop().await;
}

#[tokio::test]
async fn after_a_leaders_death_another_leads() {
    let (api, broker) = (cluster(), FakeBroker::start().await);
    let first = Provisioner::start(&api, &broker, "p-1").await;
    until("the first leads", || api.get(LEADER).is_some()).await;
    let second = Provisioner::start(&api, &broker, "p-2").await;
    first.kill().await;
    until("the second leads", || {
        api.get(LEADER).unwrap()["spec"]["holderIdentity"] == "p-2"
    })
    .await;
    second.stop().await;
}

/// On a clock that goes on only when nothing is left to do, so that this is the arithmetic of the election and not the machine's speed.
#[tokio::test(start_paused = true)]
async fn another_leads_within_twelve_seconds_of_a_leaders_death_and_not_before_its_term_is_over() {
    let api = cluster();
    let candidate = |pod: &'static str| {
        let leases = Api::namespaced(api.client(), "leasehold-system");
        let election = Election::new("leasehold-provisioner", pod);
        tokio::spawn(async move {
            let (leading, shutdown) = (AtomicBool::new(false), CancellationToken::new());
            let work = |_, _| std::future::pending();
            lead(leases, election, &leading, shutdown, work).await;
        })
    };
    let leads = |pod: &str| {
        api.get(LEADER)
            .is_some_and(|leader| leader["spec"]["holderIdentity"] == pod)
    };
    let first = candidate("p-1");
    until("the first leads", || leads("p-1")).await;
    let second = candidate("p-2");
    // At several moments between two renewals.
    for after_ms in [100, 700, 1_300, 1_900] {
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        assert!(leads("p-1"), "it is renewed");
    }
    first.abort();
    let died = Instant::now();
    until("the second leads", || leads("p-2")).await;
    let took = died.elapsed();
    assert!(
        (Duration::from_secs(8)..=Duration::from_millis(12_100)).contains(&took),
        "{took:?}"
    );
    second.abort();
}

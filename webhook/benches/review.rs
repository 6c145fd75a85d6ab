//! The decision alone: from the bytes of a recorded review to its patch, without TLS or HTTP.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark that cannot run says so by panicking"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leasehold_broker_wire::machines::{self, WatchLeasesResponse, watch_leases_response::Change};
use leasehold_webhook::admission::Views;
use leasehold_webhook::review::envelope::AdmissionReview;
use leasehold_webhook::review::stamp::Stamp;
use leasehold_webhook::review::{Identities, Stage, View, review};
use leasehold_webhook::stamps::Owner;

fn views() -> Views {
    let account = |name: &str, uid: &str| {
        Some(machines::ServiceAccount {
            namespace: "hub".into(),
            name: name.into(),
            uid: uid.into(),
        })
    };
    let uid = "ec95f4dd-c276-40a0-87b4-8862f4d54361";
    let lease = machines::Lease {
        lease_id: "a".repeat(32),
        dataset_name: "uis".into(),
        subject: "alice".into(),
        state: machines::LeaseState::Active.into(),
        expires_at_ms: i64::MAX,
        max_ttl_seconds: 86_400,
        mount: machines::MountState::Ready.into(),
        ..Default::default()
    };
    let binding = machines::Binding {
        subject: "alice".into(),
        notebook: account("nb-alice-0123456789abcdef", uid),
        executor: account("wf-alice-0123456789abcdef", "executor"),
        home: Some(machines::Home {
            claim: "claim-alice".into(),
            sub_path: String::new(),
            mount_path: "/home/jovyan".into(),
        }),
    };
    let views = Views::default();
    views.leases.begin_snapshot();
    for change in [
        Change::Lease(lease),
        Change::Binding(binding),
        Change::Bookmark(machines::Bookmark {}),
    ] {
        let message = WatchLeasesResponse {
            revision: 1,
            now_ms: 1_000,
            change: Some(change),
        };
        views.leases.apply(message, Instant::now()).unwrap();
    }
    views
        .accounts
        .insert("hub", "wf-alice-0123456789abcdef", "executor");
    views.workflows.insert(Owner {
        uid: "120f5be9-d9ea-4f11-9e03-be720a0eac6f".into(),
        namespace: "hub".into(),
        name: "jupyter-alice-example-com---ff8d9819-4hmvs".into(),
        stamp: Some(Stamp {
            v: 1,
            namespace: "hub".into(),
            service_account: "nb-alice-0123456789abcdef".into(),
            uid: uid.into(),
            pod: None,
            pod_uid: None,
        }),
        deleting: false,
    });
    views
}

fn reviews(criterion: &mut Criterion) {
    let views = views();
    let identities = Identities {
        controller: "system:serviceaccount:argo:argo".into(),
        provisioner: String::new(),
    };
    let now = Instant::now();
    let pod = include_str!("../tests/fixtures/pod-job.json").replace(
        "\"serviceAccountName\":\"alice\"",
        "\"serviceAccountName\":\"wf-alice-0123456789abcdef\"",
    );
    let workflow = include_str!("../tests/fixtures/workflow-of-jupyterflow.json")
        .replace(
            "system:serviceaccount:hub:alice",
            "system:serviceaccount:hub:nb-alice-0123456789abcdef",
        )
        .replace(
            "\"serviceAccountName\":\"alice\"",
            "\"serviceAccountName\":\"nb-alice-0123456789abcdef\"",
        );
    let mut group = criterion.benchmark_group("review");
    group.measurement_time(Duration::from_secs(3));
    for (name, body) in [("pod", pod), ("workflow", workflow)] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let envelope: AdmissionReview<'_> =
                    serde_json::from_slice(black_box(body.as_bytes())).unwrap();
                let request = envelope.request.unwrap();
                let view = View {
                    leases: &views.leases,
                    workflows: &views.workflows,
                    cron_workflows: &views.cron_workflows,
                    accounts: &views.accounts,
                    facts: &[],
                    now,
                    identities: &identities,
                };
                review(Stage::Mutating, &request, &view).unwrap().into_json()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, reviews);
criterion_main!(benches);

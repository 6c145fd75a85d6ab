//! The webhook as it is, with a view that no broker and no API server feeds: one person, one lease, one Workflow. For
//! measuring; `load` starts it.

#[path = "support/listen.rs"]
mod listen;
#[path = "support/pin.rs"]
mod pin;

use std::sync::Arc;
use std::time::{Duration, Instant};

use leasehold_broker_wire::machines::{self, WatchLeasesResponse, watch_leases_response::Change};
use leasehold_webhook::admission::{Admission, Limits, Lookups, Views, serve};
use leasehold_webhook::review::Identities;
use leasehold_webhook::review::stamp::Stamp;
use leasehold_webhook::stamps::Owner;
use listen::listen;
use pin::{Failure, pin};
use tokio_util::sync::CancellationToken;

const NOTEBOOK: &str = "ec95f4dd-c276-40a0-87b4-8862f4d54361";

fn main() -> Result<(), Failure> {
    let core = std::env::args()
        .nth(1)
        .ok_or("give the core to run on")?
        .parse()?;
    pin(core)?;
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<(), Failure> {
    let views = Arc::new(views()?);
    let identities = Identities {
        controller: "system:serviceaccount:argo:argo".into(),
        provisioner: "system:serviceaccount:leasehold-system:leasehold-provisioner".into(),
    };
    let admission = Arc::new(Admission::new(
        Arc::clone(&views),
        identities,
        Lookups::default(),
        512,
    ));
    let (listener, tls) = listen().await?;
    let serving = serve(
        listener,
        tls,
        admission,
        // All the load comes from one address.
        Limits {
            connections_per_peer: 256,
            ..Limits::new(Duration::from_secs(4))
        },
        CancellationToken::new(),
    );
    let beating = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let beat = message(Change::Heartbeat(machines::Heartbeat {}));
            if let Err(error) = views.leases.apply(beat, Instant::now()) {
                break Err::<(), Failure>(error.into());
            }
        }
    };
    tokio::select! {
        () = serving => Ok(()),
        broke = beating => broke,
    }
}

fn message(change: Change) -> WatchLeasesResponse {
    WatchLeasesResponse {
        revision: 1,
        now_ms: 1_000,
        change: Some(change),
    }
}

fn views() -> Result<Views, Failure> {
    let account = |name: &str, uid: &str| {
        Some(machines::ServiceAccount {
            namespace: "hub".into(),
            name: name.into(),
            uid: uid.into(),
        })
    };
    let lease = machines::Lease {
        lease_id: "a".repeat(32),
        dataset_id: "d".repeat(64),
        dataset_name: "uis".into(),
        owner: "UiSMSP".into(),
        subject: "alice".into(),
        state: machines::LeaseState::Active.into(),
        expires_at_ms: i64::MAX,
        max_ttl_seconds: 86_400,
        fencing_token: 1,
        mount: machines::MountState::Ready.into(),
        ..Default::default()
    };
    let binding = machines::Binding {
        subject: "alice".into(),
        notebook: account("nb-alice-0123456789abcdef", NOTEBOOK),
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
        views.leases.apply(message(change), Instant::now())?;
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
            uid: NOTEBOOK.into(),
            pod: None,
            pod_uid: None,
        }),
        deleting: false,
    });
    Ok(views)
}

//! A broker in memory: streams leases and bindings, opens volumes, takes reports. Ending and confirming change its leases as
//! the contract would.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{Stream, StreamExt};
use leasehold_broker_wire::machines::machines_server::{Machines, MachinesServer};
use leasehold_broker_wire::machines::watch_leases_response::Change;
use leasehold_broker_wire::machines::{self as wire, *};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub const VOLUME: &str =
    r#"{"kind":"local","path":"/srv/uis/texts","node":"node-1","credential":{"key":"hunter2"}}"#;

#[derive(Clone)]
pub struct FakeBroker {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<Change>,
    stop: CancellationToken,
    pub address: SocketAddr,
}

struct State {
    leases: BTreeMap<String, wire::Lease>,
    bindings: Vec<Binding>,
    volume: String,
    /// What the next openings say instead.
    lies: VecDeque<&'static str>,
    /// Reports and confirmations, in order.
    told: Vec<String>,
    skeleton: Vec<String>,
}

pub fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

pub fn lease(digit: char, ttl: Duration) -> wire::Lease {
    wire::Lease {
        lease_id: digit.to_string().repeat(32),
        dataset_id: digit.to_string().repeat(64),
        dataset_name: "texts".into(),
        owner: "UiSMSP".into(),
        subject: "5b".into(),
        state: LeaseState::Active.into(),
        granted_at_ms: now_ms(),
        expires_at_ms: now_ms() + i64::try_from(ttl.as_millis()).unwrap(),
        max_ttl_seconds: 3600,
        fencing_token: 1,
        mount: MountState::Pending.into(),
        mount_message: String::new(),
        end_cause: String::new(),
    }
}

impl FakeBroker {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let account = |name: &str| ServiceAccount {
            namespace: "hub".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
        };
        let binding = Binding {
            subject: "5b".into(),
            notebook: Some(account("nb-alice")),
            executor: Some(account("wf-alice")),
            home: Some(Home {
                claim: "home".into(),
                sub_path: String::new(),
                mount_path: "/home/jovyan".into(),
            }),
        };
        let state = State {
            leases: BTreeMap::new(),
            bindings: vec![binding],
            volume: VOLUME.into(),
            lies: VecDeque::new(),
            told: Vec::new(),
            skeleton: Vec::new(),
        };
        let broker = Self {
            state: Arc::new(Mutex::new(state)),
            changes: broadcast::channel(1024).0,
            stop: CancellationToken::new(),
            address: listener.local_addr().unwrap(),
        };
        let serving = tonic::transport::Server::builder()
            .add_service(MachinesServer::new(broker.clone()))
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                broker.stop.clone().cancelled_owned(),
            );
        tokio::spawn(serving);
        broker
    }

    /// The next openings of the volume name these paths.
    pub fn opens_next(&self, paths: &[&'static str]) {
        self.state.lock().unwrap().lies = paths.iter().copied().collect();
    }

    /// Goes away and does not come back.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    pub fn set(&self, lease: wire::Lease) {
        let mut state = self.state.lock().unwrap();
        state.leases.insert(lease.lease_id.clone(), lease.clone());
        drop(state);
        let _ = self.changes.send(Change::Lease(lease));
    }

    pub fn end(&self, id: &str) {
        let mut lease = self.lease(id).unwrap();
        lease.state = LeaseState::Ending.into();
        lease.end_cause = "released".into();
        self.set(lease);
    }

    pub fn lease(&self, id: &str) -> Option<wire::Lease> {
        self.state.lock().unwrap().leases.get(id).cloned()
    }

    pub fn told(&self) -> Vec<String> {
        self.state.lock().unwrap().told.clone()
    }

    pub fn skeleton(&self) -> Vec<String> {
        self.state.lock().unwrap().skeleton.clone()
    }

    pub fn is(&self, id: &str, mount: MountState) -> bool {
        self.lease(id)
            .is_some_and(|lease| lease.mount == i32::from(mount))
    }

    pub fn ended(&self, id: &str) -> bool {
        self.lease(id)
            .is_some_and(|lease| lease.state == i32::from(LeaseState::Ended))
    }
}

fn said(change: Change) -> WatchLeasesResponse {
    WatchLeasesResponse {
        revision: 1,
        now_ms: now_ms(),
        change: Some(change),
    }
}

#[tonic::async_trait]
impl Machines for FakeBroker {
    type WatchLeasesStream = Pin<Box<dyn Stream<Item = Result<WatchLeasesResponse, Status>> + Send>>;

    async fn watch_leases(
        &self,
        _: Request<WatchLeasesRequest>,
    ) -> Result<Response<Self::WatchLeasesStream>, Status> {
        let state = self.state.lock().unwrap();
        let changes =
            BroadcastStream::new(self.changes.subscribe()).filter_map(|change| async { change.ok() });
        let ended = i32::from(LeaseState::Ended);
        let leases = state
            .leases
            .values()
            .filter(|lease| lease.state != ended)
            .cloned()
            .map(Change::Lease);
        let bindings = state.bindings.iter().cloned().map(Change::Binding);
        let snapshot: Vec<Change> = leases
            .chain(bindings)
            .chain([Change::Bookmark(Bookmark {})])
            .collect();
        drop(state);
        let beats =
            tokio_stream::wrappers::IntervalStream::new(tokio::time::interval(Duration::from_millis(200)))
                .map(|_| Change::Heartbeat(Heartbeat {}));
        let live = futures::stream::select(changes, beats);
        let all = futures::stream::iter(snapshot)
            .chain(live)
            .take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(all.map(|change| Ok(said(change))))))
    }

    async fn resolve_mounts(
        &self,
        _: Request<ResolveMountsRequest>,
    ) -> Result<Response<ResolveMountsResponse>, Status> {
        Err(Status::unimplemented("not asked by a provisioner"))
    }

    async fn open_volume(
        &self,
        request: Request<OpenVolumeRequest>,
    ) -> Result<Response<OpenVolumeResponse>, Status> {
        let lease = self
            .lease(&request.into_inner().lease_id)
            .ok_or_else(|| Status::not_found("no lease"))?;
        if lease.state != i32::from(LeaseState::Active) {
            return Err(Status::failed_precondition("the lease is not active"));
        }
        let mut state = self.state.lock().unwrap();
        let volume = match state.lies.pop_front() {
            Some(path) => state.volume.replace("/srv/uis/texts", path),
            None => state.volume.clone(),
        };
        let volume = volume.into_bytes();
        Ok(Response::new(OpenVolumeResponse { volume }))
    }

    async fn report_mount(
        &self,
        request: Request<ReportMountRequest>,
    ) -> Result<Response<ReportMountResponse>, Status> {
        let report = request.into_inner();
        let mut lease = self
            .lease(&report.lease_id)
            .ok_or_else(|| Status::not_found("no lease"))?;
        lease.mount = report.mount;
        lease.mount_message = report.message.clone();
        let mut state = self.state.lock().unwrap();
        state
            .told
            .push(format!("{} {}", report.mount().as_str_name(), report.code));
        state.skeleton = report.skeleton;
        drop(state);
        self.set(lease);
        Ok(Response::new(ReportMountResponse {}))
    }

    async fn confirm_end(
        &self,
        request: Request<ConfirmEndRequest>,
    ) -> Result<Response<ConfirmEndResponse>, Status> {
        let mut lease = self
            .lease(&request.into_inner().lease_id)
            .ok_or_else(|| Status::not_found("no lease"))?;
        lease.state = LeaseState::Ended.into();
        self.state.lock().unwrap().told.push("ENDED".into());
        self.set(lease);
        Ok(Response::new(ConfirmEndResponse {}))
    }

    async fn bind_service_accounts(
        &self,
        _: Request<BindServiceAccountsRequest>,
    ) -> Result<Response<BindServiceAccountsResponse>, Status> {
        Err(Status::unimplemented("not asked by a provisioner"))
    }
}

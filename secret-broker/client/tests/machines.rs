//! What the machines' client promises, over real sockets and TLS, against a broker that answers from a script.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use leasehold_broker_client::machines::{Endpoint, MachinesClient};
use leasehold_broker_wire::machines as wire;
use leasehold_broker_wire::machines::machines_server::{Machines, MachinesServer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};

/// Remembers the tokens that it saw; sends one heartbeat and falls silent; never answers `open_volume`.
#[derive(Clone, Default)]
struct Scripted {
    tokens: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl Machines for Scripted {
    type WatchLeasesStream = BoxStream<'static, Result<wire::WatchLeasesResponse, Status>>;

    async fn watch_leases(
        &self,
        _: Request<wire::WatchLeasesRequest>,
    ) -> Result<Response<Self::WatchLeasesStream>, Status> {
        let heartbeat = wire::WatchLeasesResponse {
            revision: 1,
            now_ms: 1,
            change: None,
        };
        Ok(Response::new(
            stream::iter([Ok(heartbeat)]).chain(stream::pending()).boxed(),
        ))
    }

    async fn resolve_mounts(
        &self,
        request: Request<wire::ResolveMountsRequest>,
    ) -> Result<Response<wire::ResolveMountsResponse>, Status> {
        let token = request
            .metadata()
            .get("authorization")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        self.tokens.lock().unwrap().push(token);
        Ok(Response::new(wire::ResolveMountsResponse {
            now_ms: 7,
            binding: None,
            leases: vec![],
        }))
    }

    async fn open_volume(
        &self,
        _: Request<wire::OpenVolumeRequest>,
    ) -> Result<Response<wire::OpenVolumeResponse>, Status> {
        std::future::pending().await
    }

    async fn report_mount(
        &self,
        _: Request<wire::ReportMountRequest>,
    ) -> Result<Response<wire::ReportMountResponse>, Status> {
        Err(Status::permission_denied("not the provisioner"))
    }

    async fn confirm_end(
        &self,
        _: Request<wire::ConfirmEndRequest>,
    ) -> Result<Response<wire::ConfirmEndResponse>, Status> {
        Ok(Response::new(wire::ConfirmEndResponse {}))
    }

    async fn bind_service_accounts(
        &self,
        _: Request<wire::BindServiceAccountsRequest>,
    ) -> Result<Response<wire::BindServiceAccountsResponse>, Status> {
        std::future::pending().await
    }
}

struct Broker {
    address: SocketAddr,
    scripted: Scripted,
    _server: tokio::task::JoinHandle<()>,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

async fn broker(authority: &CertifiedIssuer<'static, KeyPair>, name: &str) -> Broker {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, authority)
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let scripted = Scripted::default();
    let server = Server::builder()
        .tls_config(ServerTlsConfig::new().identity(Identity::from_pem(leaf.pem(), key.serialize_pem())))
        .unwrap()
        .add_service(MachinesServer::new(scripted.clone()));
    let server = tokio::spawn(async move {
        server
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    Broker {
        address,
        scripted,
        _server: server,
    }
}

fn client(broker: &Broker, directory: &Path) -> MachinesClient {
    MachinesClient::new(Endpoint {
        url: format!("https://localhost:{}", broker.address.port()),
        ca_file: directory.join("ca.crt"),
        token_file: directory.join("token"),
    })
    .unwrap()
}

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn files_may_appear_and_rotate_after_the_client_was_made() {
    let authority = authority();
    let broker = broker(&authority, "localhost").await;
    let directory = tempfile::tempdir().unwrap();
    let client = client(&broker, directory.path());

    let status = client.resolve_mounts("uid", SOON).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("token"), "{status}");

    std::fs::write(directory.path().join("token"), "first\n").unwrap();
    let status = client.resolve_mounts("uid", SOON).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("ca.crt"), "{status}");

    // Another authority's certificate is not trusted …
    std::fs::write(directory.path().join("ca.crt"), self::authority().pem()).unwrap();
    assert_eq!(
        client.resolve_mounts("uid", SOON).await.unwrap_err().code(),
        Code::Unavailable
    );
    assert!(
        broker.scripted.tokens.lock().unwrap().is_empty(),
        "a token went to an unproven broker"
    );

    // … until the right one is mounted in its place.
    std::fs::write(directory.path().join("ca.crt"), authority.pem()).unwrap();
    assert_eq!(client.resolve_mounts("uid", SOON).await.unwrap().now_ms, 7);
    std::fs::write(directory.path().join("token"), "second").unwrap();
    client.resolve_mounts("uid", SOON).await.unwrap();
    assert_eq!(
        *broker.scripted.tokens.lock().unwrap(),
        ["Bearer first", "Bearer second"]
    );
}

#[tokio::test]
async fn a_server_with_another_name_gets_no_token() {
    let authority = authority();
    let broker = broker(&authority, "elsewhere").await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "token").unwrap();
    std::fs::write(directory.path().join("ca.crt"), authority.pem()).unwrap();
    let status = client(&broker, directory.path())
        .resolve_mounts("uid", SOON)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(broker.scripted.tokens.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_silent_stream_and_a_hanging_call_end_with_an_error() {
    let authority = authority();
    let broker = broker(&authority, "localhost").await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "token").unwrap();
    std::fs::write(directory.path().join("ca.crt"), authority.pem()).unwrap();
    let client = client(&broker, directory.path());

    let stream = client.watch_leases();
    let hanging = client.open_volume("00");
    let refused = client.report_mount(wire::ReportMountRequest::default());
    let (changes, hanging, refused) = tokio::join!(stream.collect::<Vec<_>>(), hanging, refused);

    assert_eq!(changes.len(), 2, "{changes:?}");
    assert_eq!(changes[0].as_ref().unwrap().revision, 1);
    let silent = changes[1].as_ref().unwrap_err();
    assert_eq!(silent.code(), Code::Unavailable);
    assert!(silent.message().contains("silent"), "{silent}");
    assert!(matches!(
        hanging.unwrap_err().code(),
        Code::DeadlineExceeded | Code::Cancelled
    ));
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
}

//! The listener over real sockets and TLS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use leasehold_broker_wire::machines::{Heartbeat, WatchLeasesResponse, watch_leases_response::Change};
use leasehold_webhook::admission::{Admission, Limits, Lookups, MAX_BODY_BYTES, Views, serve};
use leasehold_webhook::certificates::{Authority, ServingCertificate};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::world::*;

fn limits() -> Limits {
    Limits::new(Duration::from_secs(4))
}

fn client(ca: &str, address: SocketAddr) -> reqwest::ClientBuilder {
    let ca = reqwest::Certificate::from_pem(ca.as_bytes()).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([ca])
        .resolve("localhost", address)
}

/// As if its broker had vouched for the view an hour ahead: nobody vouches for it again while a test runs.
fn stays_fresh(views: &Views) {
    let heartbeat = WatchLeasesResponse {
        revision: 1,
        now_ms: NOW_MS,
        change: Some(Change::Heartbeat(Heartbeat {})),
    };
    let later = Instant::now() + Duration::from_secs(3600);
    views.leases.apply(heartbeat, later).unwrap();
}

struct Server {
    address: SocketAddr,
    client: reqwest::Client,
    ca: String,
    admission: Arc<Admission>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(most_in_flight: usize) -> Self {
        Self::start_with(most_in_flight, limits(), None).await
    }

    async fn start_with(most_in_flight: usize, limits: Limits, callers: Option<RootCertStore>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Authority::make("localhost", Duration::from_secs(3600)).unwrap();
        let certificate = ServingCertificate::new();
        certificate.serve(authority.leaf(Duration::from_secs(600)).unwrap().0);
        let tls = Arc::new(certificate.server_config(callers).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let views = Arc::new(World::new().views);
        stays_fresh(&views);
        let admission = Arc::new(Admission::new(
            views,
            identities(),
            Lookups::default(),
            most_in_flight,
        ));
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(serve(
            listener,
            tls,
            Arc::clone(&admission),
            limits,
            shutdown.clone(),
        ));
        let ca = authority.pem().to_owned();
        Self {
            address,
            client: client(&ca, address).build().unwrap(),
            ca,
            admission,
            shutdown,
            running,
        }
    }

    /// A client that calls from another address of this machine.
    fn client_from(&self, last: u8) -> reqwest::Client {
        client(&self.ca, self.address)
            .local_address(IpAddr::from([127, 0, 0, last]))
            .build()
            .unwrap()
    }

    /// A TLS connection of HTTP/1.1 from this address of the machine.
    async fn connect(&self, last: u8) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        let stream = socket.connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    fn request(&self, path: &str) -> reqwest::RequestBuilder {
        self.client
            .post(format!("https://localhost:{}{path}", self.address.port()))
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self
            .request(path)
            .header("content-type", "application/json")
            .body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.running)
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_are_answered_with_their_uid_and_a_patch() {
    let server = Server::start(8).await;
    let (status, answer) = server.post("/mutate?timeout=5s", pod().to_string()).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&answer["apiVersion"], &answer["kind"]),
        (&json!("admission.k8s.io/v1"), &json!("AdmissionReview"))
    );
    assert_eq!(answer["response"]["uid"], pod()["request"]["uid"]);
    assert_eq!(
        (&answer["response"]["allowed"], &answer["response"]["patchType"]),
        (&json!(true), &json!("JSONPatch"))
    );
    let (_, answer) = server.post("/validate", pod().to_string()).await;
    assert_eq!(answer["response"]["status"]["code"], 429);
    assert!(
        answer["response"]["status"]["message"]
            .as_str()
            .unwrap()
            .ends_with("[views_disagree]")
    );
    let text = server.admission.metrics().render(server.admission.views());
    assert!(
        text.contains("leasehold_webhook_reviews_total{stage=\"mutating\",code=\"patched\"} 1"),
        "{text}"
    );
    assert!(text.contains("leasehold_webhook_reviews_total{stage=\"validating\",code=\"views_disagree\"} 1"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_review_gets_its_own_answer() {
    let server = Server::start(8).await;
    let mut old = pod();
    old["apiVersion"] = json!("admission.k8s.io/v1beta1");
    for (body, code) in [
        ("{".to_owned(), "malformed"),
        ("[]".to_owned(), "malformed"),
        (format!("{}{}", "[".repeat(5000), "]".repeat(5000)), "malformed"),
        (old.to_string(), "unsupported_version"),
        (
            json!({"apiVersion": "v1", "kind": "Pod"}).to_string(),
            "unsupported_version",
        ),
        (
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}).to_string(),
            "no_request",
        ),
    ] {
        let (status, answer) = server.post("/mutate", body).await;
        assert_eq!((status, answer["code"].as_str().unwrap()), (400, code));
    }
    let (status, answer) = server.post("/mutate", vec![b' '; 4 << 20]).await;
    assert_eq!((status, answer["code"].as_str().unwrap()), (413, "too_large"));
    let stream =
        futures::stream::iter((0..9).map(|_| Ok::<_, std::io::Error>(vec![b' '; MAX_BODY_BYTES / 8])));
    let (status, _) = server.post("/validate", reqwest::Body::wrap_stream(stream)).await;
    assert_eq!(status, 413, "without a length the bytes are counted");
    let answer = server
        .request("/mutate")
        .header("content-type", "text/yaml")
        .body("a: b")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 415);
    let url = format!("https://localhost:{}/mutate", server.address.port());
    assert_eq!(server.client.get(url).send().await.unwrap().status(), 405);
    assert_eq!(server.post("/other", "{}").await.0, 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_reviews_at_once_are_answered_at_once_with_429() {
    let server = Server::start(0).await;
    let (status, answer) = server.post("/mutate", pod().to_string()).await;
    assert_eq!(status, 200);
    assert_eq!(answer["response"]["uid"], pod()["request"]["uid"]);
    assert_eq!(answer["response"]["status"]["code"], 429);
    assert!(
        answer["response"]["status"]["message"]
            .as_str()
            .unwrap()
            .ends_with("[overloaded]")
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_views_miss_and_nobody_answers_is_429() {
    let server = Server::start(8).await;
    let mut review = pod();
    object(&mut review)["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    let (_, answer) = server.post("/mutate", review.to_string()).await;
    assert_eq!(answer["response"]["status"]["code"], 429);
    assert!(
        answer["response"]["status"]["message"]
            .as_str()
            .unwrap()
            .ends_with("[lookup_failed]")
    );
    server.stop().await;
}

/// A request whose body is announced, the largest there may be, and does not come.
fn half_a_body() -> String {
    format!(
        "POST /mutate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {MAX_BODY_BYTES}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_announces_more_bodies_than_their_part_waits_and_nobody_else_does() {
    let server = Server::start(8).await;
    let part = (64 << 20) / 4 / MAX_BODY_BYTES;
    let mut half_sent = Vec::new();
    for _ in 0..part {
        let mut stream = server.connect(1).await.unwrap();
        stream.write_all(half_a_body().as_bytes()).await.unwrap();
        // Told to go on: it is being read, and its bytes are held.
        let mut told = [0; 25];
        stream.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        half_sent.push(stream);
    }
    let request = server
        .client
        .post(server.url("/mutate?timeout=1s"))
        .header("content-type", "application/json")
        .body(vec![b' '; MAX_BODY_BYTES]);
    let refused = request.send().await.unwrap();
    assert_eq!(refused.status(), 503);
    let refused: Value = refused.json().await.unwrap();
    assert_eq!(refused["code"], "overloaded");

    let other = server
        .client_from(2)
        .post(server.url("/mutate"))
        .header("content-type", "application/json")
        .body(pod().to_string());
    let answer: Value = other.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["response"]["allowed"], true);
    drop(half_sent);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_gets_its_number_of_connections_and_no_more_and_others_get_theirs() {
    let few = Limits {
        connections_per_peer: 2,
        ..limits()
    };
    let server = Server::start_with(8, few, None).await;
    let (first, second) = (server.connect(1).await.unwrap(), server.connect(1).await.unwrap());
    assert!(server.connect(1).await.is_err());
    assert!(server.connect(2).await.is_ok());
    drop((first, second));
    let again = async { while server.connect(1).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(10), again)
        .await
        .expect("a closed connection's place is not given back");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_addresses_hold_all_connections_and_bodies_another_is_answered() {
    let few = Limits {
        connections: 40,
        connections_per_peer: 16,
        ..limits()
    };
    let server = Server::start_with(8, few, None).await;
    let mut hostile = Vec::new();
    for last in 10..15 {
        for number in 0..8 {
            let mut stream = server.connect(last).await.unwrap();
            // Half of a body's head and no more of it, where a body may be read at all.
            if number % 2 == 0 {
                stream.write_all(half_a_body().as_bytes()).await.unwrap();
            }
            hostile.push(stream);
        }
    }
    for _ in 0..4 {
        let ours = server.client_from(2).post(server.url("/mutate"));
        let ours = ours.header("content-type", "application/json");
        let answer = ours.body(pod().to_string()).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["response"]["allowed"], true);
    }
    drop(hostile);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_asks_nothing_gives_its_place_back() {
    let one = Limits {
        connections_per_peer: 1,
        idle: Duration::from_secs(3),
        ..limits()
    };
    let server = Server::start_with(8, one, None).await;
    let request = server
        .request("/mutate")
        .header("content-type", "application/json");
    let answer = request.body(pod().to_string()).send().await.unwrap();
    answer.bytes().await.unwrap();
    let place = async { while server.connect(1).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), place)
        .await
        .expect("an idle connection keeps its place");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_client_authority_only_its_certificates_may_call() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(parameters, key);
    let client_key = rcgen::KeyPair::generate().unwrap();
    let mut of_client = rcgen::CertificateParams::new(Vec::new()).unwrap();
    of_client.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let of_client = of_client.signed_by(&client_key, &issuer).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let server = Server::start_with(8, limits(), Some(roots)).await;

    let call = |client: &reqwest::Client| {
        let request = client.post(server.url("/mutate"));
        request
            .header("content-type", "application/json")
            .body(pod().to_string())
            .send()
    };
    assert!(call(&server.client).await.is_err());
    let pem = format!("{}{}", client_key.serialize_pem(), of_client.pem());
    let identity = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
    let known = client(&server.ca, server.address).identity(identity);
    assert_eq!(call(&known.build().unwrap()).await.unwrap().status(), 200);
    server.stop().await;
}

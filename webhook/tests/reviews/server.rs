//! The listener over real sockets and TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leasehold_webhook::admission::{Admission, Lookups, MAX_BODY_BYTES, serve};
use leasehold_webhook::certificates::{Authority, ServingCertificate};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::world::*;

struct Server {
    address: SocketAddr,
    client: reqwest::Client,
    admission: Arc<Admission>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(most_in_flight: usize) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let authority = Authority::make("localhost", Duration::from_secs(3600)).unwrap();
        let certificate = ServingCertificate::new();
        certificate.serve(authority.leaf(Duration::from_secs(600)).unwrap().0);
        let tls = Arc::new(certificate.server_config().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let views = Arc::new(World::new().views);
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
            Duration::from_secs(4),
            shutdown.clone(),
        ));
        let ca = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .resolve("localhost", address)
            .build()
            .unwrap();
        Self {
            address,
            client,
            admission,
            shutdown,
            running,
        }
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

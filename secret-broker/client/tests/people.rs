//! What the people's client promises about where a token goes, over real TLS.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use leasehold_broker_client::people::{Endpoint, PeopleClient, PeopleError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

type Authority = CertifiedIssuer<'static, KeyPair>;

const ME: &str = r#"{"issuer":"hub","subject":"alice","username":null,"roles":[],"organisation":"UiOMSP"}"#;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Answers every connection with `answer`; gives the requests that it could read.
async fn broker(authority: &Authority, answer: String) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, authority)
        .unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            seen.lock()
                .unwrap()
                .push(String::from_utf8_lossy(&request[..length]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        }
    });
    (address, requests)
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

struct Person {
    client: PeopleClient,
    directory: tempfile::TempDir,
}

fn person(host: &str, address: SocketAddr, trusted: &Authority) -> Person {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "the-token").unwrap();
    std::fs::write(directory.path().join("ca.crt"), trusted.pem()).unwrap();
    let endpoint = Endpoint {
        url: format!("https://{host}:{}", address.port()),
        ca_file: Some(directory.path().join("ca.crt")),
        token_file: directory.path().join("token"),
    };
    Person {
        client: PeopleClient::new(endpoint).unwrap(),
        directory,
    }
}

#[tokio::test]
async fn the_token_goes_to_the_broker_that_the_ca_vouches_for_and_to_nobody_else() {
    let authority = authority();
    let (address, requests) = broker(&authority, ok(ME)).await;

    let stranger = person("localhost", address, &self::authority());
    assert!(matches!(
        stranger.client.me().await,
        Err(PeopleError::Unreachable { .. })
    ));
    let misnamed = person("127.0.0.1", address, &authority);
    assert!(matches!(
        misnamed.client.me().await,
        Err(PeopleError::Unreachable { .. })
    ));
    assert!(
        requests.lock().unwrap().is_empty(),
        "an unproven broker got a request"
    );

    let alice = person("localhost", address, &authority);
    assert_eq!(alice.client.me().await.unwrap().subject, "alice");
    // A rotated token and a rotated authority take effect with the next request.
    std::fs::write(alice.directory.path().join("token"), "another").unwrap();
    alice.client.me().await.unwrap();
    std::fs::write(alice.directory.path().join("ca.crt"), self::authority().pem()).unwrap();
    assert!(matches!(
        alice.client.me().await,
        Err(PeopleError::Unreachable { .. })
    ));
    let seen = requests.lock().unwrap().clone();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].contains("authorization: Bearer the-token"), "{}", seen[0]);
    assert!(seen[1].contains("authorization: Bearer another"), "{}", seen[1]);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_strange_answer_is_told_as_such() {
    let authority = authority();
    let (elsewhere, requests) = broker(&authority, ok(ME)).await;
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://localhost:{}/v1/me\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        elsewhere.port()
    );
    let (address, _) = broker(&authority, redirect).await;
    let alice = person("localhost", address, &authority);
    assert!(
        matches!(alice.client.me().await, Err(PeopleError::Unintelligible { status, .. }) if status == 307)
    );
    assert!(requests.lock().unwrap().is_empty(), "the token went elsewhere");
}

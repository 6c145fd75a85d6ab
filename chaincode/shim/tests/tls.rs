//! TLS: who may connect, and to whom.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "support/authority.rs"]
mod authority;
#[path = "support/probe.rs"]
mod probe;
#[path = "support/served.rs"]
mod served;

use authority::Authority;
use fabric_shim::{Limits, TlsConfig};
use fabric_sim::{Client, Dial, Network, Tls};
use served::{PATIENCE, Served};

async fn serve(authority: &Authority, client_ca: Option<&Authority>) -> Served {
    let (certificate, key) = authority::issued(authority, "127.0.0.1");
    let tls = TlsConfig {
        certificate: certificate.into(),
        key: key.into(),
        client_ca: client_ca.map(|authority| authority.pem().into()),
    };
    Served::with("probe", Limits::default(), Some(tls)).await
}

fn dial(served: &Served, root: &Authority, identity: Option<(String, String)>) -> Dial {
    Dial {
        tls: Some(Tls {
            root: root.pem(),
            identity,
        }),
        ..served.dial()
    }
}

/// Whether a peer that dials like this gets as far as REGISTER.
async fn is_let_in(dial: &Dial) -> bool {
    match dial.open().await {
        Ok(mut peer) => peer.register(None, PATIENCE).await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn a_peer_that_trusts_the_certificate_is_served_over_tls() {
    let root = authority::new();
    let served = serve(&root, None).await;
    let network = Network::start();
    let deployment = fabric_sim::Deployment {
        dial: dial(&served, &root, None),
        ..served.deployment("probe", &[])
    };
    network.attach(&deployment).await.unwrap();
    let client = Client::new("Org1MSP", "alice").unwrap();
    let steps = r#"[["put","a","1"]]"#;
    let endorsed = network
        .endorse(&network.propose(&client, "probe", &["run", steps]))
        .await
        .unwrap();
    assert_eq!(endorsed.response.payload, "[\"done\"]");
}

#[tokio::test]
async fn a_peer_that_trusts_another_root_or_speaks_plain_text_is_not_served() {
    let (root, another) = (authority::new(), authority::new());
    let served = serve(&root, None).await;
    assert!(is_let_in(&dial(&served, &root, None)).await);
    assert!(!is_let_in(&dial(&served, &another, None)).await);
    assert!(!is_let_in(&served.dial()).await);
}

#[tokio::test]
async fn with_mutual_tls_only_a_peer_with_a_certificate_of_the_right_root_is_let_in() {
    let (root, clients, another) = (authority::new(), authority::new(), authority::new());
    let served = serve(&root, Some(&clients)).await;
    assert!(is_let_in(&dial(&served, &root, Some(authority::issued(&clients, "peer")))).await);
    assert!(
        !is_let_in(&dial(&served, &root, None)).await,
        "without a certificate"
    );
    assert!(
        !is_let_in(&dial(&served, &root, Some(authority::issued(&another, "peer")))).await,
        "of another root"
    );
}

#[tokio::test]
async fn certificates_that_do_not_fit_stop_the_server_at_once() {
    let root = authority::new();
    let (certificate, _) = authority::issued(&root, "127.0.0.1");
    let tls = TlsConfig {
        certificate: certificate.into(),
        key: b"none".to_vec(),
        client_ca: None,
    };
    let served = Served::with("probe", Limits::default(), Some(tls)).await;
    assert!(served.ended().await.is_err());
}

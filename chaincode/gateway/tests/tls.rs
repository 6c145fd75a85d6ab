//! TLS between the client and **simulated** gateways: whom it trusts and what it shows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../../shim/tests/support/authority.rs"]
mod authority;
#[path = "support/bench.rs"]
mod bench;
#[path = "../../shim/tests/support/probe.rs"]
mod probe;
#[path = "../../shim/tests/support/served.rs"]
mod served;

use authority::Authority;
use bench::{Bench, credentials, get};
use fabric_gateway_client::{ClientCertificate, Config, ConfigError, Gateway, Peer, ProposalError};
use fabric_sim::{GatewayPeer, GatewayTls};

/// A gateway over TLS with a certificate for `name`.
fn serve(bench: &Bench, root: &Authority, name: &str, client_ca: Option<&Authority>) -> GatewayPeer {
    let tls = GatewayTls {
        identity: authority::issued(root, name),
        client_ca: client_ca.map(|authority| authority.pem()),
    };
    GatewayPeer::start(&bench.network, 0, Some(tls)).unwrap()
}

async fn asks(peer: Peer, client_certificate: Option<(String, String)>) -> Result<(), ProposalError> {
    let client_certificate = client_certificate.map(|(certificate, key)| ClientCertificate {
        certificate: certificate.into(),
        key: key.into(),
    });
    let config = Config {
        client_certificate,
        ..Config::new(vec![peer])
    };
    let gateway = Gateway::new(config, credentials("alice")).unwrap();
    get(&gateway.contract("channel", "probe"), "a").await.map(drop)
}

#[tokio::test]
async fn a_peer_is_asked_whose_certificate_is_of_the_roots_and_for_its_name() {
    let bench = Bench::start().await;
    let (root, another) = (authority::new(), authority::new());
    let local = serve(&bench, &root, "127.0.0.1", None);
    asks(Peer::tls(local.address(), root.pem()), None).await.unwrap();
    let untrusted = asks(Peer::tls(local.address(), another.pem()), None).await;
    assert!(
        matches!(untrusted, Err(ProposalError::Unavailable(_))),
        "{untrusted:?}"
    );
    let plain = asks(Peer::plain(local.address()), None).await;
    assert!(matches!(plain, Err(ProposalError::Unavailable(_))), "{plain:?}");

    let named = serve(&bench, &root, "peer0.org1", None);
    let other_name = asks(Peer::tls(named.address(), root.pem()), None).await;
    assert!(
        matches!(other_name, Err(ProposalError::Unavailable(_))),
        "{other_name:?}"
    );
    let by_name = Peer {
        server_name: Some("peer0.org1".to_owned()),
        ..Peer::tls(named.address(), root.pem())
    };
    asks(by_name, None).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_wants_a_certificate_is_shown_one() {
    let bench = Bench::start().await;
    let (root, clients, another) = (authority::new(), authority::new(), authority::new());
    let peer = serve(&bench, &root, "127.0.0.1", Some(&clients));
    let dial = || Peer::tls(peer.address(), root.pem());
    asks(dial(), Some(authority::issued(&clients, "client")))
        .await
        .unwrap();
    assert!(asks(dial(), None).await.is_err(), "without a certificate");
    let foreign = authority::issued(&another, "client");
    assert!(asks(dial(), Some(foreign)).await.is_err(), "of another root");
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_before_anything_is_sent() {
    let refused = |peers| Gateway::new(Config::new(peers), credentials("alice")).unwrap_err();
    assert!(matches!(refused(Vec::new()), ConfigError::NoPeers));
    let address = refused(vec![Peer::plain("nowhere")]);
    assert_eq!(address.to_string(), r#"peer address "nowhere" is not host:port"#);
    let config = Config {
        client_certificate: Some(ClientCertificate {
            certificate: b"none".to_vec(),
            key: b"none".to_vec(),
        }),
        ..Config::new(vec![Peer::tls("peer:7051", authority::new().pem())])
    };
    let tls = Gateway::new(config, credentials("alice")).unwrap_err();
    assert!(matches!(tls, ConfigError::Tls { .. }), "{tls:?}");
}

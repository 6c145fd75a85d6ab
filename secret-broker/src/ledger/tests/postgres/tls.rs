//! Over a network the server has to prove who it is, unless the operator says otherwise.

use super::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// Reaches this machine and is no loopback address: a network, as far as anybody knows.
const ELSEWHERE: &str = "0.0.0.0";

/// An authority of this name, and its certificate.
fn authority(name: &str) -> (CertificateParams, KeyPair, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    (params, key, certificate)
}

async fn opened(bench: &Bench, url: &str) -> Result<(), String> {
    let mut options = bench.options();
    options.address = url.parse().unwrap();
    match Ledger::open(options).await {
        Ok(ledger) => {
            ledger.datasets(&PageRequest::default()).await.unwrap();
            ledger.close().await;
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn over_a_network_only_the_server_that_an_authority_vouches_for_is_spoken_to() {
    let (params, authority_key, roots) = authority("database");
    let (_, _, strangers) = authority("stranger");
    let key = KeyPair::generate().unwrap();
    let named = CertificateParams::new(vec![ELSEWHERE.to_owned()]).unwrap();
    let certificate = named
        .signed_by(&key, &Issuer::new(params, &authority_key))
        .unwrap();
    let pair = (certificate.pem(), key.serialize_pem());
    let Some(server) = Server::start_with_certificate("TLS to PostgreSQL", &pair).await else {
        return;
    };
    let database = server.database().await;
    let bench = Bench::on(&database).await;
    let file = |name: &str, text: &str| {
        let path = bench.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let [roots, strangers] = [file("roots.pem", &roots), file("strangers.pem", &strangers)];
    let at = |host: &str, parameters: &str| server.url_at(host, &database, parameters);
    let right = at(ELSEWHERE, &format!("sslrootcert={roots}"));
    opened(&bench, &right).await.unwrap();
    for (url, reason) in [
        (at(ELSEWHERE, ""), "UnknownIssuer"),
        (
            at(ELSEWHERE, &format!("sslrootcert={strangers}")),
            "UnknownIssuer",
        ),
        (
            at("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={roots}")),
            "not valid for name",
        ),
    ] {
        let refused = opened(&bench, &url).await.unwrap_err();
        assert!(refused.contains(reason), "{url}: {refused}");
    }
    // What the operator says is done, and this machine is no network.
    for url in [
        at("127.0.0.1", &format!("sslmode=verify-ca&sslrootcert={roots}")),
        at(ELSEWHERE, "sslmode=require"),
        at("localhost", ""),
    ] {
        opened(&bench, &url).await.unwrap();
    }
    server.stop_encrypting().await;
    let refused = opened(&bench, &right).await.unwrap_err();
    assert!(refused.contains("does not support TLS"), "{refused}");
    opened(&bench, &at(ELSEWHERE, "sslmode=disable")).await.unwrap();
    bench.ledger.close().await;
}

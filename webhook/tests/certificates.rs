//! The webhook's certificates over their life: published, trusted by the configuration, served, renewed; every handshake on
//! the way succeeds against what the configuration trusts at that moment.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "provisioner/fake_api.rs"]
#[allow(dead_code)]
mod fake_api;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fake_api::FakeApi;
use k8s_openapi::ByteString;
use leasehold_webhook::ca_bundle::{CaBundleOptions, maintain};
use leasehold_webhook::certificates::{CertificateOptions, Clock, ServingCertificate, rotate};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const POD: &str = "leasehold-webhook-7d9c-x2x4p";
const CONFIG_MAP: &str = "/api/v1/namespaces/leasehold-system/configmaps/leasehold-webhook-ca";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/leasehold";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/leasehold";

fn cluster() -> FakeApi {
    let api = FakeApi::new();
    api.put(
        CONFIG_MAP,
        json!({"metadata": {"name": "leasehold-webhook-ca"}, "data": {}}),
    );
    let webhook = |name: &str| {
        json!({
            "name": name, "clientConfig": {"service": {"namespace": "leasehold-system", "name": "leasehold-webhook"}},
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
        })
    };
    let webhooks = json!([webhook("pods.leasehold.dev"), webhook("workflows.leasehold.dev")]);
    api.put(
        MUTATING,
        json!({"metadata": {"name": "leasehold"}, "webhooks": webhooks}),
    );
    api.put(
        VALIDATING,
        json!({"metadata": {"name": "leasehold"}, "webhooks": webhooks}),
    );
    let pod = json!({"metadata": {"name": POD, "labels": {"app.kubernetes.io/name": "leasehold-webhook"}}});
    api.put(&format!("/api/v1/namespaces/leasehold-system/pods/{POD}"), pod);
    api
}

fn options(leaf_lifetime: Duration) -> CertificateOptions {
    CertificateOptions {
        leaf_lifetime,
        ..CertificateOptions::new(POD)
    }
}

fn bundle_options() -> CaBundleOptions {
    CaBundleOptions {
        namespace: "leasehold-system".into(),
        config_map: "leasehold-webhook-ca".into(),
        configuration: "leasehold".into(),
        pod_selector: "app.kubernetes.io/name=leasehold-webhook".into(),
        clock: Clock::default(),
    }
}

fn trusted(api: &FakeApi, configuration: &str) -> Vec<CertificateDer<'static>> {
    let object = api.get(configuration).unwrap();
    let bundle = object["webhooks"][1]["clientConfig"]["caBundle"].clone();
    if bundle.is_null() {
        return Vec::new();
    }
    let pem: ByteString = serde_json::from_value(bundle).unwrap();
    CertificateDer::pem_slice_iter(&pem.0)
        .map(Result::unwrap)
        .collect()
}

/// By whose clock a client judges certificates.
#[derive(Debug)]
struct ClientTime(Clock);

impl TimeProvider for ClientTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since = self.0.now().duration_since(UNIX_EPOCH).unwrap();
        Some(UnixTime::since_unix_epoch(since))
    }
}

/// The leaf that is served, if a client that trusts these accepts it for this name at this time.
async fn handshake(
    serving: &Arc<ServingCertificate>,
    roots: Vec<CertificateDer<'static>>,
    name: &'static str,
    clock: &Clock,
) -> std::io::Result<CertificateDer<'static>> {
    let mut store = rustls::RootCertStore::empty();
    roots.into_iter().for_each(|root| store.add(root).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_details(provider, Arc::new(ClientTime(clock.clone())))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(serving.server_config(None).unwrap()));
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (client, _) = tokio::join!(
        connector.connect(ServerName::try_from(name).unwrap(), ours),
        acceptor.accept(theirs)
    );
    Ok(client?.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned())
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const NAME: &str = "leasehold-webhook.leasehold-system.svc";

/// On a clock that goes on only when nothing is left to do: how fast the machine is makes no difference.
#[tokio::test(start_paused = true)]
async fn through_every_renewal_of_leaf_and_ca_no_handshake_fails() {
    let api = cluster();
    let serving = ServingCertificate::new();
    let shutdown = CancellationToken::new();
    let (began, start) = (SystemTime::now(), Instant::now());
    let clock = Clock::new(move || began + start.elapsed());
    assert!(!serving.is_ready());

    let rotating = rotate(
        api.client(),
        CertificateOptions {
            clock: clock.clone(),
            ..options(Duration::from_secs(1))
        },
        &serving,
        shutdown.clone(),
    );
    let bundle_options = CaBundleOptions {
        clock: clock.clone(),
        ..bundle_options()
    };
    let maintaining = maintain(api.client(), bundle_options, shutdown.clone());
    let watching = async {
        until("the certificate is trusted and served", || serving.is_ready()).await;
        let (mut leaves, mut cas) = (BTreeSet::new(), BTreeSet::new());
        let deadline = Instant::now() + Duration::from_secs(30);
        while cas.len() < 3 || leaves.len() < 6 {
            assert!(
                Instant::now() < deadline,
                "only {} CAs and {} leaves were seen",
                cas.len(),
                leaves.len()
            );
            assert!(serving.is_ready());
            let roots = trusted(&api, MUTATING);
            cas.extend(roots.iter().map(|root| root.to_vec()));
            leaves.insert(handshake(&serving, roots, NAME, &clock).await.unwrap().to_vec());
            let roots = trusted(&api, VALIDATING);
            handshake(&serving, roots, NAME, &clock).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let published = api.get(CONFIG_MAP).unwrap()["data"].as_object().unwrap().len();
        assert!(published <= 2, "{published} CAs are published by one replica");
        shutdown.cancel();
    };
    let (rotated, (), ()) = tokio::join!(rotating, maintaining, watching);
    rotated.unwrap();
}

#[tokio::test]
async fn nothing_is_served_before_the_configuration_trusts_it() {
    let api = cluster();
    let serving = ServingCertificate::new();
    let shutdown = CancellationToken::new();
    let rotating = rotate(
        api.client(),
        options(Duration::from_secs(60)),
        &serving,
        shutdown.clone(),
    );
    let watching = async {
        let published = || {
            api.get(CONFIG_MAP).unwrap()["data"]
                .as_object()
                .is_some_and(|data| data.len() == 1)
        };
        until("the CA is published", published).await;
        until("it has looked whether it is trusted", || api.reads(MUTATING) > 2).await;
        assert!(!serving.is_ready());
        let bundle = CancellationToken::new();
        let maintaining = maintain(api.client(), bundle_options(), bundle.clone());
        let waiting = async {
            until("it is ready", || serving.is_ready()).await;
            bundle.cancel();
        };
        tokio::join!(maintaining, waiting);
        shutdown.cancel();
    };
    let (rotated, ()) = tokio::join!(rotating, watching);
    rotated.unwrap();
}

#[tokio::test]
async fn the_ca_is_good_for_the_webhooks_own_name_only() {
    let ca = leasehold_webhook::certificates::Authority::make(NAME, Duration::from_secs(60)).unwrap();
    let root = CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap();
    let serving = ServingCertificate::new();
    serving.serve(ca.leaf(Duration::from_secs(60)).unwrap().0);
    let clock = Clock::default();
    handshake(&serving, vec![root.clone()], NAME, &clock)
        .await
        .unwrap();
    handshake(&serving, vec![root], "kubernetes.default.svc", &clock)
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_ca_bundle_that_somebody_changed_is_repaired() {
    let api = cluster();
    let serving = ServingCertificate::new();
    let shutdown = CancellationToken::new();
    let rotating = rotate(
        api.client(),
        options(Duration::from_secs(60)),
        &serving,
        shutdown.clone(),
    );
    let maintaining = maintain(api.client(), bundle_options(), shutdown.clone());
    let watching = async {
        until("it is ready", || serving.is_ready()).await;
        let right = api.get(MUTATING).unwrap();
        let mut wrong = right.clone();
        wrong["webhooks"][0]["clientConfig"]["caBundle"] = json!(ByteString(b"other".to_vec()));
        api.put(MUTATING, wrong);
        until("it is repaired", || {
            api.get(MUTATING).unwrap()["webhooks"] == right["webhooks"]
        })
        .await;
        shutdown.cancel();
    };
    let (rotated, (), ()) = tokio::join!(rotating, maintaining, watching);
    rotated.unwrap();
}

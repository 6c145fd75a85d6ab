//! Where keys come from, and what an issuer that misbehaves costs: itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::fixture::{Fixture, eventually};
use crate::issuer::Signer;
use crate::tokens::with;

/// Serves a router on a loopback port; says where.
async fn serve(router: impl FnOnce(&str) -> Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = router(&url);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// A port that takes connections and never says anything.
async fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    url
}

fn provider(name: &str, url: &str) -> Value {
    json!({"name": name, "kind": "oidc", "issuer": url, "audience": "leasehold", "algorithms": ["ES256"]})
}

#[tokio::test(flavor = "multi_thread")]
async fn issuers_that_never_answer_delay_nobody_elses_people() {
    let fixture = Fixture::start().await;
    let (slow, nameless) = (silent().await, silent().await);
    let (one, two) = (slow.clone(), nameless);
    fixture
        .reconfigure(|config| {
            let issuers = config["issuers"].as_array_mut().unwrap();
            // Before all others, and one of them does not even have a name of its own yet.
            issuers.insert(0, provider("slow", &one));
            issuers.insert(0, json!({"name": "nameless", "kind": "kubernetes", "api_server": two, "token_file": null, "ca_file": null}));
            config["machines"]["issuer"] = json!("cluster");
        })
        .await;
    let of_slow = with(fixture.provider.person("alice"), json!({"iss": slow}));
    let of_slow = fixture.provider.sign(&of_slow);
    let alice = fixture.person("alice");
    let waiting = async {
        let refused = fixture.call("GET", "/v1/me", &of_slow, None).await;
        assert_eq!((refused.status, refused.code()), (503, "issuer_unavailable"));
    };
    let others = async {
        let start = Instant::now();
        for _ in 0..20 {
            assert_eq!(fixture.call("GET", "/v1/me", &alice, None).await.status, 200);
        }
        start.elapsed()
    };
    let ((), took) = tokio::join!(waiting, others);
    // One wait for one of the silent ones would be five seconds and more, for each request.
    assert!(took < Duration::from_secs(20), "{took:?} for 20 requests");
    let mut machine = fixture.machine("leasehold-webhook").await;
    machine
        .resolve_mounts(leasehold_broker_wire::machines::ResolveMountsRequest {
            notebook_uid: "nobody".to_owned(),
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_an_endless_answer_not_read() {
    let fixture = Fixture::start().await;
    let followed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&followed);
    let signer = Signer::es256("elsewhere-1");
    let document = json!({"keys": [signer.jwk.clone()]}).to_string();
    let elsewhere = serve(|_| {
        Router::new().fallback(move || {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(document.clone())
        })
    })
    .await;
    let discovery = |url: &str| {
        let text = json!({"issuer": url, "jwks_uri": format!("{url}/jwks")}).to_string();
        Router::new().route(
            "/.well-known/openid-configuration",
            get(move || std::future::ready(text.clone())),
        )
    };
    let redirecting = serve(|url| {
        discovery(url).route(
            "/jwks",
            get(move || {
                let target = format!("{elsewhere}/jwks");
                std::future::ready((StatusCode::FOUND, [("location", target)]).into_response())
            }),
        )
    })
    .await;
    let endless = serve(|url| {
        let piece = || Ok::<_, std::convert::Infallible>(vec![b' '; 1 << 16]);
        let body = move || axum::body::Body::from_stream(futures::stream::repeat_with(piece));
        discovery(url).route("/jwks", get(move || std::future::ready(body())))
    })
    .await;
    let foreign = serve(|url| {
        let text = json!({"issuer": url, "jwks_uri": "http://127.0.0.1:9/jwks"}).to_string();
        Router::new().fallback(move || std::future::ready(text.clone()))
    })
    .await;
    let added = [
        provider("redirecting", &redirecting),
        provider("endless", &endless),
        provider("foreign", &foreign),
    ];
    fixture
        .reconfigure(|config| config["issuers"].as_array_mut().unwrap().extend(added))
        .await;
    for (url, reason) in [
        (&redirecting, "it answered 302"),
        (&endless, "larger than 1 MiB"),
        (&foreign, "not on the issuer's own host"),
    ] {
        let token = signer.sign(&with(fixture.provider.person("alice"), json!({"iss": url})));
        let refused = fixture.call("GET", "/v1/me", &token, None).await;
        assert_eq!(
            (refused.status, refused.code()),
            (503, "issuer_unavailable"),
            "{reason}"
        );
        eventually("the log to say why", async || {
            fixture.log().contains(reason).then_some(())
        })
        .await;
    }
    assert_eq!(followed.load(Ordering::SeqCst), 0, "the redirect was followed");
    assert_eq!(
        fixture
            .call("GET", "/v1/me", &fixture.person("alice"), None)
            .await
            .status,
        200
    );
}

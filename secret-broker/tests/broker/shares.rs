//! What one person, or one peer, may take of the broker: a share, however hard they ask.

use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt as _, stream};
use leasehold_secret_broker::store::Store;
use leasehold_secret_broker::store::operations::{Accepted, MOST_UNDECIDED};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};

use crate::fixture::{Fixture, Setting, registration};
use crate::restart::operation;

#[tokio::test]
async fn one_persons_undecided_operations_leave_room_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("broker.db")).await.unwrap();
    let accept = async |submitter: &str| {
        let mut asked = operation(&uuid::Uuid::new_v4().to_string(), "texts");
        asked.submitter = submitter.to_owned();
        (store.accept(&asked).await.unwrap(), asked.id)
    };
    let mut first = None;
    for _ in 0..MOST_UNDECIDED {
        let (accepted, id) = accept("greedy").await;
        assert!(matches!(accepted, Accepted::Operation(_)));
        first = first.or(Some(id));
    }
    assert_eq!(accept("greedy").await.0, Accepted::TooMany);
    assert!(matches!(accept("other").await.0, Accepted::Operation(_)));

    let decided = leasehold_secret_broker::store::operations::Ending::Failed {
        problem: json!({}),
        destroy: None,
    };
    store.finish(&first.unwrap(), &decided).await.unwrap();
    assert!(matches!(accept("greedy").await.0, Accepted::Operation(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_leases_everything() {
    let fixture = Fixture::start().await;
    let (steward, alice) = (fixture.person("steward"), fixture.person("alice"));
    for number in 0..65 {
        let name = format!("texts-{number}");
        let asked = fixture
            .call("POST", "/v1/datasets", &steward, Some(registration(&name)))
            .await;
        assert_eq!(fixture.decided(&asked, &steward).await["status"], "succeeded");
    }
    for number in 0..64 {
        fixture.lease(&format!("texts-{number}"), &alice).await;
    }
    let last = Some(json!({"dataset": "texts-64"}));
    let refused = fixture.call("POST", "/v1/leases", &alice, last.clone()).await;
    assert_eq!((refused.status, refused.code()), (429, "too_many_leases"));
    let bob = fixture.person("bob");
    let asked = fixture.call("POST", "/v1/leases", &bob, last).await;
    assert_eq!(fixture.decided(&asked, &bob).await["status"], "succeeded");
}

async fn paced(of: &str) -> Fixture {
    Fixture::start_with(Setting {
        environment: vec![(format!("LEASEHOLD_PERSON_{of}"), "1".to_owned())],
        ..Setting::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_too_fast_is_told_when_to_come_again_and_nobody_else_is() {
    let fixture = paced("REQUESTS_PER_SECOND").await;
    let (alice, bob) = (fixture.person("alice"), fixture.person("bob"));
    let asked = (0..40).map(|_| fixture.call("GET", "/v1/me", &alice, None));
    let asked: Vec<_> = stream::iter(asked).buffer_unordered(16).collect().await;
    let (served, refused): (Vec<_>, Vec<_>) = asked.iter().partition(|answer| answer.status == 200);
    assert!(served.len() >= 4, "four at once");
    assert!(!refused.is_empty());
    for answer in refused {
        assert_eq!((answer.status, answer.code()), (429, "too_many_requests"));
        assert_eq!(answer.headers["retry-after"], "1");
    }
    assert_eq!(fixture.call("GET", "/v1/me", &bob, None).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changes_too_much_has_nothing_more_accepted_for_a_while() {
    let fixture = paced("CHANGES_PER_MINUTE").await;
    let steward = fixture.person("steward");
    let mut registered = Vec::new();
    let refused = loop {
        let name = format!("texts-{}", registered.len());
        let path = "/v1/datasets";
        let asked = fixture
            .call("POST", path, &steward, Some(registration(&name)))
            .await;
        if asked.status == 429 {
            break asked;
        }
        assert_eq!(fixture.decided(&asked, &steward).await["status"], "succeeded");
        registered.push(name);
        assert!(registered.len() < 20, "one a minute");
    };
    assert!(registered.len() >= 4, "four at once");
    assert_eq!(refused.code(), "too_many_changes");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let catalogue = fixture.call("GET", "/v1/datasets", &steward, None).await;
    let listed = catalogue.body["items"].as_array().unwrap().len();
    assert_eq!(listed, registered.len(), "the refused one was not accepted");
    fixture.lease("texts-0", &fixture.person("bob")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_opens_all_connections_it_can_keeps_no_other_out() {
    let fixture = Fixture::start().await;
    let address: std::net::SocketAddr = fixture
        .rest_url("")
        .trim_start_matches("https://")
        .parse()
        .unwrap();
    let mut opened = Vec::new();
    for _ in 0..40 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        opened.push(socket.connect(address).await.unwrap());
    }
    // All at once, while none that is served has waited too long for its handshake.
    let closed = join_all(opened.iter_mut().map(is_closed)).await;
    let turned_away = closed.into_iter().filter(|closed| *closed).count();
    assert_eq!(turned_away, 40 - 32, "more than its share");
    let me = fixture
        .call("GET", "/v1/me", &fixture.person("alice"), None)
        .await;
    assert_eq!(me.status, 200);
}

/// Whether the other side has closed it; one that is served says nothing before the handshake.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    tokio::time::timeout(Duration::from_secs(3), stream.read(&mut byte))
        .await
        .is_ok_and(|read| matches!(read, Ok(0) | Err(_)))
}

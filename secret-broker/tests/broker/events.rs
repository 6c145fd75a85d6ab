//! Streams of events over real sockets: everybody hears of what is theirs to see, goes on where they were, and is heard out no longer than
//! their token is good.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture, PATIENCE, eventually, registration};
use crate::machines::bind_request;

/// A stream, and what of it was not read yet.
struct Listener {
    response: reqwest::Response,
    read: String,
}

#[derive(Debug)]
struct Heard {
    kind: String,
    id: String,
    data: Value,
}

impl Listener {
    async fn open(fixture: &Fixture, token: &str, query: &str, after: Option<&str>) -> Result<Self, Answer> {
        let mut request = fixture
            .client()
            .get(fixture.rest_url(&format!("/v1/events{query}")))
            .bearer_auth(token);
        if let Some(after) = after {
            request = request.header("Last-Event-ID", after);
        }
        let response = request.try_clone().unwrap().send().await.unwrap();
        if response.status() != 200 {
            return Err(fixture.send(request).await);
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Ok(Self {
            response,
            read: String::new(),
        })
    }

    /// The next event; none where the stream has ended.
    async fn next(&mut self) -> Option<Heard> {
        loop {
            while let Some((block, rest)) = self.read.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.read = rest;
                let field = |name: &str| {
                    let mut lines = block.lines();
                    lines.find_map(|line| Some(line.strip_prefix(name)?.to_owned()))
                };
                if let (Some(kind), Some(id), Some(data)) = (field("event: "), field("id: "), field("data: "))
                {
                    let data = serde_json::from_str(&data).unwrap();
                    return Some(Heard { kind, id, data });
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("something to be heard, or the end").unwrap()?;
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next event of a kind, all others having been looked at.
    async fn until(&mut self, kind: &str, mut others: impl FnMut(&Heard)) -> Heard {
        loop {
            let heard = self.next().await.expect("the stream to go on");
            if heard.kind == kind {
                return heard;
            }
            others(&heard);
        }
    }
}

async fn open(fixture: &Fixture, token: &str, query: &str) -> Listener {
    let mut listener = Listener::open(fixture, token, query, None).await.unwrap();
    assert_eq!(listener.next().await.unwrap().kind, "opened");
    listener
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_hears_of_what_is_theirs_to_see_and_of_nothing_else() {
    let fixture = Fixture::start().await;
    let texts = fixture.register("texts").await;
    let [alice, bob, steward] = ["alice", "bob", "steward"].map(|name| fixture.person(name));
    let mut alices = open(&fixture, &alice, "").await;
    let mut bobs = open(&fixture, &bob, "").await;
    let mut stewards = open(&fixture, &steward, "?kinds=leases").await;
    let lease = fixture.lease("texts", &alice).await;

    // In either order: the ledger tells of the lease, and the broker of what became of the request.
    let (mut granted, mut operation) = (None, None);
    while granted.is_none() || operation.is_none() {
        let told = alices.next().await.unwrap();
        match told.kind.as_str() {
            "lease" => granted = Some(told.data),
            "operation" if told.data["status"] == "succeeded" => operation = Some(told.data),
            _ => {}
        }
    }
    let (granted, operation) = (granted.unwrap(), operation.unwrap());
    assert_eq!(
        (&granted["id"], &granted["state"]),
        (&json!(lease), &json!("active"))
    );
    assert_eq!(granted["yours"], true);
    assert_eq!(
        (&operation["kind"], &operation["result"]["lease"]),
        (&json!("lease"), &json!(lease))
    );
    let told = stewards.next().await.unwrap();
    assert_eq!(
        (told.kind.as_str(), &told.data["yours"]),
        ("lease", &json!(false))
    );
    // Bob hears that the dataset is taken, and not by whom.
    let told = bobs.next().await.unwrap();
    assert_eq!(told.kind, "catalogue");
    assert_eq!(
        told.data,
        json!({"dataset": texts, "what": {"event": "lease_granted"}})
    );

    let scans = fixture.register("scans").await;
    let told = bobs.next().await.unwrap();
    assert_eq!(
        (told.kind.as_str(), &told.data["dataset"]),
        ("catalogue", &json!(scans))
    );
    let path = format!("/v1/leases/{lease}");
    let released = fixture.call("DELETE", &path, &alice, None).await;
    fixture.decided(&released, &alice).await;
    let told = stewards.next().await.unwrap();
    assert_eq!(
        (told.kind.as_str(), &told.data["state"]),
        ("lease", &json!("ending"))
    );

    for (query, status, code) in [
        ("?kinds=everything", 400, "invalid_field"),
        ("?kinds=", 400, "invalid_field"),
        ("?kinds=leases&after=1", 400, "invalid_field"),
    ] {
        let refused = Listener::open(&fixture, &alice, query, None).await.err().unwrap();
        assert_eq!((refused.status, refused.code()), (status, code), "{query}");
    }
    let nobody = fixture.cluster.account("hub", "nb", "uid", "leasehold");
    let nobody = fixture.cluster.sign(&nobody);
    let refused = Listener::open(&fixture, &nobody, "?kinds=catalogue", None)
        .await
        .err()
        .unwrap();
    assert_eq!((refused.status, refused.code()), (403, "forbidden"));
    drop(open(&fixture, &nobody, "").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_again_hears_what_happened_meanwhile_or_that_it_is_not_kept() {
    let fixture = Fixture::start().await;
    fixture.register("texts").await;
    let alice = fixture.person("alice");
    let first = Listener::open(&fixture, &alice, "", None)
        .await
        .unwrap()
        .next()
        .await
        .unwrap()
        .id;
    let lease = fixture.lease("texts", &alice).await;
    // The lease view tells everybody else.
    let mut again = Listener::open(&fixture, &alice, "?kinds=operations,leases", Some(&first))
        .await
        .unwrap();
    assert_eq!(again.next().await.unwrap().kind, "opened");
    let told = again.until("lease", |_| ()).await;
    assert_eq!(told.data["id"], json!(lease));
    let mut again = Listener::open(&fixture, &alice, "?kinds=operations", Some(&first))
        .await
        .unwrap();
    assert_eq!(again.next().await.unwrap().kind, "opened");
    let operation = again.until("operation", |_| ()).await;
    assert_eq!(operation.data["result"]["lease"], json!(lease));
    // Nothing is told twice to whoever heard all of it.
    let mut rest = Listener::open(&fixture, &alice, "?kinds=leases", Some(&told.id))
        .await
        .unwrap();
    assert_eq!(rest.next().await.unwrap().kind, "opened");
    let path = format!("/v1/leases/{lease}");
    fixture.call("DELETE", &path, &alice, None).await;
    assert_eq!(rest.next().await.unwrap().data["state"], "ending");

    for id in [
        "nonsense",
        "1",
        "-1.0",
        "1.1",
        "00000000000000ab.1",
        "99999999999999999999.1",
    ] {
        let refused = Listener::open(&fixture, &alice, "", Some(id))
            .await
            .err()
            .unwrap();
        assert_eq!((refused.status, refused.code()), (400, "invalid_field"), "{id}");
    }
    fixture.kill();
    fixture.run().await;
    for (id, is_kept) in [(first.as_str(), false), ("00000000000000ab.9999999.1", false)] {
        let mut again = Listener::open(&fixture, &alice, "?kinds=leases", Some(id))
            .await
            .unwrap();
        // Before anything that leads on.
        assert_eq!(again.next().await.unwrap().kind == "lost", !is_kept, "{id}");
        assert_eq!(again.next().await.unwrap().kind, "opened");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_the_token_that_it_was_opened_with() {
    let fixture = Fixture::start().await;
    let mut hook = fixture.machine("leasehold-spawner-hook").await;
    hook.bind_service_accounts(bind_request("alice@example.com", "uid-1", "uid-2"))
        .await
        .unwrap();
    let mut account = fixture.cluster.account("hub", "nb-alice", "uid-1", "leasehold");
    account["kubernetes.io"]["pod"] = json!({"name": "jupyter-alice", "uid": "pod-1"});
    let token = fixture.cluster.sign(&account);
    let mut listener = open(&fixture, &token, "?kinds=leases").await;
    fixture.cluster.delete("pod-1");
    assert!(listener.next().await.is_none(), "nothing is told after it");
    let refused = Listener::open(&fixture, &token, "", None).await.err().unwrap();
    assert_eq!(refused.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_has_so_many_streams_and_keeps_nobody_elses_away_nor_the_broker_from_its_end() {
    let fixture = Fixture::start().await;
    let [alice, bob] = ["alice", "bob"].map(|name| fixture.person(name));
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(open(&fixture, &alice, "").await);
    }
    let refused = Listener::open(&fixture, &alice, "", None).await.err().unwrap();
    assert_eq!((refused.status, refused.code()), (429, "too_many_streams"));
    // One address has its own bound, whoever comes from there.
    let steward = fixture.person("steward");
    let mut stewards = Vec::new();
    for _ in 0..8 {
        stewards.push(open(&fixture, &steward, "").await);
    }
    let refused = Listener::open(&fixture, &bob, "", None).await.err().unwrap();
    assert_eq!((refused.status, refused.code()), (429, "too_many_streams"));
    drop(stewards);
    let mut bobs = eventually("a place of the address to be free", async || {
        Listener::open(&fixture, &bob, "", None).await.ok()
    })
    .await;
    assert_eq!(bobs.next().await.unwrap().kind, "opened");
    drop(streams.pop());
    eventually("a place to be free again", async || {
        Listener::open(&fixture, &alice, "", None).await.ok().map(drop)
    })
    .await;
    // Streams do not hold it back.
    let begun = std::time::Instant::now();
    assert!(fixture.terminate().success());
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(!fixture.log().contains("did not finish in time"));
    assert!(bobs.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_the_catalogue_are_told_as_they_are_in_its_history() {
    let fixture = Fixture::start().await;
    let steward = fixture.person("steward");
    let mut listener = open(&fixture, &steward, "?kinds=catalogue").await;
    let accepted = fixture
        .call("POST", "/v1/datasets", &steward, Some(registration("texts")))
        .await;
    fixture.decided(&accepted, &steward).await;
    let change = json!({"title": "Other words", "policy": {"most_waiting": 3}});
    let accepted = fixture
        .call("PATCH", "/v1/datasets/texts", &steward, Some(change))
        .await;
    fixture.decided(&accepted, &steward).await;
    let history = fixture
        .call("GET", "/v1/datasets/texts/history", &steward, None)
        .await;
    let accepted = fixture.call("DELETE", "/v1/datasets/texts", &steward, None).await;
    fixture.decided(&accepted, &steward).await;
    for item in history.body["items"].as_array().unwrap() {
        assert_eq!(listener.next().await.unwrap().data["what"], item["what"]);
    }
    let told = listener.next().await.unwrap();
    assert_eq!(told.data["what"], json!({"event": "dataset_retired"}));
}

//! The list of leases: page by page, filtered, and nobody else's.

use serde_json::{Value, json};

use crate::fixture::{Fixture, registration};

async fn register(fixture: &Fixture, name: &str) -> String {
    let steward = fixture.person("steward");
    let mut dataset = registration(name);
    dataset["policy"] = json!({"exclusive": true, "most_shared": 8, "most_waiting": 8});
    let accepted = fixture
        .call("POST", "/v1/datasets", &steward, Some(dataset))
        .await;
    let operation = fixture.decided(&accepted, &steward).await;
    operation["result"]["dataset"].as_str().unwrap().to_owned()
}

async fn ask(fixture: &Fixture, who: &str, body: Value) -> String {
    let token = fixture.person(who);
    let accepted = fixture.call("POST", "/v1/leases", &token, Some(body)).await;
    let operation = fixture.decided(&accepted, &token).await;
    assert_eq!(operation["status"], "succeeded", "{operation}");
    operation["result"]["lease"].as_str().unwrap().to_owned()
}

async fn release(fixture: &Fixture, who: &str, lease: &str) {
    let token = fixture.person(who);
    let path = format!("/v1/leases/{lease}");
    let accepted = fixture.call("DELETE", &path, &token, None).await;
    assert_eq!(fixture.decided(&accepted, &token).await["status"], "succeeded");
}

/// Ids and states of a whole list, in pages of `limit`; none is longer.
async fn listed(fixture: &Fixture, who: &str, query: &str, limit: usize) -> Vec<(String, String)> {
    let token = fixture.person(who);
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/leases?limit={limit}{query}{after}");
        let page = fixture.call("GET", &path, &token, None).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        let items = page.body["items"].as_array().unwrap();
        assert!(items.len() <= limit, "{path}");
        let text = |item: &Value, name: &str| item[name].as_str().unwrap().to_owned();
        all.extend(items.iter().map(|item| (text(item, "id"), text(item, "state"))));
        match page.body.get("next") {
            Some(next) => after = format!("&after={}", next.as_str().unwrap()),
            None => return all,
        }
    }
}

fn sorted(leases: &[(String, String)]) -> Vec<&str> {
    let mut ids: Vec<_> = leases.iter().map(|(id, _)| id.as_str()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_leases_comes_page_by_page_and_filters_narrow_it() {
    let fixture = Fixture::start().await;
    let texts = register(&fixture, "texts").await;
    for name in ["scans", "sounds"] {
        register(&fixture, name).await;
    }
    let shared = |dataset: &str| json!({"dataset": dataset, "mode": "shared"});
    let mut alices = Vec::new();
    for dataset in ["texts", "scans", "sounds"] {
        alices.push(ask(&fixture, "alice", shared(dataset)).await);
    }
    let bobs = ask(&fixture, "bob", shared("texts")).await;
    let over = ask(&fixture, "carol", shared("scans")).await;
    release(&fixture, "carol", &over).await;
    let waits = json!({"dataset": "texts", "mode": "exclusive", "wait": true});
    let waiting = ask(&fixture, "dave", waits).await;

    // Whoever holds no leases but their own sees these, whatever the size of the page.
    for limit in [1, 2, 3, 200] {
        let all = listed(&fixture, "alice", "", limit).await;
        let mut expected: Vec<_> = alices.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(sorted(&all), expected, "{limit}");
    }
    for (query, expected) in [
        ("&state=active", &alices[..]),
        ("&state=ended", &[]),
        ("&dataset=texts", &alices[..1]),
        ("&dataset=scans&state=active", &alices[1..2]),
        ("&dataset=nothing", &[]),
        ("&dataset=N%C3%B6", &[]),
    ] {
        let found = listed(&fixture, "alice", query, 2).await;
        let mut expected: Vec<_> = expected.iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(sorted(&found), expected, "{query}");
    }

    // The owner's steward sees everybody's, each once, and of one dataset also by its id.
    let all = listed(&fixture, "steward", "", 2).await;
    let mut expected: Vec<_> = alices
        .iter()
        .chain([&bobs, &waiting, &over])
        .map(String::as_str)
        .collect();
    expected.sort_unstable();
    assert_eq!(
        sorted(&all),
        expected,
        "carol's is taken down: no cluster has confirmed its end"
    );
    let states: Vec<_> = all.iter().map(|(_, state)| state.as_str()).collect();
    assert_eq!(
        states,
        ["waiting", "active", "active", "active", "active", "ending"]
    );
    for dataset in ["texts", &texts] {
        let found = listed(&fixture, "steward", &format!("&dataset={dataset}"), 1).await;
        let mut expected = [alices[0].as_str(), &bobs, &waiting];
        expected.sort_unstable();
        assert_eq!(sorted(&found), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_are_over_are_their_holders_and_of_one_dataset_its_stewards() {
    let fixture = Fixture::start().await;
    register(&fixture, "texts").await;
    register(&fixture, "scans").await;
    ask(
        &fixture,
        "alice",
        json!({"dataset": "texts", "mode": "exclusive"}),
    )
    .await;
    let mut left = Vec::new();
    for _ in 0..3 {
        // Whoever leaves the line leaves nothing that a cluster had to take down.
        let waits = json!({"dataset": "texts", "mode": "shared", "wait": true});
        let lease = ask(&fixture, "bob", waits).await;
        release(&fixture, "bob", &lease).await;
        left.push(lease);
    }
    assert_eq!(listed(&fixture, "bob", "&state=ended", 2).await.len(), 3);
    assert_eq!(listed(&fixture, "steward", "", 2).await.len(), 1);
    assert!(listed(&fixture, "steward", "&state=ended", 2).await.is_empty());
    assert!(
        listed(&fixture, "steward", "&state=ended&dataset=scans", 2)
            .await
            .is_empty()
    );
    let found = listed(&fixture, "steward", "&state=ended&dataset=texts", 2).await;
    let in_order: Vec<_> = found.into_iter().map(|(id, _)| id).collect();
    assert_eq!(in_order, left, "in the order of asking");
    assert!(
        listed(&fixture, "alice", "&state=ended&dataset=texts", 2)
            .await
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_shows_nobody_what_is_not_theirs() {
    let fixture = Fixture::start().await;
    register(&fixture, "texts").await;
    let shared = json!({"dataset": "texts", "mode": "shared"});
    let alices = ask(&fixture, "alice", shared.clone()).await;
    ask(&fixture, "bob", shared).await;
    let alice = fixture.person("alice");
    for after in [
        "others.active.",
        "others.active.00000000000000000000/0",
        "own.active.",
        "own.active.0.00000000000000000000000000000000",
        "own.elsewhere.",
        "own",
        "0",
        "%C3%B6",
    ] {
        let path = format!("/v1/leases?after={after}");
        let refused = fixture.call("GET", &path, &alice, None).await;
        assert_eq!(
            (refused.status, refused.code()),
            (400, "invalid_field"),
            "{after}"
        );
        assert_eq!(refused.body["field"], "after");
    }
    // A steward steps through no index by a cursor of their own making, nor by one of another list or person.
    let steward = fixture.person("steward");
    let page = fixture.call("GET", "/v1/leases?limit=1", &steward, None).await;
    let next = page.body["next"].as_str().unwrap();
    let forged = next.replacen("others.active.", "others.active.0", 1);
    assert_ne!(forged, next);
    for (who, query) in [
        (&steward, "after=others.active.00000000000000000000/0".to_owned()),
        (&steward, format!("after={forged}")),
        (&steward, format!("after={next}&dataset=texts")),
        (&alice, format!("after={next}")),
    ] {
        let path = format!("/v1/leases?{query}");
        let refused = fixture.call("GET", &path, who, None).await;
        assert_eq!(
            (refused.status, refused.code()),
            (400, "invalid_field"),
            "{query}"
        );
    }
    let path = "/v1/leases?state=active";
    let own = fixture.call("GET", path, &alice, None).await.body;
    assert_eq!(own["items"].as_array().unwrap().len(), 1);
    assert_eq!(own["items"][0]["id"], json!(alices));
    for query in [
        "state=held",
        "state=",
        "limit=0",
        "limit=201",
        "dataset=a&dataset=b",
        "owner=a",
    ] {
        let path = format!("/v1/leases?{query}");
        assert_eq!(
            fixture.call("GET", &path, &alice, None).await.status,
            400,
            "{query}"
        );
    }
}

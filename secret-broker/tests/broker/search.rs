//! The catalogue is searched by words; what is typed is words and nothing else.

use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture, registration};

async fn register(fixture: &Fixture, name: &str, title: &str, description: &str) {
    let steward = fixture.person("steward");
    let mut dataset = registration(name);
    dataset["title"] = json!(title);
    dataset["description"] = json!(description);
    let accepted = fixture
        .call("POST", "/v1/datasets", &steward, Some(dataset))
        .await;
    let operation = fixture.decided(&accepted, &steward).await;
    assert_eq!(operation["status"], "succeeded", "{operation}");
}

async fn write(fixture: &Fixture, method: &str, path: &str, body: Option<Value>) {
    let steward = fixture.person("steward");
    let accepted = fixture.call(method, path, &steward, body).await;
    assert_eq!(fixture.decided(&accepted, &steward).await["status"], "succeeded");
}

async fn ask(fixture: &Fixture, query: &[(&str, &str)]) -> Answer {
    let mut url = url::Url::parse(&fixture.rest_url("/v1/datasets")).unwrap();
    url.query_pairs_mut().extend_pairs(query);
    let request = fixture.client().get(url).bearer_auth(fixture.person("alice"));
    fixture.send(request).await
}

fn names(page: &Answer) -> Vec<&str> {
    assert_eq!(page.status, 200, "{}", page.body);
    let items = page.body["items"].as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap()).collect()
}

async fn catalogue(fixture: &Fixture) {
    for (name, title, description) in [
        (
            "chest-ct-2024",
            "Chest CT",
            "Lungs of 200 people, with Bokmål reports",
        ),
        ("lungs", "Sounds", "recorded at rest"),
        ("texts", "Three texts about lungs", "for tests"),
        ("words", "Words", "all that stands in texts, and \"quotes\""),
    ] {
        register(fixture, name, title, description).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_found_wherever_they_stand_and_a_name_counts_more_than_a_title_and_that_more_than_a_text() {
    let fixture = Fixture::start().await;
    catalogue(&fixture).await;
    for (words, expected) in [
        ("lungs", &["lungs", "texts", "chest-ct-2024"][..]),
        ("LUNG", &["lungs", "texts", "chest-ct-2024"]),
        ("texts", &["texts", "words"]),
        ("lungs texts", &["texts"]),
        ("chest-ct", &["chest-ct-2024"]),
        ("ct 2024", &["chest-ct-2024"]),
        ("ct-chest", &[]),
        ("bokmal", &["chest-ct-2024"]),
        ("ungs", &[]),
        ("nothing", &[]),
    ] {
        let page = ask(&fixture, &[("q", words)]).await;
        assert_eq!(names(&page), expected, "{words}");
    }
    // As it is now, and found by how it is called now.
    let change = json!({"title": "Three volumes"});
    write(&fixture, "PATCH", "/v1/datasets/texts", Some(change)).await;
    assert_eq!(names(&ask(&fixture, &[("q", "volumes")]).await), ["texts"]);
    assert_eq!(names(&ask(&fixture, &[("q", "about lungs")]).await), [""; 0]);
    write(&fixture, "DELETE", "/v1/datasets/lungs", None).await;
    assert_eq!(names(&ask(&fixture, &[("q", "lungs")]).await), ["chest-ct-2024"]);

    // Killed, it makes its index anew.
    fixture.kill();
    let index = fixture.data_dir().join("search.db");
    assert!(index.exists());
    std::fs::write(&index, "no database").unwrap();
    fixture.run().await;
    crate::fixture::eventually("the index to be made", async || {
        (ask(&fixture, &[("q", "volumes")]).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(names(&ask(&fixture, &[("q", "volumes")]).await), ["texts"]);
    assert_eq!(names(&ask(&fixture, &[("q", "lungs")]).await), ["chest-ct-2024"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_is_words_and_never_the_language_of_the_index() {
    let fixture = Fixture::start().await;
    catalogue(&fixture).await;
    for (words, expected) in [
        ("quotes\"", &["words"][..]),
        ("\"quotes", &["words"]),
        ("title:lungs", &[]),
        ("name : lungs", &[]),
        ("lungs OR texts", &[]),
        ("lungs NOT chest", &[]),
        ("NEAR(lungs texts, 2)", &[]),
        ("lungs*", &["lungs", "texts", "chest-ct-2024"]),
        ("^lungs", &["lungs", "texts", "chest-ct-2024"]),
        ("{name title}:lungs", &[]),
        ("lungs' OR 1=1 --", &[]),
        ("\"", &[]),
        ("***", &[]),
        ("\0", &[]),
        (" ", &[]),
        ("(((((((((((", &[]),
        ("-", &[]),
        ("\u{202e}\u{feff}", &[]),
    ] {
        let page = ask(&fixture, &[("q", words)]).await;
        assert_eq!(names(&page), expected, "{words:?}");
    }
    let long = "ø".repeat(200);
    assert_eq!(names(&ask(&fixture, &[("q", &long)]).await), [""; 0]);
    for query in [
        &[("q", "")][..],
        &[("q", &"ø".repeat(201))],
        &[("q", "a"), ("q", "b")],
        &[("q", "a"), ("limit", "0")],
        &[("q", "a"), ("after", "lungs")],
        &[("q", "a"), ("after", "found.")],
        &[("q", "a"), ("after", "found.-1")],
        &[("q", "a"), ("after", "found.99999999999999999999")],
    ] {
        let refused = ask(&fixture, query).await;
        assert_eq!(
            (refused.status, refused.code()),
            (400, "invalid_field"),
            "{query:?}"
        );
    }
    // Who may not read the catalogue may not search it.
    let token = fixture.cluster.account("hub", "nb", "uid", "leasehold");
    let token = fixture.cluster.sign(&token);
    let refused = fixture.call("GET", "/v1/datasets?q=lungs", &token, None).await;
    assert_eq!((refused.status, refused.code()), (403, "forbidden"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_comes_page_by_page_in_the_same_order() {
    let fixture = Fixture::start().await;
    catalogue(&fixture).await;
    let whole = ask(&fixture, &[("q", "lungs")]).await;
    assert_eq!(whole.body.get("next"), None);
    let mut after = String::new();
    let mut found = Vec::new();
    for page in 0..3 {
        let answer = ask(&fixture, &[("q", "lungs"), ("limit", "1"), ("after", &after)]).await;
        found.extend(names(&answer).into_iter().map(str::to_owned));
        match answer.body.get("next") {
            Some(next) => after = next.as_str().unwrap().to_owned(),
            None => assert_eq!(page, 2),
        }
    }
    assert_eq!(found, names(&whole));
}

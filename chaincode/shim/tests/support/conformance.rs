//! What every ledger must answer: the same steps for simulated and for real peers.

use serde_json::{Value, json};

/// A network on which the probe runs as `probe` and a second one as `other`, with a private collection `secrets`.
pub trait Bench {
    /// Endorses and commits; gives the answers, or why not.
    async fn submit(&self, steps: Value, transient: Option<(&str, &str)>) -> Result<Value, String>;
    /// Runs without committing.
    async fn evaluate(&self, steps: Value) -> Result<Value, String>;
    /// Name and payload of the event in the newest block.
    async fn newest_event(&self) -> Option<(String, String)>;
}

/// Runs everything, in order, on an empty ledger.
pub async fn conforms(bench: &impl Bench) {
    state(bench).await;
    ranges(bench).await;
    composite_keys(bench).await;
    history(bench).await;
    metadata(bench).await;
    private_data(bench).await;
    events_and_refusals(bench).await;
    other_chaincode(bench).await;
}

async fn submitted(bench: &impl Bench, steps: Value) -> Value {
    bench
        .submit(steps.clone(), None)
        .await
        .unwrap_or_else(|error| panic!("{steps}: {error}"))
}

async fn evaluated(bench: &impl Bench, steps: Value) -> Value {
    bench
        .evaluate(steps.clone())
        .await
        .unwrap_or_else(|error| panic!("{steps}: {error}"))
}

async fn state(bench: &impl Bench) {
    let answers = submitted(bench, json!([["put", "a", "1"], ["put", "b", "2"], ["get", "a"]])).await;
    assert_eq!(
        answers,
        json!(["done", "done", null]),
        "a transaction does not read what it writes"
    );
    let answers = evaluated(
        bench,
        json!([
            ["get", "a"],
            ["get_many", "b", "nothing", "a"],
            ["both", "a", "b"],
            ["give_up_on", "a"],
            ["get", "b"]
        ]),
    )
    .await;
    assert_eq!(
        answers,
        json!(["1", ["2", null, "1"], ["1", "2"], "gave up", "2"])
    );
    submitted(
        bench,
        json!([
            ["delete", "b"],
            ["delete", "never was"],
            ["put", "a", "3"],
            ["put", "a", "4"]
        ]),
    )
    .await;
    assert_eq!(
        evaluated(bench, json!([["get", "b"], ["get", "a"]])).await,
        json!([null, "4"]),
        "the last write counts"
    );
    let refused = evaluated(bench, json!([["try", "get", ""], ["try", "put", "", "x"]])).await;
    let empty = json!({ "error": "a key may not be empty" });
    assert_eq!(refused, json!([empty, empty]));
}

async fn ranges(bench: &impl Bench) {
    submitted(bench, json!([["fill", "k", "250"]])).await;
    let answers = evaluated(
        bench,
        json!([
            ["count", "k", "l"],
            ["range", "k00098", "k00103"],
            ["first_of", "k", "l"],
            ["drop_after_first_of", "k", "l"],
            ["count", "", ""],
        ]),
    )
    .await;
    let rows: Value = (98..103)
        .map(|number| json!([format!("k{number:05}"), number.to_string()]))
        .collect();
    assert_eq!(answers, json!([250, rows, "k00000", "k00000", 251]));
    let mut bookmark = String::new();
    let mut pages = Vec::new();
    loop {
        let page = evaluated(bench, json!([["page", "k", "l", "100", bookmark]])).await[0].clone();
        pages.push(json!([page[0], page[1]]));
        bookmark = page[2].as_str().unwrap().to_owned();
        if bookmark.is_empty() {
            break;
        }
    }
    assert_eq!(
        pages,
        [
            json!([100, "k00000"]),
            json!([100, "k00100"]),
            json!([50, "k00200"])
        ]
    );
    let refused = bench
        .submit(json!([["page", "k", "l", "10", ""], ["put", "a", "5"]]), None)
        .await;
    assert!(
        refused
            .as_ref()
            .is_err_and(|error| error.contains("page") || error.contains("paginated")),
        "{refused:?}"
    );
}

async fn composite_keys(bench: &impl Bench) {
    submitted(
        bench,
        json!([
            ["put_composite", "asset", "blue", "7", "x"],
            ["put_composite", "asset", "blue", "8", "y"],
            ["put_composite", "asset", "blueish", "9", "z"],
            ["put_composite", "assets", "blue", "1", "w"],
        ]),
    )
    .await;
    let answers = evaluated(
        bench,
        json!([
            ["composite", "asset", "blue"],
            ["composite", "asset"],
            ["count", "", ""]
        ]),
    )
    .await;
    let (seven, eight, nine) = (
        json!([["blue", "7"], "x"]),
        json!([["blue", "8"], "y"]),
        json!([["blueish", "9"], "z"]),
    );
    assert_eq!(
        answers,
        json!([[seven, eight], [seven, eight, nine], 251]),
        "simple ranges pass over composite keys"
    );
    let page = evaluated(bench, json!([["composite_page", "asset", "2", ""]])).await;
    assert_eq!(page, json!([[[seven, eight], true]]));
}

async fn history(bench: &impl Bench) {
    submitted(bench, json!([["put", "h", "one"]])).await;
    submitted(bench, json!([["delete", "h"]])).await;
    submitted(bench, json!([["put", "h", "two"]])).await;
    let rows = evaluated(bench, json!([["history", "h"], ["history", "nothing"]])).await;
    let expected = json!([
        ["two", false, true, 64],
        ["", true, true, 64],
        ["one", false, true, 64]
    ]);
    assert_eq!(rows, json!([expected, []]), "the newest first");
}

async fn metadata(bench: &impl Bench) {
    submitted(bench, json!([["put", "m", "1"]])).await;
    submitted(bench, json!([["put_metadata", "m", "note", "kept"]])).await;
    assert_eq!(
        evaluated(bench, json!([["get_metadata", "m"]])).await,
        json!([{ "note": "kept" }])
    );
    submitted(bench, json!([["batch", "batched", "k00000", "m"]])).await;
    let answers = evaluated(
        bench,
        json!([["get", "batched"], ["get", "k00000"], ["get_metadata", "m"]]),
    )
    .await;
    assert_eq!(answers, json!(["batched", null, { "note": "batched" }]));
}

async fn private_data(bench: &impl Bench) {
    let steps = json!([["private_put", "secrets", "p", "value"]]);
    bench.submit(steps, Some(("value", "sesame"))).await.unwrap();
    let answers = evaluated(
        bench,
        json!([
            ["private_get", "secrets", "p"],
            ["private_hash", "secrets", "p"],
            ["private_range", "secrets", "", ""],
            ["get", "p"],
        ]),
    )
    .await;
    let hash = "d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272";
    assert_eq!(answers, json!(["sesame", hash, [["p", "sesame"]], null]));
    submitted(bench, json!([["private_delete", "secrets", "p"]])).await;
    assert_eq!(
        evaluated(bench, json!([["private_get", "secrets", "p"]])).await,
        json!([null])
    );
    submitted(bench, json!([["private_purge", "secrets", "p"]])).await;
    let refused = evaluated(bench, json!([["try", "private_get", "unknown", "p"]])).await;
    assert!(
        refused[0]["error"]
            .as_str()
            .is_some_and(|error| error.contains("GET_STATE")),
        "{refused}"
    );
}

async fn events_and_refusals(bench: &impl Bench) {
    submitted(
        bench,
        json!([
            ["event", "first", "lost"],
            ["event", "happened", "payload"],
            ["put", "e", "1"]
        ]),
    )
    .await;
    assert_eq!(
        bench.newest_event().await,
        Some(("happened".into(), "payload".into())),
        "the last event counts"
    );
    let refused = bench
        .submit(json!([["put", "r", "1"], ["refuse", "not today"]]), None)
        .await;
    assert!(
        refused.as_ref().is_err_and(|error| error.contains("not today")),
        "{refused:?}"
    );
    let panicked = bench.submit(json!([["put", "r", "1"], ["panic"]]), None).await;
    assert!(
        panicked.as_ref().is_err_and(|error| error.contains("panicked")),
        "{panicked:?}"
    );
    assert_eq!(
        evaluated(bench, json!([["get", "r"]])).await,
        json!([null]),
        "a refused transaction writes nothing"
    );
    let refused = evaluated(
        bench,
        json!([["try", "rich_query", "{\"selector\":{}}"], ["get", "e"]]),
    )
    .await;
    assert!(
        refused[0]["error"]
            .as_str()
            .is_some_and(|error| error.contains("GET_QUERY_RESULT")),
        "{refused}"
    );
    assert_eq!(refused[1], "1", "after a refused call the transaction goes on");
}

async fn other_chaincode(bench: &impl Bench) {
    let steps = json!([["put", "o", "other's"], ["put", "shared", "other's"]]).to_string();
    let answers = submitted(
        bench,
        json!([["invoke", "other", "run", steps], ["put", "shared", "mine"]]),
    )
    .await;
    assert_eq!(answers, json!([[200, "", "[\"done\",\"done\"]"], "done"]));
    let read = json!([["get", "o"], ["get", "shared"], ["who"]]).to_string();
    let answers = evaluated(
        bench,
        json!([
            ["get", "o"],
            ["get", "shared"],
            ["invoke", "other", "run", read],
            ["who"]
        ]),
    )
    .await;
    assert_eq!(
        (&answers[0], &answers[1]),
        (&json!(null), &json!("mine")),
        "each has its own state"
    );
    let others: Value = serde_json::from_str(answers[2][2].as_str().unwrap()).unwrap();
    assert_eq!(
        others,
        json!(["other's", "other's", answers[3]]),
        "the client is the same in both"
    );
    let refusing = json!([["refuse", "not for you"]]).to_string();
    let answers = evaluated(
        bench,
        json!([
            ["invoke", "other", "run", refusing],
            ["try", "invoke", "nobody", "run"]
        ]),
    )
    .await;
    assert_eq!(
        answers[0],
        json!([403, "not for you", ""]),
        "another chaincode's refusal is an answer"
    );
    assert!(
        answers[1]["error"]
            .as_str()
            .is_some_and(|error| error.contains("INVOKE_CHAINCODE")),
        "{answers}"
    );
}

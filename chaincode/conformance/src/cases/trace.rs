//! Traces: what people did, by digest, for ever.

use super::{on_terms, with_texts};
use crate::ask::of_lease;
use crate::case::{A, B, Case};
use crate::command::{confirm, exclusive, lease, release, remove, suspend, trace, with};
use serde_json::{Value, json};

fn sha256(digits: &str) -> Value {
    json!({ "type": "sha-256", "value": digits.repeat(32) })
}

fn resources(ids: &[&str]) -> Value {
    ids.iter()
        .map(|id| json!({ "id": id, "digest": sha256("ab") }))
        .collect()
}

fn pod(uid: &str) -> Value {
    json!({ "uid": uid, "code": { "image_sha256": "ab".repeat(32), "command_sha256": "cd".repeat(32) } })
}

fn create() -> Value {
    json!({ "action": "create_dataset", "dataset": "#texts", "resources": resources(&["1", "2"]) })
}

fn update() -> Value {
    json!({ "action": "update_dataset", "dataset": "#texts", "details": "a file more" })
}

fn use_datasets() -> Value {
    json!({ "action": "use_datasets", "datasets": ["#texts"], "tool": { "name": "explorer", "version": "2.1" } })
}

fn run(lease: &str) -> Value {
    json!({
        "action": "run", "lease": format!("${lease}"), "pods": [pod("a-1"), pod("a-2")], "results": resources(&["counts"]),
    })
}

fn create_model() -> Value {
    json!({
        "action": "create_model", "application": "trainer", "model": "segmentation-3", "digest": sha256("ef"),
        "datasets": ["#texts"],
    })
}

fn use_models() -> Value {
    json!({ "action": "use_models", "application": "viewer", "models": ["segmentation-3"] })
}

pub(super) fn cases() -> Vec<Case> {
    [recorded(), listed(), refused()].concat()
}

fn recorded() -> Vec<Case> {
    let kept = |id, promise, action: Value| {
        let told = json!({
            "kind": { "event": "trace_recorded", "trace": "$t", "action": action.get("action") }, "organisation": "&A",
            "dataset": null, "lease": null,
        });
        with_texts(id, promise)
            .then(
                A.does(trace("t", 1, action.clone()))
                    .named("t")
                    .tells_that(vec![told]),
            )
            .asks(
                json!({ "question": "trace", "trace": "$t" }),
                json!({ "id": "$t", "organisation": "&A", "subject": "%1", "action": action }),
            )
            .then(A.may_not(trace("t", 1, action.clone()), "unchanged"))
            .then(A.may_not(
                trace("t", 2, action),
                json!({ "code": "trace_key_used", "trace": "$t" }),
            ))
    };
    vec![
        kept(
            "y01",
            "that a dataset was made of these is recorded once",
            create(),
        ),
        kept("y02", "that a dataset has changed is recorded once", update()),
        kept("y03", "that a dataset was used is recorded once", use_datasets()),
        kept("y04", "that a model was trained is recorded once", create_model()),
        kept("y05", "that a model was used is recorded once", use_models()),
        with_texts("y06", "the same key of another organisation is another trace")
            .then(A.does(trace("t", 1, use_datasets())).named("t"))
            .then(B.does(trace("t", 1, use_datasets())).named("u"))
            .asks(
                json!({ "question": "trace", "trace": "$u" }),
                json!({ "organisation": "&B" }),
            ),
        with_texts("y07", "traces of a dataset go on after it is retired")
            .then(A.does(remove("texts")))
            .then(A.does(trace("t", 1, use_datasets()))),
        with_texts(
            "y08",
            "what was done is recorded while an organisation is suspended",
        )
        .then(A.does(suspend()))
        .then(A.does(trace("t", 1, use_datasets())))
        .then(A.does(crate::command::resume()))
        .alone(),
    ]
}

fn listed() -> Vec<Case> {
    let only = |question: Value| {
        with_texts("", "")
            .then(A.does(trace("t", 1, use_datasets())).named("t"))
            .walks(question, 50, vec![json!({ "id": "$t" })])
    };
    let named = |id, promise, case: Case| Case { id, promise, ..case };
    vec![
        with_texts(
            "y20",
            "what ran under a lease and what came of it is found by the lease and by its dataset",
        )
        .then(B.does(lease("texts", 1)).named("a"))
        .then(B.does(trace("t", 1, run("a"))).named("t"))
        .walks(
            of_lease("traces_under", "a"),
            10,
            vec![json!({ "id": "$t", "action": run("a") })],
        )
        .walks(
            json!({ "question": "traces_on", "dataset": "#texts" }),
            10,
            vec![json!({ "id": "$t", "organisation": "&B" })],
        ),
        with_texts("y21", "results may come after the end of a lease")
            .then(A.does(lease("texts", 1)).named("a"))
            .then(A.does(release("a", 1)))
            .then(A.does(confirm("a")))
            .then(A.does(trace("t", 1, run("a"))).named("t"))
            .walks(of_lease("traces_under", "a"), 10, vec![json!({ "id": "$t" })]),
        named(
            "y22",
            "a person's traces are found",
            only(json!({ "question": "traces_of", "subject": "%1" })),
        ),
        named(
            "y23",
            "an organisation's traces are found",
            only(json!({ "question": "traces_by", "organisation": "&A" })),
        ),
        named(
            "y24",
            "traces of an action are found",
            only(json!({ "question": "traces_with", "action": "use_datasets" })),
        ),
        named(
            "y25",
            "all traces are found",
            only(json!({ "question": "traces" })),
        ),
        with_texts("y26", "traces come in the order of their times")
            .at("+2s")
            .then(A.does(trace("b", 1, update())).named("b"))
            .at("+1s")
            .then(A.does(trace("a", 1, create())).named("a"))
            .at("+3s")
            .then(A.does(trace("c", 2, create_model())).named("c"))
            .walks(
                json!({ "question": "traces_on", "dataset": "#texts" }),
                2,
                vec![
                    json!({ "id": "$a", "at_ms": "+1s" }),
                    json!({ "id": "$b", "at_ms": "+2s" }),
                    json!({ "id": "$c", "at_ms": "+3s" }),
                ],
            ),
    ]
}

fn refused() -> Vec<Case> {
    let of_field = |id, promise, field: &str, action: Value| {
        let refusal = json!({ "code": "invalid_field", "field": field });
        with_texts(id, promise).then(A.may_not(trace("t", 1, action), refusal))
    };
    let many: Vec<_> = (0..=64).map(|number| number.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    vec![
        with_texts(
            "y40",
            "only its owner says of what a dataset was made, and how it has changed",
        )
        .then(B.may_not(
            trace("t", 1, create()),
            json!({ "code": "not_owner", "owner": "&A" }),
        ))
        .then(B.may_not(trace("t", 1, update()), "not_owner"))
        .then(B.does(trace("t", 1, use_datasets()))),
        Case::new("y41", "what is not registered was not used")
            .then(A.may_not(
                trace(
                    "t",
                    1,
                    with(use_datasets(), json!({ "datasets": ["ab".repeat(32)] })),
                ),
                "dataset_not_found",
            ))
            .then(A.may_not(
                trace("t", 1, with(use_datasets(), json!({ "datasets": ["texts"] }))),
                "dataset_not_found",
            )),
        with_texts("y42", "nobody records a run under another's lease")
            .then(B.does(lease("texts", 1)).named("a"))
            .then(A.may_not(trace("t", 1, run("a")), "lease_not_found"))
            .then(B.may_not(trace("t", 2, run("a")), "lease_not_found")),
        on_terms(
            "y54",
            "nothing ran under a lease that was not granted",
            with(exclusive(), json!({ "approve_leases": true })),
        )
        .then(B.does(lease("texts", 1)).named("a"))
        .then(B.may_not(
            trace("t", 1, run("a")),
            json!({ "code": "lease_not_active", "lease_state": "requested" }),
        )),
        of_field(
            "y43",
            "a list of resources is bounded",
            "action.resources",
            with(create(), json!({ "resources": resources(&many) })),
        ),
        of_field(
            "y44",
            "a resource is named once",
            "action.resources",
            with(create(), json!({ "resources": resources(&["1", "1"]) })),
        ),
        of_field(
            "y45",
            "datasets that were used are some",
            "action.datasets",
            with(use_datasets(), json!({ "datasets": [] })),
        ),
        of_field(
            "y46",
            "a dataset was used once",
            "action.datasets",
            with(use_datasets(), json!({ "datasets": ["#texts", "#texts"] })),
        ),
        of_field(
            "y47",
            "a run has pods",
            "action.pods",
            json!({ "action": "run", "lease": "0".repeat(32), "pods": [] }),
        ),
        of_field(
            "y48",
            "a pod goes by its UID",
            "action.pods",
            json!({ "action": "run", "lease": "0".repeat(32), "pods": [pod("a/b")] }),
        ),
        of_field(
            "y49",
            "a model has a name",
            "action.models",
            with(use_models(), json!({ "models": [""] })),
        ),
        of_field(
            "y50",
            "what has changed is one line",
            "action.details",
            with(update(), json!({ "details": "two\nlines" })),
        ),
        of_field(
            "y51",
            "a digest is lower-case hexadecimal",
            "action.digest",
            with(
                create_model(),
                json!({ "digest": { "type": "sha-256", "value": "AB".repeat(32) } }),
            ),
        ),
        of_field(
            "y52",
            "a tool has a name",
            "action.tool.name",
            with(use_datasets(), json!({ "tool": { "name": " " } })),
        ),
        Case::new("y53", "a trace has a key and a person")
            .then(A.may_not(
                with(trace("t", 1, use_models()), json!({ "key": "" })),
                json!({ "code": "invalid_field", "field": "key" }),
            ))
            .then(A.may_not(
                with(trace("t", 1, use_models()), json!({ "subject": "alice" })),
                json!({ "code": "invalid_field", "field": "subject" }),
            )),
    ]
}

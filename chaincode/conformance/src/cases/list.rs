//! Lists: by name, person, state, time and dataset, page by page.

use super::{on_terms, with_texts};
use crate::ask::{leases_of, of_dataset};
use crate::case::{A, B, Case};
use crate::command::{confirm, lease, register, release, share, shared, wait};
use serde_json::{Value, json};

fn ids(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({ "id": name })).collect()
}

fn named(names: &[&str]) -> Vec<Value> {
    names
        .iter()
        .map(|name| json!({ "dataset": { "name": name } }))
        .collect()
}

/// The catalogue from the case's own names on.
fn catalogue() -> Value {
    json!({ "question": "datasets", "page": { "after": "@" } })
}

fn in_state(state: &str) -> Value {
    json!({ "question": "leases_in", "state": state })
}

pub(super) fn cases() -> Vec<Case> {
    [of_datasets(), of_leases()].concat()
}

fn of_datasets() -> Vec<Case> {
    let some = |id, promise| {
        let mut case = Case::new(id, promise);
        for name in ["z9", "ba", "b", "a0", "a-b", "a"] {
            case = case.then(A.does(register(name)));
        }
        case
    };
    let sorted = ["@a", "@a-b", "@a0", "@b", "@ba", "@z9"];
    vec![
        some("q01", "the catalogue is in the order of names").walks(catalogue(), 500, named(&sorted)),
        some("q02", "in pages of one it is the same").walks(catalogue(), 1, named(&sorted)),
        some("q03", "in pages of two it is the same").walks(catalogue(), 2, named(&sorted)),
        some("q04", "in pages of five it is the same").walks(catalogue(), 5, named(&sorted)),
        Case::new("q05", "an owner's list has the owner's datasets")
            .then(A.does(register("a")))
            .then(B.does(register("b")))
            .then(A.does(register("c")))
            .walks(
                json!({ "question": "datasets_of", "owner": "&A", "page": { "after": "@" } }),
                3,
                named(&["@a", "@c"]),
            )
            .walks(
                json!({ "question": "datasets_of", "owner": "&B", "page": { "after": "@" } }),
                3,
                named(&["@b"]),
            ),
        some("q06", "a retired dataset is in no list")
            .then(A.does(crate::command::remove("b")))
            .walks(catalogue(), 3, named(&["@a", "@a-b", "@a0", "@ba", "@z9"])),
        some("q07", "a cursor goes on after its entry, also where that has gone meanwhile")
            .then(A.does(crate::command::remove("a0")))
            .walks(
                json!({ "question": "datasets", "page": { "after": "@a0" } }),
                2,
                named(&["@b", "@ba", "@z9"]),
            ),
        with_texts("q08", "a cursor cannot leave its list")
            .asks(
                json!({
                    "question": "code_approvals", "dataset": "#texts",
                    "page": { "after": "../../dataset/", "limit": 10 },
                }),
                json!({ "items": [], "next": null }),
            )
            .asks(
                json!({
                    "question": "history", "dataset": "#texts", "page": { "after": "\u{10FFFE}", "limit": 10 },
                }),
                json!({ "items": [], "next": null }),
            ),
        with_texts("q09", "a page of none is a page of one").asks(
            json!({ "question": "history", "dataset": "#texts", "page": { "limit": 0 } }),
            json!({ "items": ["*"], "next": null }),
        ),
    ]
}

fn of_leases() -> Vec<Case> {
    let three = |id, promise| {
        with_texts(id, promise)
            .then(A.does(register("scans")))
            .then(A.does(register("waves")))
            .then(A.does(lease("texts", 1)).named("a"))
            .then(A.does(lease("scans", 1)).named("b"))
            .then(A.does(lease("waves", 2)).named("c"))
    };
    vec![
        three("q20", "a person's leases are found by their pseudonym")
            .walks(leases_of(2, None), 10, ids(&["$c"]))
            .walks(leases_of(3, None), 10, vec![]),
        three("q21", "and by state")
            .then(A.does(release("a", 1)))
            .walks(leases_of(1, Some("active")), 10, ids(&["$b"]))
            .walks(leases_of(1, Some("ending")), 10, ids(&["$a"]))
            .then(A.does(confirm("a")))
            .walks(leases_of(1, Some("ending")), 10, vec![])
            .walks(leases_of(1, Some("ended")), 10, ids(&["$a"])),
        three("q22", "leases in a state are listed, the first to expire first")
            .then(A.does(crate::command::renew("a", 1, 900)))
            .then(A.does(crate::command::renew("c", 2, 300)))
            .walks(in_state("active"), 50, ids(&["$b", "$c", "$a"])),
        three("q23", "leases whose time is over are due, and no others")
            .walks(
                json!({ "question": "leases_due", "state": "active", "now_ms": "+60s-1ms" }),
                100,
                vec![],
            )
            .then(A.does(crate::command::renew("a", 1, 900)))
            .then(A.does(crate::command::renew("b", 1, 300)))
            .walks(
                json!({ "question": "leases_due", "state": "active", "now_ms": "+300s" }),
                100,
                ids(&["$c", "$b"]),
            ),
        on_terms(
            "q24",
            "all leases of a dataset are listed in the order of asking",
            shared(2, 4),
        )
        .then(A.does(share("texts", 1)).named("a"))
        .then(A.does(share("texts", 2)).named("b"))
        .then(A.does(wait(share("texts", 3))).named("c"))
        .then(A.does(release("a", 1)))
        .then(A.does(confirm("a")))
        .then(A.does(wait(share("texts", 4))).named("d"))
        .walks(
            of_dataset("leases_on", "texts"),
            3,
            ids(&["$a", "$b", "$c", "$d"]),
        ),
        on_terms("q25", "those who wait are in a list of their own", shared(0, 3))
            .then(A.does(lease("texts", 1)))
            .then(A.does(wait(lease("texts", 2))).named("b"))
            .then(A.does(wait(lease("texts", 3))).named("c"))
            .walks(leases_of(2, Some("waiting")), 10, ids(&["$b"]))
            .walks(
                of_dataset("leases_on", "texts"),
                1,
                vec![json!("*"), json!({ "id": "$b" }), json!({ "id": "$c" })],
            ),
        three("q26", "a lease that never was is not there").asks(
            json!({ "question": "lease", "lease": "0".repeat(32) }),
            Value::Null,
        ),
    ]
}

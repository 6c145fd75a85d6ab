//! Whom the terms let in, and how many at once.

use super::on_terms;
use crate::ask::{dataset, lease as ask, of_dataset};
use crate::case::{A, B, C, Case};
use crate::command::{confirm, exclusive, lease, release, share, shared, wait, with};
use serde_json::{Value, json};

pub(super) fn cases() -> Vec<Case> {
    [admitted(), together()].concat()
}

fn groups(person: u32, groups: &[&str]) -> Value {
    with(lease("texts", person), json!({ "groups": groups }))
}

fn admitted() -> Vec<Case> {
    let only_b = with(exclusive(), json!({ "organisations": { "only": ["&B"] } }));
    let only_oncology = with(exclusive(), json!({ "groups": ["/radiology", "/oncology"] }));
    vec![
        on_terms(
            "t01",
            "an organisation that the terms name is let in",
            only_b.clone(),
        )
        .then(B.does(lease("texts", 1))),
        on_terms(
            "t02",
            "an organisation that they do not name is not",
            only_b.clone(),
        )
        .then(C.may_not(
            lease("texts", 1),
            json!({ "code": "organisation_not_admitted", "msp": "&C" }),
        )),
        on_terms("t03", "the owner's own people are always let in", only_b).then(A.does(lease("texts", 1))),
        on_terms(
            "t04",
            "who is in one of the groups is let in",
            only_oncology.clone(),
        )
        .then(A.does(groups(1, &["/cardiology", "/oncology"]))),
        on_terms("t05", "who is in none is not", only_oncology.clone())
            .then(A.may_not(groups(1, &["/cardiology"]), "group_not_admitted"))
            .then(A.may_not(groups(1, &[]), "group_not_admitted")),
        on_terms("t06", "a group is a whole one", only_oncology)
            .then(A.may_not(groups(1, &["/oncology/children"]), "group_not_admitted")),
        on_terms(
            "t07",
            "where the terms name no organisation only the owner's people are let in",
            with(exclusive(), json!({ "organisations": { "only": [] } })),
        )
        .then(B.may_not(lease("texts", 1), "organisation_not_admitted"))
        .then(A.does(lease("texts", 1))),
        on_terms(
            "t08",
            "an exclusive lease is refused where there are only shared ones",
            with(shared(2, 0), json!({ "exclusive": false })),
        )
        .then(A.may_not(
            with(lease("texts", 1), json!({ "mode": "exclusive" })),
            "mode_not_allowed",
        )),
        on_terms(
            "t09",
            "outputs go where the terms say",
            with(
                exclusive(),
                json!({ "outputs": "quarantine", "approve_code": true }),
            ),
        )
        .asks(
            dataset("texts"),
            json!({ "dataset": { "policy": { "outputs": "quarantine", "approve_code": true } } }),
        ),
    ]
}

fn together() -> Vec<Case> {
    vec![
        on_terms(
            "t20",
            "as many share a dataset as its owner lets in",
            shared(2, 0),
        )
        .then(A.does(share("texts", 1)).named("one"))
        .then(A.does(share("texts", 2)).named("two"))
        .then(A.may_not(share("texts", 3), "lease_conflict"))
        .asks(
            of_dataset("holders", "texts"),
            json!([{ "id": "$one" }, { "id": "$two" }]),
        ),
        on_terms("t21", "an end makes room for one more", shared(2, 0))
            .then(A.does(share("texts", 1)).named("one"))
            .then(A.does(share("texts", 2)).named("two"))
            .then(A.does(release("one", 1)))
            .then(A.may_not(share("texts", 3), "lease_conflict"))
            .then(A.does(confirm("one")))
            .then(A.does(share("texts", 3)).named("three"))
            .asks(ask("three"), json!({ "grant": { "fencing_token": 3 } })),
        on_terms(
            "t22",
            "people of several organisations share a dataset",
            shared(3, 0),
        )
        .then(A.does(share("texts", 1)))
        .then(B.does(share("texts", 2)))
        .then(C.does(share("texts", 3)))
        .asks(of_dataset("holders", "texts"), json!(["*", "*", "*"])),
        on_terms("t23", "nobody shares with who has it alone", shared(8, 0))
            .then(A.does(lease("texts", 1)))
            .then(A.may_not(share("texts", 2), "lease_conflict")),
        on_terms("t24", "nobody has alone what others share", shared(8, 0))
            .then(A.does(share("texts", 1)))
            .then(A.may_not(lease("texts", 2), "lease_conflict")),
        on_terms(
            "t25",
            "an exclusive lease that is ending keeps those out who would share",
            shared(8, 0),
        )
        .then(A.does(lease("texts", 1)).named("a"))
        .then(A.does(release("a", 1)))
        .then(A.may_not(share("texts", 2), "lease_conflict"))
        .then(A.does(confirm("a")))
        .then(A.does(share("texts", 2))),
        on_terms("t26", "nobody has two leases of one dataset", shared(4, 4))
            .then(A.does(share("texts", 1)).named("a"))
            .then(A.may_not(
                share("texts", 1),
                json!({ "code": "already_leased", "lease": "$a", "lease_state": "active" }),
            )),
        on_terms("t27", "nor a lease and a place in the line", shared(4, 4))
            .then(A.does(share("texts", 1)).named("a"))
            .then(A.may_not(
                wait(with(lease("texts", 1), json!({ "mode": "exclusive" }))),
                "already_leased",
            )),
        on_terms(
            "t28",
            "after the end of one a person leases the dataset again",
            shared(4, 4),
        )
        .then(A.does(share("texts", 1)).named("a"))
        .then(A.does(release("a", 1)))
        .then(A.may_not(
            share("texts", 1),
            json!({ "code": "already_leased", "lease_state": "ending" }),
        ))
        .then(A.does(confirm("a")))
        .then(A.does(share("texts", 1))),
    ]
}

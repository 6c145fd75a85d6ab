//! Datasets handed to another organisation: only when both want it, and while nobody leases them.

use super::with_texts;
use crate::ask::{dataset, of_dataset};
use crate::case::{A, B, C, Case};
use crate::command::{
    confirm, lease, offer, release, remove, replace_volume, take_over, with, withdraw_offer,
};
use serde_json::json;

pub(super) fn cases() -> Vec<Case> {
    vec![
        with_texts("o01", "a dataset that is offered and taken has another owner")
            .then(A.does(offer("texts", "B")).tells_that(vec![
                json!({ "kind": { "event": "dataset_offered", "to": "&B" } }),
            ]))
            .asks(dataset("texts"), json!({ "status": { "offer": { "to": "&B" } } }))
            .then(B.does(take_over("texts")).tells(&["dataset_taken"]))
            .asks(
                dataset("texts"),
                json!({ "dataset": { "owner": "&B" }, "status": { "offer": null } }),
            ),
        with_texts(
            "o02",
            "the new owner's ciphertext takes the place of the old one's",
        )
        .then(A.does(replace_volume("texts", "BBBB", 9)))
        .then(A.does(offer("texts", "B")))
        .then(B.does(take_over("texts")))
        .asks(
            of_dataset("volume", "texts"),
            json!({ "ciphertext": "AAAA", "key_version": 1 }),
        ),
        with_texts("o03", "a dataset that is not offered is not taken")
            .then(B.may_not(take_over("texts"), json!({ "code": "not_offered", "to": "&B" }))),
        with_texts("o04", "only the organisation that it is offered to takes it")
            .then(A.does(offer("texts", "B")))
            .then(C.may_not(take_over("texts"), "not_offered")),
        with_texts("o05", "an offer that was withdrawn is none")
            .then(A.does(offer("texts", "B")))
            .then(A.does(withdraw_offer("texts")).tells_that(vec![
                json!({ "kind": { "event": "dataset_offered", "to": null } }),
            ]))
            .then(B.may_not(take_over("texts"), "not_offered")),
        with_texts("o06", "nobody but its owner offers a dataset")
            .then(B.may_not(offer("texts", "B"), "not_owner")),
        with_texts(
            "o07",
            "the same offer again, and a withdrawal of none, are refused",
        )
        .then(A.may_not(withdraw_offer("texts"), "unchanged"))
        .then(A.does(offer("texts", "B")))
        .then(A.may_not(offer("texts", "B"), "unchanged")),
        with_texts("o08", "a dataset is not offered to its owner").then(A.may_not(
            offer("texts", "A"),
            json!({ "code": "invalid_field", "field": "to" }),
        )),
        with_texts("o09", "a leased dataset is not taken until the lease has ended")
            .then(A.does(offer("texts", "B")))
            .then(A.does(lease("texts", 1)).named("a"))
            .then(B.may_not(take_over("texts"), "dataset_leased"))
            .then(A.does(release("a", 1)))
            .then(B.may_not(take_over("texts"), "dataset_leased"))
            .then(A.does(confirm("a")))
            .then(B.does(take_over("texts"))),
        with_texts("o10", "a former owner has no say any more")
            .then(A.does(offer("texts", "B")))
            .then(B.does(take_over("texts")))
            .then(A.may_not(remove("texts"), "not_owner"))
            .then(B.does(remove("texts"))),
        with_texts("o11", "an offer is to an organisation").then(A.may_not(
            with(offer("texts", "A"), json!({ "to": "no organisation" })),
            json!({ "code": "invalid_field", "field": "to" }),
        )),
        with_texts("o12", "each owner's list has what is theirs")
            .then(A.does(offer("texts", "B")))
            .then(B.does(take_over("texts")))
            .walks(json!({ "question": "datasets_of", "owner": "&A" }), 100, vec![])
            .walks(
                json!({ "question": "datasets_of", "owner": "&B" }),
                100,
                vec![json!({ "dataset": { "name": "@texts" } })],
            ),
    ]
}

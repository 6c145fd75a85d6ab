//! Datasets: registered, described, moved and retired by their owner alone.

use super::with_texts;
use crate::ask::{dataset, of_dataset};
use crate::case::{A, B, Case};
use crate::command::{
    amend, confirm, exclusive, lease, metadata, register, register_with, release, remove, remove_by_force,
    replace_volume, share, shared, wait, with,
};
use serde_json::{Value, json};

const FORGED_OWNER: &str = "&B";

pub(super) fn cases() -> Vec<Case> {
    [registered(), described(), moved(), retired()].concat()
}

fn registered() -> Vec<Case> {
    let described = json!({
        "title": "Scans", "description": "One.\nTwo.", "keywords": ["lungs"], "licence": "CC-BY-4.0",
        "identifiers": ["doi:10.1/x"], "publisher": "Radiology", "publication_year": 2024, "version": "2",
        "language": "nb", "formats": ["image/png"], "size_bytes": 7, "file_count": 3,
        "content_digest": { "type": "sha3-256", "value": "ab".repeat(32) },
    });
    vec![
        Case::new("d01", "a registered dataset belongs to whoever registered it and is found by its name")
            .then(A.does(register("texts")).tells(&["dataset_registered"]))
            .asks(
                dataset("texts"),
                json!({ "dataset": { "id": "#texts", "name": "@texts", "owner": "&A", "retired_at_ms": null } }),
            ),
        with_texts("d02", "a dataset is found by its id").asks(
            of_dataset("dataset", "texts"),
            json!({ "dataset": { "name": "@texts" } }),
        ),
        with_texts("d03", "a new dataset has no holders, no line and no token")
            .asks(
                dataset("texts"),
                json!({ "status": {
                    "revision": 1, "fencing_token": 0, "asked": 0, "holders": null, "line": null, "mode": null, "offer": null,
                } }),
            )
            .asks(of_dataset("holders", "texts"), json!([])),
        with_texts("d04", "the ciphertext of a volume is kept as it was sent").asks(
            of_dataset("volume", "texts"),
            json!({ "ciphertext": "bm90aGluZyB0byByZWFk", "key_version": 1 }),
        ),
        with_texts("d05", "a name in use is taken")
            .then(A.may_not(register("texts"), json!({ "code": "dataset_name_taken", "name": "@texts" }))),
        with_texts("d06", "a name in use is taken for other organisations too")
            .then(B.may_not(register("texts"), "dataset_name_taken")),
        Case::new("d07", "a description is kept field by field")
            .then(A.does(with(register("texts"), json!({ "metadata": described }))))
            .asks(dataset("texts"), json!({ "dataset": { "metadata": described } })),
        Case::new("d08", "terms that are not named have their defaults")
            .then(A.does(register_with("texts", exclusive())))
            .asks(
                dataset("texts"),
                json!({ "dataset": { "policy": {
                    "organisations": "any", "exclusive": true, "most_shared": 0, "max_ttl_seconds": 3_600,
                    "approve_leases": false, "approve_code": false, "outputs": "home", "most_waiting": 0,
                    "place_seconds": 604_800,
                } } }),
            ),
        Case::new("d09", "a dataset that does not exist is not there")
            .asks(dataset("texts"), Value::Null)
            .then(A.may_not(remove("texts"), "dataset_not_found")),
        Case::new("d10", "a registration is dated by its transaction")
            .at("+7s")
            .then(A.does(register("texts")))
            .asks(dataset("texts"), json!({ "dataset": { "registered_at_ms": "+7s" } })),
        Case::new("d11", "a transaction id registers one dataset and no second")
            .then(A.does(register("texts")).under("same"))
            .then(A.may_not(register("scans"), "transaction_reused").under("same")),
        Case::new("d12", "a second version of the key may be the first on the ledger")
            .then(A.does(with(register("texts"), json!({ "key_version": 2 }))))
            .asks(of_dataset("volume", "texts"), json!({ "key_version": 2 })),
    ]
}

fn described() -> Vec<Case> {
    let anew = json!({ "title": "Texts, second edition", "keywords": ["lorem"] });
    let created = json!({
        "title": "Texts", "resource_type": "text",
        "creators": [{ "name": "Institute of Linguistics", "identifier": "https://ror.org/04q12yn84", "affiliation": "UiS" }],
    });
    vec![
        with_texts("d20", "its owner describes a dataset anew")
            .then(A.does(amend("texts", json!({ "metadata": anew }))).tells(&["dataset_described"]))
            .asks(
                dataset("texts"),
                json!({ "dataset": { "metadata": { "title": "Texts, second edition", "description": null } } }),
            ),
        with_texts("d21", "its owner changes the terms")
            .then(A.does(amend("texts", json!({ "policy": shared(3, 1) }))).tells(&["policy_changed"]))
            .asks(dataset("texts"), json!({ "dataset": { "policy": { "most_shared": 3 } } })),
        with_texts("d22", "description and terms changed at once are two events of one transaction").then(
            A.does(amend("texts", json!({ "metadata": anew, "policy": shared(3, 1) })))
                .tells(&["dataset_described", "policy_changed"]),
        ),
        with_texts("d23", "an amendment that changes nothing is refused")
            .then(A.may_not(amend("texts", json!({ "metadata": metadata() })), "unchanged"))
            .then(A.may_not(amend("texts", json!({})), "unchanged")),
        with_texts("d24", "nobody but its owner amends a dataset").then(B.may_not(
            amend("texts", json!({ "metadata": anew })),
            json!({ "code": "not_owner", "owner": "&A" }),
        )),
        with_texts("d25", "leases that run keep the terms they were given on")
            .then(A.does(lease("texts", 1)).named("a"))
            .then(A.does(amend("texts", json!({ "policy": { "max_ttl_seconds": 30 } }))))
            .asks(
                crate::ask::lease("a"),
                json!({ "ttl_seconds": 60, "max_ttl_seconds": 3_600, "state": "active" }),
            ),
        with_texts("d26", "leases to come are given on the new terms")
            .then(A.does(amend("texts", json!({ "policy": { "max_ttl_seconds": 30 } }))))
            .then(A.may_not(lease("texts", 1), json!({ "code": "invalid_field", "field": "ttl_seconds" }))),
        with_texts("d27", "a dataset that is not there cannot be amended")
            .then(A.may_not(amend("scans", json!({ "metadata": anew })), "dataset_not_found")),
        with_texts("d28", "a description names who made the dataset and what kind of thing it is")
            .then(A.does(amend("texts", json!({ "metadata": created }))))
            .asks(dataset("texts"), json!({ "dataset": { "metadata": created } })),
    ]
}

fn moved() -> Vec<Case> {
    vec![
        with_texts("d30", "its owner replaces the volume")
            .then(
                A.does(replace_volume("texts", "AAAA", 2))
                    .tells(&["volume_replaced"]),
            )
            .asks(
                of_dataset("volume", "texts"),
                json!({ "ciphertext": "AAAA", "key_version": 2 }),
            ),
        with_texts("d31", "the version of the key never falls")
            .then(A.does(replace_volume("texts", "AAAA", 2)))
            .then(A.may_not(
                replace_volume("texts", "BBBB", 1),
                json!({ "code": "invalid_field", "field": "key_version" }),
            )),
        with_texts("d32", "a volume may move under the same key")
            .then(A.does(replace_volume("texts", "AAAA", 1)))
            .asks(
                of_dataset("volume", "texts"),
                json!({ "ciphertext": "AAAA", "key_version": 1 }),
            ),
        with_texts("d33", "the same volume again is refused")
            .then(A.does(replace_volume("texts", "AAAA", 1)))
            .then(A.may_not(replace_volume("texts", "AAAA", 1), "unchanged")),
        with_texts("d34", "nobody but its owner replaces the volume")
            .then(B.may_not(replace_volume("texts", "AAAA", 2), "not_owner"))
            .asks(of_dataset("volume", "texts"), json!({ "key_version": 1 })),
    ]
}

fn retired() -> Vec<Case> {
    vec![
        with_texts("d40", "its owner retires a dataset that nobody leases")
            .then(A.does(remove("texts")).tells(&["dataset_retired"]))
            .asks(dataset("texts"), Value::Null)
            .asks(
                of_dataset("dataset", "texts"),
                json!({ "dataset": { "retired_at_ms": "*" } }),
            ),
        with_texts("d41", "the ciphertext of a retired dataset has left the state")
            .then(A.does(remove("texts")))
            .asks(of_dataset("volume", "texts"), Value::Null),
        with_texts(
            "d42",
            "the name of a retired dataset is free, for another dataset",
        )
        .then(A.does(remove("texts")))
        .then(A.does(register("texts")).named("second"))
        .asks(dataset("texts"), json!({ "dataset": { "id": "#second" } })),
        with_texts("d43", "nobody but its owner retires a dataset")
            .then(B.may_not(remove("texts"), "not_owner")),
        with_texts("d44", "nor by force").then(B.may_not(remove_by_force("texts"), "not_owner")),
        with_texts("d45", "a retired dataset is not retired again, leased or amended")
            .then(A.does(remove("texts")))
            .then(A.may_not(remove("texts"), "dataset_not_found"))
            .then(A.may_not(lease("texts", 1), "dataset_not_found"))
            .then(A.may_not(
                amend("texts", json!({ "metadata": metadata() })),
                "dataset_not_found",
            )),
        with_texts("d46", "a dataset with an active lease is not retired")
            .then(A.does(lease("texts", 1)).named("a"))
            .then(A.may_not(
                remove("texts"),
                json!({ "code": "dataset_leased", "lease": "$a" }),
            )),
        with_texts("d47", "nor with one that is ending")
            .then(A.does(lease("texts", 1)).named("a"))
            .then(A.does(release("a", 1)))
            .then(A.may_not(remove("texts"), "dataset_leased"))
            .then(A.does(confirm("a")))
            .then(A.does(remove("texts"))),
        Case::new("d48", "by force its leases end with it, those that wait at once")
            .then(A.does(register_with("texts", shared(2, 2))))
            .then(A.does(share("texts", 1)).named("one"))
            .then(A.does(share("texts", 2)).named("two"))
            .then(
                A.does(wait(with(lease("texts", 3), json!({ "mode": "exclusive" }))))
                    .named("three"),
            )
            .then(A.does(release("two", 2)))
            .then(A.does(remove_by_force("texts")).tells(&[
                "dataset_retired",
                "lease_ending:retired one",
                "lease_ended:retired three",
            ]))
            .then(A.does(confirm("one")))
            .then(A.does(confirm("two")))
            .asks(of_dataset("holders", "texts"), json!([])),
        Case::new("d49", "an owner is the caller and never an argument")
            .then(A.does(register("texts")))
            .then(A.does(amend("texts", json!({ "metadata": { "title": FORGED_OWNER } }))))
            .asks(dataset("texts"), json!({ "dataset": { "owner": "&A" } })),
    ]
}

//! Leases of a dataset that is leased to one person at a time.

use super::with_texts;
use crate::ask::{dataset, lease as ask, of_dataset};
use crate::case::{A, B, Case};
use crate::command::{amend, confirm, exclusive, lease, register, register_with, release, share, wait, with};
use serde_json::json;

pub(super) fn cases() -> Vec<Case> {
    [granted(), refused(), released()].concat()
}

fn granted() -> Vec<Case> {
    let without_time = with(lease("texts", 1), json!({ "ttl_seconds": null }));
    vec![
        with_texts("l01", "a free dataset is leased at once")
            .then(A.does(lease("texts", 1)).named("a").tells(&["lease_granted a"]))
            .asks(
                ask("a"),
                json!({
                    "id": "$a", "number": 1, "dataset": "#texts", "dataset_name": "@texts", "owner": "&A",
                    "subject": "%1", "mode": "exclusive", "ttl_seconds": 60, "state": "active", "end": null,
                    "mount": { "state": "pending" }, "grant": { "fencing_token": 1, "renewals": 0 },
                }),
            ),
        with_texts("l02", "a dataset knows who has it")
            .then(A.does(lease("texts", 1)).named("a"))
            .asks(
                dataset("texts"),
                json!({ "status": { "holders": ["$a"], "mode": "exclusive", "fencing_token": 1, "asked": 1 } }),
            )
            .asks(of_dataset("holders", "texts"), json!([{ "id": "$a" }])),
        with_texts("l03", "a lease lasts from its grant on for as long as it was asked for")
            .at("+5s")
            .then(A.does(lease("texts", 1)).named("a"))
            .asks(
                ask("a"),
                json!({ "asked_at_ms": "+5s", "grant": { "at_ms": "+5s", "expires_at_ms": "+65s" } }),
            ),
        with_texts("l04", "a lease without a time gets the dataset's longest")
            .then(A.does(without_time).named("a"))
            .asks(ask("a"), json!({ "ttl_seconds": 3_600 })),
        with_texts("l05", "people of another organisation lease it too")
            .then(B.does(lease("texts", 1)).named("a"))
            .asks(ask("a"), json!({ "owner": "&A", "cluster_msp": "&B" })),
        with_texts("l06", "a dataset is leased by its id as well")
            .then(A.does(with(lease("texts", 1), json!({ "dataset": "#texts" }))).named("a"))
            .asks(ask("a"), json!({ "dataset_name": "@texts" })),
        with_texts("l07", "the fencing token grows by one with every grant of the dataset")
            .then(A.does(lease("texts", 1)).named("a"))
            .then(A.does(release("a", 1)))
            .then(A.does(confirm("a")))
            .then(A.does(lease("texts", 1)).named("b"))
            .asks(ask("b"), json!({ "number": 2, "grant": { "fencing_token": 2 } })),
        with_texts("l08", "every dataset counts its own tokens")
            .then(A.does(register("scans")))
            .then(A.does(lease("texts", 1)))
            .then(A.does(lease("scans", 1)).named("a"))
            .asks(ask("a"), json!({ "number": 1, "grant": { "fencing_token": 1 } })),
        with_texts("l09", "a person may have leases of several datasets")
            .then(A.does(register("scans")))
            .then(A.does(lease("texts", 1)))
            .then(A.does(lease("scans", 1))),
        with_texts("l10", "a transaction id makes one lease and no second")
            .then(A.does(register("scans")))
            .then(A.does(lease("texts", 1)).under("same"))
            .then(A.may_not(lease("scans", 1), "transaction_reused").under("same")),
        Case::new("l11", "where there are only shared leases, one without a mode is shared")
            .then(A.does(register_with(
                "texts",
                with(exclusive(), json!({ "exclusive": false, "most_shared": 2 })),
            )))
            .then(A.does(lease("texts", 1)).named("a"))
            .asks(ask("a"), json!({ "mode": "shared" })),
    ]
}

fn refused() -> Vec<Case> {
    vec![
        with_texts("l20", "an exclusive lease keeps everybody else out")
            .then(A.does(lease("texts", 1)))
            .then(A.may_not(
                lease("texts", 2),
                json!({ "code": "lease_conflict", "name": "@texts", "lease_state": "active" }),
            )),
        with_texts("l21", "people of other organisations as well, the owner's too")
            .then(B.does(lease("texts", 1)))
            .then(A.may_not(lease("texts", 2), "lease_conflict")),
        with_texts("l22", "who is refused learns until when the dataset is leased")
            .then(A.does(lease("texts", 1)))
            .at("+1s")
            .then(A.may_not(
                lease("texts", 2),
                json!({ "code": "lease_conflict", "expires_at_ms": "+60s" }),
            )),
        with_texts(
            "l23",
            "a lease whose time is over still keeps others out: time alone ends nothing",
        )
        .then(A.does(lease("texts", 1)))
        .at("+600s")
        .then(A.may_not(lease("texts", 2), "lease_conflict")),
        with_texts(
            "l24",
            "a released lease keeps others out until its cluster has confirmed the end",
        )
        .then(A.does(lease("texts", 1)).named("a"))
        .then(A.does(release("a", 1)))
        .then(A.may_not(
            lease("texts", 2),
            json!({ "code": "lease_conflict", "lease_state": "ending" }),
        ))
        .then(A.does(confirm("a")))
        .then(A.does(lease("texts", 2))),
        with_texts("l25", "a dataset that nobody registered is not leased")
            .then(A.may_not(lease("scans", 1), "dataset_not_found")),
        with_texts("l26", "what is neither a name nor an id is no dataset").then(A.may_not(
            with(lease("texts", 1), json!({ "dataset": "../texts" })),
            "dataset_not_found",
        )),
        with_texts("l27", "who waits where nobody may wait is refused")
            .then(A.does(lease("texts", 1)))
            .then(A.may_not(wait(lease("texts", 2)), "lease_conflict")),
        with_texts("l28", "a mode that the terms do not have is refused").then(A.may_not(
            share("texts", 1),
            json!({ "code": "mode_not_allowed", "name": "@texts" }),
        )),
        with_texts("l29", "a refused lease leaves nothing behind")
            .then(A.does(lease("texts", 1)))
            .then(A.may_not(lease("texts", 2), "lease_conflict"))
            .asks(
                dataset("texts"),
                json!({ "status": { "asked": 1, "fencing_token": 1, "revision": 2 } }),
            )
            .walks(crate::ask::leases_of(2, None), 10, vec![]),
        with_texts(
            "l30",
            "terms that have changed decide on a lease that comes after",
        )
        .then(A.does(amend(
            "texts",
            json!({ "policy": { "max_ttl_seconds": 60, "most_shared": 1 } }),
        )))
        .then(A.does(share("texts", 1)).named("a"))
        .asks(ask("a"), json!({ "mode": "shared", "max_ttl_seconds": 60 })),
    ]
}

fn released() -> Vec<Case> {
    let unknown = json!({ "command": "release", "lease": "0".repeat(32), "subject": "%1" });
    vec![
        with_texts(
            "l40",
            "its holder releases a lease, which ends when its cluster has confirmed that",
        )
        .then(A.does(lease("texts", 1)).named("a"))
        .then(A.does(release("a", 1)).tells(&["lease_ending:released a"]))
        .asks(
            ask("a"),
            json!({ "state": "ending", "end": { "cause": "released", "by": "&A", "confirmed_at_ms": null } }),
        )
        .then(A.does(confirm("a")).tells(&["lease_ended:released a"]))
        .asks(
            ask("a"),
            json!({ "state": "ended", "end": { "confirmed_at_ms": "*" } }),
        )
        .asks(
            dataset("texts"),
            json!({ "status": { "holders": null, "mode": null } }),
        ),
        with_texts(
            "l41",
            "another person's lease is as unknown as one that never was",
        )
        .then(A.does(lease("texts", 1)).named("a"))
        .then(A.may_not(release("a", 2), "lease_not_found"))
        .then(A.may_not(unknown.clone(), "lease_not_found"))
        .then(A.may_not(with(unknown, json!({ "lease": "no id" })), "lease_not_found")),
        with_texts(
            "l42",
            "another organisation that read the pseudonym on the ledger releases nothing",
        )
        .then(A.does(lease("texts", 1)).named("a"))
        .then(B.may_not(release("a", 1), "lease_not_found")),
        with_texts("l43", "a lease is released once")
            .then(A.does(lease("texts", 1)).named("a"))
            .then(A.does(release("a", 1)))
            .then(A.may_not(
                release("a", 1),
                json!({ "code": "lease_not_active", "lease_state": "ending" }),
            ))
            .then(A.does(confirm("a")))
            .then(A.may_not(
                release("a", 1),
                json!({ "code": "lease_not_active", "lease_state": "ended" }),
            )),
        with_texts("l44", "both ends of a lease are dated")
            .then(A.does(lease("texts", 1)).named("a"))
            .at("+3s")
            .then(A.does(release("a", 1)))
            .at("+5s")
            .then(A.does(confirm("a")))
            .asks(
                ask("a"),
                json!({ "end": { "at_ms": "+3s", "confirmed_at_ms": "+5s" } }),
            ),
        with_texts(
            "l45",
            "a lease that was retired with its dataset is released no more",
        )
        .then(A.does(lease("texts", 1)).named("a"))
        .then(A.does(crate::command::remove_by_force("texts")))
        .then(A.may_not(release("a", 1), "lease_not_active"))
        .then(A.does(confirm("a")))
        .asks(
            ask("a"),
            json!({ "state": "ended", "end": { "cause": "retired" } }),
        ),
    ]
}

//! The line: who waits gets the dataset in the order of coming.

use super::on_terms;
use crate::ask::{dataset, lease as ask};
use crate::case::{A, B, Case};
use crate::command::{confirm, expire, lease, release, revoke, share, shared, wait, with};
use serde_json::{Value, json};

/// Waits for having it alone.
fn alone(person: u32) -> Value {
    wait(with(lease("texts", person), json!({ "mode": "exclusive" })))
}

fn some(person: u32) -> Value {
    wait(share("texts", person))
}

pub(super) fn cases() -> Vec<Case> {
    [standing(), moving(), lapsing()].concat()
}

fn standing() -> Vec<Case> {
    vec![
        on_terms("w01", "who is willing to wait gets a place", shared(0, 2))
            .then(A.does(alone(1)).named("one").tells(&["lease_granted one"]))
            .then(A.does(alone(2)).named("two").tells(&["lease_waiting two"]))
            .asks(ask("two"), json!({ "state": "waiting", "grant": null, "waits": true }))
            .asks(
                dataset("texts"),
                json!({ "status": { "line": [{ "lease": "$two", "mode": "exclusive" }], "fencing_token": 1 } }),
            ),
        on_terms("w02", "the line has an end", shared(0, 1))
            .then(A.does(alone(1)))
            .then(A.does(alone(2)))
            .then(A.may_not(alone(3), json!({ "code": "line_full", "name": "@texts", "waiting": 1 }))),
        on_terms("w03", "who does not wait is refused", shared(0, 2))
            .then(A.does(alone(1)))
            .then(A.may_not(lease("texts", 2), "lease_conflict")),
        on_terms("w04", "a place is kept for as long as the terms say", shared(0, 2))
            .then(A.does(alone(1)))
            .at("+10s")
            .then(A.does(alone(2)).named("two"))
            .asks(ask("two"), json!({ "until_ms": "+610s" })),
        on_terms("w05", "nobody stands in the line twice", shared(0, 3))
            .then(A.does(alone(1)))
            .then(A.does(alone(2)).named("two"))
            .then(A.may_not(alone(2), json!({ "code": "already_leased", "lease_state": "waiting" }))),
        on_terms("w06", "who would share does not overtake who waits to be alone", shared(2, 3))
            .then(A.does(some(1)))
            .then(A.does(alone(2)))
            .then(A.does(some(3)).named("three").tells(&["lease_waiting three"])),
        on_terms("w07", "a dataset for which somebody waits is not retired but by force", shared(0, 2))
            .then(A.does(alone(1)).named("one"))
            .then(A.does(alone(2)))
            .then(A.may_not(crate::command::remove("texts"), "dataset_leased")),
    ]
}

fn moving() -> Vec<Case> {
    vec![
        on_terms(
            "w20",
            "the first in the line gets the dataset with the confirmed end",
            shared(0, 2),
        )
        .then(A.does(alone(1)).named("one"))
        .then(A.does(alone(2)).named("two"))
        .then(A.does(alone(3)).named("three"))
        .then(A.does(release("one", 1)).tells(&["lease_ending:released one"]))
        .then(
            A.does(confirm("one"))
                .tells(&["lease_ended:released one", "lease_granted two"]),
        )
        .asks(
            ask("two"),
            json!({ "state": "active", "grant": { "fencing_token": 2 } }),
        )
        .asks(ask("three"), json!({ "state": "waiting" })),
        on_terms(
            "w21",
            "all who fit in beside one another come in at once",
            shared(2, 4),
        )
        .then(A.does(alone(1)).named("one"))
        .then(B.does(some(2)).named("two"))
        .then(A.does(some(3)).named("three"))
        .then(A.does(alone(4)).named("four"))
        .then(A.does(release("one", 1)))
        .then(A.does(confirm("one")).tells(&[
            "lease_ended:released one",
            "lease_granted two",
            "lease_granted three",
        ]))
        .asks(
            dataset("texts"),
            json!({ "status": { "mode": "shared", "line": [{ "lease": "$four" }] } }),
        ),
        on_terms(
            "w22",
            "who waits to be alone gets the dataset after the last who shares it",
            shared(2, 4),
        )
        .then(A.does(some(1)).named("one"))
        .then(A.does(some(2)).named("two"))
        .then(A.does(alone(3)).named("three"))
        .then(A.does(release("one", 1)))
        .then(A.does(confirm("one")).tells(&["lease_ended:released one"]))
        .then(A.does(release("two", 2)))
        .then(
            A.does(confirm("two"))
                .tells(&["lease_ended:released two", "lease_granted three"]),
        ),
        on_terms("w23", "its time begins when a lease is granted", shared(0, 2))
            .then(A.does(alone(1)).named("one"))
            .then(A.does(alone(2)).named("two"))
            .at("+40s")
            .then(A.does(release("one", 1)))
            .then(A.does(confirm("one")))
            .asks(
                ask("two"),
                json!({ "asked_at_ms": "+0s", "grant": { "at_ms": "+40s", "expires_at_ms": "+100s" } }),
            ),
        on_terms(
            "w24",
            "who leaves the line is gone at once: nothing was mounted",
            shared(0, 2),
        )
        .then(A.does(alone(1)))
        .then(A.does(alone(2)).named("two"))
        .then(A.does(release("two", 2)).tells(&["lease_ended:released two"]))
        .asks(dataset("texts"), json!({ "status": { "line": null } })),
        on_terms(
            "w25",
            "who leaves the line makes room for those behind",
            shared(2, 4),
        )
        .then(A.does(some(1)))
        .then(A.does(alone(2)).named("two"))
        .then(A.does(some(3)).named("three"))
        .then(
            A.does(release("two", 2))
                .tells(&["lease_ended:released two", "lease_granted three"]),
        ),
        on_terms("w26", "its owner takes somebody from the line", shared(0, 2))
            .then(A.does(alone(1)))
            .then(A.does(alone(2)).named("two"))
            .then(A.does(revoke("two")).tells(&["lease_ended:revoked two"]))
            .asks(ask("two"), json!({ "end": { "reason": "the study has ended" } })),
        on_terms(
            "w27",
            "a free place after a full line is taken by the next who comes",
            shared(0, 1),
        )
        .then(A.does(alone(1)))
        .then(A.does(alone(2)).named("two"))
        .then(A.does(release("two", 2)))
        .then(A.does(alone(3)).named("three").tells(&["lease_waiting three"])),
    ]
}

fn lapsing() -> Vec<Case> {
    vec![
        on_terms(
            "w40",
            "a place is not taken away before every clock agrees that its time is over",
            shared(0, 2),
        )
        .then(A.does(alone(1)))
        .then(A.does(alone(2)).named("two"))
        .at("+600s+m-1ms")
        .then(A.may_not(
            expire("two"),
            json!({ "code": "not_expired", "from_ms": "+600s+m", "now_ms": "+600s+m-1ms" }),
        )),
        on_terms("w41", "then anyone may say that it has lapsed", shared(0, 2))
            .then(A.does(alone(1)))
            .then(A.does(alone(2)).named("two"))
            .at("+600s+m")
            .then(B.does(expire("two")).tells(&["lease_ended:lapsed two"])),
        on_terms(
            "w42",
            "who comes in passes over places that have lapsed",
            shared(0, 3),
        )
        .then(A.does(alone(1)).named("one"))
        .then(A.does(alone(2)).named("two"))
        .at("+599s+m")
        .then(A.does(alone(3)).named("three"))
        .then(A.does(release("one", 1)))
        .at("+600s+m")
        .then(A.does(confirm("one")).tells(&[
            "lease_ended:released one",
            "lease_ended:lapsed two",
            "lease_granted three",
        ])),
        on_terms(
            "w43",
            "a place whose time is over counts until somebody says so",
            shared(0, 2),
        )
        .then(A.does(alone(1)).named("one"))
        .then(A.does(alone(2)).named("two"))
        .at("+599s+m")
        .then(A.does(release("one", 1)))
        .then(
            A.does(confirm("one"))
                .tells(&["lease_ended:released one", "lease_granted two"]),
        ),
    ]
}

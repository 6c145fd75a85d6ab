//! Organisations and their clusters. Each case leaves them as it found them, and runs alone.

use super::with_texts;
use crate::ask::lease as ask;
use crate::case::{A, B, C, Case};
use crate::command::{
    amend_organisation, confirm, join, lease, register, register_cluster, release, renew, resume,
    retire_cluster, revoke, suspend, vote, wait, with,
};
use crate::prelude::CLUSTER;
use leasehold_chaincode::Role;
use serde_json::{Value, json};

const KEY: &str = "MCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn organisation(letter: &str) -> Value {
    json!({ "question": "organisation", "msp": format!("&{letter}") })
}

fn cluster(letter: &str, name: &str) -> Value {
    json!({ "question": "cluster", "msp": format!("&{letter}"), "name": name })
}

/// Events of organisations have no lease.
fn told(kind: Value) -> Value {
    json!({ "kind": kind, "dataset": null, "lease": null, "organisation": "&A" })
}

pub(super) fn cases() -> Vec<Case> {
    let cases = [said(), suspended(), voted(), clusters()].concat();
    cases.into_iter().map(Case::alone).collect()
}

fn said() -> Vec<Case> {
    let keyed = json!({ "keys": [{ "id": "a", "algorithm": "ed25519", "spki": KEY }] });
    let refused = |id, promise, field: &str, changes| {
        let refusal = json!({ "code": "invalid_field", "field": field });
        Case::new(id, promise).then(A.may_not(amend_organisation(changes), refusal))
    };
    let not_for = |id, promise, command| {
        let refusal = json!({ "code": "role_needed", "needed": "administrator", "has": "steward" });
        Case::new(id, promise).then(A.with(Role::Steward).may_not(command, refusal))
    };
    vec![
        Case::new("g01", "an organisation joins once").then(A.may_not(join(), "already_joined")),
        Case::new("g02", "an organisation amends its broker's address and keys")
            .then(A.does(amend_organisation(keyed.clone())).tells_that(vec![told(
                json!({ "event": "organisation_amended" }),
            )]))
            .asks(organisation("A"), keyed.clone())
            .then(A.may_not(amend_organisation(keyed), "unchanged"))
            .then(A.does(amend_organisation(json!({ "keys": [] })))),
        refused("g03", "a broker answers by https", "broker", json!({ "broker": "http://b.example" })),
        refused("g04", "a broker's address has no path", "broker", json!({ "broker": "https://b.example/x" })),
        refused(
            "g05",
            "a key is a public key of its algorithm",
            "keys.spki",
            json!({ "keys": [{ "id": "a", "algorithm": "p-256", "spki": KEY }] }),
        ),
        not_for("g06", "a steward amends no organisation", amend_organisation(json!({}))),
        not_for("g07", "a steward suspends no organisation", suspend()),
        not_for("g08", "a steward registers no cluster", register_cluster("more")),
        Case::new("g09", "everybody sees who has joined, and what happened to them since")
            .asks(json!({ "question": "organisations" }), json!({ "next": null }))
            .asks(json!({ "question": "consortium" }), json!({ "joined": "*", "standing": "*" }))
            .asks(
                json!({ "question": "organisation_history", "msp": "&A", "page": { "after": null, "limit": 1 } }),
                json!({ "items": [{ "revision": 1, "kind": { "event": "organisation_joined" }, "organisation": "&A" }] }),
            )
            .asks(json!({ "question": "organisation", "msp": "NobodyMSP" }), Value::Null),
    ]
}

fn suspended() -> Vec<Case> {
    let suspension = json!({ "code": "organisation_suspended", "msp": "&A" });
    vec![
        with_texts(
            "g20",
            "a suspended organisation registers and leases nothing, and nobody leases of it",
        )
        .then(A.does(suspend()).tells_that(vec![told(
            json!({ "event": "organisation_suspended", "by": "itself" }),
        )]))
        .then(A.may_not(register("scans"), suspension.clone()))
        .then(A.may_not(lease("texts", 1), suspension.clone()))
        .then(B.may_not(lease("texts", 1), suspension.clone()))
        .then(A.may_not(register_cluster("more"), suspension.clone()))
        .then(A.may_not(suspend(), "unchanged"))
        .then(A.does(resume()).tells_that(vec![told(
            json!({ "event": "organisation_resumed", "by": "itself" }),
        )]))
        .then(A.may_not(resume(), "unchanged"))
        .then(B.does(lease("texts", 1))),
        with_texts("g21", "what ends goes on while the owner is suspended")
            .then(B.does(lease("texts", 1)).named("a"))
            .then(A.does(suspend()))
            .then(B.may_not(renew("a", 1, 600), suspension))
            .then(B.does(release("a", 1)))
            .then(B.does(confirm("a")))
            .then(A.does(resume())),
        with_texts("g22", "a suspended owner revokes")
            .then(B.does(lease("texts", 1)).named("a"))
            .then(A.does(suspend()))
            .then(A.does(revoke("a")))
            .then(B.does(confirm("a")))
            .then(A.does(resume())),
        super::on_terms(
            "g23",
            "whoever is suspended when the turn comes has lost the place",
            crate::command::shared(0, 5),
        )
        .then(A.does(lease("texts", 1)).named("a"))
        .then(B.does(wait(lease("texts", 2))).named("b"))
        .then(A.does(wait(lease("texts", 3))).named("c"))
        .then(B.does(suspend()))
        .then(A.does(release("a", 1)))
        .then(A.does(confirm("a")).tells(&[
            "lease_ended:released a",
            "lease_ended:suspended b",
            "lease_granted c",
        ]))
        .then(B.does(resume())),
    ]
}

fn voted() -> Vec<Case> {
    let by = |voter: &str, suspend: bool| {
        told(json!({ "event": "suspension_voted", "voter": format!("&{voter}"), "suspend": suspend }))
    };
    vec![
        Case::new(
            "g30",
            "others suspend an organisation only together, and resume it together",
        )
        .then(B.does(vote("A", true)).tells_that(vec![by("B", true)]))
        .asks(organisation("A"), json!({ "suspended_by_others": null }))
        .then(B.may_not(vote("A", true), "unchanged"))
        .then(C.does(vote("A", true)).tells_that(vec![
            by("C", true),
            told(json!({ "event": "organisation_suspended", "by": "others" })),
        ]))
        .asks(
            organisation("A"),
            json!({ "suspended_by_others": { "reason": "it does not answer" } }),
        )
        .then(A.may_not(register("scans"), "organisation_suspended"))
        .then(A.may_not(resume(), "unchanged"))
        .then(C.does(vote("A", false)).tells_that(vec![
            by("C", false),
            told(json!({ "event": "organisation_resumed", "by": "others" })),
        ]))
        .then(B.does(vote("A", false))),
        Case::new("g31", "nobody votes on themselves, or on whoever has not joined")
            .then(A.may_not(
                vote("A", true),
                json!({ "code": "invalid_field", "field": "organisation" }),
            ))
            .then(A.may_not(
                with(vote("A", true), json!({ "organisation": "NobodyMSP" })),
                "organisation_not_found",
            )),
    ]
}

fn clusters() -> Vec<Case> {
    let on = |cluster: &str| with(lease("texts", 1), json!({ "cluster": cluster }));
    vec![
        with_texts("g40", "a lease names the organisation's only cluster")
            .then(A.does(lease("texts", 1)).named("a"))
            .asks(ask("a"), json!({ "cluster_msp": "&A", "cluster": CLUSTER })),
        with_texts(
            "g41",
            "of several clusters one is named, and a retired one takes no leases",
        )
        .then(A.does(register_cluster("second")).tells_that(vec![told(
            json!({ "event": "cluster_registered", "cluster": "second" }),
        )]))
        .then(A.may_not(
            lease("texts", 1),
            json!({ "code": "invalid_field", "field": "cluster" }),
        ))
        .then(A.does(on("second")).named("a"))
        .asks(ask("a"), json!({ "cluster": "second" }))
        .then(A.does(retire_cluster("second")).tells_that(vec![told(
            json!({ "event": "cluster_retired", "cluster": "second" }),
        )]))
        .asks(
            cluster("A", "second"),
            json!({ "organisation": "&A", "retired_at_ms": "*" }),
        )
        .then(A.does(release("a", 1)))
        .then(A.does(confirm("a")))
        .then(A.may_not(on("second"), json!({ "code": "cluster_not_found", "msp": "&A" })))
        .then(A.does(lease("texts", 1))),
        with_texts(
            "g42",
            "another organisation's cluster serves nobody else's leases",
        )
        .then(B.does(register_cluster("theirs")))
        .then(A.may_not(on("theirs"), "cluster_not_found"))
        .then(B.does(retire_cluster("theirs"))),
        Case::new("g43", "what is not registered is not retired")
            .then(A.may_not(retire_cluster("nothing"), "cluster_not_found"))
            .asks(cluster("A", "nothing"), Value::Null)
            .then(A.may_not(
                register_cluster("Not a name"),
                json!({ "code": "invalid_field", "field": "name" }),
            ))
            .asks(
                json!({ "question": "clusters", "msp": "&A", "page": { "after": null, "limit": 1 } }),
                json!({ "items": [{ "name": CLUSTER }] }),
            ),
    ]
}

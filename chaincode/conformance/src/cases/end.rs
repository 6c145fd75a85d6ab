//! Ends that are not the holder's: time's, the owner's, and the cluster's word that nothing is left.

use super::{on_terms, with_texts};
use crate::ask::{dataset, lease as ask};
use crate::case::{A, B, C, Case};
use crate::command::{confirm, declare, expire, lease, release, renew, revoke, shared, wait, with};
use serde_json::json;

pub(super) fn cases() -> Vec<Case> {
    [by_time(), by_owner(), confirmed(), declared()].concat()
}

fn leased(id: &'static str, promise: &'static str) -> Case {
    with_texts(id, promise).then(A.does(lease("texts", 1)).named("a"))
}

/// The second organisation's people lease the first one's dataset.
fn leased_by_b(id: &'static str, promise: &'static str) -> Case {
    with_texts(id, promise).then(B.does(lease("texts", 1)).named("a"))
}

fn by_time() -> Vec<Case> {
    vec![
        leased(
            "e01",
            "a lease is not expired a millisecond before every clock agrees",
        )
        .at("+60s+m-1ms")
        .then(A.may_not(
            expire("a"),
            json!({ "code": "not_expired", "from_ms": "+60s+m", "now_ms": "+60s+m-1ms" }),
        )),
        leased("e02", "then it is, and its cluster takes it down")
            .at("+60s+m")
            .then(A.does(expire("a")).tells(&["lease_ending:expired a"]))
            .asks(
                ask("a"),
                json!({ "state": "ending", "end": { "cause": "expired", "at_ms": "+60s+m" } }),
            ),
        leased("e03", "anyone may say so")
            .at("+60s+m")
            .then(C.does(expire("a")))
            .asks(ask("a"), json!({ "end": { "by": "&C" } })),
        leased("e04", "a lease is not expired at once").then(A.may_not(expire("a"), "not_expired")),
        leased("e05", "a lease is expired once")
            .at("+60s+m")
            .then(A.does(expire("a")))
            .then(A.may_not(
                expire("a"),
                json!({ "code": "lease_not_active", "lease_state": "ending" }),
            )),
        leased("e06", "a renewed lease is expired by its new time")
            .then(A.does(renew("a", 1, 600)))
            .at("+60s+m")
            .then(A.may_not(
                expire("a"),
                json!({ "code": "not_expired", "from_ms": "+600s+m" }),
            ))
            .at("+600s+m")
            .then(A.does(expire("a"))),
        leased(
            "e07",
            "an expired lease keeps others out until its end is confirmed",
        )
        .at("+60s+m")
        .then(A.does(expire("a")))
        .then(A.may_not(lease("texts", 2), "lease_conflict"))
        .then(A.does(confirm("a")))
        .then(A.does(lease("texts", 2))),
        leased("e08", "a lease that never was is not expired").then(A.may_not(
            with(expire("a"), json!({ "lease": "0".repeat(32) })),
            "lease_not_found",
        )),
    ]
}

fn by_owner() -> Vec<Case> {
    vec![
        leased_by_b("e20", "its owner revokes a lease of a dataset and says why")
            .then(A.does(revoke("a")).tells(&["lease_ending:revoked a"]))
            .asks(
                ask("a"),
                json!({ "state": "ending", "end": {
                    "cause": "revoked", "reason": "the study has ended", "by": "&A", "confirmed_at_ms": null,
                } }),
            ),
        leased_by_b("e21", "nobody else revokes it, not even its holder")
            .then(B.may_not(revoke("a"), "not_owner")),
        leased("e22", "a lease is revoked once")
            .then(A.does(revoke("a")))
            .then(A.may_not(revoke("a"), "lease_not_active"))
            .then(A.does(confirm("a")))
            .then(A.may_not(revoke("a"), "lease_not_active")),
        leased("e23", "a lease that never was is not revoked").then(A.may_not(
            with(revoke("a"), json!({ "lease": "f".repeat(32) })),
            "lease_not_found",
        )),
        leased("e24", "a revoked lease is released no more")
            .then(A.does(revoke("a")))
            .then(A.may_not(release("a", 1), "lease_not_active")),
    ]
}

fn confirmed() -> Vec<Case> {
    let not_cluster = || json!({ "code": "not_cluster", "cluster_msp": "&B" });
    vec![
        leased_by_b(
            "e30",
            "only the organisation whose cluster serves a lease confirms its end",
        )
        .then(B.does(release("a", 1)))
        .then(A.may_not(confirm("a"), not_cluster()))
        .then(C.may_not(confirm("a"), not_cluster()))
        .then(B.does(confirm("a"))),
        leased("e31", "a lease that goes on has no end to confirm").then(A.may_not(
            confirm("a"),
            json!({ "code": "lease_not_ending", "lease_state": "active" }),
        )),
        leased("e32", "an end is confirmed once")
            .then(A.does(release("a", 1)))
            .then(A.does(confirm("a")))
            .then(A.may_not(
                confirm("a"),
                json!({ "code": "lease_not_ending", "lease_state": "ended" }),
            )),
        leased("e33", "the token stays when a lease has ended")
            .then(A.does(release("a", 1)))
            .then(A.does(confirm("a")))
            .asks(
                dataset("texts"),
                json!({ "status": { "fencing_token": 1, "holders": null } }),
            ),
    ]
}

/// A cluster has an hour, and the margin.
fn declared() -> Vec<Case> {
    vec![
        leased("e40", "a lease that goes on is not declared ended").then(A.may_not(
            declare("a"),
            json!({ "code": "lease_not_ending", "lease_state": "active" }),
        )),
        leased_by_b("e41", "a cluster has its time for confirming an end")
            .then(A.does(revoke("a")))
            .then(A.may_not(declare("a"), "too_early_to_declare")),
        leased_by_b("e42", "an hour and the margin, to the millisecond")
            .then(A.does(revoke("a")))
            .at("+3600s+m-1ms")
            .then(A.may_not(
                declare("a"),
                json!({ "code": "too_early_to_declare", "from_ms": "+3600s+m", "now_ms": "+3600s+m-1ms" }),
            ))
            .at("+3600s+m")
            .then(A.does(declare("a")).tells(&["lease_ended:revoked a"]))
            .asks(
                ask("a"),
                json!({ "state": "ended", "end": { "confirmed_at_ms": "+3600s+m" } }),
            ),
        leased_by_b("e43", "nobody but its owner declares an end")
            .then(B.does(release("a", 1)))
            .at("+3600s+m")
            .then(B.may_not(declare("a"), "not_owner"))
            .then(A.does(declare("a"))),
        on_terms(
            "e44",
            "after a declared end the line moves on",
            with(shared(0, 1), json!({ "place_seconds": 86_400 })),
        )
        .then(A.does(lease("texts", 1)).named("a"))
        .then(A.does(wait(lease("texts", 2))).named("b"))
        .then(A.does(revoke("a")))
        .at("+3600s+m")
        .then(
            A.does(declare("a"))
                .tells(&["lease_ended:revoked a", "lease_granted b"]),
        ),
    ]
}

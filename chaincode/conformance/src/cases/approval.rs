//! Leases that their owner wants to approve.

use super::on_terms;
use crate::ask::{dataset, lease as ask};
use crate::case::{A, B, Case};
use crate::command::{approve, deny, exclusive, expire, lease, release, remove, shared, wait, with};
use serde_json::{Value, json};

fn approved(policy: Value) -> Value {
    with(policy, json!({ "approve_leases": true }))
}

fn case(id: &'static str, promise: &'static str) -> Case {
    on_terms(id, promise, approved(exclusive()))
        .then(B.does(lease("texts", 1)).named("a").tells(&["lease_requested a"]))
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("a01", "a lease that needs approval keeps nobody out")
            .asks(ask("a"), json!({ "state": "requested", "grant": null }))
            .asks(dataset("texts"), json!({ "status": { "holders": null, "fencing_token": 0, "asked": 1 } })),
        on_terms("a02", "the owner's own people need no approval", approved(exclusive()))
            .then(A.does(lease("texts", 1)).named("a").tells(&["lease_granted a"])),
        case("a03", "an approved lease is granted")
            .then(A.does(approve("a")).tells(&["lease_granted a"]))
            .asks(ask("a"), json!({ "state": "active", "grant": { "fencing_token": 1 } })),
        case("a04", "nobody but the owner approves").then(B.may_not(approve("a"), "not_owner")),
        case("a05", "nobody but the owner denies").then(B.may_not(deny("a"), "not_owner")),
        case("a06", "a denied lease has ended, and says why")
            .then(A.does(deny("a")).tells(&["lease_ended:denied a"]))
            .asks(
                ask("a"),
                json!({ "state": "ended", "end": { "cause": "denied", "reason": "the study has ended", "by": "&A" } }),
            ),
        case("a07", "what is decided is decided")
            .then(A.does(approve("a")))
            .then(A.may_not(approve("a"), json!({ "code": "lease_not_requested", "lease_state": "active" })))
            .then(A.may_not(deny("a"), "lease_not_requested")),
        case("a08", "nobody asks twice")
            .then(B.may_not(lease("texts", 1), json!({ "code": "already_leased", "lease_state": "requested" }))),
        case("a09", "who asked withdraws a request").then(B.does(release("a", 1)).tells(&["lease_ended:released a"])),
        case("a10", "a request whose dataset was retired is approved no more")
            .then(A.does(remove("texts")))
            .then(A.may_not(approve("a"), "dataset_not_found")),
        case("a11", "an approval does not make room").then(A.does(lease("texts", 2))).then(A.may_not(
            approve("a"),
            json!({ "code": "lease_conflict", "lease_state": "active" }),
        )),
        on_terms("a12", "an approved lease that waits gets a place in the line", approved(shared(0, 1)))
            .then(B.does(wait(lease("texts", 1))).named("a"))
            .then(A.does(lease("texts", 2)))
            .then(A.does(approve("a")).tells(&["lease_waiting a"])),
        on_terms("a13", "an approval into a full line is refused", approved(shared(0, 1)))
            .then(B.does(wait(lease("texts", 1))).named("a"))
            .then(A.does(lease("texts", 2)))
            .then(A.does(wait(lease("texts", 3))))
            .then(A.may_not(approve("a"), "line_full"))
            .asks(ask("a"), json!({ "state": "requested" })),
        on_terms("a14", "a request lapses like a place in the line", approved(shared(0, 1)))
            .then(B.does(lease("texts", 1)).named("a"))
            .at("+600s+m-1ms")
            .then(A.may_not(expire("a"), "not_expired"))
            .at("+600s+m")
            .then(A.does(expire("a")).tells(&["lease_ended:lapsed a"])),
        on_terms("a15", "a lease that needs no approval has nothing to approve", exclusive())
            .then(A.does(lease("texts", 1)).named("a"))
            .then(A.may_not(approve("a"), "lease_not_requested")),
    ]
}

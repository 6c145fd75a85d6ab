//! Renewals: by the holder, while the lease lasts and nobody waits.

use super::{on_terms, with_texts};
use crate::ask::lease as ask;
use crate::case::{A, B, Case};
use crate::command::{amend, lease, release, renew, shared, wait, with};
use serde_json::json;

pub(super) fn cases() -> Vec<Case> {
    let leased = |id, promise| with_texts(id, promise).then(A.does(lease("texts", 1)).named("a"));
    let ttl = || json!({ "code": "invalid_field", "field": "ttl_seconds" });
    vec![
        leased("r01", "a renewed lease lasts longer, under the same token")
            .then(A.does(renew("a", 1, 600)).tells(&["lease_renewed a"]))
            .asks(
                ask("a"),
                json!({ "grant": { "renewals": 1, "fencing_token": 1 }, "state": "active" }),
            ),
        leased("r02", "a renewal counts from now on")
            .at("+59s")
            .then(A.does(renew("a", 1, 600)).tells_that(vec![json!({
                "kind": { "event": "lease_renewed", "expires_at_ms": "+659s" }, "lease": { "id": "$a" },
            })]))
            .asks(
                ask("a"),
                json!({ "grant": { "at_ms": "+0s", "expires_at_ms": "+659s" } }),
            ),
        leased("r03", "nobody but its holder renews a lease")
            .then(A.may_not(renew("a", 2, 600), "lease_not_found")),
        leased("r04", "no other organisation either").then(B.may_not(renew("a", 1, 600), "lease_not_found")),
        leased("r05", "a renewal that would shorten a lease is refused")
            .then(A.may_not(renew("a", 1, 30), ttl())),
        leased("r06", "a renewal is no longer than the terms say")
            .then(A.may_not(renew("a", 1, 3_601), ttl())),
        leased("r07", "a renewal without a time gets the dataset's longest")
            .then(A.does(with(renew("a", 1, 0), json!({ "ttl_seconds": null }))))
            .asks(ask("a"), json!({ "grant": { "expires_at_ms": "+3600s" } })),
        leased("r08", "a lease whose time is over is renewed no more")
            .at("+60s")
            .then(A.may_not(
                renew("a", 1, 600),
                json!({ "code": "lease_expired", "expires_at_ms": "+60s" }),
            )),
        leased("r09", "a millisecond before, it is")
            .at("+60s-1ms")
            .then(A.does(renew("a", 1, 600))),
        leased("r10", "a lease that is ending is renewed no more")
            .then(A.does(release("a", 1)))
            .then(A.may_not(
                renew("a", 1, 600),
                json!({ "code": "lease_not_active", "lease_state": "ending" }),
            )),
        on_terms("r11", "nobody stays longer while others wait", shared(0, 1))
            .then(A.does(lease("texts", 1)).named("a"))
            .then(A.does(wait(lease("texts", 2))).named("b"))
            .then(A.may_not(
                renew("a", 1, 600),
                json!({ "code": "renewal_waited_for", "name": "@texts" }),
            ))
            .then(A.does(release("b", 2)))
            .then(A.does(renew("a", 1, 600))),
        on_terms("r12", "who waits has nothing to renew", shared(0, 1))
            .then(A.does(lease("texts", 1)))
            .then(A.does(wait(lease("texts", 2))).named("b"))
            .then(A.may_not(
                renew("b", 2, 600),
                json!({ "code": "lease_not_active", "lease_state": "waiting" }),
            )),
        leased("r13", "a lease is renewed on the terms of now")
            .then(A.does(amend("texts", json!({ "policy": { "max_ttl_seconds": 120 } }))))
            .then(A.may_not(renew("a", 1, 600), ttl()))
            .then(A.does(renew("a", 1, 120))),
        leased("r14", "a renewed lease is due later, and only then")
            .then(A.does(renew("a", 1, 600)))
            .walks(
                json!({ "question": "leases_due", "state": "active", "now_ms": "+599s" }),
                100,
                vec![],
            )
            .walks(
                json!({ "question": "leases_due", "state": "active", "now_ms": "+600s" }),
                100,
                vec![json!({ "id": "$a" })],
            ),
    ]
}

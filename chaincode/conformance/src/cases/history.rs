//! What the ledger remembers.

use super::with_texts;
use crate::ask::{dataset, of_dataset, of_lease};
use crate::case::{A, B, Case};
use crate::command::{
    amend, approve_code, code, confirm, failed, lease, offer, ready, release, remove, renew, replace_volume,
    revoke, take_over,
};
use serde_json::{Value, json};

fn entry(revision: u64, event: &str) -> Value {
    json!({ "revision": revision, "kind": { "event": event } })
}

pub(super) fn cases() -> Vec<Case> {
    let lived = |id, promise| {
        with_texts(id, promise)
            .then(A.does(lease("texts", 1)).named("a"))
            .then(A.does(ready("a")))
            .then(A.does(renew("a", 1, 600)))
            .then(A.does(release("a", 1)))
            .then(A.does(confirm("a")))
            .then(A.does(remove("texts")))
    };
    let of_leases = || {
        vec![
            entry(2, "lease_granted"),
            entry(3, "mount_ready"),
            entry(4, "lease_renewed"),
            entry(5, "lease_ending"),
            entry(6, "lease_ended"),
        ]
    };
    let everything = || {
        let mut all = vec![entry(1, "dataset_registered")];
        all.extend(of_leases());
        all.push(entry(7, "dataset_retired"));
        all
    };
    vec![
        lived("h01", "a dataset remembers everything that happened to it, oldest first").walks(
            of_dataset("history", "texts"),
            100,
            everything(),
        ),
        lived("h02", "page by page it is the same").walks(of_dataset("history", "texts"), 2, everything()),
        lived("h03", "a lease remembers its own part").walks(of_lease("lease_history", "a"), 100, of_leases()),
        lived("h04", "page by page that is the same too").walks(of_lease("lease_history", "a"), 1, of_leases()),
        with_texts("h05", "a line of history says who, when, whose and in which transaction")
            .at("+2s")
            .then(A.does(lease("texts", 1)).named("a"))
            .walks(
                of_lease("lease_history", "a"),
                10,
                vec![json!({
                    "revision": 2, "at_ms": "+2s", "by": "&A", "dataset": "#texts", "lease": "$a", "subject": "%1",
                    "tx_id": "*", "kind": { "event": "lease_granted" },
                })],
            ),
        with_texts("h06", "a refused command is not remembered")
            .then(A.does(lease("texts", 1)).named("a"))
            .then(A.may_not(lease("texts", 2), "lease_conflict"))
            .then(A.may_not(release("a", 2), "lease_not_found"))
            .walks(of_dataset("history", "texts"), 10, vec![
                entry(1, "dataset_registered"),
                entry(2, "lease_granted"),
            ])
            .asks(dataset("texts"), json!({ "status": { "revision": 2 } })),
        with_texts("h07", "an owner's doings are remembered as well")
            .then(A.does(amend("texts", json!({ "policy": { "max_ttl_seconds": 60 } }))))
            .then(A.does(replace_volume("texts", "AAAA", 2)))
            .then(A.does(approve_code("texts", &code("ab", "cd"))))
            .then(A.does(lease("texts", 1)).named("a"))
            .then(A.does(failed("a", "path_missing")))
            .then(A.does(revoke("a")))
            .walks(
                of_dataset("history", "texts"),
                3,
                vec![
                    entry(1, "dataset_registered"),
                    entry(2, "policy_changed"),
                    entry(3, "volume_replaced"),
                    entry(4, "code_approved"),
                    entry(5, "lease_granted"),
                    json!({ "revision": 6, "kind": { "event": "mount_failed", "code": "path_missing" } }),
                    json!({ "revision": 7, "kind": { "event": "lease_ending", "cause": "revoked" } }),
                ],
            ),
        with_texts("h08", "history goes on under another owner")
            .then(A.does(offer("texts", "B")))
            .then(B.does(take_over("texts")))
            .walks(
                of_dataset("history", "texts"),
                10,
                vec![
                    json!({ "by": "&A", "kind": { "event": "dataset_registered" } }),
                    json!({ "by": "&A", "kind": { "event": "dataset_offered", "to": "&B" } }),
                    json!({ "by": "&B", "kind": { "event": "dataset_taken" } }),
                ],
            ),
        with_texts("h09", "what never happened has no history").walks(
            json!({ "question": "lease_history", "lease": "0".repeat(32) }),
            10,
            vec![],
        ),
    ]
}

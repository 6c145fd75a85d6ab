//! What the node said of a lease's volume.

use super::with_texts;
use crate::ask::{dataset, lease as ask};
use crate::case::{A, B, Case};
use crate::command::{confirm, failed, lease, ready, release};
use serde_json::json;

pub(super) fn cases() -> Vec<Case> {
    let leased = |id, promise| with_texts(id, promise).then(A.does(lease("texts", 1)).named("a"));
    let finding = json!({ "code": "path_missing", "message": "the dataset's directory is not on its node" });
    vec![
        leased("m01", "what can be mounted is ready")
            .then(A.does(ready("a")).tells(&["mount_ready a"]))
            .asks(
                ask("a"),
                json!({ "mount": { "state": "ready" }, "state": "active" }),
            ),
        leased(
            "m02",
            "what cannot be mounted says why, on the lease and on the dataset",
        )
        .then(A.does(failed("a", "path_missing")).tells_that(vec![json!({
            "kind": { "event": "mount_failed", "code": "path_missing" }, "lease": { "id": "$a" },
        })]))
        .asks(
            ask("a"),
            json!({ "mount": { "state": "failed", "finding": finding }, "state": "active" }),
        )
        .asks(dataset("texts"), json!({ "status": { "finding": finding } })),
        leased("m03", "a finding leaves the dataset when it is mounted")
            .then(A.does(failed("a", "path_missing")))
            .then(A.does(ready("a")))
            .asks(dataset("texts"), json!({ "status": { "finding": null } })),
        leased("m04", "its owner sees a finding after the lease")
            .then(A.does(failed("a", "path_missing")))
            .then(A.does(release("a", 1)))
            .then(A.does(confirm("a")))
            .asks(
                dataset("texts"),
                json!({ "status": { "finding": { "code": "path_missing" } } }),
            ),
        leased("m05", "what the ledger says already is not recorded again")
            .then(A.does(ready("a")))
            .then(A.may_not(ready("a"), "mount_unchanged"))
            .then(A.does(failed("a", "path_missing")))
            .then(A.may_not(failed("a", "path_missing"), "mount_unchanged"))
            .then(A.does(failed("a", "not_a_directory"))),
        with_texts(
            "m06",
            "only the organisation whose cluster serves a lease reports on it",
        )
        .then(B.does(lease("texts", 1)).named("a"))
        .then(A.may_not(ready("a"), json!({ "code": "not_cluster", "cluster_msp": "&B" })))
        .then(B.does(ready("a"))),
        leased("m07", "nothing is reported on a lease that is ending")
            .then(A.does(release("a", 1)))
            .then(A.may_not(
                ready("a"),
                json!({ "code": "lease_not_active", "lease_state": "ending" }),
            )),
    ]
}

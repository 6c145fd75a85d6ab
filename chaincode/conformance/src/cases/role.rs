//! What a person may do for their organisation.

use super::with_texts;
use crate::case::{A, Case, Who};
use crate::command::{
    amend, approve, approve_code, code, confirm, declare, deny, expire, lease, metadata, offer, ready,
    register, release, remove, renew, replace_volume, revoke, take_over, withdraw_code,
};
use leasehold_chaincode::Role;
use serde_json::{Value, json};

pub(super) fn cases() -> Vec<Case> {
    let member = A.with(Role::Member);
    let mut cases: Vec<_> = for_stewards()
        .into_iter()
        .map(|row| not_for_members(member, row))
        .collect();
    cases.extend([
        with_texts("x20", "a member leases, renews, reports, releases and confirms")
            .then(member.does(lease("texts", 1)).named("a"))
            .then(member.does(renew("a", 1, 600)))
            .then(member.does(ready("a")))
            .then(member.does(release("a", 1)))
            .then(member.does(confirm("a"))),
        with_texts("x21", "a member says that a lease has expired")
            .then(A.does(lease("texts", 1)).named("a"))
            .at("+60s+m")
            .then(member.does(expire("a"))),
        Case::new("x22", "a steward does what a member and a steward may")
            .then(A.with(Role::Steward).does(register("texts")))
            .then(A.with(Role::Steward).does(lease("texts", 1)).named("a"))
            .then(A.with(Role::Steward).does(revoke("a"))),
        Case::new("x23", "an administrator does what a steward may")
            .then(A.does(register("texts")))
            .then(A.does(remove("texts"))),
        Case::new("x24", "a role is refused before anything is looked at")
            .then(member.may_not(remove("nothing"), "role_needed")),
    ]);
    cases
}

/// Id, promise and the command.
type Row = (&'static str, &'static str, Value);

fn for_stewards() -> Vec<Row> {
    vec![
        ("x01", "a member registers no dataset", register("scans")),
        (
            "x02",
            "a member amends no dataset",
            amend("texts", json!({ "metadata": metadata() })),
        ),
        (
            "x03",
            "a member replaces no volume",
            replace_volume("texts", "AAAA", 2),
        ),
        ("x04", "a member offers no dataset", offer("texts", "A")),
        ("x05", "a member takes no dataset", take_over("texts")),
        ("x06", "a member retires no dataset", remove("texts")),
        (
            "x07",
            "a member approves no code",
            approve_code("texts", &code("ab", "cd")),
        ),
        (
            "x08",
            "a member withdraws no code",
            withdraw_code("texts", &code("ab", "cd")),
        ),
        ("x09", "a member approves no lease", approve("a")),
        ("x10", "a member denies no lease", deny("a")),
        ("x11", "a member revokes no lease", revoke("a")),
        ("x12", "a member declares no end", declare("a")),
    ]
}

fn not_for_members(member: Who, (id, promise, command): Row) -> Case {
    with_texts(id, promise)
        .then(A.does(lease("texts", 1)).named("a"))
        .then(member.may_not(
            command,
            json!({ "code": "role_needed", "needed": "steward", "has": "member" }),
        ))
}

//! Commands of the cases, with what most of them have in common.

use serde_json::{Value, json};

/// A value with some fields set otherwise, or added.
pub(crate) fn with(mut value: Value, changes: Value) -> Value {
    if let (Value::Object(fields), Value::Object(changes)) = (&mut value, changes) {
        fields.extend(changes);
    }
    value
}

/// Exclusive leases for everybody, of an hour at most; nobody waits.
pub(crate) fn exclusive() -> Value {
    json!({ "max_ttl_seconds": 3_600 })
}

/// So many at once or one alone; so many wait, for ten minutes each.
pub(crate) fn shared(most_shared: u32, most_waiting: u32) -> Value {
    json!({
        "max_ttl_seconds": 3_600, "most_shared": most_shared, "most_waiting": most_waiting, "place_seconds": 600,
    })
}

pub(crate) fn metadata() -> Value {
    json!({ "title": "Texts", "description": "Three files of lorem ipsum" })
}

pub(crate) fn register(name: &str) -> Value {
    register_with(name, exclusive())
}

pub(crate) fn register_with(name: &str, policy: Value) -> Value {
    json!({
        "command": "register_dataset", "name": format!("@{name}"), "metadata": metadata(), "policy": policy,
        "volume_ciphertext": "bm90aGluZyB0byByZWFk", "key_version": 1,
    })
}

pub(crate) fn amend(name: &str, changes: Value) -> Value {
    with(
        json!({ "command": "amend_dataset", "dataset": format!("@{name}") }),
        changes,
    )
}

pub(crate) fn replace_volume(name: &str, ciphertext: &str, key_version: u32) -> Value {
    json!({
        "command": "replace_volume", "dataset": format!("@{name}"), "volume_ciphertext": ciphertext,
        "key_version": key_version,
    })
}

pub(crate) fn offer(name: &str, to: &str) -> Value {
    json!({ "command": "offer_dataset", "dataset": format!("@{name}"), "to": format!("&{to}") })
}

pub(crate) fn withdraw_offer(name: &str) -> Value {
    json!({ "command": "offer_dataset", "dataset": format!("@{name}") })
}

pub(crate) fn take_over(name: &str) -> Value {
    json!({
        "command": "take_dataset", "dataset": format!("@{name}"), "volume_ciphertext": "AAAA", "key_version": 1,
    })
}

pub(crate) fn remove(name: &str) -> Value {
    json!({ "command": "remove_dataset", "dataset": format!("@{name}") })
}

pub(crate) fn remove_by_force(name: &str) -> Value {
    with(remove(name), json!({ "force": true }))
}

/// A program by its digests, each made of two digits.
pub(crate) fn code(image: &str, command: &str) -> Value {
    json!({ "image_sha256": image.repeat(32), "command_sha256": command.repeat(32) })
}

pub(crate) fn approve_code(name: &str, code: &Value) -> Value {
    json!({ "command": "approve_code", "dataset": format!("@{name}"), "code": code })
}

pub(crate) fn withdraw_code(name: &str, code: &Value) -> Value {
    json!({ "command": "withdraw_code", "dataset": format!("@{name}"), "code": code })
}

/// A minute for a person, in the dataset's usual mode, and no waiting.
pub(crate) fn lease(name: &str, person: u32) -> Value {
    json!({
        "command": "lease", "dataset": format!("@{name}"), "subject": format!("%{person}"), "ttl_seconds": 60,
    })
}

pub(crate) fn share(name: &str, person: u32) -> Value {
    with(lease(name, person), json!({ "mode": "shared" }))
}

/// The same, standing in the line if need be.
pub(crate) fn wait(lease: Value) -> Value {
    with(lease, json!({ "wait": true }))
}

fn of_lease(command: &str, lease: &str) -> Value {
    json!({ "command": command, "lease": format!("${lease}") })
}

fn with_reason(command: &str, lease: &str) -> Value {
    with(
        of_lease(command, lease),
        json!({ "reason": "the study has ended" }),
    )
}

pub(crate) fn approve(lease: &str) -> Value {
    of_lease("approve_lease", lease)
}

pub(crate) fn deny(lease: &str) -> Value {
    with_reason("deny_lease", lease)
}

pub(crate) fn renew(lease: &str, person: u32, seconds: u64) -> Value {
    with(
        of_lease("renew", lease),
        json!({ "subject": format!("%{person}"), "ttl_seconds": seconds }),
    )
}

pub(crate) fn release(lease: &str, person: u32) -> Value {
    with(
        of_lease("release", lease),
        json!({ "subject": format!("%{person}") }),
    )
}

pub(crate) fn revoke(lease: &str) -> Value {
    with_reason("revoke", lease)
}

pub(crate) fn expire(lease: &str) -> Value {
    of_lease("expire", lease)
}

pub(crate) fn confirm(lease: &str) -> Value {
    of_lease("confirm_end", lease)
}

pub(crate) fn declare(lease: &str) -> Value {
    with_reason("declare_ended", lease)
}

pub(crate) fn ready(lease: &str) -> Value {
    with(
        of_lease("report_mount", lease),
        json!({ "report": { "mount": "ready" } }),
    )
}

pub(crate) fn failed(lease: &str, code: &str) -> Value {
    let finding = json!({ "code": code, "message": "the dataset's directory is not on its node" });
    with(
        of_lease("report_mount", lease),
        json!({ "report": { "mount": "failed", "finding": finding } }),
    )
}

pub(crate) fn join() -> Value {
    json!({ "command": "join_consortium", "broker": "https://broker.example.org" })
}

pub(crate) fn amend_organisation(changes: Value) -> Value {
    with(json!({ "command": "amend_organisation" }), changes)
}

pub(crate) fn suspend() -> Value {
    json!({ "command": "suspend_organisation", "reason": "a key was lost" })
}

pub(crate) fn resume() -> Value {
    json!({ "command": "resume_organisation" })
}

pub(crate) fn vote(organisation: &str, suspend: bool) -> Value {
    json!({
        "command": "vote_on_suspension", "organisation": format!("&{organisation}"), "suspend": suspend,
        "reason": "it does not answer",
    })
}

pub(crate) fn register_cluster(name: &str) -> Value {
    json!({ "command": "register_cluster", "name": name })
}

pub(crate) fn retire_cluster(name: &str) -> Value {
    json!({ "command": "retire_cluster", "name": name })
}

pub(crate) fn trace(key: &str, person: u32, action: Value) -> Value {
    json!({
        "command": "record_trace", "key": format!("@{key}"), "subject": format!("%{person}"), "action": action,
    })
}

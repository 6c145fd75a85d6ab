//! Records as events of the Open Cybersecurity Schema Framework, class API Activity (6003) of version 1.3.0, for a hospital's SIEM.

use serde_json::{Value, json};

use super::record::{Decision, Record};

const API_ACTIVITY: u32 = 6003;
const APPLICATION: u32 = 6;

/// What a verb does, by the class's `activity_id`.
fn activity(verb: &str) -> (u32, &'static str) {
    let begins = |words: &[&str]| words.iter().any(|word| verb.starts_with(word));
    if begins(&["register", "request", "lease", "bind", "join", "record_trace"]) {
        (1, "Create")
    } else if begins(&["open", "read", "list", "show"]) {
        (2, "Read")
    } else if begins(&[
        "amend", "renew", "approve", "replace", "rotate", "report", "confirm", "transfer",
    ]) {
        (3, "Update")
    } else if begins(&[
        "remove", "release", "expire", "revoke", "deny", "declare", "shred", "prune",
    ]) {
        (4, "Delete")
    } else {
        (99, "Other")
    }
}

/// The event of a record.
#[must_use]
pub fn event(record: &Record) -> Value {
    let (activity_id, activity_name) = activity(&record.verb);
    let (severity_id, status_id) = match record.decision {
        Decision::Allowed => (1, 1),
        Decision::Denied => (2, 2),
        Decision::Unknown => (2, 0),
    };
    let user = match record.who.as_str() {
        "" => json!({ "name": "unknown", "type_id": 0 }),
        "broker" => json!({ "uid": "broker", "type_id": 3 }),
        machine if machine.starts_with("system:serviceaccount:") => json!({ "uid": machine, "type_id": 3 }),
        person => json!({ "uid": person, "type_id": 1 }),
    };
    let source = match record.source {
        Some(address) => json!({ "ip": address }),
        None => json!({ "svc_name": "leasehold-secret-broker" }),
    };
    let mut resources = Vec::new();
    if !record.object.is_empty() {
        resources.push(json!({ "uid": record.object }));
    }
    if let Some(lease) = record.lease.as_ref().filter(|lease| **lease != record.object) {
        resources.push(json!({ "uid": lease, "type": "lease" }));
    }
    let time = chrono::DateTime::parse_from_rfc3339(&record.time);
    let mut event = json!({
        "activity_id": activity_id,
        "activity_name": activity_name,
        "actor": { "user": user },
        "api": { "operation": record.verb, "service": { "name": "leasehold-secret-broker" } },
        "category_uid": APPLICATION,
        "class_uid": API_ACTIVITY,
        "metadata": {
            "version": "1.3.0",
            "uid": record.id,
            "sequence": record.number,
            "log_name": "audit",
            "product": {
                "name": "Leasehold",
                "vendor_name": "Leasehold",
                "version": env!("CARGO_PKG_VERSION"),
            },
        },
        "severity_id": severity_id,
        "src_endpoint": source,
        "status_id": status_id,
        "status_code": record.reason,
        "time": time.map(|time| time.timestamp_millis()).unwrap_or_default(),
        "type_uid": API_ACTIVITY.saturating_mul(100).saturating_add(activity_id),
        "resources": resources,
        "unmapped": { "previous": record.previous, "credential_opened": record.credential_opened },
    });
    if let Some(request) = &record.request
        && let Some(api) = event.get_mut("api").and_then(Value::as_object_mut)
    {
        api.insert("request".to_owned(), json!({ "uid": request }));
    }
    if let (Some(times), Some(event)) = (record.repeated, event.as_object_mut()) {
        event.insert("count".to_owned(), json!(times));
    }
    event
}

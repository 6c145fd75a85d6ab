//! What happens to a specification when a Go program reads it and writes it back.
//!
//! Argo decodes a Workflow into its types and stores those, so its first UPDATE adds the empty objects that Go
//! always prints and drops what Go leaves out when empty. A webhook sees that difference between what a user
//! posted and what the controller writes; so must one that is tested with the stand-in.

use serde_json::{Map, Value, json};

/// Rewrites `spec` as Argo does.
pub fn normalise(spec: &mut Value) {
    let Some(spec) = spec.as_object_mut() else { return };
    ensure_object(spec, "arguments");
    for template in objects(spec, "templates") {
        for key in ["inputs", "outputs", "metadata"] {
            ensure_object(template, key);
        }
        for key in ["container", "script"] {
            if let Some(container) = template.get_mut(key).and_then(Value::as_object_mut) {
                container.entry("name").or_insert_with(|| json!(""));
                normalise_container(container);
            }
        }
        if let Some(set) = template.get_mut("containerSet").and_then(Value::as_object_mut) {
            objects(set, "containers").for_each(normalise_container);
        }
        for key in ["sidecars", "initContainers"] {
            objects(template, key).for_each(normalise_container);
        }
        if let Some(dag) = template.get_mut("dag").and_then(Value::as_object_mut) {
            objects(dag, "tasks").for_each(normalise_call);
        }
        for group in template
            .get_mut("steps")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            for step in group.as_array_mut().into_iter().flatten() {
                step.as_object_mut().into_iter().for_each(normalise_call);
            }
        }
    }
}

fn normalise_call(call: &mut Map<String, Value>) {
    ensure_object(call, "arguments");
    drop_empty(call, &[]);
}

fn normalise_container(container: &mut Map<String, Value>) {
    ensure_object(container, "resources");
    drop_empty(container, &["name"]);
    objects(container, "env").for_each(|variable| drop_empty(variable, &["name"]));
    objects(container, "volumeMounts").for_each(|mount| drop_empty(mount, &["name", "mountPath"]));
}

fn ensure_object(map: &mut Map<String, Value>, key: &str) {
    let entry = map.entry(key).or_insert(Value::Null);
    if entry.is_null() {
        *entry = json!({});
    }
}

fn objects<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// Drops what Go omits when it is empty, but for the fields in `keep`.
fn drop_empty(map: &mut Map<String, Value>, keep: &[&str]) {
    map.retain(|key, value| {
        keep.contains(&key.as_str())
            || match value {
                Value::Null | Value::Bool(false) => false,
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                _ => true,
            }
    });
}

//! Parts of Argo that the stand-in does not run, found by name before anything is.

use serde_json::Value;

/// The first part of `spec` that the stand-in does not run.
pub(super) fn left_out(spec: &Value) -> Option<String> {
    const SPEC: &[&str] = &[
        "workflowTemplateRef",
        "templateDefaults",
        "volumeClaimTemplates",
        "podSpecPatch",
        "hooks",
        "synchronization",
    ];
    const TEMPLATE: &[&str] = &[
        "resource",
        "data",
        "http",
        "plugin",
        "suspend",
        "podSpecPatch",
        "executor",
        "synchronization",
        "memoize",
        "daemon",
        "parallelism",
    ];
    const CALL: &[&str] = &[
        "when",
        "withItems",
        "withParam",
        "withSequence",
        "inline",
        "templateRef",
        "depends",
        "hooks",
        "onExit",
        "continueOn",
    ];
    let present = |object: &Value, keys: &[&str]| {
        keys.iter()
            .find(|key| object.get(**key).is_some())
            .map(|key| format!("`{key}`"))
    };
    let filled = |object: &Value, keys: &[&str]| {
        keys.iter()
            .find(|key| {
                object
                    .get(**key)
                    .and_then(Value::as_object)
                    .is_some_and(|map| !map.is_empty())
            })
            .map(|key| format!("`{key}`"))
    };
    if let Some(found) = present(spec, SPEC).or_else(|| filled(spec, &["arguments"])) {
        return Some(found);
    }
    if spec.to_string().contains("{{") {
        return Some("expressions (`{{…}}`)".to_owned());
    }
    for template in spec
        .get("templates")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if let Some(found) = present(template, TEMPLATE).or_else(|| filled(template, &["inputs", "outputs"]))
        {
            return Some(format!("{found} in a template"));
        }
        let retry = template.get("retryStrategy").unwrap_or(&Value::Null);
        if let Some(found) = present(retry, &["backoff", "expression", "affinity"]) {
            return Some(format!("{found} in a retryStrategy"));
        }
        let tasks = template
            .pointer("/dag/tasks")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let steps = template
            .get("steps")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        for call in tasks.chain(steps.flat_map(|group| group.as_array().into_iter().flatten())) {
            if let Some(found) = present(call, CALL).or_else(|| filled(call, &["arguments"])) {
                return Some(format!("{found} in a task or step"));
            }
        }
    }
    None
}

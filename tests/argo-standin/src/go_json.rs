//! JSON as a Go program would print an Argo template: the fields of a struct in the order they were declared.
//!
//! The `init` container of a pod finds its template in the environment variable `ARGO_TEMPLATE`. To be able to
//! compare that text byte by byte with a recorded one, [`render`] knows the order of the fields and Go's habit
//! of escaping `<`, `>` and `&`.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Fields of a template, in Go's order.
const TEMPLATE: &[&str] = &[
    "name",
    "inputs",
    "outputs",
    "nodeSelector",
    "affinity",
    "metadata",
    "daemon",
    "steps",
    "container",
    "containerSet",
    "script",
    "resource",
    "dag",
    "suspend",
    "data",
    "http",
    "plugin",
    "volumes",
    "initContainers",
    "sidecars",
    "archiveLocation",
    "activeDeadlineSeconds",
    "retryStrategy",
    "parallelism",
    "failFast",
    "tolerations",
    "schedulerName",
    "priorityClassName",
    "serviceAccountName",
    "automountServiceAccountToken",
    "executor",
    "hostAliases",
    "securityContext",
    "podSpecPatch",
    "metrics",
    "synchronization",
    "memoize",
    "timeout",
    "annotations",
    "pendingTimeout",
    "podResources",
    "resourceClaims",
];
/// Fields of a container, a script and a member of a container set.
const CONTAINER: &[&str] = &[
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "ports",
    "envFrom",
    "env",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "volumeMounts",
    "volumeDevices",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    "mirrorVolumeMounts",
    "dependencies",
    "source",
];
const MOUNT: &[&str] = &[
    "name",
    "readOnly",
    "recursiveReadOnly",
    "mountPath",
    "subPath",
    "mountPropagation",
    "subPathExpr",
];
const SECURITY: &[&str] = &[
    "capabilities",
    "privileged",
    "seLinuxOptions",
    "windowsOptions",
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "readOnlyRootFilesystem",
    "allowPrivilegeEscalation",
    "procMount",
    "seccompProfile",
    "appArmorProfile",
];
const RETRY: &[&str] = &["limit", "retryPolicy", "backoff", "affinity", "expression"];
const NAMED: &[&str] = &["name"];
const FREE: &[&str] = &[];

/// Which order the fields of the object under `key` have.
fn order(key: &str) -> &'static [&'static str] {
    match key {
        "container" | "containers" | "script" | "initContainers" | "sidecars" => CONTAINER,
        "volumeMounts" => MOUNT,
        "securityContext" => SECURITY,
        "retryStrategy" => RETRY,
        // Go prints maps sorted by key, so a label called `name` gets no precedence.
        "labels" | "annotations" | "nodeSelector" | "limits" | "requests" | "matchLabels" => FREE,
        _ => NAMED,
    }
}

/// Prints a template.
#[must_use]
pub fn render(template: &Value) -> String {
    let mut out = String::new();
    value(&mut out, template, TEMPLATE);
    out
}

fn value(out: &mut String, it: &Value, fields: &[&str]) {
    match it {
        Value::Object(map) => object(out, map, fields),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                value(out, item, fields);
            }
            out.push(']');
        }
        Value::String(text) => string(out, text),
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

fn object(out: &mut String, map: &Map<String, Value>, fields: &[&str]) {
    let mut entries: Vec<_> = map.iter().collect();
    let rank = |key: &str| {
        fields
            .iter()
            .position(|field| *field == key)
            .unwrap_or(fields.len())
    };
    entries.sort_by(|(a, _), (b, _)| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
    out.push('{');
    for (index, (key, it)) in entries.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        string(out, key);
        out.push(':');
        value(out, it, order(key));
    }
    out.push('}');
}

fn string(out: &mut String, text: &str) {
    for character in Value::from(text).to_string().chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_come_in_the_order_go_declares_them() {
        let template = json!({
            "serviceAccountName": "alice", "container": {"image": "i", "name": "", "command": ["a"]},
            "metadata": {"labels": {"z": "1", "name": "2"}}, "outputs": {}, "inputs": {}, "name": "m",
        });
        assert_eq!(
            render(&template),
            r#"{"name":"m","inputs":{},"outputs":{},"metadata":{"labels":{"name":"2","z":"1"}},"container":{"name":"","image":"i","command":["a"]},"serviceAccountName":"alice"}"#
        );
    }

    #[test]
    fn angle_brackets_and_ampersands_are_escaped_as_go_does() {
        assert_eq!(
            render(&json!(["a && b > \"c\""])),
            r#"["a \u0026\u0026 b \u003e \"c\""]"#
        );
    }
}

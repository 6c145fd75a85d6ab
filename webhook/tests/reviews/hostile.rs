//! What somebody sends who looks for a gap: nesting that no reader takes, names and metadata meant for others, mounts of what is
//! Argo's. Each row passed, or did harm, before its rule was made.

use leasehold_webhook::review::Stage;
use serde_json::{Value, json};

use crate::world::*;

/// Deeper than a reader of values goes; put in for the string DEEP.
fn deep(review: &Value) -> String {
    let nested = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    review.to_string().replace("\"DEEP\"", &nested)
}

fn stamped() -> Value {
    let mut workflow = workflow()["request"]["object"].clone();
    workflow["metadata"]["annotations"] = json!({"leasehold.dev/stamp": stamp_of(ALICE).to_annotation()});
    workflow
}

fn by_alice(old: &Value, new: &Value) -> Value {
    let username = format!("system:serviceaccount:hub:{ALICE}");
    update(&workflow(), old.clone(), new.clone(), &username, ALICE_UID)
}

fn validate(body: &str) -> Result<Value, leasehold_webhook::review::Denial> {
    World::new().decide(Stage::Validating, body)
}

#[test]
fn a_status_or_spec_that_is_nested_too_deeply_to_compare_is_no_absent_one() {
    let old = stamped();
    let mut with_status = old.clone();
    with_status["status"] = json!({
        "phase": "Succeeded", "x": "DEEP",
        "persistentVolumeClaims": [{"name": "x", "persistentVolumeClaim": {"claimName": "claim-bob"}}],
    });
    refused(
        "a deep status where there was none",
        validate(&deep(&by_alice(&old, &with_status))),
        "wrong_type",
    );
    refused(
        "none where there was a deep one",
        validate(&deep(&by_alice(&with_status, &old))),
        "wrong_type",
    );

    let mut deep_spec = old.clone();
    deep_spec["spec"]["templates"][0]["container"]["env"] =
        json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "x": "DEEP"}}}]);
    let mut patched = deep_spec.clone();
    patched["spec"]["podSpecPatch"] = json!("evil");
    patched["spec"]["x"] = json!("DEEP");
    refused(
        "two deep specs that differ",
        validate(&deep(&by_alice(&deep_spec, &patched))),
        "wrong_type",
    );
    let same = validate(&deep(&by_alice(&deep_spec, &deep_spec)));
    assert!(same.is_ok(), "what stays as it is needs no comparing: {same:?}");
}

#[test]
fn a_person_names_no_workflow_and_no_cron_workflow() {
    for recording in ["workflow-of-jupyterflow", "cron-workflow"] {
        let mut review = recorded(recording);
        object(&mut review)["metadata"]["name"] = json!("jupyter-bob");
        refused(recording, World::new().mutate(&review), "field_not_allowed");
        object(&mut review)["metadata"] = json!({"namespace": "hub"});
        refused(recording, World::new().mutate(&review), "field_not_allowed");
    }
    let mut named = recorded("workflow-at-validation");
    object(&mut named)["metadata"]["name"] = json!("jupyter-bob");
    refused(
        "a name that is not of its prefix",
        World::new().validate(&named),
        "field_not_allowed",
    );
}

fn with_metadata(mut object: Value, labels: usize, annotations: usize, value: usize) -> Value {
    let entries = |n: usize| {
        (0..n)
            .map(|i| (format!("k{i:05}"), json!("v".repeat(value))))
            .collect::<Value>()
    };
    object["metadata"]["labels"] = entries(labels);
    let given = object["metadata"]["annotations"].take();
    object["metadata"]["annotations"] = entries(annotations);
    for (key, value) in given.as_object().into_iter().flatten() {
        object["metadata"]["annotations"][key] = value.clone();
    }
    object
}

#[test]
fn a_persons_metadata_is_small_and_the_controllers_is_as_it_likes() {
    for (labels, annotations, value, fits) in [
        (64, 64, 63, true),
        (65, 0, 1, false),
        (0, 65, 1, false),
        (7500, 0, 63, false),
        (0, 1, 17 << 10, false),
    ] {
        let mut review = workflow();
        *object(&mut review) = with_metadata(object(&mut review).clone(), labels, annotations, value);
        let created = World::new().mutate(&review);
        let row = format!("{labels} labels, {annotations} annotations of {value} bytes");
        if fits {
            assert!(created.is_ok(), "{row}: {created:?}");
        } else {
            refused(&row, created, "metadata_too_large");
        }
    }
    let mut review = workflow();
    object(&mut review)["metadata"]["managedFields"] = json!([{"manager": "x".repeat(65 << 10)}]);
    refused(
        "managedFields",
        World::new().mutate(&review),
        "metadata_too_large",
    );

    let (old, fat) = (stamped(), with_metadata(stamped(), 7500, 0, 63));
    refused(
        "an update",
        World::new().validate(&by_alice(&old, &fat)),
        "metadata_too_large",
    );
    let as_it_was = World::new().validate(&by_alice(&fat, &fat));
    assert!(as_it_was.is_ok(), "{as_it_was:?}");
    let by_controller = World::new().validate(&by(by_alice(&old, &fat), CONTROLLER, "controller"));
    assert!(by_controller.is_ok(), "{by_controller:?}");
}

#[test]
fn argos_controller_computes_nothing_for_a_person_but_braces_are_theirs() {
    let expression = json!("{{=sprig.genPrivateKey('rsa')}}");
    for (pointer, value) in [
        ("/spec/templates/0/container/command", json!([expression])),
        ("/spec/templates/0/container/args", json!(["x", expression])),
        ("/spec/templates/0/container/workingDir", expression.clone()),
        (
            "/spec/templates/0/container/env",
            json!([{"name": "A", "value": expression}]),
        ),
    ] {
        let mut review = workflow();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object(&mut review).pointer_mut(parent).unwrap()[key] = value;
        refused(pointer, World::new().mutate(&review), "template_expr");
    }
    let mut review = workflow();
    object(&mut review)["spec"]["templates"][0]["container"]["command"] =
        json!(["awk", "{{ print }}", "{{ name }}", "{{workflow.name}}"]);
    let out = World::new().mutate(&review);
    assert!(out.is_ok(), "{out:?}");
}

#[test]
fn what_argo_mounts_for_its_executor_no_job_mounts() {
    let extra = json!({"name": "tmp-dir-argo", "mountPath": "/w"});
    let mut review = workflow();
    let container = &mut object(&mut review)["spec"]["templates"][0]["container"];
    container["volumeMounts"]
        .as_array_mut()
        .unwrap()
        .push(extra.clone());
    refused(
        "a mount of no volume of the workflow",
        World::new().mutate(&review),
        "wrong_type",
    );
    let volumes = object(&mut review)["spec"]["volumes"].as_array_mut().unwrap();
    volumes.push(json!({"name": "tmp-dir-argo", "emptyDir": {}}));
    refused(
        "a volume called like Argo's",
        World::new().mutate(&review),
        "reserved_name",
    );

    for name in ["tmp-dir-argo", "var-run-argo"] {
        let mut review = pod();
        let containers = object(&mut review)["spec"]["containers"].as_array_mut().unwrap();
        let main = containers
            .iter_mut()
            .find(|container| container["name"] == "main")
            .unwrap();
        main["volumeMounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": name, "mountPath": "/w"}));
        refused(name, World::new().mutate(&review), "reserved_name");
    }
}

#[test]
fn argos_marks_on_a_pod_without_datasets_are_changed_by_argo_and_kubernetes_only() {
    let recording = recorded("pod-update-by-controller");
    let old = json!({"metadata": {"name": "p", "namespace": "hub", "labels": {"app": "x"}}, "spec": {"containers": []}});
    let marked = |kind: &str, key: &str| {
        let mut new = old.clone();
        new["metadata"][kind] = json!({"app": "x"});
        new["metadata"][kind][key] = json!("x");
        new
    };
    let kill = marked("annotations", "workflows.argoproj.io/kill-cmd-x");
    let label = marked("labels", "workflows.argoproj.io/workflow");
    let other = marked("annotations", "example.org/note");
    let notebook = format!("system:serviceaccount:hub:{ALICE}");
    for (who, argos_may_change) in [
        (&*notebook, false),
        ("system:serviceaccount:hub:hub", false),
        ("somebody@example.org", false),
        (CONTROLLER, true),
        ("system:node:node-1", true),
        (
            "system:serviceaccount:kube-system:generic-garbage-collector",
            true,
        ),
    ] {
        for new in [&kill, &label] {
            let outcome = World::new().validate(&update(&recording, old.clone(), new.clone(), who, "u"));
            if argos_may_change {
                assert!(outcome.is_ok(), "{who}: {outcome:?}");
            } else {
                refused(who, outcome, "reserved_metadata");
                let taken = World::new().validate(&update(&recording, new.clone(), old.clone(), who, "u"));
                refused(who, taken, "reserved_metadata");
            }
        }
        let outcome = World::new().validate(&update(&recording, old.clone(), other.clone(), who, "u"));
        assert!(outcome.is_ok(), "{who}: {outcome:?}");
    }
}

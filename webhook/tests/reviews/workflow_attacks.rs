//! What a Workflow of a person may not have: each attack with its code, the place that a refusal names, and the home's one mount.

use leasehold_webhook::review::Stage;
use serde_json::{Value, json};

use crate::world::*;

#[test]
fn the_attacks_on_a_workflow_are_refused_with_their_codes() {
    let world = World::new();
    let at = |path: &str, value: Value| {
        let path = path.to_owned();
        move |object: &mut Value| {
            let (parent, key) = path.rsplit_once('/').unwrap();
            let parent = object.pointer_mut(parent).unwrap();
            match parent {
                Value::Array(list) => list.push(value.clone()),
                parent => parent[key] = value.clone(),
            }
        }
    };
    type Row<'a> = (&'a str, &'a str, Box<dyn Fn(&mut Value)>);
    let rows: Vec<Row<'_>> = vec![
        (
            "W02",
            "workflow_metadata",
            Box::new(at(
                "/spec/workflowMetadata",
                json!({"annotations": {"leasehold.dev/stamp": "x"}}),
            )),
        ),
        (
            "W04",
            "owner_reference",
            Box::new(at(
                "/metadata/ownerReferences",
                json!([{"apiVersion": "argoproj.io/v1alpha1", "kind": "CronWorkflow", "name": "bobs", "uid": "u", "controller": true}]),
            )),
        ),
        (
            "W05",
            "status_on_create",
            Box::new(at("/status", json!({"phase": "Running", "storedTemplates": {}}))),
        ),
        (
            "W06",
            "status_on_create",
            Box::new(at(
                "/status",
                json!({"persistentVolumeClaims": [{"name": "claim-bob"}]}),
            )),
        ),
        (
            "W10",
            "pod_spec_patch",
            Box::new(at("/spec/podSpecPatch", json!("{}"))),
        ),
        (
            "W10 template",
            "pod_spec_patch",
            Box::new(at("/spec/templates/0/podSpecPatch", json!("hostNetwork: true"))),
        ),
        (
            "W11 account",
            "template_expr",
            Box::new(at(
                "/spec/serviceAccountName",
                json!("{{workflow.parameters.sa}}"),
            )),
        ),
        (
            "W11 claim",
            "template_expr",
            Box::new(at(
                "/spec/volumes/0/persistentVolumeClaim/claimName",
                json!("{{=x}}"),
            )),
        ),
        (
            "W11 mount",
            "template_expr",
            Box::new(at(
                "/spec/templates/0/container/volumeMounts/0/subPath",
                json!("{{x}}"),
            )),
        ),
        (
            "W11 label",
            "template_expr",
            Box::new(at("/spec/templates/0/metadata/labels", json!({"{{x}}": "y"}))),
        ),
        (
            "W11 arguments",
            "field_not_allowed",
            Box::new(at("/spec/arguments", json!({"parameters": [{"name": "x"}]}))),
        ),
        (
            "W12 case",
            "unknown_field",
            Box::new(at("/spec/templates/0/PodSpecPatch", json!("x"))),
        ),
        (
            "W12 long s",
            "unknown_field",
            Box::new(at("/spec/ſerviceAccountName", json!("x"))),
        ),
        (
            "W12 steps",
            "template_type",
            Box::new(at(
                "/spec/templates/3/steps",
                json!([[{"inline": {"PodSpecPatch": "x"}}]]),
            )),
        ),
        (
            "W13 defaults",
            "field_not_allowed",
            Box::new(at("/spec/templateDefaults", json!({}))),
        ),
        (
            "W13 sidecars",
            "field_not_allowed",
            Box::new(at("/spec/templates/0/sidecars", json!([]))),
        ),
        (
            "W13 init",
            "field_not_allowed",
            Box::new(at("/spec/templates/0/initContainers", json!([]))),
        ),
        (
            "W13 hooks",
            "field_not_allowed",
            Box::new(at("/spec/hooks", json!({}))),
        ),
        (
            "W13 onExit",
            "field_not_allowed",
            Box::new(at("/spec/onExit", json!("bye"))),
        ),
        (
            "W13 task hooks",
            "field_not_allowed",
            Box::new(at("/spec/templates/3/dag/tasks/0/hooks", json!({}))),
        ),
        (
            "W13 inline",
            "field_not_allowed",
            Box::new(at("/spec/templates/3/dag/tasks/0/inline", json!({}))),
        ),
        (
            "W14",
            "field_not_allowed",
            Box::new(at("/spec/workflowTemplateRef", json!({"name": "bobs"}))),
        ),
        (
            "W14 task",
            "field_not_allowed",
            Box::new(at(
                "/spec/templates/3/dag/tasks/0/templateRef",
                json!({"name": "bobs"}),
            )),
        ),
        (
            "W16",
            "service_account",
            Box::new(at("/spec/serviceAccountName", json!(BOB))),
        ),
        (
            "W16 hub",
            "service_account",
            Box::new(at("/spec/templates/0/serviceAccountName", json!("hub"))),
        ),
        (
            "W16 executor",
            "service_account",
            Box::new(at("/spec/executor", json!({"serviceAccountName": "hub"}))),
        ),
        (
            "W17 script",
            "template_type",
            Box::new(at("/spec/templates/0/script", json!({"source": "x"}))),
        ),
        (
            "W17 resource",
            "template_type",
            Box::new(at("/spec/templates/0/resource", json!({"action": "create"}))),
        ),
        (
            "W17 http",
            "template_type",
            Box::new(at("/spec/templates/0/http", json!({"url": "x"}))),
        ),
        (
            "W17 plugin",
            "template_type",
            Box::new(at("/spec/templates/0/plugin", json!({}))),
        ),
        (
            "W17 data",
            "template_type",
            Box::new(at("/spec/templates/0/data", json!({}))),
        ),
        (
            "W17 set",
            "template_type",
            Box::new(at("/spec/templates/0/containerSet", json!({}))),
        ),
        (
            "W18 inputs",
            "artifact",
            Box::new(at("/spec/templates/0/inputs", json!({"artifacts": []}))),
        ),
        (
            "W18 archive",
            "artifact",
            Box::new(at("/spec/archiveLogs", json!(true))),
        ),
        (
            "W18 repository",
            "artifact",
            Box::new(at("/spec/artifactRepositoryRef", json!({}))),
        ),
        (
            "S01",
            "volume_claim_template",
            Box::new(at("/spec/volumeClaimTemplates", json!([]))),
        ),
        (
            "P01",
            "pvc_not_injected",
            Box::new(at(
                "/spec/volumes/0/persistentVolumeClaim/claimName",
                json!("claim-bob"),
            )),
        ),
        (
            "P01 lease",
            "pvc_not_injected",
            Box::new(at(
                "/spec/volumes/0/persistentVolumeClaim/claimName",
                json!(format!("leasehold-{UIS}")),
            )),
        ),
        (
            "P08",
            "label_not_allowed",
            Box::new(at(
                "/spec/templates/0/metadata/labels",
                json!({"app": "jupyterhub"}),
            )),
        ),
        (
            "P08 annotation",
            "annotation_not_allowed",
            Box::new(at("/spec/templates/0/metadata/annotations/x", json!("y"))),
        ),
        (
            "P08 pods",
            "workflow_metadata",
            Box::new(at("/spec/podMetadata", json!({}))),
        ),
        (
            "P11 argo",
            "path_overlap",
            Box::new(at(
                "/spec/templates/0/container/volumeMounts/0/mountPath",
                json!("/var/run/argo"),
            )),
        ),
        (
            "P11 datasets",
            "path_overlap",
            Box::new(at(
                "/spec/templates/0/container/volumeMounts/0/mountPath",
                json!("/home/jovyan/datasets/uis"),
            )),
        ),
        (
            "P11 dots",
            "path_overlap",
            Box::new(at(
                "/spec/templates/0/container/volumeMounts/0/mountPath",
                json!("/home/jovyan/../../proc"),
            )),
        ),
        (
            "P11 propagation",
            "field_not_allowed",
            Box::new(at(
                "/spec/templates/0/container/volumeMounts/0/mountPropagation",
                json!("Bidirectional"),
            )),
        ),
        (
            "P12 volume",
            "secret_ref",
            Box::new(at(
                "/spec/volumes/-",
                json!({"name": "s", "secret": {"secretName": "hub"}}),
            )),
        ),
        (
            "P12 projected",
            "secret_ref",
            Box::new(at(
                "/spec/volumes/-",
                json!({"name": "kube-api-access-x", "projected": {"sources": [{"secret": {"name": "hub"}}]}}),
            )),
        ),
        (
            "P12 env",
            "secret_ref",
            Box::new(at(
                "/spec/templates/0/container/env/-",
                json!({"name": "X", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "k"}}}),
            )),
        ),
        (
            "P12 envFrom",
            "secret_ref",
            Box::new(at(
                "/spec/templates/0/container/envFrom",
                json!([{"secretRef": {"name": "hub"}}]),
            )),
        ),
        (
            "P12 pull",
            "secret_ref",
            Box::new(at("/spec/imagePullSecrets", json!([{"name": "hub"}]))),
        ),
        (
            "P14 hostPath",
            "volume_type",
            Box::new(at(
                "/spec/volumes/-",
                json!({"name": "h", "hostPath": {"path": "/"}}),
            )),
        ),
        (
            "P14 csi",
            "volume_type",
            Box::new(at(
                "/spec/volumes/-",
                json!({"name": "c", "csi": {"driver": "rclone"}}),
            )),
        ),
        (
            "P14 ephemeral",
            "volume_type",
            Box::new(at("/spec/volumes/-", json!({"name": "e", "ephemeral": {}}))),
        ),
        (
            "P14 image",
            "unknown_field",
            Box::new(at("/spec/volumes/-", json!({"name": "i", "oci": {}}))),
        ),
        (
            "P14 config",
            "volume_type",
            Box::new(at(
                "/spec/volumes/-",
                json!({"name": "m", "configMap": {"name": "x"}}),
            )),
        ),
        (
            "P14 own in template",
            "field_not_allowed",
            Box::new(at("/spec/templates/0/volumes", json!([]))),
        ),
        (
            "P18 tolerations",
            "field_not_allowed",
            Box::new(at("/spec/tolerations", json!([]))),
        ),
        (
            "P18 host",
            "field_not_allowed",
            Box::new(at("/spec/hostNetwork", json!(true))),
        ),
        (
            "P18 context",
            "field_not_allowed",
            Box::new(at(
                "/spec/templates/0/container/securityContext/privileged",
                json!(true),
            )),
        ),
        (
            "P18 pod context",
            "field_not_allowed",
            Box::new(at("/spec/securityContext", json!({"fsGroup": 0}))),
        ),
        (
            "PS3",
            "field_not_allowed",
            Box::new(at("/spec/templates/0/container/livenessProbe", json!({}))),
        ),
        (
            "token",
            "field_not_allowed",
            Box::new(at("/spec/automountServiceAccountToken", json!(true))),
        ),
        (
            "type",
            "wrong_type",
            Box::new(at("/spec/templates/0/container/env/0/value", json!(1))),
        ),
        (
            "finalizers",
            "field_not_allowed",
            Box::new(at("/metadata/finalizers", json!(["x/y"]))),
        ),
    ];
    for (row, code, edit) in &rows {
        let mut review = workflow();
        edit(object(&mut review));
        let denial = refused(row, world.mutate(&review), code);
        assert!(
            denial.message.len() > 30 && denial.message.is_ascii() || row.contains("long s"),
            "{row}: {denial}"
        );
        // The same within a CronWorkflow.
        if review.pointer("/request/object/spec") != workflow().pointer("/request/object/spec") {
            let mut cron = recorded("cron-workflow");
            cron["request"]["object"]["spec"]["workflowSpec"] = review["request"]["object"]["spec"].clone();
            refused(row, world.mutate(&cron), code);
        }
    }
}

#[test]
fn w12_a_key_given_twice_is_refused() {
    let body = workflow().to_string().replacen(
        "\"spec\":{",
        "\"spec\":{\"serviceAccountName\":\"x\",\"serviceAccountName\":\"y\",",
        1,
    );
    let denial = World::new().decide(Stage::Mutating, &body).unwrap_err();
    assert_eq!(denial.reason.code(), "unknown_field");
    assert!(denial.message.contains("serviceAccountName twice"), "{denial}");
}

#[test]
fn a_refusal_names_the_place() {
    let mut review = workflow();
    object(&mut review)["spec"]["templates"][1]["container"]["livenessProbe"] = json!({});
    let denial = World::new().mutate(&review).unwrap_err();
    assert!(
        denial
            .message
            .contains("spec.templates[1].container.livenessProbe"),
        "{denial}"
    );
}

#[test]
fn the_home_is_mounted_only_as_the_notebook_mounts_it() {
    let world = World::new();
    let mut binding = alice();
    binding.home.as_mut().unwrap().sub_path = "alice".into();
    world.apply(leasehold_broker_wire::machines::watch_leases_response::Change::Binding(binding));
    for (sub_path, fits) in [
        ("alice", true),
        ("alice/work", false),
        ("", false),
        ("alice2", false),
        ("alice/../bob", false),
        ("bob", false),
    ] {
        let mut review = workflow();
        for template in 0..3 {
            object(&mut review)["spec"]["templates"][template]["container"]["volumeMounts"][0]["subPath"] =
                json!(sub_path);
        }
        match (world.mutate(&review), fits) {
            (Ok(_), true) => {}
            (outcome, false) => drop(refused(sub_path, outcome, "pvc_not_injected")),
            (outcome, true) => panic!("{sub_path}: {outcome:?}"),
        }
    }
}

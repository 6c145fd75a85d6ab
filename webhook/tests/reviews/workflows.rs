//! What becomes of Workflows and CronWorkflows at creation.

use serde_json::{Value, json};

use crate::world::*;
use leasehold_webhook::review::Fact;
use leasehold_webhook::review::stamp::Stamp;
use leasehold_webhook::review::{OwnerKind, Question, Stage};
use std::sync::Arc;

fn stamp(object: &Value) -> Option<Stamp> {
    Stamp::parse(object["metadata"]["annotations"]["leasehold.dev/stamp"].as_str()?)
}

#[test]
fn jupyterflows_workflow_comes_out_without_tokens_hub_env_and_duplicates_and_runs_as_the_executor() {
    let mut review = workflow();
    let env = &mut object(&mut review)["spec"]["templates"][0]["container"]["env"];
    env.as_array_mut().unwrap().extend([
        json!({"name": "PATH", "value": "/later"}),
        json!({"name": "LEASE_DATASETS", "value": "uis"}),
        json!({"name": "LEASEHOLD_TOKEN_FILE", "value": "/var/run/leasehold/token"}),
    ]);
    let out = World::new().mutate(&review).unwrap();
    let spec = &out["spec"];
    assert_eq!(spec["serviceAccountName"], EXECUTOR);
    assert_eq!(
        spec["volumes"],
        json!([{"name": "home", "persistentVolumeClaim": {"claimName": "claim-alice"}}])
    );
    for template in spec["templates"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|t| t.get("container").is_some())
    {
        assert_eq!(template["serviceAccountName"], EXECUTOR);
        let container = &template["container"];
        assert_eq!(
            container["volumeMounts"],
            json!([{"name": "home", "mountPath": "/home/jovyan"}])
        );
        let names: Vec<&str> = container["env"]
            .as_array()
            .unwrap()
            .iter()
            .map(|env| env["name"].as_str().unwrap())
            .collect();
        assert!(
            !names
                .iter()
                .any(|n| n.starts_with("JUPYTERHUB_") || n.starts_with("JPY_")),
            "{names:?}"
        );
        assert!(names.contains(&"NB_USER") && names.contains(&"JUPYTER_IMAGE"));
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "{names:?}");
    }
    let env = spec["templates"][0]["container"]["env"].as_array().unwrap();
    assert!(
        env.contains(&json!({"name": "PATH", "value": "/later"})),
        "of equal names the last wins"
    );
    assert!(env.contains(&json!({"name": "LEASE_DATASETS", "value": "uis"})));
    assert!(!out.to_string().contains("LEASEHOLD_TOKEN_FILE"));
    let stamp = stamp(&out).unwrap();
    assert_eq!(
        (stamp.uid.as_str(), stamp.service_account.as_str()),
        (ALICE_UID, ALICE)
    );
    assert_eq!(stamp.pod.as_deref(), Some("jupyter-alice-example-com---ff8d9819"));
}

#[test]
fn what_was_injected_into_a_notebook_or_pod_and_copied_is_taken_out_again() {
    let mut review = workflow();
    let spec = &mut object(&mut review)["spec"];
    let volumes = spec["volumes"].as_array_mut().unwrap();
    volumes.push(json!({"name": "leasehold-identity", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "leasehold", "path": "token", "expirationSeconds": 3600}},
        {"configMap": {"name": "leasehold-ca"}}]}}));
    volumes.push(json!({"name": format!("leasehold-{UIS}"), "persistentVolumeClaim": {"claimName": format!("leasehold-{UIS}")}}));
    let mounts = spec["templates"][0]["container"]["volumeMounts"]
        .as_array_mut()
        .unwrap();
    mounts.push(json!({"name": "leasehold-identity", "mountPath": "/var/run/leasehold"}));
    mounts.push(json!({"name": format!("leasehold-{UIS}"), "mountPath": "/home/jovyan/datasets/uis"}));
    let out = World::new().mutate(&review).unwrap();
    assert!(!out["spec"].to_string().contains("leasehold-"), "{}", out["spec"]);
}

#[test]
fn mutating_twice_equals_once_and_the_validating_half_agrees() {
    for name in ["workflow-of-jupyterflow", "workflow-of-jupyterflow-2"] {
        let world = World::new();
        let mut review = recorded(name);
        let once = world.mutate(&review).unwrap();
        review["request"]["object"] = once.clone();
        assert_eq!(world.mutate(&review).unwrap(), once, "{name}");
        world.validate(&review).unwrap();
    }
}

#[test]
fn a_workflow_that_was_not_mutated_is_not_let_through() {
    let denial = refused("unmutated", World::new().validate(&workflow()), "views_disagree");
    assert_eq!(denial.reason.status(), 429);
}

#[test]
fn w24_a_workflow_without_name_and_uid_is_stamped() {
    let mut review = workflow();
    let request = review["request"].as_object_mut().unwrap();
    request.remove("name");
    object(&mut review)["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("namespace");
    assert!(stamp(&World::new().mutate(&review).unwrap()).is_some());
}

#[test]
fn w01_a_stamp_that_was_sent_along_is_overwritten() {
    let mut review = workflow();
    object(&mut review)["metadata"]["annotations"] =
        json!({"leasehold.dev/stamp": stamp_of(BOB).to_annotation(), "note": "kept"});
    let out = World::new().mutate(&review).unwrap();
    assert_eq!(stamp(&out).unwrap().uid, ALICE_UID);
    assert_eq!(out["metadata"]["annotations"]["note"], "kept");
}

#[test]
fn w22_argos_own_labels_and_annotations_are_stripped() {
    let mut review = workflow();
    let metadata = &mut object(&mut review)["metadata"];
    metadata["labels"] = json!({"workflows.argoproj.io/controller-instanceid": "x", "workflows.argoproj.io/creator": "bob", "mine": "kept"});
    metadata["annotations"] = json!({"workflows.argoproj.io/pod-name-format": "v1"});
    let out = World::new().mutate(&review).unwrap();
    assert_eq!(out["metadata"]["labels"], json!({"mine": "kept"}));
    assert_eq!(out["metadata"]["annotations"].as_object().unwrap().len(), 1);
}

#[test]
fn administrators_and_other_accounts_get_no_stamp_and_no_say() {
    for username in [
        "admin",
        "system:serviceaccount:hub:hub",
        "system:serviceaccount:hub:default",
    ] {
        let mut review = by(workflow(), username, "some-uid");
        assert_eq!(stamp(&World::new().mutate(&review).unwrap()), None);
        object(&mut review)["metadata"]["annotations"] =
            json!({"leasehold.dev/stamp": stamp_of(ALICE).to_annotation()});
        let out = World::new().mutate(&review).unwrap();
        assert_eq!(out["metadata"]["annotations"], json!({}), "{username}");
    }
}

#[test]
fn whoever_the_broker_does_not_know_creates_nothing() {
    let world = World::new();
    let nobody = |username: &str, uid: &str| by(workflow(), username, uid);
    for (username, uid) in [
        (format!("system:serviceaccount:hub:{ALICE}"), "recreated-uid"),
        (format!("system:serviceaccount:hub:{ALICE}"), ""),
        (format!("system:serviceaccount:elsewhere:{ALICE}"), ALICE_UID),
        (format!("system:serviceaccount:hub:{EXECUTOR}"), EXECUTOR_UID),
        (format!("system:serviceaccount:hub:{BOB}"), ALICE_UID),
    ] {
        refused(&username, world.mutate(&nobody(&username, uid)), "not_bound");
    }
}

#[test]
fn a_person_younger_than_the_view_is_asked_of_the_broker() {
    let world = World::new();
    world.apply(
        leasehold_broker_wire::machines::watch_leases_response::Change::BindingRemoved(
            leasehold_broker_wire::machines::BindingRemoved {
                notebook_uid: ALICE_UID.into(),
            },
        ),
    );
    refused("unknown", world.mutate(&workflow()), "not_bound");
    assert_eq!(
        *world.asked.borrow(),
        [Question::Person {
            uid: ALICE_UID.into()
        }]
    );
}

#[test]
fn with_a_stale_view_and_no_broker_a_workflow_waits() {
    let mut world = World::new().stale();
    world.facts.insert(
        Question::Person {
            uid: ALICE_UID.into(),
        },
        Fact::Unanswered("the broker answered Unavailable".into()),
    );
    let denial = refused("stale", world.mutate(&workflow()), "broker_unreachable");
    assert_eq!(denial.reason.status(), 429);
}

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

#[test]
fn a_cron_workflow_is_stamped_and_what_is_made_of_it_inherits() {
    let world = World::new();
    let mut cron = recorded("cron-workflow");
    object(&mut cron)["spec"]["workflowSpec"]["templates"][0]
        .as_object_mut()
        .unwrap()
        .remove("retryStrategy");
    let out = world.mutate(&cron).unwrap();
    assert_eq!(stamp(&out).unwrap().uid, ALICE_UID);
    assert_eq!(out["spec"]["workflowSpec"]["serviceAccountName"], EXECUTOR);

    let mut run = recorded("workflow-of-cron");
    let spec = &mut object(&mut run)["spec"];
    spec["templates"][0]
        .as_object_mut()
        .unwrap()
        .remove("retryStrategy");
    spec["serviceAccountName"] = json!(EXECUTOR);
    object(&mut run)["metadata"]["annotations"]["leasehold.dev/stamp"] = json!(stamp_of(BOB).to_annotation());
    refused(
        "W03: no such CronWorkflow",
        world.mutate(&run),
        "owner_unresolved",
    );

    let (uid, name) = ("3a16bfec-e208-4203-9fce-896046a199f2", "jupyter-alice-cxfdh");
    world.views.cron_workflows.insert(owner(uid, name, Some(ALICE)));
    let out = world.mutate(&run).unwrap();
    assert_eq!(
        stamp(&out).unwrap().uid,
        ALICE_UID,
        "W03: inherited, whatever came along"
    );
    assert_eq!(
        out["metadata"]["labels"]["workflows.argoproj.io/cron-workflow"],
        name
    );

    world.views.cron_workflows.insert(owner(uid, name, None));
    assert_eq!(
        stamp(&world.mutate(&run).unwrap()),
        None,
        "an unstamped CronWorkflow has nothing to inherit"
    );
}

#[test]
fn a_cron_workflow_that_the_view_misses_is_read_live() {
    let mut world = World::new();
    let mut run = recorded("workflow-of-cron");
    object(&mut run)["spec"]["templates"][0]
        .as_object_mut()
        .unwrap()
        .remove("retryStrategy");
    let (uid, name) = ("3a16bfec-e208-4203-9fce-896046a199f2", "jupyter-alice-cxfdh");
    let question = Question::Owner {
        kind: OwnerKind::CronWorkflow,
        namespace: "hub".into(),
        name: name.into(),
    };
    world.facts.insert(
        question,
        Fact::Owner(Some(Arc::new(owner(uid, name, Some(ALICE))))),
    );
    assert_eq!(stamp(&world.mutate(&run).unwrap()).unwrap().uid, ALICE_UID);
}

#[test]
fn a_workflow_of_steps_is_not_what_jupyterflow_emits() {
    refused(
        "steps",
        World::new().mutate(&recorded("workflow-of-steps")),
        "field_not_allowed",
    );
}

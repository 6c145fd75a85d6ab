//! What becomes of Workflows and CronWorkflows at creation.

use serde_json::{Value, json};

use crate::world::*;
use leasehold_webhook::review::Fact;
use leasehold_webhook::review::stamp::Stamp;
use leasehold_webhook::review::{OwnerKind, Question};
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

//! What happens to objects afterwards: changes, deletions, connections, claims, task results.

use serde_json::{Value, json};

use crate::world::*;
use leasehold_webhook::review::{Fact, Question};

fn stamped() -> Value {
    let mut object = workflow()["request"]["object"].clone();
    object["metadata"]["annotations"] = json!({"leasehold.dev/stamp": stamp_of(ALICE).to_annotation()});
    object
}

fn alices() -> String {
    format!("system:serviceaccount:hub:{ALICE}")
}

fn bobs() -> String {
    format!("system:serviceaccount:hub:{BOB}")
}

#[test]
fn v01_the_stamp_is_restored_for_everybody_and_a_changed_one_refused() {
    let world = World::new();
    let template = workflow();
    for who in [CONTROLLER, "admin", &alices()] {
        for new in [
            json!({}),
            json!({"leasehold.dev/stamp": stamp_of(BOB).to_annotation()}),
            json!(null),
        ] {
            let mut object = stamped();
            object["metadata"]["annotations"] = new;
            let review = update(&template, stamped(), object, who, ALICE_UID);
            let out = world.mutate(&review).unwrap();
            assert_eq!(
                out["metadata"]["annotations"],
                stamped()["metadata"]["annotations"],
                "{who}"
            );
            refused(who, world.validate(&review), "stamp_immutable");
        }
        let mut forged = stamped();
        let unstamped = workflow()["request"]["object"].clone();
        forged["metadata"]["annotations"]["x"] = json!("y");
        let review = update(&template, unstamped, forged, CONTROLLER, "");
        let out = world.mutate(&review).unwrap();
        assert_eq!(
            out["metadata"]["annotations"],
            json!({"x": "y"}),
            "an unstamped Workflow never gets one"
        );
    }
}

#[test]
fn the_controllers_own_updates_pass_as_recorded() {
    let world = World::new();
    for name in ["workflow-update-by-controller", "workflow-update-of-status"] {
        let review = recorded(name);
        assert_eq!(
            world.mutate(&review).unwrap(),
            review["request"]["object"],
            "{name}"
        );
        world.validate(&review).unwrap();
    }
}

#[test]
fn v02_only_the_controller_writes_a_status() {
    let mut new = stamped();
    new["status"] = json!({"phase": "Succeeded"});
    for who in ["admin", &alices()] {
        let review = update(&workflow(), stamped(), new.clone(), who, ALICE_UID);
        refused(who, World::new().validate(&review), "status");
    }
    World::new()
        .validate(&update(&workflow(), stamped(), new, CONTROLLER, ""))
        .unwrap();
}

#[test]
fn w21_only_its_owner_touches_a_workflow_and_only_to_stop_it() {
    let world = World::new();
    let change = |key: &str, value: Value| {
        let mut new = stamped();
        new["spec"][key] = value;
        new
    };
    let by_owner = |new| update(&workflow(), stamped(), new, &alices(), ALICE_UID);
    world
        .validate(&by_owner(change("shutdown", json!("Terminate"))))
        .unwrap();
    world.validate(&by_owner(change("suspend", json!(true)))).unwrap();
    refused(
        "owner",
        world.validate(&by_owner(change("entrypoint", json!("job-1")))),
        "field_not_allowed",
    );
    for (who, uid) in [
        (bobs(), BOB_UID),
        (alices(), "recreated"),
        (alices(), ""),
        (format!("system:serviceaccount:hub:{EXECUTOR}"), EXECUTOR_UID),
    ] {
        let review = update(&workflow(), stamped(), change("suspend", json!(true)), &who, uid);
        refused(&who, world.validate(&review), "not_owner");
    }
    let review = update(
        &workflow(),
        stamped(),
        change("entrypoint", json!("job-1")),
        "admin",
        "",
    );
    refused("admin", world.validate(&review), "not_owner");
    let mut relabelled = stamped();
    relabelled["metadata"]["labels"] = json!({"workflows.argoproj.io/completed": "true"});
    refused(
        "labels",
        world.validate(&by_owner(relabelled)),
        "reserved_metadata",
    );
    let mut owned = stamped();
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]);
    refused("owners", world.validate(&by_owner(owned)), "owner_reference");
}

#[test]
fn w21_only_its_owner_or_somebody_who_is_no_person_deletes_a_workflow() {
    let world = World::new();
    let delete = |who: &str, uid: &str, object: Value| {
        let mut review = by(recorded("workflow-delete"), who, uid);
        review["request"]["oldObject"] = object;
        review
    };
    let gc = "system:serviceaccount:kube-system:generic-garbage-collector";
    for (who, uid) in [
        (alices().as_str(), ALICE_UID),
        ("admin", ""),
        (CONTROLLER, ""),
        (gc, "x"),
    ] {
        world.validate(&delete(who, uid, stamped())).unwrap();
    }
    let unstamped = workflow()["request"]["object"].clone();
    for (who, uid, object) in [
        (bobs(), BOB_UID, stamped()),
        (alices(), "recreated", stamped()),
        (alices(), ALICE_UID, unstamped),
    ] {
        refused(&who, world.validate(&delete(&who, uid, object)), "not_owner");
    }
}

fn dataset_pod() -> Value {
    World::new().mutate(&pod()).unwrap()
}

#[test]
fn p15_a_dataset_pod_is_frozen() {
    let world = World::new();
    let row = |row: &str, who: &str, edit: &dyn Fn(&mut Value), code: Option<&str>| {
        let mut new = dataset_pod();
        edit(&mut new);
        let review = update(&pod(), dataset_pod(), new, who, "");
        match code {
            Some(code) => drop(refused(row, world.validate(&review), code)),
            None => world
                .validate(&review)
                .unwrap_or_else(|denial| panic!("{row}: {denial}")),
        }
    };
    let frozen = Some("dataset_pod_frozen");
    let completed =
        |pod: &mut Value| pod["metadata"]["labels"]["workflows.argoproj.io/completed"] = json!("true");
    row("completed", CONTROLLER, &completed, None);
    row("completed by another", "admin", &completed, frozen);
    row(
        "image",
        "admin",
        &|pod| pod["spec"]["containers"][1]["image"] = json!("evil"),
        frozen,
    );
    row(
        "image by the controller",
        CONTROLLER,
        &|pod| pod["spec"]["containers"][1]["image"] = json!("evil"),
        frozen,
    );
    row(
        "label",
        CONTROLLER,
        &|pod| pod["metadata"]["labels"]["app"] = json!("jupyterhub"),
        frozen,
    );
    row(
        "our label",
        "admin",
        &|pod| {
            pod["metadata"]["labels"]
                .as_object_mut()
                .unwrap()
                .remove("leasehold.dev/dataset-pod");
        },
        frozen,
    );
    row(
        "our annotation",
        CONTROLLER,
        &|pod| pod["metadata"]["annotations"]["leasehold.dev/leases"] = json!(""),
        frozen,
    );
    row(
        "kill command",
        CONTROLLER,
        &|pod| pod["metadata"]["annotations"]["workflows.argoproj.io/kill-cmd-main"] = json!("[]"),
        frozen,
    );
    row(
        "another annotation",
        "system:node:node0",
        &|pod| pod["metadata"]["annotations"]["cni.example/ip"] = json!("x"),
        None,
    );
    row("anything by a person", &alices(), &|_| {}, frozen);
    row(
        "shorter",
        "admin",
        &|pod| pod["spec"]["activeDeadlineSeconds"] = json!(5),
        None,
    );
    row(
        "longer",
        "admin",
        &|pod| pod["spec"]["activeDeadlineSeconds"] = json!(900_000),
        frozen,
    );
    row(
        "owners",
        CONTROLLER,
        &|pod| pod["metadata"]["ownerReferences"] = json!([]),
        frozen,
    );
    row(
        "finalizers",
        CONTROLLER,
        &|pod| pod["metadata"]["finalizers"] = json!([]),
        None,
    );
}

#[test]
fn other_pods_change_freely_but_are_not_marked() {
    let world = World::new();
    world.validate(&recorded("pod-update-by-controller")).unwrap();
    let mut marked = recorded("pod-update-by-controller");
    object(&mut marked)["metadata"]["labels"]["leasehold.dev/dataset-pod"] = json!("true");
    refused("marked", world.validate(&marked), "reserved_metadata");
}

#[test]
fn p16_a_dataset_pod_takes_no_debug_container() {
    let world = World::new();
    world.validate(&recorded("pod-ephemeral")).unwrap();
    let mut review = recorded("pod-ephemeral");
    review["request"]["oldObject"] = dataset_pod();
    refused("P16", world.validate(&review), "ephemeral");
}

#[test]
fn c01_c03_nobody_connects_to_a_dataset_pod_but_argo_to_signal_it() {
    for name in ["pod-exec", "pod-attach", "pod-portforward"] {
        let mut world = World::new();
        let mut review = recorded(name);
        review["request"]["name"] = json!("some-pod");
        let question = Question::Pod {
            namespace: "hub".into(),
            name: "some-pod".into(),
        };
        refused("unknown pod", world.validate(&review), "connect_dataset_pod");
        world.facts.insert(question.clone(), Fact::Pod(Some(false)));
        world.validate(&review).unwrap();
        world.facts.insert(question.clone(), Fact::Unanswered("x".into()));
        refused("no answer", world.validate(&review), "lookup_failed");
        world.facts.insert(question, Fact::Pod(Some(true)));
        for who in ["admin", CONTROLLER, &alices()] {
            refused(
                name,
                world.validate(&by(review.clone(), who, "")),
                "connect_dataset_pod",
            );
        }
    }
    let world = World::new();
    let exec = |who: &str, command: Value, stdin: bool| {
        let mut review = by(recorded("pod-exec"), who, "");
        review["request"]["object"]["command"] = command;
        review["request"]["object"]["stdin"] = json!(stdin);
        review
    };
    let kill = json!(["/var/run/argo/argoexec", "kill", "15", "1"]);
    let bare = json!(["argoexec", "kill", "15", "1"]);
    for container in ["wait", "supervisor"] {
        let mut review = exec(CONTROLLER, bare.clone(), false);
        review["request"]["object"]["container"] = json!(container);
        world.validate(&review).unwrap();
    }
    let mut in_users_image = exec(CONTROLLER, bare, false);
    in_users_image["request"]["object"]["container"] = json!("main");
    refused(
        "C05 container",
        world.validate(&in_users_image),
        "connect_dataset_pod",
    );
    world.validate(&exec(CONTROLLER, kill.clone(), false)).unwrap();
    refused(
        "C05 another",
        world.validate(&exec("admin", kill.clone(), false)),
        "connect_dataset_pod",
    );
    refused(
        "C05 stdin",
        world.validate(&exec(CONTROLLER, kill, true)),
        "connect_dataset_pod",
    );
    for command in [
        json!(["sh"]),
        json!(["/var/run/argo/argoexec", "kill", "15", "1", "x"]),
        json!(["/var/run/argo/argoexec", "kill", "-9", "1"]),
        json!([]),
    ] {
        refused(
            "C05 command",
            world.validate(&exec(CONTROLLER, command, false)),
            "connect_dataset_pod",
        );
    }
}

#[test]
fn v04_claims_of_leases_are_the_provisioners() {
    let world = World::new();
    let claim = |who: &str, operation: &str, edit: &dyn Fn(&mut Value)| {
        let mut review = by(recorded("claim"), who, "");
        review["request"]["operation"] = json!(operation);
        edit(&mut review["request"]["object"]);
        if operation != "CREATE" {
            review["request"]["oldObject"] = review["request"]["object"].clone();
        }
        if operation == "DELETE" {
            review["request"]["object"] = json!(null);
        }
        review["request"]["name"] = review["request"]["oldObject"]["metadata"]["name"].clone();
        review
    };
    let reserved = |object: &mut Value| object["metadata"]["name"] = json!(format!("leasehold-{UIS}"));
    for operation in ["CREATE", "UPDATE", "DELETE"] {
        world.validate(&claim("admin", operation, &|_| {})).unwrap();
        world.validate(&claim(PROVISIONER, operation, &reserved)).unwrap();
        for who in ["admin", CONTROLLER, &alices()] {
            refused(
                who,
                world.validate(&claim(who, operation, &reserved)),
                "claim_reserved",
            );
        }
    }
    let binder = "system:serviceaccount:kube-system:persistent-volume-binder";
    world.validate(&claim(binder, "UPDATE", &reserved)).unwrap();
    refused(
        "binder",
        world.validate(&claim(binder, "CREATE", &reserved)),
        "claim_reserved",
    );
    let edits: [&dyn Fn(&mut Value); 4] = [
        &|object| object["spec"]["volumeName"] = json!(format!("leasehold-{UIS}")),
        &|object| {
            object["spec"]["dataSource"] =
                json!({"kind": "PersistentVolumeClaim", "name": format!("leasehold-{UIS}")})
        },
        &|object| {
            object["spec"]["dataSourceRef"] =
                json!({"kind": "PersistentVolumeClaim", "name": format!("leasehold-{UIS}")})
        },
        &|object| object["metadata"] = json!({"generateName": "leasehold-"}),
    ];
    for edit in edits {
        refused(
            "S01, S03",
            world.validate(&claim("admin", "CREATE", edit)),
            "claim_reserved",
        );
    }
}

// T3 of docs/security/model.md.
#[test]
fn w20_task_results_come_from_the_workflows_own_executor() {
    let world = World::new();
    let executor = format!("system:serviceaccount:hub:{EXECUTOR}");
    let result = || by(recorded("task-result"), &executor, EXECUTOR_UID);
    world.validate(&result()).unwrap();
    world.validate(&by(result(), CONTROLLER, "")).unwrap();
    for (who, uid) in [
        (bobs(), BOB_UID),
        (
            "system:serviceaccount:hub:wf-bob-fedcba9876543210".into(),
            "executor-of-bob",
        ),
        (executor.clone(), "recreated"),
        (alices(), ALICE_UID),
    ] {
        refused(&who, world.validate(&by(result(), &who, uid)), "taskresult_owner");
    }
    let edits: [&dyn Fn(&mut Value); 4] = [
        &|review| {
            review["request"]["object"]["metadata"]["labels"]["workflows.argoproj.io/workflow"] =
                json!("bobs")
        },
        &|review| review["request"]["object"]["metadata"]["ownerReferences"] = json!([]),
        &|review| review["request"]["name"] = json!("bobs-1234"),
        &|review| review["request"]["operation"] = json!("DELETE"),
    ];
    for edit in edits {
        let mut review = result();
        edit(&mut review);
        refused("W20", world.validate(&review), "taskresult_owner");
    }
}

#[test]
fn what_the_webhook_was_not_made_for_is_refused() {
    let mut review = workflow();
    review["request"]["resource"] = json!({"group": "apps", "version": "v1", "resource": "deployments"});
    refused("unsupported", World::new().mutate(&review), "unsupported");
}

//! What pods of the controller get, and what they may not have.

use serde_json::{Value, json};
use std::sync::Arc;

use crate::world::*;
use leasehold_broker_wire::machines::{self, watch_leases_response::Change};
use leasehold_webhook::review::{Fact, OwnerKind, Person, Question};

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    pod["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["name"] == name)
        .unwrap()
}

fn claims(pod: &Value) -> Vec<&str> {
    let volumes = pod["spec"]["volumes"].as_array().unwrap().iter();
    volumes
        .filter_map(|v| v["persistentVolumeClaim"]["claimName"].as_str())
        .filter(|c| c.starts_with("leasehold-"))
        .collect()
}

// T2 of docs/security/model.md.
#[test]
fn a_job_gets_what_its_owner_leases_read_only_at_its_place_and_no_token() {
    let out = World::new().mutate(&pod()).unwrap();
    let name = format!("leasehold-{UIS}");
    assert_eq!(claims(&out), [&name]);
    let volumes = out["spec"]["volumes"].as_array().unwrap();
    assert!(
        volumes
            .contains(&json!({"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": true}}))
    );
    let main = container(&out, "main");
    let mounts = main["volumeMounts"].as_array().unwrap();
    assert!(
        mounts.contains(&json!({"name": name, "mountPath": "/home/jovyan/datasets/uis", "readOnly": true}))
    );
    let token = mounts
        .iter()
        .find(|m| m["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount")
        .unwrap();
    assert_eq!(token["name"], "leasehold-no-token");
    assert_eq!(out["metadata"]["labels"]["leasehold.dev/dataset-pod"], "true");
    assert_eq!(out["metadata"]["annotations"]["leasehold.dev/leases"], UIS);
    assert_eq!(out["spec"]["activeDeadlineSeconds"], 86_400);
    let before = &pod()["request"]["object"];
    assert_eq!(
        container(&out, "wait"),
        container(before, "wait"),
        "Argo's own containers are left alone"
    );
    assert_eq!(out["spec"]["initContainers"], before["spec"]["initContainers"]);
    let _: k8s_openapi::api::core::v1::Pod = serde_json::from_value(out).unwrap();
}

#[test]
fn mutating_twice_equals_once_and_the_validating_half_agrees() {
    for name in [
        "pod-job",
        "pod-job-naming-uis",
        "pod-of-container-set",
        "pod-of-on-exit",
    ] {
        let world = World::new();
        let mut review = recorded(name);
        let uid = review["request"]["object"]["metadata"]["ownerReferences"][0]["uid"]
            .as_str()
            .unwrap()
            .to_owned();
        let owner = review["request"]["object"]["metadata"]["ownerReferences"][0]["name"]
            .as_str()
            .unwrap()
            .to_owned();
        world.own(&uid, &owner, Some(ALICE));
        let once = world.mutate(&review).unwrap();
        review["request"]["object"] = once.clone();
        assert_eq!(world.mutate(&review).unwrap(), once, "{name}");
        world.validate(&review).unwrap();
    }
}

#[test]
fn every_member_of_a_container_set_gets_the_data() {
    let out = World::new().mutate(&recorded("pod-of-container-set")).unwrap();
    for name in ["c1", "c2"] {
        assert!(
            container(&out, name)
                .to_string()
                .contains("/home/jovyan/datasets/uis"),
            "{name}"
        );
    }
    assert!(!container(&out, "wait").to_string().contains("datasets"));
}

#[test]
fn the_end_of_the_deadline_only_comes_nearer() {
    for (existing, wanted) in [(json!(60), 60), (json!(100_000), 86_400)] {
        let mut review = pod();
        object(&mut review)["spec"]["activeDeadlineSeconds"] = existing;
        assert_eq!(
            World::new().mutate(&review).unwrap()["spec"]["activeDeadlineSeconds"],
            wanted
        );
    }
}

#[test]
fn without_leases_only_the_token_goes() {
    let out = World::with(vec![]).mutate(&pod()).unwrap();
    assert!(claims(&out).is_empty());
    assert!(
        out["metadata"]["labels"]
            .get("leasehold.dev/dataset-pod")
            .is_none()
    );
    assert!(out["spec"].get("activeDeadlineSeconds").is_none());
    assert!(container(&out, "main").to_string().contains("leasehold-no-token"));
}

#[test]
fn v_rows_a_pod_that_is_not_the_controllers_may_not_name_a_claim() {
    let mut review = recorded("pod-of-notebook");
    World::new().validate(&review).unwrap();
    let volumes = object(&mut review)["spec"]["volumes"].as_array_mut().unwrap();
    volumes.push(json!({"name": "x", "persistentVolumeClaim": {"claimName": format!("leasehold-{UIS}")}}));
    for who in [
        "admin",
        "system:serviceaccount:hub:hub",
        &format!("system:serviceaccount:hub:{ALICE}"),
    ] {
        let review = by(review.clone(), who, ALICE_UID);
        refused("P01", World::new().mutate(&review), "pvc_not_injected");
        refused("P01", World::new().validate(&review), "pvc_not_injected");
    }
    World::new().validate(&by(review, PROVISIONER, "")).unwrap();
    let mut marked = recorded("pod-of-notebook");
    object(&mut marked)["metadata"]["labels"]["leasehold.dev/dataset-pod"] = json!("true");
    refused("N01", World::new().validate(&marked), "reserved_metadata");
}

#[test]
fn the_owner_must_be_a_living_stamped_workflow_of_that_uid() {
    let world = World::new();
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut review = pod();
        edit(&mut object(&mut review)["metadata"]["ownerReferences"]);
        review
    };
    type Row<'a> = (&'a str, &'a dyn Fn(&mut Value), &'a str);
    let rows: [Row<'_>; 7] = [
        ("P02 none", &|refs| *refs = json!([]), "owner_reference"),
        (
            "P02 not controlling",
            &|refs| refs[0]["controller"] = json!(false),
            "owner_reference",
        ),
        (
            "P02 group",
            &|refs| refs[0]["apiVersion"] = json!("evil.io/v1"),
            "owner_reference",
        ),
        (
            "P04 artifact GC",
            &|refs| refs[0]["kind"] = json!("WorkflowArtifactGCTask"),
            "owner_reference",
        ),
        (
            "P03 second",
            &|refs| {
                let first = refs[0].clone();
                refs.as_array_mut().unwrap().push(first);
            },
            "owner_reference",
        ),
        (
            "P03 uid",
            &|refs| refs[0]["uid"] = json!("another"),
            "owner_unresolved",
        ),
        (
            "P03 name",
            &|refs| refs[0]["name"] = json!("another"),
            "owner_unresolved",
        ),
    ];
    for (row, edit, code) in rows {
        refused(row, world.mutate(&with(edit)), code);
    }
    let (uid, name) = (
        "120f5be9-d9ea-4f11-9e03-be720a0eac6f",
        "jupyter-alice-example-com---ff8d9819-4hmvs",
    );
    world.own(uid, name, None);
    refused("P06", world.mutate(&pod()), "unstamped");
    let mut deleting = owner(uid, name, Some(ALICE));
    deleting.deleting = true;
    world.views.workflows.insert(deleting);
    refused("P03 terminating", world.mutate(&pod()), "owner_unresolved");
}

#[test]
fn a_workflow_that_the_view_misses_is_read_live_and_one_that_is_not_there_refused() {
    let (uid, name) = (
        "120f5be9-d9ea-4f11-9e03-be720a0eac6f",
        "jupyter-alice-example-com---ff8d9819-4hmvs",
    );
    let question = Question::Owner {
        kind: OwnerKind::Workflow,
        namespace: "hub".into(),
        name: name.into(),
    };
    let mut world = World::new();
    world.views.workflows.remove(uid);
    refused("gone", world.mutate(&pod()), "owner_unresolved");
    world
        .facts
        .insert(question.clone(), Fact::Unanswered("it cannot be reached".into()));
    assert_eq!(
        refused("no answer", world.mutate(&pod()), "lookup_failed")
            .reason
            .status(),
        429
    );
    world.facts.insert(
        question.clone(),
        Fact::Owner(Some(Arc::new(owner("recreated", name, Some(ALICE))))),
    );
    refused("P03 recreated", world.mutate(&pod()), "owner_unresolved");
    world.facts.insert(
        question,
        Fact::Owner(Some(Arc::new(owner(uid, name, Some(ALICE))))),
    );
    assert_eq!(claims(&world.mutate(&pod()).unwrap()).len(), 1);
}

#[test]
fn p05_the_pod_runs_as_the_bound_executor_by_uid() {
    for account in ["", "default", "hub", ALICE] {
        let mut review = pod();
        object(&mut review)["spec"]["serviceAccountName"] = json!(account);
        refused(account, World::new().mutate(&review), "service_account");
    }
    let mut world = World::new();
    world.views.accounts.insert("hub", EXECUTOR, "recreated");
    refused("recreated", world.mutate(&pod()), "service_account");
    world.facts.insert(
        Question::Account {
            namespace: "hub".into(),
            name: EXECUTOR.into(),
        },
        Fact::Account(Some(EXECUTOR_UID.into())),
    );
    world.mutate(&pod()).unwrap();
}

#[test]
fn a_stale_view_decides_nothing_the_broker_does() {
    let mut world = World::new().stale();
    let question = Question::Person {
        uid: ALICE_UID.into(),
    };
    world.facts.insert(
        question.clone(),
        Fact::Unanswered("the broker answered Unavailable".into()),
    );
    let denial = refused("stale", world.mutate(&pod()), "broker_unreachable");
    assert_eq!(denial.reason.status(), 429);
    let (binding, _) = world.views.leases.person(ALICE_UID).unwrap();
    world.facts.insert(
        question.clone(),
        Fact::Person(Some(Person {
            binding,
            leases: vec![],
            broker_now_ms: NOW_MS,
        })),
    );
    assert!(
        claims(&world.mutate(&pod()).unwrap()).is_empty(),
        "the broker says that nothing is leased any more"
    );
    world.facts.insert(question, Fact::Person(None));
    refused("B06", world.mutate(&pod()), "not_bound");
}

#[test]
fn a_replica_whose_view_differs_answers_429() {
    let world = World::new();
    let mut review = pod();
    review["request"]["object"] = world.mutate(&pod()).unwrap();
    let without = World::with(vec![lease(BOBS, "secret", "bob")]);
    assert_eq!(
        refused("lease unknown here", without.validate(&review), "views_disagree")
            .reason
            .status(),
        429
    );
    let mut more = lease(&"c".repeat(32), "more", "alice");
    more.fencing_token = 2;
    let with_more = World::with(vec![lease(UIS, "uis", "alice"), more]);
    refused(
        "another lease here",
        with_more.validate(&review),
        "views_disagree",
    );
    refused("uninjected", world.validate(&pod()), "views_disagree");
}

#[test]
fn a_claim_of_an_ended_lease_is_no_longer_mounted() {
    let world = World::new();
    let mut review = pod();
    review["request"]["object"] = world.mutate(&pod()).unwrap();
    let mut ended = lease(UIS, "uis", "alice");
    ended.state = machines::LeaseState::Ended.into();
    world.apply(Change::Lease(ended));
    refused("P01: posted again", world.mutate(&review), "pvc_not_injected");
}

#[test]
fn what_the_api_server_adds_before_validation_is_understood() {
    let world = World::new();
    for name in ["pod-at-validation", "workflow-at-validation"] {
        let mut review = recorded(name);
        if name.starts_with("pod") {
            let owner = review["request"]["object"]["metadata"]["ownerReferences"][0].clone();
            world.own(
                owner["uid"].as_str().unwrap(),
                owner["name"].as_str().unwrap(),
                Some(ALICE),
            );
        }
        // Generated after the mutating stage.
        let generated = review["request"]["object"]["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("name");
        review["request"]["object"] = world.mutate(&review).unwrap();
        review["request"]["object"]["metadata"]["name"] = generated.unwrap();
        world.validate(&review).unwrap();
    }
}

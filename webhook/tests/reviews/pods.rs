//! What pods of the controller get, and what they may not have.

use serde_json::{Value, json};
use std::sync::Arc;

use crate::world::*;
use leasehold_broker_wire::machines::{self, watch_leases_response::Change};
use leasehold_webhook::review::{Fact, OwnerKind, Person, Question, Stage};

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
fn the_attacks_on_a_pod_are_refused_with_their_codes() {
    let world = World::new();
    let main = "/spec/containers/1";
    let set = |path: String, value: Value| -> Box<dyn Fn(&mut Value)> {
        Box::new(move |object: &mut Value| {
            let (parent, key) = path.rsplit_once('/').unwrap();
            match object.pointer_mut(parent).unwrap() {
                Value::Array(list) => list.push(value.clone()),
                parent => parent[key.replace("~1", "/")] = value.clone(),
            }
        })
    };
    let volume = |value: Value| set("/spec/volumes/-".into(), value);
    let rows = vec![
        (
            "P01 bob's home",
            "pvc_not_injected",
            volume(json!({"name": "x", "persistentVolumeClaim": {"claimName": "claim-bob"}})),
        ),
        (
            "P01 hub's",
            "pvc_not_injected",
            volume(json!({"name": "x", "persistentVolumeClaim": {"claimName": "hub-db-dir"}})),
        ),
        (
            "P01 other name",
            "pvc_not_injected",
            volume(json!({"name": "x", "persistentVolumeClaim": {"claimName": format!("leasehold-{UIS}")}})),
        ),
        (
            "P01 bob's lease",
            "pvc_not_injected",
            volume(
                json!({"name": format!("leasehold-{BOBS}"), "persistentVolumeClaim": {"claimName": format!("leasehold-{BOBS}"), "readOnly": true}}),
            ),
        ),
        (
            "P11 writable",
            "pvc_not_injected",
            volume(
                json!({"name": format!("leasehold-{UIS}"), "persistentVolumeClaim": {"claimName": format!("leasehold-{UIS}")}}),
            ),
        ),
        (
            "P07",
            "reserved_metadata",
            set(
                "/metadata/labels/workflows.argoproj.io~1workflow".into(),
                json!("bobs"),
            ),
        ),
        (
            "P07 node",
            "reserved_metadata",
            set(
                "/metadata/annotations/workflows.argoproj.io~1node-id".into(),
                json!("bobs-1"),
            ),
        ),
        (
            "P07 kill",
            "annotation_not_allowed",
            set(
                "/metadata/annotations/workflows.argoproj.io~1kill-cmd-main".into(),
                json!("[]"),
            ),
        ),
        (
            "P08",
            "label_not_allowed",
            set("/metadata/labels/app".into(), json!("jupyterhub")),
        ),
        (
            "P08 netpol",
            "label_not_allowed",
            set(
                "/metadata/labels/hub.jupyter.org~1network-access-hub".into(),
                json!("true"),
            ),
        ),
        (
            "N01 annotation",
            "reserved_metadata",
            set("/metadata/annotations/leasehold.dev~1leases".into(), json!("x")),
        ),
        (
            "P08 ports",
            "field_not_allowed",
            set(
                format!("{main}/ports"),
                json!([{"name": "http", "containerPort": 8081}]),
            ),
        ),
        (
            "P10 name",
            "reserved_name",
            volume(json!({"name": format!("leasehold-{UIS}"), "emptyDir": {}})),
        ),
        (
            "P10 init",
            "reserved_name",
            Box::new(|object: &mut Value| {
                let name = format!("leasehold-{UIS}");
                object["spec"]["volumes"].as_array_mut().unwrap().push(
                    json!({"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": true}}),
                );
                object["spec"]["initContainers"][0]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": name, "mountPath": "/x", "readOnly": true}));
            }),
        ),
        (
            "P10 elsewhere",
            "reserved_name",
            Box::new(|object: &mut Value| {
                let name = format!("leasehold-{UIS}");
                object["spec"]["volumes"].as_array_mut().unwrap().push(
                    json!({"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": true}}),
                );
                object["spec"]["containers"][1]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": name, "mountPath": "/home/jovyan/x", "readOnly": true}));
            }),
        ),
        (
            "P11 overlap",
            "path_overlap",
            Box::new(|object: &mut Value| {
                object["spec"]["volumes"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": "x", "emptyDir": {}}));
                object["spec"]["containers"][1]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": "x", "mountPath": "/home/jovyan/datasets"}));
            }),
        ),
        (
            "P11 overlap by Argo's volume",
            "path_overlap",
            Box::new(|object: &mut Value| {
                object["spec"]["containers"][1]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": "var-run-argo", "mountPath": "/home/jovyan/datasets"}));
            }),
        ),
        (
            "token elsewhere",
            "reserved_name",
            Box::new(|object: &mut Value| {
                let token = object["spec"]["volumes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|v| v.get("projected").is_some())
                    .unwrap()["name"]
                    .clone();
                object["spec"]["containers"][1]["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"name": token, "mountPath": "/t"}));
            }),
        ),
        (
            "P11 subPathExpr",
            "field_not_allowed",
            set(format!("{main}/volumeMounts/0/subPathExpr"), json!("$(X)")),
        ),
        (
            "S07",
            "field_not_allowed",
            set(format!("{main}/volumeDevices"), json!([])),
        ),
        (
            "P12",
            "secret_ref",
            volume(json!({"name": "x", "secret": {"secretName": "hub"}})),
        ),
        (
            "P12 projected",
            "secret_ref",
            volume(
                json!({"name": "kube-api-access-x", "projected": {"sources": [{"secret": {"name": "hub"}}]}}),
            ),
        ),
        (
            "P12 env",
            "secret_ref",
            set(
                format!("{main}/env/-"),
                json!({"name": "X", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "x"}}}),
            ),
        ),
        (
            "P12 init envFrom",
            "secret_ref",
            set(
                "/spec/initContainers/0/envFrom".into(),
                json!([{"secretRef": {"name": "hub"}}]),
            ),
        ),
        (
            "P14 hostPath",
            "volume_type",
            volume(json!({"name": "x", "hostPath": {"path": "/"}})),
        ),
        (
            "P14 csi",
            "volume_type",
            volume(json!({"name": "x", "csi": {"driver": "d"}})),
        ),
        (
            "P14 audience",
            "volume_type",
            volume(
                json!({"name": "kube-api-access-x", "projected": {"sources": [{"serviceAccountToken": {"audience": "leasehold", "path": "t"}}]}}),
            ),
        ),
        (
            "P14 config",
            "volume_type",
            volume(json!({"name": "x", "configMap": {"name": "x"}})),
        ),
        (
            "P16",
            "field_not_allowed",
            set("/spec/ephemeralContainers".into(), json!([])),
        ),
        (
            "P18 shared",
            "field_not_allowed",
            set("/spec/shareProcessNamespace".into(), json!(true)),
        ),
        (
            "P18 node",
            "field_not_allowed",
            set("/spec/nodeName".into(), json!("node0")),
        ),
        (
            "P18 scheduler",
            "field_not_allowed",
            set("/spec/schedulerName".into(), json!("evil")),
        ),
        (
            "P18 tolerations",
            "field_not_allowed",
            set("/spec/tolerations/-".into(), json!({"operator": "Exists"})),
        ),
        (
            "P18 priority",
            "field_not_allowed",
            set("/spec/priorityClassName".into(), json!("system-node-critical")),
        ),
        (
            "P18 runtime",
            "field_not_allowed",
            set("/spec/runtimeClassName".into(), json!("x")),
        ),
        (
            "P18 DRA",
            "field_not_allowed",
            set("/spec/resourceClaims".into(), json!([])),
        ),
        (
            "P18 fsGroup",
            "field_not_allowed",
            set("/spec/securityContext/fsGroup".into(), json!(0)),
        ),
        (
            "P18 stdin",
            "field_not_allowed",
            set(format!("{main}/stdin"), json!(true)),
        ),
        (
            "PS2 host",
            "field_not_allowed",
            set("/spec/hostNetwork".into(), json!(true)),
        ),
        (
            "PS2 privileged",
            "field_not_allowed",
            set(format!("{main}/securityContext/privileged"), json!(true)),
        ),
        (
            "PS2 capabilities",
            "field_not_allowed",
            set(
                format!("{main}/securityContext/capabilities"),
                json!({"add": ["SYS_ADMIN"]}),
            ),
        ),
        (
            "PS3",
            "field_not_allowed",
            set(
                format!("{main}/livenessProbe"),
                json!({"httpGet": {"host": "broker"}}),
            ),
        ),
        ("unknown", "unknown_field", set("/spec/Volumes".into(), json!([]))),
    ];
    for (row, code, edit) in &rows {
        let mut review = pod();
        edit(object(&mut review));
        for stage in [Stage::Mutating, Stage::Validating] {
            refused(row, world.patch(stage, &review), code);
        }
    }
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

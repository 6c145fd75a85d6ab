//! The stand-in's pods against every pod that real Argo 4.1 was recorded asking the API server for.
//!
//! A recorded CREATE is seen by a webhook after the API server has filled in defaults and its own admission
//! plugins have run. [`added`] lists what they add, with the exact value each; that is removed from the
//! recorded pod, and only that. What is left must be equal to what [`leasehold_argo_standin::pod::build`] returns.

use leasehold_argo_standin::names::{self, Trace};
use leasehold_argo_standin::pod::{self, Executor};
use leasehold_argo_standin::workflow::Workflow;
use serde_json::{Value, json};

use crate::recordings;

/// `(where in the pod, value, who adds it)`.
fn added() -> Vec<(&'static str, Value, &'static str)> {
    let unreachable = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    vec![
        (
            "/spec/terminationGracePeriodSeconds",
            json!(30),
            "default of the API",
        ),
        ("/spec/dnsPolicy", json!("ClusterFirst"), "default of the API"),
        ("/spec/securityContext", json!({}), "default of the API"),
        (
            "/spec/schedulerName",
            json!("default-scheduler"),
            "default of the API",
        ),
        ("/spec/enableServiceLinks", json!(true), "default of the API"),
        (
            "/spec/serviceAccount",
            json!("alice"),
            "old name of serviceAccountName, kept in step by the API",
        ),
        ("/spec/priority", json!(0), "plugin Priority"),
        (
            "/spec/preemptionPolicy",
            json!("PreemptLowerPriority"),
            "plugin Priority",
        ),
        (
            "/spec/tolerations",
            json!([
                unreachable("node.kubernetes.io/not-ready"),
                unreachable("node.kubernetes.io/unreachable")
            ]),
            "plugin DefaultTolerationSeconds",
        ),
    ]
}

/// The same, for every container.
fn added_to_containers() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "terminationMessagePath",
            json!("/dev/termination-log"),
            "default of the API",
        ),
        ("terminationMessagePolicy", json!("File"), "default of the API"),
    ]
}

/// Where the plugin ServiceAccount mounts the token, if nothing else is mounted there.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[test]
fn pods_equal_the_recorded_ones() {
    let mut compared = 0;
    for recording in recordings::workflows() {
        for (name, recorded) in &recording.pods {
            let actual = built(&recording.workflow, recorded);
            let expected = without_additions(recorded, &actual, name);
            assert_eq!(pretty(&actual), pretty(&expected), "pod {name}");
            compared += 1;
        }
    }
    assert_eq!(compared, 19, "all recorded pods of Workflows were compared");
}

/// The pod that the stand-in makes for the node of `recorded`, with the recorded trace.
fn built(workflow: &Workflow, recorded: &Value) -> Value {
    let annotation = |key: &str| {
        recorded["metadata"]["annotations"][key]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let node_name = annotation(names::NODE_NAME);
    let name = recorded["metadata"]["name"].as_str().unwrap();
    let template = workflow
        .spec
        .templates
        .iter()
        .find(|template| names::pod_name(&workflow.name, &node_name, &template.name) == name)
        .unwrap_or_else(|| panic!("no template gives a pod called {name}"));
    let order = pod::Order {
        workflow,
        template,
        caller: None,
        on_exit: node_name.ends_with(".onExit"),
        node_name: &node_name,
        trace: Trace {
            trace_id: annotation(names::TRACE_ID),
            span_id: annotation(names::SPAN_ID),
        },
        now: "2026-11-22T04:15:30Z".parse().unwrap(),
    };
    let executor = Executor {
        image: "quay.io/argoproj/argoexec:latest".into(),
        pull_policy: Some("Never".into()),
    };
    serde_json::to_value(pod::build(&executor, &order).unwrap()).unwrap()
}

fn without_additions(recorded: &Value, built: &Value, name: &str) -> Value {
    let mut pod = recorded.clone();
    for key in ["managedFields", "uid", "creationTimestamp", "generation"] {
        // The API server's own; all but the first only once it has let the pod in, which validating webhooks see.
        pod["metadata"].as_object_mut().unwrap().remove(key);
    }
    let status = pod.as_object_mut().unwrap().remove("status").unwrap();
    let validating = json!({"phase": "Pending", "qosClass": "BestEffort"});
    assert!(
        status == json!({}) || status == validating,
        "{name}: {status}: as mutating or validating webhooks see it"
    );
    for (pointer, value, who) in added() {
        assert_eq!(pod.pointer(pointer), Some(&value), "{name} {pointer}: {who}");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        pod.pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(key);
    }
    for list in ["initContainers", "containers"] {
        for (index, container) in pod["spec"][list].as_array_mut().unwrap().iter_mut().enumerate() {
            for (key, value, who) in added_to_containers() {
                assert_eq!(container[key], value, "{name} {list}[{index}].{key}: {who}");
                container.as_object_mut().unwrap().remove(key);
            }
            // Plugin ServiceAccount: a mount of the token where the pod as sent has none at that path.
            let sent = built["spec"][list][index]["volumeMounts"].as_array().unwrap();
            if !sent.iter().any(|mount| mount["mountPath"] == TOKEN_PATH) {
                let mounts = container["volumeMounts"].as_array_mut().unwrap();
                let token = mounts.pop().unwrap();
                assert_eq!(token["mountPath"], TOKEN_PATH);
                assert_eq!(token["readOnly"], true);
            }
        }
    }
    // Plugin ServiceAccount: its volume, where no volume of the pod is called kube-api-access-….
    let ours = |volume: &Value| volume["name"].as_str().unwrap().starts_with("kube-api-access-");
    if !built["spec"]["volumes"].as_array().unwrap().iter().any(ours) {
        let volume = pod["spec"]["volumes"].as_array_mut().unwrap().pop().unwrap();
        assert!(ours(&volume), "{name}: {volume}");
    }
    pod
}

#[test]
fn the_trace_is_the_only_thing_that_the_stand_in_makes_up() {
    let derived = Trace::of("8a76c9b5-3486-49ef-96ee-eebaac2a0329", "w-1");
    assert_eq!(derived.trace_id.len(), 32);
    assert_eq!(derived.span_id.len(), 16);
    assert_eq!(derived, Trace::of("8a76c9b5-3486-49ef-96ee-eebaac2a0329", "w-1"));
}

fn pretty(value: &Value) -> String {
    // Lists of values print sorted by key, so a difference shows as the line that differs.
    serde_json::to_string_pretty(value).unwrap()
}

//! The stand-in's nodes and normalised specification against the UPDATEs that real Argo was recorded sending.
//!
//! The pods are played as they ended then; times, trace and measured resources are left out of the comparison.

use std::collections::BTreeMap;

use leasehold_argo_standin::engine::{Action, Answer, ContainerState, PodPhase, PodState, decide};
use leasehold_argo_standin::workflow::{Workflow, normalise};
use serde_json::{Value, json};

use crate::recordings::{requests, workflows};

/// Plays the Workflow with pods as the recorded status shows them; gives the status that comes of it.
fn played(mut workflow: Workflow, recorded: &Value) -> Value {
    let mut pods: Vec<PodState> = Vec::new();
    // One round where the first was recorded, else one for each wave of pods and one more for the end.
    let rounds = if recorded.get("conditions").is_some() {
        6
    } else {
        1
    };
    for _ in 0..rounds {
        let mut answers = BTreeMap::new();
        let mut made = Vec::new();
        let actions = loop {
            let actions = decide(
                &workflow,
                &pods,
                &answers,
                "2026-11-22T04:15:28Z".parse().unwrap(),
            );
            let known = answers.len();
            for action in &actions {
                if let Action::CreatePod(order) = action {
                    answers.insert(order.node_id.clone(), Answer::Created);
                    made.extend(pod(&order.node_id, recorded));
                }
            }
            if answers.len() == known {
                break actions;
            }
        };
        for action in actions {
            if let Action::Write(status) = action {
                workflow.status = *status;
            }
        }
        pods.append(&mut made);
    }
    serde_json::to_value(&workflow.status).unwrap()
}

/// The pod of a node, as far as it had come when the status was recorded.
fn pod(id: &str, recorded: &Value) -> Option<PodState> {
    let node = recorded["nodes"].get(id)?;
    let phase = match node["phase"].as_str()? {
        "Succeeded" => PodPhase::Succeeded,
        "Failed" => PodPhase::Failed,
        "Running" => PodPhase::Running,
        _ => PodPhase::Pending,
    };
    let code = node["outputs"]["exitCode"]
        .as_str()
        .map(|code| code.parse().unwrap());
    let member = |name: &str, exit_code: Option<i32>| ContainerState {
        name: name.to_owned(),
        exit_code,
        end: format!("Error (exit code {})", exit_code.unwrap_or_default()),
        ..ContainerState::default()
    };
    let done = matches!(phase, PodPhase::Succeeded).then_some(0);
    let containers = match node["templateName"].as_str() {
        Some("s") => vec![member("c1", done), member("c2", done)],
        _ => vec![member("main", code)],
    };
    Some(PodState {
        name: id.to_owned(),
        node_id: id.to_owned(),
        phase,
        host: node["hostNodeName"].as_str().map(str::to_owned),
        containers,
        ..PodState::default()
    })
}

/// Without what differs from run to run.
fn timeless(status: &Value) -> Value {
    let mut status = status.clone();
    let fields = ["startedAt", "finishedAt", "resourcesDuration"];
    let strip = |map: &mut Value| {
        for field in fields {
            map.as_object_mut().unwrap().remove(field);
        }
    };
    strip(&mut status);
    status["nodes"]
        .as_object_mut()
        .unwrap()
        .values_mut()
        .for_each(strip);
    status
}

#[test]
fn the_status_of_a_workflow_equals_the_recorded_one() {
    let recordings = workflows();
    let mut compared = 0;
    for update in requests("mutating", "UPDATE", "workflows") {
        let (name, status) = (update["metadata"]["name"].as_str().unwrap(), &update["status"]);
        let recording = recordings.iter().find(|it| it.workflow.name == name).unwrap();
        let ours = timeless(&played(recording.workflow.clone(), status));
        let theirs = timeless(status);
        assert_eq!(
            pretty(&ours),
            pretty(&theirs),
            "{name} {}",
            update["metadata"]["resourceVersion"]
        );
        compared += 1;
    }
    assert_eq!(compared, 8);
}

#[test]
fn the_specification_is_written_back_as_argo_writes_it() {
    let recordings = workflows();
    for folder in ["mutating", "hub"] {
        for update in requests(folder, "UPDATE", "workflows") {
            let name = update["metadata"]["name"].as_str().unwrap();
            let recording = recordings.iter().find(|it| it.workflow.name == name).unwrap();
            let mut spec = recording.object.data["spec"].clone();
            normalise(&mut spec);
            assert_eq!(pretty(&spec), pretty(&update["spec"]), "{name}");
        }
    }
}

#[test]
fn a_cronworkflow_starts_the_workflow_that_was_recorded() {
    let cron = &requests("mutating", "UPDATE", "cronworkflows")[0];
    let mut started = requests("mutating", "CREATE", "workflows").pop().unwrap();
    started["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    let object = serde_json::from_value(cron.clone()).unwrap();
    let spec = leasehold_argo_standin::cron::CronSpec::parse(&object).unwrap();
    let run = spec.run_of(&object, "2026-11-22T04:16:00Z".parse().unwrap());
    assert_eq!(pretty(&run), pretty(&started));
    assert_eq!(run["status"], json!({}));
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

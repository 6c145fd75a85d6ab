//! Tables of decisions: a Workflow, what its pods come to, and what is done in which order.

use std::collections::BTreeMap;

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::*;
use crate::names;

/// A cluster in miniature: pods end as the table says, nothing else happens.
struct Play {
    workflow: Workflow,
    pods: Vec<PodState>,
    created: Vec<String>,
    refusals: BTreeMap<String, Answer>,
}

impl Play {
    fn of(spec: &Value) -> Self {
        let object = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
            "metadata": {"name": "w", "namespace": "hub", "uid": "u"}, "spec": spec,
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let workflow = Workflow::parse(&object).unwrap();
        Self {
            workflow,
            pods: Vec::new(),
            created: Vec::new(),
            refusals: BTreeMap::new(),
        }
    }

    /// Decides until nothing more is due; pods come into being unless they are refused.
    fn step(&mut self) -> Vec<String> {
        let mut answers = BTreeMap::new();
        let mut created = Vec::new();
        loop {
            let actions = decide(
                &self.workflow,
                &self.pods,
                &answers,
                "2026-11-22T04:15:28Z".parse().unwrap(),
            );
            let orders: Vec<PodOrder> = actions
                .iter()
                .filter_map(|it| {
                    if let Action::CreatePod(order) = it {
                        Some(order.clone())
                    } else {
                        None
                    }
                })
                .collect();
            for order in &orders {
                let answer = self
                    .refusals
                    .get(&order.node_name)
                    .cloned()
                    .unwrap_or(Answer::Created);
                if answer == Answer::Created {
                    created.push(order.node_name.clone());
                    self.pods.push(PodState {
                        name: format!("pod-of-{}", order.node_name),
                        node_id: order.node_id.clone(),
                        ..PodState::default()
                    });
                }
                answers.insert(order.node_id.clone(), answer);
            }
            if !orders.is_empty() {
                continue;
            }
            for action in actions {
                match action {
                    Action::Write(status) => self.workflow.status = *status,
                    Action::Complete { pod } => {
                        self.pods
                            .iter_mut()
                            .filter(|it| it.name == pod)
                            .for_each(|it| it.completed = true);
                    }
                    Action::CreatePod(_) => unreachable!("orders are empty"),
                }
            }
            self.created.extend(created.clone());
            return created;
        }
    }

    fn end(&mut self, node: &str, exit_code: i32) {
        let id = names::node_id("w", node);
        let pod = self.pods.iter_mut().find(|pod| pod.node_id == id).unwrap();
        pod.phase = if exit_code == 0 {
            PodPhase::Succeeded
        } else {
            PodPhase::Failed
        };
        let end = format!("Error (exit code {exit_code})");
        pod.containers = vec![ContainerState {
            name: "main".into(),
            exit_code: Some(exit_code),
            end,
            ..Default::default()
        }];
    }

    /// Lets every pod end with the code that `codes` gives for its node (0 if none) until nothing happens.
    fn run(&mut self, codes: &[(&str, i32)]) {
        for _ in 0..50 {
            self.step();
            let open: Vec<String> = self
                .workflow
                .status
                .nodes
                .values()
                .filter(|it| it.kind == "Pod" && !it.phase.is_final())
                .filter(|it| self.pods.iter().any(|pod| pod.node_id == it.id))
                .map(|it| it.name.clone())
                .collect();
            if open.is_empty() {
                return;
            }
            for node in open {
                let code = codes
                    .iter()
                    .find(|(name, _)| *name == node)
                    .map_or(0, |(_, code)| *code);
                self.end(&node, code);
            }
        }
        panic!("the workflow does not end: {:?}", self.workflow.status);
    }

    fn phase(&self, node: &str) -> Option<Phase> {
        self.workflow
            .status
            .nodes
            .get(&names::node_id("w", node))
            .map(|it| it.phase)
    }

    fn message(&self, node: &str) -> Option<String> {
        self.workflow
            .status
            .nodes
            .get(&names::node_id("w", node))
            .and_then(|it| it.message.clone())
    }

    fn workflow_end(&self) -> (Option<Phase>, Option<&str>) {
        (
            self.workflow.status.phase,
            self.workflow.status.message.as_deref(),
        )
    }
}

fn container(name: &str) -> Value {
    json!({"name": name, "container": {"image": "i", "command": ["c"]}})
}

/// A graph whose tasks are given as `(name, dependencies)`.
fn dag(tasks: &[(&str, &[&str])]) -> Value {
    let tasks: Vec<Value> = tasks
        .iter()
        .map(|(name, dependencies)| json!({"name": name, "template": "t", "dependencies": dependencies}))
        .collect();
    json!({"entrypoint": "d", "templates": [container("t"), {"name": "d", "dag": {"tasks": tasks}}]})
}

const DIAMOND: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])];

#[test]
fn a_task_starts_when_all_it_depends_on_has_succeeded() {
    let mut play = Play::of(&dag(DIAMOND));
    assert_eq!(play.step(), ["w.a"]);
    assert_eq!(play.step(), [""; 0], "nothing new while it runs");
    play.end("w.a", 0);
    assert_eq!(play.step(), ["w.b", "w.c"]);
    play.end("w.b", 0);
    assert_eq!(play.step(), [""; 0], "d waits for c");
    play.end("w.c", 0);
    assert_eq!(play.step(), ["w.d"]);
    play.end("w.d", 0);
    play.step();
    assert_eq!(play.workflow_end(), (Some(Phase::Succeeded), None));
    assert!(
        play.pods.iter().all(|pod| pod.completed),
        "all pods are labelled once their end is written"
    );
}

#[test]
fn what_depends_on_a_failed_task_is_omitted_and_the_rest_still_runs() {
    for (failing, ends, verdict) in [
        (
            "w.a",
            [Phase::Failed, Phase::Omitted, Phase::Omitted, Phase::Omitted],
            Phase::Failed,
        ),
        (
            "w.b",
            [Phase::Succeeded, Phase::Failed, Phase::Succeeded, Phase::Omitted],
            Phase::Failed,
        ),
        (
            "w.d",
            [
                Phase::Succeeded,
                Phase::Succeeded,
                Phase::Succeeded,
                Phase::Failed,
            ],
            Phase::Failed,
        ),
        ("none", [Phase::Succeeded; 4], Phase::Succeeded),
    ] {
        let mut play = Play::of(&dag(DIAMOND));
        play.run(&[(failing, 3)]);
        let phases = ["w.a", "w.b", "w.c", "w.d"].map(|node| play.phase(node).unwrap());
        assert_eq!(phases, ends, "{failing} fails");
        assert_eq!(play.workflow_end().0, Some(verdict), "{failing} fails");
    }
}

#[test]
fn steps_of_a_group_run_together_and_groups_one_after_the_other() {
    let spec = json!({"entrypoint": "s", "templates": [container("t"), {"name": "s", "steps": [
        [{"name": "a", "template": "t"}, {"name": "b", "template": "t"}], [{"name": "c", "template": "t"}],
    ]}]});
    let mut play = Play::of(&spec);
    assert_eq!(play.step(), ["w[0].a", "w[0].b"]);
    play.end("w[0].a", 1);
    assert_eq!(play.step(), [""; 0], "the group waits for its other step");
    play.end("w[0].b", 0);
    assert_eq!(play.step(), [""; 0], "a failed group is the last");
    let child = names::node_id("w", "w[0].a");
    assert_eq!(
        play.workflow_end(),
        (
            Some(Phase::Failed),
            Some(format!("child '{child}' failed").as_str())
        )
    );

    let mut play = Play::of(&spec);
    play.run(&[]);
    assert_eq!(play.created, ["w[0].a", "w[0].b", "w[1].c"]);
    assert_eq!(play.workflow_end(), (Some(Phase::Succeeded), None));
    assert_eq!(play.workflow.status.progress.as_deref(), Some("3/3"));
}

#[test]
fn a_retry_makes_a_new_pod_for_each_attempt_up_to_its_limit() {
    let spec = |limit: Value| {
        let mut template = container("t");
        template["retryStrategy"] = json!({"limit": limit});
        json!({"entrypoint": "t", "templates": [template]})
    };
    for (limit, codes, created, end) in [
        (json!("2"), vec![], 1, (Phase::Succeeded, None)),
        (json!(2), vec![("w(0)", 1)], 2, (Phase::Succeeded, None)),
        (
            json!(1),
            vec![("w(0)", 1), ("w(1)", 1)],
            2,
            (Phase::Failed, Some("No more retries left")),
        ),
        (
            json!(0),
            vec![("w(0)", 1)],
            1,
            (Phase::Failed, Some("No more retries left")),
        ),
    ] {
        let mut play = Play::of(&spec(limit.clone()));
        play.run(&codes);
        assert_eq!(play.created.len(), created, "limit {limit}");
        assert_eq!(play.workflow_end(), (Some(end.0), end.1), "limit {limit}");
    }
}

#[test]
fn the_exit_handler_runs_after_success_and_failure_and_can_spoil_a_success() {
    let spec = json!({"entrypoint": "t", "onExit": "bye", "templates": [container("t"), container("bye")]});
    for (codes, end) in [
        (vec![], Phase::Succeeded),
        (vec![("w", 1)], Phase::Failed),
        (vec![("w.onExit", 1)], Phase::Failed),
    ] {
        let mut play = Play::of(&spec);
        play.run(&codes);
        assert_eq!(play.created, ["w", "w.onExit"], "{codes:?}");
        assert_eq!(play.workflow_end().0, Some(end), "{codes:?}");
    }
}

#[test]
fn a_pod_that_has_to_wait_leaves_its_node_pending_with_the_servers_words_until_it_is_let_in() {
    let words = "admission webhook \"w\" denied the request: lease_held: come back later";
    let mut play = Play::of(&dag(&[("a", &[]), ("b", &["a"])]));
    play.refusals.insert("w.a".into(), Answer::Wait(words.into()));
    play.step();
    assert_eq!(play.phase("w.a"), Some(Phase::Pending));
    assert_eq!(play.message("w.a").as_deref(), Some(words));
    assert_eq!(play.workflow_end(), (Some(Phase::Running), None));
    play.refusals.clear();
    assert_eq!(play.step(), ["w.a"]);
    assert_eq!(play.message("w.a"), None, "what was waited for is over");
}

#[test]
fn a_pod_that_is_refused_for_good_is_an_error_with_the_servers_words() {
    let words = "admission webhook \"w\" denied the request: pvc_not_injected: no";
    let mut retried = container("t");
    retried["retryStrategy"] = json!({"limit": 3});
    let steps = json!([[{"name": "a", "template": "t"}]]);
    for (spec, node, end) in [
        (
            json!({"entrypoint": "t", "templates": [container("t")]}),
            "w",
            (
                Phase::Error,
                Some(format!("error in entry template execution: {words}")),
            ),
        ),
        (dag(&[("a", &[])]), "w.a", (Phase::Error, None)),
        (
            json!({"entrypoint": "s", "templates": [container("t"), {"name": "s", "steps": steps}]}),
            "w[0].a",
            (
                Phase::Failed,
                Some(format!(
                    "step group deemed errored due to child w[0].a error: {words}"
                )),
            ),
        ),
        (
            json!({"entrypoint": "t", "templates": [retried]}),
            "w(0)",
            (
                Phase::Error,
                Some(format!("error in entry template execution: {words}")),
            ),
        ),
    ] {
        let mut play = Play::of(&spec);
        play.refusals.insert(node.into(), Answer::Refused(words.into()));
        play.step();
        assert_eq!(play.phase(node), Some(Phase::Error), "{node}");
        assert!(
            play.message(node).unwrap().ends_with(words),
            "{node}: {:?}",
            play.message(node)
        );
        assert_eq!(play.workflow_end(), (Some(end.0), end.1.as_deref()), "{node}");
    }
}

#[test]
fn a_controller_that_forgot_everything_but_the_pods_makes_none_twice() {
    let mut play = Play::of(&dag(DIAMOND));
    play.step();
    play.end("w.a", 0);
    play.step();
    play.workflow.status = Status::default();
    assert_eq!(play.step(), [""; 0], "b and c are there already");
    play.run(&[]);
    assert_eq!(play.created, ["w.a", "w.b", "w.c", "w.d"]);
}

#[test]
fn a_running_node_whose_pod_was_deleted_is_an_error_and_a_pending_one_gets_a_new_pod() {
    let mut play = Play::of(&dag(&[("a", &[])]));
    play.step();
    play.pods.clear();
    assert_eq!(play.step(), ["w.a"]);
    play.pods[0].phase = PodPhase::Running;
    play.step();
    play.pods.clear();
    play.step();
    assert_eq!(
        (play.phase("w.a"), play.message("w.a").as_deref()),
        (Some(Phase::Error), Some("pod deleted"))
    );
}

#[test]
fn the_container_that_is_to_blame_gives_the_message() {
    let state = |name: &str, init, code: i32| ContainerState {
        name: name.into(),
        init,
        exit_code: Some(code),
        end: format!("Error (exit code {code})"),
        ..Default::default()
    };
    for (containers, phase, message) in [
        (
            vec![state("main", false, 2), state("wait", false, 0)],
            Phase::Failed,
            "main: Error (exit code 2)",
        ),
        (
            vec![state("wait", false, 64), state("main", false, 0)],
            Phase::Error,
            "wait: Error (exit code 64)",
        ),
        (
            vec![state("wait", false, 64), state("main", false, 1)],
            Phase::Failed,
            "main: Error (exit code 1)",
        ),
        (
            vec![state("init", true, 1)],
            Phase::Error,
            "init: Error (exit code 1)",
        ),
    ] {
        let mut play = Play::of(&json!({"entrypoint": "t", "templates": [container("t")]}));
        play.step();
        play.pods[0].phase = PodPhase::Failed;
        play.pods[0].containers = containers;
        play.step();
        assert_eq!(
            (play.phase("w"), play.message("w").as_deref()),
            (Some(phase), Some(message))
        );
    }
}

#[test]
fn a_workflow_that_was_told_to_stop_starts_nothing_more() {
    for (strategy, with_exit) in [("Stop", true), ("Terminate", false)] {
        let mut spec = dag(&[("a", &[]), ("b", &["a"])]);
        spec["onExit"] = json!("t");
        let mut play = Play::of(&spec);
        play.step();
        play.workflow.spec.shutdown = Some(strategy.into());
        play.run(&[]);
        assert_eq!(
            play.created.contains(&"w.onExit".to_owned()),
            with_exit,
            "{strategy}"
        );
        assert!(!play.created.contains(&"w.b".to_owned()), "{strategy}");
        let message = format!("Stopped with strategy '{strategy}'");
        assert_eq!(play.workflow_end(), (Some(Phase::Failed), Some(message.as_str())));
    }
}

#[test]
fn a_graph_that_cannot_be_ordered_is_an_error_and_starts_nothing() {
    for tasks in [&[("a", &["b"][..]), ("b", &["a"])][..], &[("a", &["nobody"])]] {
        let mut play = Play::of(&dag(tasks));
        play.step();
        assert_eq!(play.created, [""; 0]);
        assert_eq!(play.workflow_end().0, Some(Phase::Error));
    }
}

#[test]
fn what_the_stand_in_leaves_out_is_named() {
    for (spec, named) in [
        (
            json!({"templates": [{"name": "r", "resource": {}}]}),
            "`resource` in a template",
        ),
        (json!({"podSpecPatch": "x"}), "`podSpecPatch`"),
        (json!({"templates": [container("{{inputs.x}}")]}), "expressions"),
        (
            json!({"templates": [{"steps": [[{"name": "a", "when": "true"}]]}]}),
            "`when` in a task or step",
        ),
        (json!({"arguments": {"parameters": []}}), "`arguments`"),
    ] {
        let object = json!({"metadata": {"name": "w"}, "spec": spec});
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let error = Workflow::parse(&object).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
}

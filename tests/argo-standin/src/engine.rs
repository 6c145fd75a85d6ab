//! What happens next in a Workflow: a pure function of the Workflow, its pods, and what the API server answered.
//!
//! [`decide`] walks the tree of templates from the entrypoint, exactly as often as it is asked to, and keeps
//! nothing: all it knows is in `status` and in the pods. A controller that is killed between any two of its
//! steps loses nothing but time.
//!
//! The rules are those of Argo 4.1: a task whose dependencies failed is omitted; a step group ends when all its
//! steps have; a retry makes a new node per attempt; the exit handler runs when all else is over; a pod that
//! the API server refuses for now keeps its node pending with the server's words, one that it refuses for good
//! makes it an error.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::json;

use crate::status::{Condition, NodeFlag, Phase, Status};
use crate::workflow::{Kind, RetryStrategy, Template, Workflow};

pub use pods::{ContainerState, PodPhase, PodState};

mod composite;
mod nodes;
mod pods;
mod progress;
#[cfg(test)]
mod tests;

/// Something for the controller to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create this pod, then decide again with the answer.
    CreatePod(PodOrder),
    /// Write this status.
    Write(Box<Status>),
    /// Label this pod as completed; its node's end has been written.
    Complete {
        /// Name of the pod.
        pod: String,
    },
}

/// A pod that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodOrder {
    /// Id of its node.
    pub node_id: String,
    /// Path of its node.
    pub node_name: String,
    /// Its template.
    pub template: String,
    /// The template of the `dag` or `steps` that called it.
    pub caller: Option<String>,
    /// Whether it belongs to the exit handler.
    pub on_exit: bool,
}

/// What the API server answered to a pod's CREATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The pod is there.
    Created,
    /// Not now (429, 503 and the like): the message, word for word.
    Wait(String),
    /// Never: the message, word for word.
    Refused(String),
}

/// Decides what is to be done now.
#[must_use]
pub fn decide(
    workflow: &Workflow,
    pods: &[PodState],
    answers: &BTreeMap<String, Answer>,
    now: DateTime<Utc>,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut run = Run {
        workflow,
        pods: pods.iter().map(|pod| (pod.node_id.as_str(), pod)).collect(),
        answers,
        now: now.to_rfc3339_opts(SecondsFormat::Secs, true),
        status: workflow.status.clone(),
        due: Vec::new(),
    };
    if !run.status.phase.is_some_and(Phase::is_final) {
        run.reconcile();
        actions.extend(run.due.drain(..).map(Action::CreatePod));
        if run.status != workflow.status {
            actions.push(Action::Write(Box::new(run.status.clone())));
        }
    }
    let over = |pod: &&PodState| {
        !pod.completed
            && run
                .status
                .nodes
                .get(&pod.node_id)
                .is_some_and(|node| node.phase.is_final())
    };
    actions.extend(pods.iter().filter(over).map(|pod| Action::Complete {
        pod: pod.name.clone(),
    }));
    actions
}

/// The status of a Workflow that cannot be run at all.
#[must_use]
pub fn unfit(message: String, now: DateTime<Utc>) -> Status {
    let now = now.to_rfc3339_opts(SecondsFormat::Secs, true);
    Status {
        phase: Some(Phase::Error),
        message: Some(message),
        started_at: Some(now.clone()),
        finished_at: Some(now),
        conditions: vec![condition("Completed", true)],
        ..Status::default()
    }
}

fn condition(kind: &str, holds: bool) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
    }
}

/// Where in the tree a template is called.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Id of the calling node.
    boundary: Option<String>,
    /// Name of the calling template.
    caller: Option<String>,
    on_exit: bool,
    flag: Option<NodeFlag>,
}

/// The phase of a node that could be called, or why it could not.
type Outcome = Result<Phase, String>;

struct Run<'a> {
    workflow: &'a Workflow,
    pods: BTreeMap<&'a str, &'a PodState>,
    answers: &'a BTreeMap<String, Answer>,
    now: String,
    status: Status,
    due: Vec<PodOrder>,
}

impl<'a> Run<'a> {
    fn reconcile(&mut self) {
        let first = self.status.phase.is_none();
        self.status.phase = Some(Phase::Running);
        self.status.started_at.get_or_insert(self.now.clone());
        self.status.artifact_gc_status = Some(json!({"notSpecified": true}));
        self.status.artifact_repository_ref = Some(json!({"artifactRepository": {}, "default": true}));
        let end = self.walk();
        if !first {
            let running = self
                .status
                .nodes
                .values()
                .any(|it| it.kind == "Pod" && it.phase == Phase::Running);
            self.set_condition(condition("PodRunning", running));
        }
        self.count_progress();
        if let Some((phase, message)) = end {
            self.status.phase = Some(phase);
            self.status.message = message;
            self.status.finished_at = Some(self.now.clone());
            self.set_condition(condition("Completed", true));
        }
    }

    /// Runs what is due; gives the Workflow's end once it has come.
    fn walk(&mut self) -> Option<(Phase, Option<String>)> {
        let name = self.workflow.name.clone();
        let entrypoint = self.workflow.spec.entrypoint.clone();
        let phase = match self.call(&name, &entrypoint, &Place::default()) {
            Ok(phase) => phase,
            Err(reason) => {
                return Some((
                    Phase::Error,
                    Some(format!("error in entry template execution: {reason}")),
                ));
            }
        };
        if !phase.is_final() {
            return None;
        }
        let mut message = self.node(&name).and_then(|node| node.message.clone());
        if let (true, Some(strategy)) = (phase.is_bad(), &self.workflow.spec.shutdown) {
            message = Some(format!("Stopped with strategy '{strategy}'"));
        }
        let root = if phase.is_bad() { phase } else { Phase::Succeeded };
        let exit_name = format!("{name}.onExit");
        if let Some(handler) = self.workflow.spec.on_exit.clone()
            && (self.may_start(true) || self.node(&exit_name).is_some())
        {
            let flag = Some(NodeFlag {
                hooked: true,
                ..NodeFlag::default()
            });
            let place = Place {
                on_exit: true,
                flag,
                ..Place::default()
            };
            match self.call(&exit_name, &handler, &place) {
                Err(reason) => {
                    let message = format!("error in exit template execution : {reason}");
                    return Some((Phase::Error, Some(message)));
                }
                Ok(phase) if !phase.is_final() => return None,
                Ok(phase) if phase.is_bad() && !root.is_bad() => {
                    return Some((phase, self.node(&exit_name).and_then(|node| node.message.clone())));
                }
                Ok(_) => {}
            }
        }
        Some((root, message))
    }

    /// Whether new pods may be started, given `spec.shutdown`.
    fn may_start(&self, on_exit: bool) -> bool {
        match self.workflow.spec.shutdown.as_deref() {
            Some("Stop") => on_exit,
            Some("Terminate") => false,
            _ => true,
        }
    }

    /// Brings the node `name` forward by calling `template`.
    fn call(&mut self, name: &str, template: &str, place: &Place) -> Outcome {
        if let Some(node) = self.node(name).filter(|node| node.phase.is_final()) {
            return Ok(node.phase);
        }
        let Some(template) = self.workflow.template(template) else {
            let reason = format!("template '{template}' not found");
            self.start(name, "Skipped", template, place);
            self.finish(name, Phase::Error, Some(reason.clone()));
            return Err(reason);
        };
        let retried = place.flag.is_some_and(|flag| flag.retried);
        match (&template.retry_strategy, template.kind()) {
            (Some(retry), _) if !retried => self.retry(name, template, retry, place),
            (_, Kind::Pod) => self.pod(name, template, place),
            (_, Kind::Dag(dag)) => self.dag(name, template, dag, place),
            (_, Kind::Steps(groups)) => self.steps(name, template, groups, place),
        }
    }

    fn retry(&mut self, name: &str, template: &'a Template, retry: &RetryStrategy, place: &Place) -> Outcome {
        self.start(name, "Retry", &template.name, place);
        self.set_phase(name, Phase::Running);
        let attempt = |number: usize| format!("{name}({number})");
        let policy = retry.retry_policy.as_deref().unwrap_or("OnFailure");
        let retries = |phase: Phase| match phase {
            Phase::Failed => policy != "OnError",
            _ => matches!(policy, "Always" | "OnError"),
        };
        loop {
            let made = self.node(name).map_or(0, |node| node.children.len());
            let last = attempt(made.saturating_sub(1));
            let place = Place {
                flag: Some(NodeFlag {
                    retried: true,
                    hooked: false,
                }),
                ..place.clone()
            };
            self.add_child(name, &last);
            let phase = match self.call(&last, &template.name, &place) {
                Err(reason) if !retries(Phase::Error) => {
                    self.finish(name, Phase::Error, Some(reason.clone()));
                    return Err(reason);
                }
                Err(_) => Phase::Error,
                Ok(phase) => phase,
            };
            if !phase.is_final() {
                return Ok(Phase::Running);
            }
            let made = self.node(name).map_or(0, |node| node.children.len());
            let message = self.node(&last).and_then(|node| node.message.clone());
            let exhausted = retry.further_attempts().is_some_and(|limit| made as u64 > limit);
            let end = match &self.workflow.spec.shutdown {
                _ if !phase.is_bad() => Some((Phase::Succeeded, None)),
                Some(strategy) => Some((phase, Some(format!("Stopped with strategy '{strategy}'")))),
                None if !retries(phase) => Some((phase, message)),
                None if exhausted => Some((phase, Some("No more retries left".to_owned()))),
                None => None,
            };
            if let Some((phase, message)) = end {
                let outputs = self.node(&last).and_then(|node| node.outputs.clone());
                self.change(name, |node| node.outputs = outputs);
                return Ok(self.finish(name, phase, message));
            }
            self.add_child(name, &attempt(made));
        }
    }

    fn pod(&mut self, name: &str, template: &'a Template, place: &Place) -> Outcome {
        let id = self.start(name, "Pod", &template.name, place);
        if let Some(state) = self.pods.get(id.as_str()).copied() {
            self.start_members(name, template);
            return Ok(self.observe(name, state, template));
        }
        match self.answers.get(&id) {
            Some(Answer::Created) => {
                self.start_members(name, template);
                self.set_message(name, None);
                Ok(Phase::Pending)
            }
            Some(Answer::Wait(message)) => {
                self.set_message(name, Some(message.clone()));
                Ok(Phase::Pending)
            }
            Some(Answer::Refused(message)) => {
                self.finish(name, Phase::Error, Some(message.clone()));
                Err(message.clone())
            }
            None if self.node(name).is_some_and(|node| node.phase == Phase::Running) => {
                Ok(self.finish(name, Phase::Error, Some("pod deleted".to_owned())))
            }
            None if !self.may_start(place.on_exit) => {
                let strategy = self.workflow.spec.shutdown.clone().unwrap_or_default();
                let message = format!("workflow shutdown with strategy: {strategy}");
                Ok(self.finish(name, Phase::Failed, Some(message)))
            }
            None if self.workflow.spec.suspend == Some(true) => Ok(Phase::Pending),
            None => {
                let order = PodOrder {
                    node_id: id,
                    node_name: name.to_owned(),
                    template: template.name.clone(),
                    caller: place.caller.clone(),
                    on_exit: place.on_exit,
                };
                // A task on which several others depend is come by several times.
                if !self.due.contains(&order) {
                    self.due.push(order);
                }
                Ok(Phase::Pending)
            }
        }
    }
}

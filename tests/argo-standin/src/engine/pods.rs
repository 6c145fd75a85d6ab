//! What pods tell about their nodes.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{Place, Run};
use crate::names;
use crate::pod::{MAIN, WAIT};
use crate::status::{Outputs, Phase};
use crate::workflow::Template;

/// The part of a pod that decides about its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// Id of its node.
    pub node_id: String,
    /// Whether it has been labelled as completed.
    pub completed: bool,
    /// What kubelet says.
    pub phase: PodPhase,
    /// Why kubelet or the scheduler says so.
    pub message: Option<String>,
    /// Where it runs.
    pub host: Option<String>,
    /// When its last container ended, RFC 3339.
    pub finished_at: Option<String>,
    /// Its init containers, then the others.
    pub containers: Vec<ContainerState>,
}

/// Phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodPhase {
    /// Not yet started.
    #[default]
    Pending,
    /// Started.
    Running,
    /// All containers ended with 0.
    Succeeded,
    /// One did not.
    Failed,
}

/// State of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerState {
    /// Its name.
    pub name: String,
    /// Whether it comes before the others.
    pub init: bool,
    /// Why it waits, if it does.
    pub waiting: Option<String>,
    /// Its exit code, if it ended.
    pub exit_code: Option<i32>,
    /// Why it ended: `reason (exit code n)` and its message.
    pub end: String,
}

impl PodState {
    /// Reads a pod; none if it is not a node's.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let node_id = metadata.annotations.as_ref()?.get(names::NODE_ID)?.clone();
        let status = pod.status.clone().unwrap_or_default();
        let containers = [
            (&status.init_container_statuses, true),
            (&status.container_statuses, false),
        ]
        .into_iter()
        .flat_map(|(list, init)| list.iter().flatten().map(move |it| container(it, init)))
        .collect();
        let ends = status.container_statuses.iter().flatten();
        let ends = ends.filter_map(|it| it.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
        let unschedulable = status
            .conditions
            .iter()
            .flatten()
            .find(|it| it.reason.as_deref() == Some("Unschedulable"));
        Some(Self {
            name: metadata.name.clone()?,
            node_id,
            completed: metadata
                .labels
                .as_ref()
                .is_some_and(|it| it.get(names::COMPLETED).is_some_and(|it| it == "true")),
            phase: match status.phase.as_deref() {
                Some("Running") => PodPhase::Running,
                Some("Succeeded") => PodPhase::Succeeded,
                Some("Failed") => PodPhase::Failed,
                _ => PodPhase::Pending,
            },
            message: status.message.clone().or_else(|| {
                unschedulable.map(|it| format!("Unschedulable: {}", it.message.clone().unwrap_or_default()))
            }),
            host: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            finished_at: ends.max().map(|time| time.0.to_string()),
            containers,
        })
    }
}

fn container(status: &ContainerStatus, init: bool) -> ContainerState {
    let state = status.state.clone().unwrap_or_default();
    let waiting = state
        .waiting
        .map(|it| match (it.reason.unwrap_or_default(), it.message) {
            (reason, Some(message)) => format!("{reason}: {message}"),
            (reason, None) => reason,
        });
    let end = state.terminated.as_ref().map(|it| {
        let message = it
            .message
            .as_ref()
            .map(|it| format!(": {it}"))
            .unwrap_or_default();
        format!(
            "{} (exit code {}){message}",
            it.reason.clone().unwrap_or_default(),
            it.exit_code
        )
    });
    ContainerState {
        name: status.name.clone(),
        init,
        waiting,
        exit_code: state.terminated.map(|it| it.exit_code),
        end: end.unwrap_or_default(),
    }
}

impl<'a> Run<'a> {
    /// Copies what the pod tells into its node.
    pub(super) fn observe(&mut self, name: &str, pod: &PodState, template: &Template) -> Phase {
        let (phase, message) = match pod.phase {
            PodPhase::Pending => (Phase::Pending, pending_reason(pod)),
            PodPhase::Running => (Phase::Running, None),
            PodPhase::Succeeded => (Phase::Succeeded, None),
            PodPhase::Failed => failure(pod, template),
        };
        let exit_code = pod
            .containers
            .iter()
            .find(|it| it.name == MAIN)
            .and_then(|it| it.exit_code);
        let finished_at = pod.finished_at.clone().unwrap_or_else(|| self.now.clone());
        self.change(name, |node| {
            node.phase = phase;
            node.message = message;
            node.host_node_name.clone_from(&pod.host);
            node.outputs = exit_code.map(|code| Outputs {
                exit_code: Some(code.to_string()),
            });
            if phase.is_final() {
                node.finished_at = Some(finished_at);
            }
        });
        for member in template.container_set.iter().flat_map(|set| &set.containers) {
            let member = &member.container.name;
            let path = format!("{name}.{member}");
            match pod.containers.iter().find(|it| !it.init && it.name == *member) {
                Some(ContainerState {
                    exit_code: Some(0), ..
                }) => {
                    self.finish(&path, Phase::Succeeded, None);
                }
                Some(ContainerState {
                    exit_code: Some(_),
                    end,
                    ..
                }) => {
                    self.finish(&path, Phase::Failed, Some(format!("{member}: {end}")));
                }
                _ if phase.is_bad() => {
                    self.finish(
                        &path,
                        Phase::Failed,
                        Some("Pod Failed whilst container running".to_owned()),
                    );
                }
                Some(ContainerState { waiting: None, .. }) if phase == Phase::Running => {
                    self.set_phase(&path, Phase::Running);
                }
                _ => {}
            }
        }
        phase
    }

    /// Adds the nodes of a container set's members.
    pub(super) fn start_members(&mut self, name: &str, template: &Template) {
        let place = Place {
            boundary: Some(self.id(name)),
            ..Place::default()
        };
        let members = template.container_set.iter().flat_map(|set| &set.containers);
        for member in members.clone() {
            self.start(
                &format!("{name}.{}", member.container.name),
                "Container",
                &template.name,
                &place,
            );
        }
        for member in members {
            let path = format!("{name}.{}", member.container.name);
            if member.dependencies.is_empty() {
                self.add_child(name, &path);
            }
            for dependency in &member.dependencies {
                self.add_child(&format!("{name}.{dependency}"), &path);
            }
        }
    }
}

fn pending_reason(pod: &PodState) -> Option<String> {
    pod.containers
        .iter()
        .filter(|it| !it.init)
        .find_map(|it| it.waiting.clone())
        .or_else(|| pod.message.clone())
}

/// Which of the containers is to blame: `init` first, then the user's, then `wait`, then sidecars.
fn failure(pod: &PodState, template: &Template) -> (Phase, Option<String>) {
    if let Some(message) = &pod.message {
        return (Phase::Failed, Some(message.clone()));
    }
    let is_main = |container: &ContainerState| match &template.container_set {
        Some(set) => set
            .containers
            .iter()
            .any(|member| member.container.name == container.name),
        None => container.name == MAIN,
    };
    let rank = |container: &&ContainerState| match container {
        it if it.init => 0,
        it if is_main(it) => 1,
        it if it.name == WAIT => 2,
        _ => 3,
    };
    let failed = |it: &&ContainerState| {
        it.exit_code != Some(0) && !(rank(it) == 3 && matches!(it.exit_code, Some(137 | 143)))
    };
    let Some(guilty) = pod.containers.iter().filter(failed).min_by_key(rank) else {
        return (
            Phase::Failed,
            Some("pod failed, though no container of it did".to_owned()),
        );
    };
    if let Some(waiting) = &guilty.waiting {
        return (
            Phase::Error,
            Some(format!(
                "Pod failed before {} container starts due to {waiting}",
                guilty.name
            )),
        );
    }
    let phase = if matches!(rank(&guilty), 0 | 2) {
        Phase::Error
    } else {
        Phase::Failed
    };
    (phase, Some(format!("{}: {}", guilty.name, guilty.end)))
}

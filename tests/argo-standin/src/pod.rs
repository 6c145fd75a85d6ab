//! The pod of a node, as Argo would ask the API server for it. A pure function: [`build`].
//!
//! `tests/pods_equal_the_recorded_ones.rs` compares its output with every pod that real Argo was recorded
//! creating. Order matters in it: kubelet starts containers in list order, and the tests compare lists as lists.

use chrono::{DateTime, SecondsFormat, Utc};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodSpec,
    ResourceRequirements, Volume, VolumeMount,
};

use crate::names::{self, Trace};
use crate::workflow::{Template, UserContainer, Workflow};

mod placement;

/// Name of the user's container.
pub const MAIN: &str = "main";
/// Name of the container that reports the outcome.
pub const WAIT: &str = "wait";
const INIT: &str = "init";
const VAR_RUN: &str = "var-run-argo";
const TMP: &str = "tmp-dir-argo";
const STAGING: &str = "argo-staging";
const STAGING_PATH: &str = "/argo/staging";
const SCRIPT_PATH: &str = "/argo/staging/script";
/// Go's zero time, which stands for "no deadline".
const NO_DEADLINE: &str = "0001-01-01T00:00:00Z";

/// Where the executor comes from.
#[derive(Clone, Debug)]
pub struct Executor {
    /// Its image.
    pub image: String,
    /// When to pull it.
    pub pull_policy: Option<String>,
}

/// What to build a pod for.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The Workflow.
    pub workflow: &'a Workflow,
    /// The template.
    pub template: &'a Template,
    /// The template of the `dag` or `steps` that called it: placement is inherited from there.
    pub caller: Option<&'a Template>,
    /// Path of the node.
    pub node_name: &'a str,
    /// Whether it belongs to the exit handler, which outlives the deadline.
    pub on_exit: bool,
    /// Trace context.
    pub trace: Trace,
    /// The time it is.
    pub now: DateTime<Utc>,
}

/// Why there is no pod.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoPod {
    /// A mount names a volume that is nowhere declared.
    #[error("volume '{0}' not found in workflow spec")]
    NoVolume(String),
    /// Argo would look the command up in the image.
    #[error("container `{0}` has no command, and the stand-in for argo does not look into images: name one")]
    NoCommand(String),
    /// The template has no container.
    #[error("Template '{0}' missing specification")]
    NoContainer(String),
    /// The deadline has passed.
    #[error("{0} exceeded its deadline")]
    TooLate(String),
}

/// Builds the pod.
///
/// # Errors
/// [`NoPod`] if the template cannot become one.
pub fn build(executor: &Executor, order: &Order<'_>) -> Result<Pod, NoPod> {
    let Order {
        workflow,
        template,
        node_name,
        ..
    } = *order;
    let mains = main_containers(template)?;
    let mut volumes = vec![empty_dir(VAR_RUN), empty_dir(TMP)];
    volumes.extend(template.volumes.iter().cloned());
    let users = || {
        template
            .init_containers
            .iter()
            .chain(&template.sidecars)
            .map(|user| &user.container)
    };
    for mount in mains
        .iter()
        .chain(users())
        .flat_map(|it| it.volume_mounts.iter().flatten())
    {
        if volumes.iter().any(|volume| volume.name == mount.name) {
            continue;
        }
        let declared = workflow
            .spec
            .volumes
            .iter()
            .find(|volume| volume.name == mount.name);
        volumes.push(
            declared
                .cloned()
                .ok_or_else(|| NoPod::NoVolume(mount.name.clone()))?,
        );
    }

    let mut init = executor_container(executor, workflow, INIT);
    let mut wait = executor_container(executor, workflow, WAIT);
    wait.env.get_or_insert_default().push(EnvVar {
        name: "ARGO_ARTIFACT_PLUGIN_NAMES".into(),
        ..EnvVar::default()
    });
    let mut mains = mains;
    if template.script.is_some() {
        volumes.push(empty_dir(STAGING));
        let staging = mount(STAGING, STAGING_PATH);
        init.volume_mounts.get_or_insert_default().push(staging.clone());
        for main in &mut mains {
            main.volume_mounts.get_or_insert_default().push(staging.clone());
        }
    }
    let main_mounts: Vec<_> = mains
        .iter()
        .find(|container| container.name == MAIN)
        .and_then(|main| main.volume_mounts.clone())
        .unwrap_or_default();
    wait.volume_mounts
        .get_or_insert_default()
        .extend(main_mounts.iter().map(|mount| VolumeMount {
            mount_path: clean(&format!("/mainctrfs/{}", mount.mount_path)),
            read_only: None,
            ..mount.clone()
        }));
    let default_container = mains
        .iter()
        .find(|container| container.name == MAIN)
        .or(mains.last())
        .map_or_else(|| MAIN.to_owned(), |container| container.name.clone());

    let shared = shared_env(order);
    let mut init_containers = vec![init];
    init_containers.extend(
        template
            .init_containers
            .iter()
            .map(|user| user_container(user, &main_mounts)),
    );
    let raw = crate::go_json::render(&template.raw);
    for container in &mut init_containers {
        container
            .volume_mounts
            .get_or_insert_default()
            .push(mount(VAR_RUN, "/var/run/argo"));
        let name = container.name.clone();
        let environment = container.env.get_or_insert_default();
        environment.extend([
            variable("ARGO_CONTAINER_NAME", name),
            variable("ARGO_TEMPLATE", raw.clone()),
        ]);
        environment.extend(shared.iter().cloned());
    }
    let mut containers = vec![wait];
    containers.extend(mains);
    containers.extend(
        template
            .sidecars
            .iter()
            .map(|user| user_container(user, &main_mounts)),
    );
    for (index, container) in containers.iter_mut().enumerate() {
        let name = container.name.clone();
        let environment = container.env.get_or_insert_default();
        environment.push(variable("ARGO_CONTAINER_NAME", name));
        environment.extend(shared.iter().cloned());
        if container.name != WAIT {
            wrap_command(container)?;
        }
        let mounts = container.volume_mounts.get_or_insert_default();
        if container.image.as_ref() == Some(&executor.image) {
            mounts.push(VolumeMount {
                sub_path: Some(index.to_string()),
                ..mount(TMP, "/tmp")
            });
        }
        mounts.push(mount(VAR_RUN, "/var/run/argo"));
    }

    let spec = PodSpec {
        restart_policy: Some("Never".to_owned()),
        volumes: Some(volumes),
        init_containers: Some(init_containers),
        containers,
        active_deadline_seconds: placement::active_deadline_seconds(order)?,
        ..placement::placement(order)
    };
    Ok(Pod {
        metadata: placement::metadata(order, node_name, default_container),
        spec: Some(spec),
        status: None,
    })
}

fn main_containers(template: &Template) -> Result<Vec<Container>, NoPod> {
    let mut containers = match (&template.container, &template.script, &template.container_set) {
        (Some(container), _, _) => vec![container.clone()],
        (None, Some(script), _) => {
            let mut container = script.container.clone();
            if !script.source.is_empty() {
                container
                    .args
                    .get_or_insert_default()
                    .push(SCRIPT_PATH.to_owned());
            }
            vec![container]
        }
        (None, None, Some(set)) => set
            .containers
            .iter()
            .map(|member| {
                let mut container = member.container.clone();
                container
                    .volume_mounts
                    .get_or_insert_default()
                    .extend(set.volume_mounts.iter().cloned());
                container
            })
            .collect(),
        (None, None, None) => return Err(NoPod::NoContainer(template.name.clone())),
    };
    for container in &mut containers {
        if template.container_set.is_none() || container.name.is_empty() {
            MAIN.clone_into(&mut container.name);
        }
    }
    Ok(containers)
}

fn user_container(user: &UserContainer, main_mounts: &[VolumeMount]) -> Container {
    let mut container = user.container.clone();
    if user.mirror_volume_mounts == Some(true) {
        container
            .volume_mounts
            .get_or_insert_default()
            .extend(main_mounts.iter().cloned());
    }
    container
}

/// Puts the emissary before the command, which keeps the user's own words as its last arguments.
fn wrap_command(container: &mut Container) -> Result<(), NoPod> {
    let command = container.command.take().filter(|command| !command.is_empty());
    let command = command.ok_or_else(|| NoPod::NoCommand(container.name.clone()))?;
    let emissary = ["/var/run/argo/argoexec", "emissary"].map(str::to_owned);
    let words = emissary
        .into_iter()
        .chain(log_options())
        .chain(["--".to_owned()])
        .chain(command);
    container.command = Some(words.collect());
    Ok(())
}

fn log_options() -> impl Iterator<Item = String> {
    ["--loglevel", "info", "--log-format", "text", "--gloglevel", "0"]
        .into_iter()
        .map(str::to_owned)
}

fn executor_container(executor: &Executor, workflow: &Workflow, name: &str) -> Container {
    let from_pod = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
    };
    Container {
        name: name.to_owned(),
        image: Some(executor.image.clone()),
        image_pull_policy: executor.pull_policy.clone(),
        command: Some(
            ["argoexec", name]
                .map(str::to_owned)
                .into_iter()
                .chain(log_options())
                .collect(),
        ),
        env: Some(vec![
            from_pod("ARGO_POD_NAME", "metadata.name"),
            from_pod("ARGO_POD_UID", "metadata.uid"),
            variable("ARGO_WORKFLOW_NAME", workflow.name.clone()),
            variable("ARGO_WORKFLOW_UID", workflow.uid.clone()),
        ]),
        resources: Some(ResourceRequirements::default()),
        ..Container::default()
    }
}

fn shared_env(order: &Order<'_>) -> Vec<EnvVar> {
    let workflow = order.workflow;
    let deadline = workflow.deadline().filter(|_| !order.on_exit);
    let deadline = deadline.map_or(NO_DEADLINE.to_owned(), |time| {
        time.to_rfc3339_opts(SecondsFormat::Secs, true)
    });
    vec![
        variable("ARGO_NODE_ID", names::node_id(&workflow.name, order.node_name)),
        variable("ARGO_INCLUDE_SCRIPT_OUTPUT", "false"),
        variable("ARGO_DEADLINE", deadline),
        variable("ARGO_WORKFLOW_NAME", workflow.name.clone()),
        variable(
            "TRACESTATE",
            format!("workflow={}/{}", workflow.namespace, workflow.name),
        ),
        variable("TRACEPARENT", order.trace.parent()),
        variable("ARGO_PROGRESS_FILE", "/var/run/argo/progress"),
        variable("ARGO_PROGRESS_PATCH_TICK_DURATION", "1m0s"),
        variable("ARGO_PROGRESS_FILE_TICK_DURATION", "3s"),
    ]
}

fn variable(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.into()),
        value_from: None,
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

fn empty_dir(name: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    }
}

/// The shortest path that means the same, without looking at any disk.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

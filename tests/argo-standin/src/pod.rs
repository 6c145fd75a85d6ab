//! The pod of a node, as Argo would ask the API server for it. A pure function: [`build`].
//!
//! `tests/pods_equal_the_recorded_ones.rs` compares its output with every pod that real Argo was recorded
//! creating. Order matters in it: kubelet starts containers in list order, and the tests compare lists as lists.

use chrono::{DateTime, SecondsFormat, Utc};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodSpec,
    ResourceRequirements, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use crate::names::{self, Trace};
use crate::workflow::{PodGc, Template, UserContainer, Workflow};

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
        active_deadline_seconds: active_deadline_seconds(order)?,
        ..placement(order)
    };
    Ok(Pod {
        metadata: metadata(order, node_name, default_container),
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

fn metadata(order: &Order<'_>, node_name: &str, default_container: String) -> ObjectMeta {
    let Order {
        workflow,
        template,
        on_exit,
        ..
    } = *order;
    let owned = |text: &str| text.to_owned();
    let mut labels = std::collections::BTreeMap::from([
        (owned(names::WORKFLOW), workflow.name.clone()),
        (owned(names::COMPLETED), owned("false")),
    ]);
    if on_exit {
        labels.insert(owned(names::ON_EXIT), owned("true"));
    }
    let mut annotations = std::collections::BTreeMap::from([
        (owned(names::NODE_NAME), owned(node_name)),
        (owned(names::NODE_ID), names::node_id(&workflow.name, node_name)),
        (owned(names::DEFAULT_CONTAINER), default_container),
        (owned(names::TRACE_ID), order.trace.trace_id.clone()),
        (owned(names::SPAN_ID), order.trace.span_id.clone()),
    ]);
    if let Some(PodGc {
        strategy,
        delete_delay_duration,
    }) = &workflow.spec.pod_gc
    {
        let delay = delete_delay_duration.as_deref().unwrap_or("5s");
        annotations.insert(owned(names::POD_GC_STRATEGY), format!("{strategy}/{delay}"));
    }
    // The user's metadata comes last and wins over Argo's own, as it does in Argo.
    for theirs in [&workflow.spec.pod_metadata, &template.metadata] {
        labels.extend(theirs.labels.clone());
        annotations.extend(theirs.annotations.clone());
    }
    ObjectMeta {
        name: Some(names::pod_name(&workflow.name, node_name, &template.name)),
        namespace: Some(workflow.namespace.clone()),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{}/{}", names::GROUP, names::VERSION),
            kind: "Workflow".to_owned(),
            name: workflow.name.clone(),
            uid: workflow.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

/// All of the pod's specification that says where and as whom it runs.
fn placement(order: &Order<'_>) -> PodSpec {
    let (spec, template) = (&order.workflow.spec, order.template);
    let caller = order.caller;
    let selectors = [
        Some(&template.node_selector),
        caller.map(|it| &it.node_selector),
        Some(&spec.node_selector),
    ];
    let tolerations = [
        Some(&template.tolerations),
        caller.map(|it| &it.tolerations),
        Some(&spec.tolerations),
    ];
    let affinity = template
        .affinity
        .as_ref()
        .or_else(|| caller?.affinity.as_ref())
        .or(spec.affinity.as_ref());
    let aliases: Vec<_> = spec
        .host_aliases
        .iter()
        .chain(&template.host_aliases)
        .cloned()
        .collect();
    PodSpec {
        service_account_name: template
            .service_account_name
            .clone()
            .or(spec.service_account_name.clone()),
        automount_service_account_token: template
            .automount_service_account_token
            .or(spec.automount_service_account_token)
            .filter(|automount| !automount),
        node_selector: selectors.into_iter().flatten().find(|it| !it.is_empty()).cloned(),
        tolerations: tolerations
            .into_iter()
            .flatten()
            .find(|it| !it.is_empty())
            .cloned(),
        affinity: affinity.cloned(),
        scheduler_name: template.scheduler_name.clone().or(spec.scheduler_name.clone()),
        priority_class_name: template
            .priority_class_name
            .clone()
            .or(spec.pod_priority_class_name.clone()),
        security_context: template
            .security_context
            .clone()
            .or(spec.security_context.clone()),
        host_network: spec.host_network,
        host_aliases: (!aliases.is_empty()).then_some(aliases),
        image_pull_secrets: (!spec.image_pull_secrets.is_empty()).then(|| spec.image_pull_secrets.clone()),
        ..PodSpec::default()
    }
}

fn active_deadline_seconds(order: &Order<'_>) -> Result<Option<i64>, NoPod> {
    let left = order
        .workflow
        .deadline()
        .filter(|_| !order.on_exit)
        .map(|time| (time - order.now).num_seconds());
    if left.is_some_and(|seconds| seconds <= 0) {
        return Err(NoPod::TooLate(order.node_name.to_owned()));
    }
    Ok(left
        .into_iter()
        .chain(order.template.active_deadline_seconds)
        .min())
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

//! What a pod of the controller must obey in every container list, whatever is leased.

use leasehold_broker_wire::names::{CLAIM_PREFIX, DATASET_POD_LABEL, LEASES_ANNOTATION};

use super::container::user_argv;
use super::spec::{Container, Pod};
use crate::review::volume::{self, NO_TOKEN_VOLUME, TOKEN_PATH, TOKEN_VOLUME_PREFIX, Volume};
use crate::review::{Person, Reason, Stop, deny};
use crate::stamps::Owner;

const ARGO: &str = "workflows.argoproj.io/";
/// The volume through which Argo's executor reaches the job's container, and its path there (`common.go`).
const ARGO_VOLUME: (&str, &str) = ("var-run-argo", "/var/run/argo");
/// Labels that Argo's controller sets on pods of templates (`workflowpod.go`).
const LABELS: &[&str] = &["completed", "workflow", "on-exit", "controller-instanceid"];
/// Annotations likewise. `kill-cmd-*` chooses what the controller executes in the pod and is not among them.
const ANNOTATIONS: &[&str] = &[
    "node-id",
    "node-name",
    "span-id",
    "trace-id",
    "pod-gc-strategy",
    "progress",
];
const OTHER_ANNOTATIONS: &[&str] = &[
    "kubectl.kubernetes.io/default-container",
    "sidecar.istio.io/inject",
    "kubernetes.io/limit-ranger",
    LEASES_ANNOTATION,
];

/// Checks all that does not depend on leases.
pub(crate) fn check(pod: &Pod<'_>, owner: &Owner, person: &Person) -> Result<(), Stop> {
    check_metadata(pod, owner)?;
    check_placement(pod)?;
    for volume in &pod.spec.volumes {
        check_volume(volume, person)?;
    }
    let all = pod
        .spec
        .init_containers
        .iter()
        .map(|container| (container, false));
    for (container, may_be_users) in all.chain(pod.spec.containers.iter().map(|container| (container, true)))
    {
        let users = may_be_users && user_argv(container).is_some();
        check_security(container)?;
        check_mounts(container, users, pod, person)?;
    }
    Ok(())
}

fn check_metadata(pod: &Pod<'_>, owner: &Owner) -> Result<(), Stop> {
    for (key, value) in &pod.metadata.labels.0 {
        let argos = key.strip_prefix(ARGO);
        if !argos.is_some_and(|name| LABELS.contains(&name)) && *key != DATASET_POD_LABEL {
            return deny(
                Reason::LabelNotAllowed,
                format!(
                    "label {key} is not allowed on pods of jobs, where it could join a Service or NetworkPolicy; remove it from the template"
                ),
            );
        }
        if argos == Some("workflow") && **value != *owner.name {
            return deny(
                Reason::ReservedMetadata,
                format!(
                    "label {key} is {value} but the pod belongs to Workflow {}; remove it from the template",
                    owner.name
                ),
            );
        }
    }
    for (key, value) in pod
        .metadata
        .annotations
        .iter()
        .flat_map(|annotations| &annotations.0)
    {
        let argos = key.strip_prefix(ARGO);
        if !argos.is_some_and(|name| ANNOTATIONS.contains(&name)) && !OTHER_ANNOTATIONS.contains(&&**key) {
            return deny(
                Reason::AnnotationNotAllowed,
                format!("annotation {key} is not allowed on pods of jobs; remove it from the template"),
            );
        }
        let belongs = || {
            value.strip_prefix(&*owner.name).is_some_and(|rest| {
                rest.is_empty()
                    || rest
                        .strip_prefix('-')
                        .is_some_and(|hash| !hash.is_empty() && hash.bytes().all(|b| b.is_ascii_digit()))
            })
        };
        if argos == Some("node-id") && !belongs() {
            return deny(
                Reason::ReservedMetadata,
                format!(
                    "annotation {key} is {value}, no node of Workflow {}; remove it from the template",
                    owner.name
                ),
            );
        }
    }
    Ok(())
}

fn check_placement(pod: &Pod<'_>) -> Result<(), Stop> {
    let spec = &pod.spec;
    if let Some(foreign) = spec.tolerations.iter().find(|toleration| {
        !toleration
            .key
            .as_ref()
            .is_some_and(|key| key.starts_with("node.kubernetes.io/"))
    }) {
        return deny(
            Reason::FieldNotAllowed,
            format!(
                "toleration of {:?} is not allowed on pods of jobs; remove it",
                foreign.key.as_deref().unwrap_or("every taint")
            ),
        );
    }
    if let Some(class) = spec
        .priority_class_name
        .as_deref()
        .filter(|class| class.starts_with("system-"))
    {
        return deny(
            Reason::FieldNotAllowed,
            format!("priorityClassName {class} is not allowed on pods of jobs; remove it"),
        );
    }
    if let Some(scheduler) = spec
        .scheduler_name
        .as_deref()
        .filter(|name| !matches!(*name, "" | "default-scheduler"))
    {
        return deny(
            Reason::FieldNotAllowed,
            format!("schedulerName {scheduler} is not allowed on pods of jobs; remove it"),
        );
    }
    Ok(())
}

fn check_volume(volume: &Volume<'_>, person: &Person) -> Result<(), Stop> {
    if volume.name.starts_with(CLAIM_PREFIX) {
        // Content is compared with what this review injects; here only the kind.
        let fits = match &volume.persistent_volume_claim {
            Some(claim) => claim.claim_name == *volume.name,
            None => volume.name == NO_TOKEN_VOLUME && volume.empty_dir.is_some(),
        };
        if !fits {
            return deny(
                Reason::ReservedName,
                format!(
                    "volume {} has a name that is kept for leased datasets; rename it",
                    volume.name
                ),
            );
        }
        return Ok(());
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        if *claim.claim_name != *person.binding.home.claim {
            return volume::foreign_claim(&claim.claim_name, &person.binding.home);
        }
        return Ok(());
    }
    if volume.empty_dir.is_some() {
        return Ok(());
    }
    if volume.name.starts_with(TOKEN_VOLUME_PREFIX) && volume.projected.is_some() {
        return check_token_volume(volume);
    }
    if volume.config_map.is_some() && volume.name == "argo-env-config" {
        return Ok(());
    }
    deny(
        Reason::VolumeType,
        format!(
            "volume {} is neither your home nor Argo's own; no other kind of volume can be mounted",
            volume.name
        ),
    )
}

/// Exactly what the API server's plugin makes: a token for the API server, its CA certificate, the namespace.
fn check_token_volume(volume: &Volume<'_>) -> Result<(), Stop> {
    for source in volume.projected.iter().flat_map(|projected| &projected.sources) {
        let foreign_audience = source.service_account_token.as_ref().is_some_and(|token| {
            token
                .audience
                .as_deref()
                .is_some_and(|audience| !audience.is_empty())
        });
        let foreign_config = source.config_map.as_ref().is_some_and(|config| {
            !matches!(
                config.name.as_deref(),
                Some("kube-root-ca.crt" | "openshift-service-ca.crt")
            )
        });
        if foreign_audience || foreign_config {
            return deny(
                Reason::VolumeType,
                format!(
                    "volume {} is not the API server's own token volume; remove it",
                    volume.name
                ),
            );
        }
    }
    Ok(())
}

fn check_security(container: &Container<'_>) -> Result<(), Stop> {
    let Some(context) = &container.security_context else {
        return Ok(());
    };
    let wrong = if context.privileged {
        "privileged"
    } else if context.allow_privilege_escalation {
        "allowPrivilegeEscalation"
    } else if !context.capabilities.add.is_empty() {
        "capabilities.add"
    } else if context
        .seccomp_profile
        .get("type")
        .is_some_and(|kind| *kind == "Unconfined")
    {
        "seccompProfile Unconfined"
    } else {
        return Ok(());
    };
    deny(
        Reason::FieldNotAllowed,
        format!(
            "container {} asks for {wrong}, which is not allowed in pods of jobs; remove it",
            container.name
        ),
    )
}

fn check_mounts(container: &Container<'_>, users: bool, pod: &Pod<'_>, person: &Person) -> Result<(), Stop> {
    let home = &person.binding.home;
    for mount in &container.volume_mounts {
        let Some(volume) = pod.spec.volumes.iter().find(|volume| volume.name == mount.name) else {
            return deny(
                Reason::WrongType,
                format!(
                    "container {} mounts {}, which is no volume of the pod",
                    container.name, mount.name
                ),
            );
        };
        if volume.name.starts_with(CLAIM_PREFIX) {
            if !users {
                return deny(
                    Reason::ReservedName,
                    format!(
                        "container {} mounts {}, which only the job's own container may",
                        container.name, mount.name
                    ),
                );
            }
            continue;
        }
        if volume.persistent_volume_claim.is_some() {
            volume::check_home_mount(mount, home)?;
        }
        // The job's container has Argo's volume where Argo puts it; under another path it would cover something.
        let argos =
            *volume.name == *ARGO_VOLUME.0 && volume::normal(&mount.mount_path) == Some(ARGO_VOLUME.1);
        if !users || argos {
            continue;
        }
        if volume.has_token() {
            if volume::normal(&mount.mount_path) != Some(TOKEN_PATH) {
                return deny(
                    Reason::ReservedName,
                    format!(
                        "container {} mounts the executor's token at {}; remove the mount",
                        container.name, mount.mount_path
                    ),
                );
            }
            continue;
        }
        volume::check_user_path(&mount.mount_path, home)?;
        if volume::is_argos(&volume.name) {
            return deny(
                Reason::ReservedName,
                format!(
                    "container {} mounts {} at {}, which is Argo's executor's own; remove the mount",
                    container.name, mount.name, mount.mount_path
                ),
            );
        }
    }
    Ok(())
}

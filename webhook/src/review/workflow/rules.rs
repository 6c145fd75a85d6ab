//! What a spec that passed the allowlist must still obey, and what is taken out of it. A patch made here removes, or names
//! the executor's ServiceAccount; it never adds anything else.

use std::collections::HashSet;
use std::fmt::Display;

use super::spec::{Container, WorkflowSpec};
use crate::review::patch::Patch;
use crate::review::text::Text;
use crate::review::volume::{self, Volume};
use crate::review::{Person, Reason, Stop, deny};
use leasehold_broker_wire::names::LEASE_DATASETS;

/// More volumes than anybody has, and few enough to look each up for every mount.
const MOST_VOLUMES: usize = 64;

const ISTIO_ANNOTATION: &str = "sidecar.istio.io/inject";

/// Checks a spec that lies at `at` in its object.
pub(crate) fn check(
    spec: &WorkflowSpec<'_>,
    at: &str,
    person: &Person,
    patch: &mut Patch,
) -> Result<(), Stop> {
    let executor = &*person.binding.executor.name;
    account(
        spec.service_account_name.as_ref(),
        &format!("{at}/serviceAccountName"),
        true,
        person,
        patch,
    )?;
    for (key, value) in &spec.node_selector.0 {
        literal("nodeSelector", key)?;
        literal("nodeSelector", value)?;
    }
    for (i, template) in spec.templates.iter().enumerate() {
        let at = format!("{at}/templates/{i}");
        account(
            template.service_account_name.as_ref(),
            &format!("{at}/serviceAccountName"),
            false,
            person,
            patch,
        )?;
        for (key, value) in &template.metadata.annotations.0 {
            literal("a template's annotation", key)?;
            literal("a template's annotation", value)?;
            if *key != ISTIO_ANNOTATION {
                return deny(
                    Reason::AnnotationNotAllowed,
                    format!(
                        "template {} has the annotation {key}, which is not allowed; remove it",
                        name(template.name.as_ref())
                    ),
                );
            }
        }
        if let Some((key, _)) = template.metadata.labels.0.first() {
            literal("a template's label", key)?;
            return deny(
                Reason::LabelNotAllowed,
                format!(
                    "template {} has the label {key}; pods of jobs carry no labels of their own, remove it",
                    name(template.name.as_ref())
                ),
            );
        }
        if let Some(container) = &template.container {
            check_container(container, &format!("{at}/container"), spec, person, patch)?;
        }
    }
    check_volumes(&spec.volumes, at, person, patch)?;
    debug_assert!(!executor.is_empty());
    Ok(())
}

/// Nobody's account but the person's own, and in the end the executor's.
fn account(
    given: Option<&Text<'_>>,
    path: &str,
    required: bool,
    person: &Person,
    patch: &mut Patch,
) -> Result<(), Stop> {
    let executor = &*person.binding.executor.name;
    let given = given.map_or("", |given| given);
    if given == executor || (given.is_empty() && !required) {
        return Ok(());
    }
    if given.is_empty() || given == &*person.binding.notebook.name {
        patch.add(path, &executor);
        return Ok(());
    }
    literal("serviceAccountName", given)?;
    deny(
        Reason::ServiceAccount,
        format!("ServiceAccount {given} is not yours; leave serviceAccountName out, jobs run as {executor}"),
    )
}

fn check_container(
    container: &Container<'_>,
    at: &str,
    spec: &WorkflowSpec<'_>,
    person: &Person,
    patch: &mut Patch,
) -> Result<(), Stop> {
    literal("image", container.image.as_deref().unwrap_or_default())?;
    for (present, key) in [
        (&container.image_pull_secret, "imagePullSecret"),
        (&container.image_pull_secrets, "imagePullSecrets"),
    ] {
        if present.is_some() {
            patch.remove(format_args!("{at}/{key}"));
        }
    }
    for env in &container.env {
        literal("the name of an environment variable", &env.name)?;
    }
    let argv = container.command.iter().chain(&container.args);
    let values = container.env.iter().filter_map(|env| env.value.as_ref());
    for text in argv.chain(values).chain(&container.working_dir) {
        no_expression(text)?;
    }
    // The last first, so that the places of the others stay right; of equal names the last stays, as the kubelet takes it.
    let mut kept = HashSet::new();
    for (i, env) in container.env.iter().enumerate().rev() {
        if is_foreign(&env.name) || !kept.insert(&*env.name) {
            patch.remove(format_args!("{at}/env/{i}"));
        }
    }
    let home = &person.binding.home;
    for (i, mount) in container.volume_mounts.iter().enumerate().rev() {
        literal("mountPath", &mount.mount_path)?;
        literal("subPath", mount.sub_path.as_deref().unwrap_or_default())?;
        literal("the name of a mount", &mount.name)?;
        let Some(mounted) = spec.volumes.iter().find(|volume| volume.name == mount.name) else {
            // Not left to Kubernetes to refuse: Argo gives pods volumes of its own, which the name may be meant for.
            return deny(
                Reason::WrongType,
                format!(
                    "a container mounts {}, which is no volume of the workflow; declare it or remove the mount",
                    mount.name
                ),
            );
        };
        if mounted.is_injected_into_notebooks() {
            patch.remove(format_args!("{at}/volumeMounts/{i}"));
            continue;
        }
        volume::check_user_path(&mount.mount_path, home)?;
        if mounted.persistent_volume_claim.is_some() {
            volume::check_home_mount(mount, home)?;
        }
    }
    Ok(())
}

/// The hub's tokens, our own settings, Argo's switches.
fn is_foreign(name: &str) -> bool {
    let foreign = ["JUPYTERHUB_", "JPY_", "LEASEHOLD_", "ARGO_"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    foreign && name != LEASE_DATASETS
}

fn check_volumes(volumes: &[Volume<'_>], at: &str, person: &Person, patch: &mut Patch) -> Result<(), Stop> {
    if volumes.len() > MOST_VOLUMES {
        return deny(
            Reason::FieldNotAllowed,
            format!(
                "{} volumes are declared; a workflow may have {MOST_VOLUMES}",
                volumes.len()
            ),
        );
    }
    let home = &person.binding.home;
    for (i, volume) in volumes.iter().enumerate().rev() {
        literal("the name of a volume", &volume.name)?;
        if volume::is_argos(&volume.name) {
            return deny(
                Reason::ReservedName,
                format!(
                    "volume {} has a name that is kept for Argo's executor; rename it",
                    volume.name
                ),
            );
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            literal("claimName", &claim.claim_name)?;
        }
        if volume.is_injected_into_notebooks() {
            patch.remove(format_args!("{at}/volumes/{i}"));
            continue;
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            if *claim.claim_name != *home.claim {
                return volume::foreign_claim(&claim.claim_name, home);
            }
        } else if volume.empty_dir.is_none() {
            return deny(
                Reason::VolumeType,
                format!(
                    "volume {} is neither your home nor an emptyDir; no other kind of volume can be mounted",
                    volume.name
                ),
            );
        }
    }
    Ok(())
}

/// Refuses what Argo would substitute later, where what counts is decided now.
fn literal(what: impl Display, value: &str) -> Result<(), Stop> {
    if value.contains("{{") {
        return deny(
            Reason::TemplateExpr,
            format!("{what} is {value:?}, which Argo would fill in later; write the value itself"),
        );
    }
    Ok(())
}

/// Refuses what Argo's controller would compute. Commands may hold `{{…}}` of their own, for Jinja or awk say; `{{=` they hardly
/// do.
fn no_expression(text: &str) -> Result<(), Stop> {
    if text.contains("{{=") {
        return deny(
            Reason::TemplateExpr,
            "a command, argument or environment variable contains {{=, which begins an expression for Argo's controller to compute; write the value itself, or a space before the equals sign",
        );
    }
    Ok(())
}

fn name<'a>(name: Option<&'a Text<'_>>) -> &'a str {
    name.map_or("(unnamed)", |name| name)
}

//! What is injected: for each container of the user's the claims of the datasets it asks for, read-only in the volume and in
//! the mount, an empty volume over the ServiceAccount's token, and a deadline no longer than any of the leases allows.
//!
//! What an earlier review injected is compared with what this one would, never trusted by its name.

use std::sync::Arc;

use leasehold_broker_wire::names::{CLAIM_PREFIX, DATASET_POD_LABEL, DATASETS_DIRECTORY, LEASES_ANNOTATION};
use serde::Serialize;
use serde_json::json;

use super::container::{Asked, asked, user_argv};
use super::spec::{Container, Pod};
use crate::leases::{Lease, LeaseId, LeaseState, Mount};
use crate::review::patch::{Patch, escape};
use crate::review::stamp::Stamp;
use crate::review::text::Text;
use crate::review::volume::{self, NO_TOKEN_VOLUME, TOKEN_PATH};
use crate::review::{Denial, Person, Question, Reason, Stage, Stop, View, deny};

/// A job that names nothing waits this long after a grant for the volume to be ready. Longer than the provisioner takes,
/// short enough that a volume that never comes stops nobody who doesn't name it.
const PATIENCE_MS: i64 = 60_000;

const DISAGREE: &str = "two replicas, or two moments, see different leases; this is tried again by itself";

/// A container of the user's and what it gets.
struct Share<'p, 'a> {
    place: usize,
    container: &'p Container<'a>,
    leases: Vec<Arc<Lease>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewMount<'a> {
    name: &'a str,
    mount_path: &'a str,
    read_only: bool,
}

/// The patch that injects, empty where everything is in place already.
pub(crate) fn inject(
    stage: Stage,
    pod: &Pod<'_>,
    person: &Person,
    stamp: &Stamp,
    view: &View<'_>,
) -> Result<Patch, Stop> {
    let mut shares = Vec::new();
    for (place, container) in pod.spec.containers.iter().enumerate() {
        if let Some(argv) = user_argv(container) {
            let leases =
                select(&asked(container, &argv), person).map_err(|denial| once_more(denial, stamp, view))?;
            shares.push(Share {
                place,
                container,
                leases,
            });
        }
    }
    let mut leases: Vec<Arc<Lease>> = shares.iter().flat_map(|share| &share.leases).cloned().collect();
    leases.sort_by(|a, b| (&a.dataset_name, a.id).cmp(&(&b.dataset_name, b.id)));
    leases.dedup_by_key(|lease| lease.id);

    refuse_other_claims(stage, pod, &leases, person, view)?;
    let mut patch = Patch::new();
    mark(pod, &leases, &mut patch)?;
    add_volumes(pod, &leases, !shares.is_empty(), &mut patch);
    for share in &shares {
        mount(share, pod, person, &mut patch)?;
    }
    if let Some(longest) = leases.iter().map(|lease| lease.max_ttl_seconds).min() {
        match pod.spec.active_deadline_seconds {
            Some(deadline) if deadline <= longest => {}
            _ => patch.add("/spec/activeDeadlineSeconds", &longest),
        }
    }
    Ok(patch)
}

/// The leases that a job gets.
fn select(asked: &Asked<'_>, person: &Person) -> Result<Vec<Arc<Lease>>, Denial> {
    let now = person.broker_now_ms;
    match asked {
        Asked::Named(names) => names.iter().map(|name| named(name, person)).collect(),
        Asked::All => {
            let mut all: Vec<Arc<Lease>> = Vec::new();
            for lease in person.leases.iter().filter(|lease| lease.is_active(now)) {
                match &lease.mount {
                    Mount::Ready => {
                        // Newest last: of one name only the newest.
                        all.retain(|other| other.dataset_name != lease.dataset_name);
                        all.push(Arc::clone(lease));
                    }
                    Mount::Pending if now.saturating_sub(lease.granted_at_ms) < PATIENCE_MS => {
                        return Err(pending(lease));
                    }
                    Mount::Pending | Mount::Failed(_) => {}
                }
            }
            Ok(all)
        }
    }
}

fn named(name: &str, person: &Person) -> Result<Arc<Lease>, Denial> {
    let now = person.broker_now_ms;
    let mut of_that_name = person
        .leases
        .iter()
        .filter(|lease| *lease.dataset_name == *name)
        .rev();
    let Some(newest) = of_that_name.clone().next() else {
        return Err(Denial::new(
            Reason::NoLease,
            format!(
                "this job names dataset {name:?}, which you do not lease; lease it with `leasehold lease {name}`, or leave it out of LEASE_DATASETS"
            ),
        ));
    };
    let Some(lease) = of_that_name.find(|lease| lease.is_active(now)) else {
        let how = match (newest.state, &*newest.end_cause) {
            (LeaseState::Ending, cause) if !cause.is_empty() => cause,
            _ => "expired",
        };
        return Err(Denial::new(
            Reason::LeaseEnded,
            format!(
                "your lease of dataset {name:?} is over ({how}); lease it again with `leasehold lease {name}`"
            ),
        ));
    };
    match &lease.mount {
        Mount::Ready => Ok(Arc::clone(lease)),
        Mount::Pending => Err(pending(lease)),
        Mount::Failed(finding) => Err(Denial::new(
            Reason::MountFailed,
            format!(
                "dataset {name:?} cannot be mounted: {finding}; tell its owner ({}), or leave it out of LEASE_DATASETS",
                lease.owner
            ),
        )),
    }
}

fn pending(lease: &Lease) -> Denial {
    Denial::new(
        Reason::MountPending,
        format!(
            "dataset {:?} is being made ready to mount; this is tried again by itself",
            lease.dataset_name
        ),
    )
}

/// A lease may be younger than the view: before a no stands, the broker is asked.
fn once_more(denial: Denial, stamp: &Stamp, view: &View<'_>) -> Stop {
    if denial.reason == Reason::NoLease && !view.was_asked(&stamp.uid) {
        return Stop::Ask(Question::Person {
            uid: stamp.uid.clone(),
        });
    }
    Stop::Deny(denial)
}

/// A claim that this review doesn't inject. At the mutating stage somebody named it; at the validating stage the other
/// half may have injected it going by a view of another moment.
fn refuse_other_claims(
    stage: Stage,
    pod: &Pod<'_>,
    leases: &[Arc<Lease>],
    person: &Person,
    view: &View<'_>,
) -> Result<(), Stop> {
    for (i, volume) in pod.spec.volumes.iter().enumerate() {
        let Some(claim) = &volume.persistent_volume_claim else {
            continue;
        };
        let Some(id) = claim.claim_name.strip_prefix(CLAIM_PREFIX) else {
            continue;
        };
        let injected = leases.iter().any(|lease| lease.id.to_string() == *id);
        let twice = pod
            .spec
            .volumes
            .iter()
            .take(i)
            .any(|other| other.name == volume.name);
        if injected && claim.read_only && !twice {
            continue;
        }
        let held_by_another = LeaseId::parse(id)
            .ok()
            .and_then(|id| view.leases.lease(id))
            .is_some_and(|lease| lease.subject != person.binding.subject);
        if stage == Stage::Validating && !held_by_another && !injected {
            return deny(Reason::ViewsDisagree, DISAGREE);
        }
        return volume::foreign_claim(&claim.claim_name, &person.binding.home);
    }
    Ok(())
}

/// Label and annotation, which nobody else may set.
fn mark(pod: &Pod<'_>, leases: &[Arc<Lease>], patch: &mut Patch) -> Result<(), Stop> {
    let ids = leases
        .iter()
        .map(|lease| lease.id.to_string())
        .collect::<Vec<_>>()
        .join(",");
    let (label, annotation) = if leases.is_empty() {
        (None, None)
    } else {
        (Some("true"), Some(&*ids))
    };
    let empty = Vec::new();
    let annotations = pod.metadata.annotations.as_ref().map_or(&empty, |map| &map.0);
    for (map, key, wanted, at) in [
        (
            &pod.metadata.labels.0,
            DATASET_POD_LABEL,
            label,
            "/metadata/labels",
        ),
        (
            annotations,
            LEASES_ANNOTATION,
            annotation,
            "/metadata/annotations",
        ),
    ] {
        let given = map
            .iter()
            .find(|(k, _)| *k == key)
            .map(|(_, value): &(Text<'_>, Text<'_>)| &**value);
        match (given, wanted) {
            (given, wanted) if given == wanted => {}
            (None, Some(wanted)) if map.is_empty() => patch.add(at, &json!({ key: wanted })),
            (None, Some(wanted)) => patch.add(format_args!("{at}/{}", escape(key)), &wanted),
            // An earlier pass, here or in another replica, saw other leases.
            (Some(given), _) if given.split(',').all(|id| LeaseId::parse(id).is_ok()) => {
                return deny(Reason::ViewsDisagree, DISAGREE);
            }
            _ => {
                return deny(
                    Reason::ReservedMetadata,
                    format!("{key} is set by Leasehold alone; remove it from the template"),
                );
            }
        }
    }
    Ok(())
}

fn add_volumes(pod: &Pod<'_>, leases: &[Arc<Lease>], hide_token: bool, patch: &mut Patch) {
    let present = |name: &str| pod.spec.volumes.iter().any(|volume| volume.name == name);
    let mut missing = Vec::new();
    for lease in leases {
        let name = lease.id.claim_name();
        if !present(&name) {
            missing
                .push(json!({"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": true}}));
        }
    }
    if hide_token && !present(NO_TOKEN_VOLUME) {
        missing.push(json!({"name": NO_TOKEN_VOLUME, "emptyDir": {}}));
    }
    if pod.spec.volumes.is_empty() && !missing.is_empty() {
        patch.add("/spec/volumes", &missing);
    } else {
        missing
            .iter()
            .for_each(|volume| patch.add("/spec/volumes/-", volume));
    }
}

fn mount(share: &Share<'_, '_>, pod: &Pod<'_>, person: &Person, patch: &mut Patch) -> Result<(), Stop> {
    let at = format!("/spec/containers/{}/volumeMounts", share.place);
    let mounts = &share.container.volume_mounts;
    let wanted: Vec<(String, String)> = share
        .leases
        .iter()
        .map(|lease| {
            let path = format!(
                "{}/{DATASETS_DIRECTORY}/{}",
                person.binding.home.mount_path, lease.dataset_name
            );
            (lease.id.claim_name(), path)
        })
        .collect();
    let mut missing: Vec<NewMount<'_>> = Vec::new();
    for mount in mounts.iter().filter(|mount| mount.name.starts_with(CLAIM_PREFIX)) {
        let fits = mount.read_only
            && mount.sub_path.is_none()
            && ((mount.name == NO_TOKEN_VOLUME && mount.mount_path == TOKEN_PATH)
                || wanted
                    .iter()
                    .any(|(name, path)| mount.name == name.as_str() && mount.mount_path == path.as_str()))
            && mounts.iter().filter(|other| other.name == mount.name).count() == 1;
        if !fits {
            return deny(
                Reason::ReservedName,
                format!(
                    "container {} mounts {} in another way than Leasehold does; remove the mount",
                    share.container.name, mount.name
                ),
            );
        }
    }
    for (name, path) in &wanted {
        if !mounts.iter().any(|mount| mount.name == name.as_str()) {
            missing.push(NewMount {
                name,
                mount_path: path,
                read_only: true,
            });
        }
    }
    let is_token = |name: &Text<'_>| {
        pod.spec
            .volumes
            .iter()
            .any(|volume| volume.name == *name && volume.has_token())
    };
    let mut hidden = mounts.iter().any(|mount| mount.name == NO_TOKEN_VOLUME);
    for (i, mount) in mounts
        .iter()
        .enumerate()
        .filter(|(_, mount)| is_token(&mount.name))
    {
        if hidden {
            return deny(
                Reason::ReservedName,
                format!(
                    "container {} mounts {} beside what hides it; remove the mount",
                    share.container.name, mount.name
                ),
            );
        }
        patch.replace(
            format_args!("{at}/{i}"),
            &NewMount {
                name: NO_TOKEN_VOLUME,
                mount_path: TOKEN_PATH,
                read_only: true,
            },
        );
        hidden = true;
    }
    if !hidden {
        missing.push(NewMount {
            name: NO_TOKEN_VOLUME,
            mount_path: TOKEN_PATH,
            read_only: true,
        });
    }
    if mounts.is_empty() && !missing.is_empty() {
        patch.add(&at, &missing);
    } else {
        missing
            .iter()
            .for_each(|mount| patch.add(format_args!("{at}/-"), mount));
    }
    Ok(())
}

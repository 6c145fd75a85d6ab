//! Workflows and WorkflowTemplates: stamped at creation from who asks, held to what jupyterflow emits, owned from then on.

pub mod metadata;
pub mod rules;
pub mod spec;

use leasehold_broker_wire::names::{NOTEBOOK_PREFIX, STAMP_ANNOTATION};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::envelope::{Operation, Request};
use super::parse::parse;
use super::patch::Patch;
use super::stamp::Stamp;
use super::text::Presence;
use super::{OwnerKind, Person, Reason, Stage, Stop, View, deny, is_persons_account, object, old_object};
use metadata::{Loose, Metadata};

/// A person's Workflow or WorkflowTemplate as it may arrive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Workflow<'a> {
    #[serde(default, rename = "apiVersion")]
    _api_version: Presence,
    #[serde(default, rename = "kind")]
    _kind: Presence,
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    spec: spec::WorkflowSpec<'a>,
    #[serde(default)]
    status: Presence,
}

/// Decides a Workflow or WorkflowTemplate.
///
/// # Errors
/// A denial or a question.
pub fn review(stage: Stage, request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    match request.operation {
        Operation::Create => settle(stage, create(stage, request, view)?),
        Operation::Update => {
            let spec_may_change = &*request.resource.resource != "workflows";
            update(stage, request, view, spec_may_change, check)
        }
        Operation::Delete => delete(request, view),
        Operation::Connect => deny(Reason::Unsupported, "a Workflow cannot be connected to"),
    }
}

/// At the validating stage nothing may be left to change.
pub(super) fn settle(stage: Stage, patch: Patch) -> Result<Patch, Stop> {
    if stage == Stage::Validating && !patch.is_empty() {
        return deny(
            Reason::ViewsDisagree,
            "the object is not as this webhook's mutating half leaves it: it was changed afterwards, or two replicas see different leases; this is tried again by itself",
        );
    }
    Ok(patch)
}

/// Who creates, as far as stamps go.
pub(super) enum Author<'a> {
    /// A person's notebook, with the stamp that results.
    Person(Box<Person>, Stamp),
    /// The controller, for a CronWorkflow with this stamp.
    Cron(Box<Person>, Stamp),
    /// Somebody whose Workflows mount nothing.
    Nobody(Loose<'a>),
}

pub(super) fn author<'a>(request: &Request<'a>, view: &View<'_>) -> Result<Author<'a>, Stop> {
    let user = &request.user_info;
    if *user.username == *view.identities.controller {
        let loose: Loose<'a> = parse(object(request)?, "the object")?;
        if &*request.resource.resource == "workflows"
            && let Some(cron) = loose.metadata.controlling_owner("CronWorkflow")
        {
            let owner = view.owner(
                OwnerKind::CronWorkflow,
                request.namespace(),
                &cron.name,
                &cron.uid,
            )?;
            if let Some(stamp) = &owner.stamp {
                let person = view.person(&stamp.uid)?;
                return Ok(Author::Cron(Box::new(person), stamp.clone()));
            }
        }
        return Ok(Author::Nobody(loose));
    }
    if !is_persons_account(user) {
        return Ok(Author::Nobody(parse(object(request)?, "the object")?));
    }
    let (namespace, name) = user.service_account().unwrap_or_default();
    if namespace != request.namespace() || !name.starts_with(NOTEBOOK_PREFIX) || user.uid.is_empty() {
        return deny(
            Reason::NotBound,
            format!(
                "{} may not create this here; create it from your notebook, as its own ServiceAccount",
                user.username
            ),
        );
    }
    let person = view.person(&user.uid)?;
    let bound = &person.binding.notebook;
    if &*bound.namespace != namespace || &*bound.name != name {
        return deny(
            Reason::NotBound,
            format!(
                "ServiceAccount {name} is not the one that was bound to its person; stop and start your server from the hub"
            ),
        );
    }
    let stamp = Stamp::of(user, namespace, name);
    Ok(Author::Person(Box::new(person), stamp))
}

fn create(stage: Stage, request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    let (person, stamp, from) = match author(request, view)? {
        Author::Nobody(loose) => return Ok(unstamp(&loose)),
        Author::Person(person, stamp) => (person, stamp, metadata::From::Person),
        Author::Cron(person, stamp) => (person, stamp, metadata::From::Controller),
    };
    let workflow: Workflow<'_> = parse(object(request)?, "the Workflow")?;
    refuse_status(workflow.status)?;
    if from == metadata::From::Person {
        metadata::check_amount(&workflow.metadata)?;
        if &*request.resource.resource == "workflows" {
            metadata::check_name(&workflow.metadata, stage)?;
        }
    }
    let mut patch = Patch::new();
    rules::check(&workflow.spec, "/spec", &person, &mut patch)?;
    metadata::stamp(&workflow.metadata, &stamp, from, &mut patch)?;
    Ok(patch)
}

/// The spec's rules, and what has to change for it to be as it should.
fn check(object: &str, person: &Person) -> Result<Patch, Stop> {
    let workflow: Workflow<'_> = parse(object, "the Workflow")?;
    let mut patch = Patch::new();
    rules::check(&workflow.spec, "/spec", person, &mut patch)?;
    Ok(patch)
}

pub(super) fn refuse_status(status: Presence) -> Result<(), Stop> {
    if status.0 {
        return deny(
            Reason::StatusOnCreate,
            "the object comes with a status, which only the workflow-controller writes; remove it",
        );
    }
    Ok(())
}

/// Whoever isn't a person gets no stamp, and none that was sent along.
pub(super) fn unstamp(loose: &Loose<'_>) -> Patch {
    let mut patch = Patch::new();
    if loose.metadata.stamp().is_some() {
        patch.remove(metadata::stamp_path());
    }
    patch
}

/// An update keeps the stamp for everybody, and everything but the status for everybody but the controller.
pub(super) fn update(
    stage: Stage,
    request: &Request<'_>,
    view: &View<'_>,
    spec_may_change: bool,
    check: impl Fn(&str, &Person) -> Result<Patch, Stop>,
) -> Result<Patch, Stop> {
    let new: Loose<'_> = parse(object(request)?, "the object")?;
    let old: Loose<'_> = parse(old_object(request)?, "the former object")?;
    let user = &request.user_info;
    let mut patch = Patch::new();
    let stamp = old.metadata.stamp().and_then(Stamp::parse);
    if *user.username != *view.identities.controller {
        let owns = stamp
            .as_ref()
            .is_some_and(|stamp| !user.uid.is_empty() && stamp.uid == *user.uid);
        if is_persons_account(user) && !owns {
            return deny(
                Reason::NotOwner,
                "this belongs to somebody else, or to nobody; only its owner may change it",
            );
        }
        if is_persons_account(user) {
            metadata::check_change_of_amount(&new.metadata, &old.metadata)?;
        }
        if !same(new.status, old.status)? {
            return deny(
                Reason::Status,
                "only the workflow-controller may change the status",
            );
        }
        if new.metadata.owner_references() != old.metadata.owner_references() && is_persons_account(user) {
            return deny(
                Reason::OwnerReference,
                "owner references cannot be changed; leave them as they are",
            );
        }
        if is_persons_account(user) && !metadata::same_reserved(&new.metadata, &old.metadata) {
            return deny(
                Reason::ReservedMetadata,
                "labels and annotations of Argo and Leasehold cannot be changed; leave them as they are",
            );
        }
        if !same_spec(new.spec, old.spec)? {
            match (&stamp, owns) {
                (Some(stamp), true) if spec_may_change => {
                    patch = check(object(request)?, &view.person(&stamp.uid)?)?;
                }
                (_, true) => {
                    return deny(
                        Reason::FieldNotAllowed,
                        "the spec of a Workflow cannot be changed, apart from suspend and shutdown; create another one",
                    );
                }
                _ => return deny(Reason::NotOwner, "only its owner may change the spec"),
            }
        }
    }
    match (old.metadata.stamp(), new.metadata.stamp()) {
        (was, is) if was == is => {}
        _ if stage == Stage::Validating => {
            return deny(
                Reason::StampImmutable,
                format!("annotation {STAMP_ANNOTATION} says whose this is and cannot be changed"),
            );
        }
        (Some(was), _) if new.metadata.has_annotations() => patch.add(metadata::stamp_path(), &was),
        (Some(was), _) => patch.add(
            "/metadata/annotations",
            &serde_json::json!({ STAMP_ANNOTATION: was }),
        ),
        (None, _) => patch.remove(metadata::stamp_path()),
    }
    settle(stage, patch)
}

/// Only its owner deletes it, or somebody who isn't a person: the controller, the garbage collector, an administrator.
pub(super) fn delete(request: &Request<'_>, view: &View<'_>) -> Result<Patch, Stop> {
    let user = &request.user_info;
    if *user.username == *view.identities.controller || !is_persons_account(user) {
        return Ok(Patch::new());
    }
    let old: Loose<'_> = parse(old_object(request)?, "the object")?;
    match old.metadata.stamp().and_then(Stamp::parse) {
        Some(stamp) if !user.uid.is_empty() && stamp.uid == *user.uid => Ok(Patch::new()),
        _ => deny(
            Reason::NotOwner,
            "this belongs to somebody else, or to nobody; only its owner may delete it",
        ),
    }
}

fn same(a: Option<&RawValue>, b: Option<&RawValue>) -> Result<bool, Stop> {
    Ok(as_written(a, b) || value(a)? == value(b)?)
}

/// Equal letter by letter, which needs no reading and so has no limits.
fn as_written(a: Option<&RawValue>, b: Option<&RawValue>) -> bool {
    a.map(RawValue::get) == b.map(RawValue::get)
}

/// A value to compare. One that cannot be read equals nothing: it must not look like one that is not there.
fn value(raw: Option<&RawValue>) -> Result<Option<serde_json::Value>, Stop> {
    let Some(raw) = raw else { return Ok(None) };
    let value: serde_json::Value = match serde_json::from_str(raw.get()) {
        Ok(value) => value,
        Err(error) => {
            return deny(
                Reason::WrongType,
                format!(
                    "the object cannot be compared with what it was: {error}; write it less deeply nested"
                ),
            );
        }
    };
    let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
    Ok((!empty).then_some(value))
}

/// Equal apart from the two switches with which an owner or administrator stops a Workflow.
fn same_spec(a: Option<&RawValue>, b: Option<&RawValue>) -> Result<bool, Stop> {
    let without_switches = |raw| {
        let mut value = value(raw)?;
        if let Some(spec) = value.as_mut().and_then(serde_json::Value::as_object_mut) {
            spec.remove("suspend");
            spec.remove("shutdown");
        }
        Ok::<_, Stop>(value)
    };
    Ok(as_written(a, b) || without_switches(a)? == without_switches(b)?)
}

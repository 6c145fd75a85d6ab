//! Metadata of Argo's objects: what a person may send, the stamp, and what is stripped.

use leasehold_broker_wire::names::STAMP_ANNOTATION;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::review::patch::{Patch, escape};
use crate::review::stamp::Stamp;
use crate::review::text::{Map, Presence, Text, list};
use crate::review::{Reason, Stage, Stop, deny};

/// Labels, and as many annotations, that a person may write. jupyterflow writes none, Argo's controller three of each.
const MOST_KEYS: usize = 64;
/// Bytes of both together, keys and values.
const MOST_BYTES: usize = 16 << 10;
/// Bytes of the API server's record of who set which field. It comes with the object and grows with its labels.
const MOST_MANAGED_FIELDS: usize = 64 << 10;
/// A person's own entry in that record.
const GROWTH_OF_MANAGED_FIELDS: usize = 1 << 10;

/// Metadata with which a person or the controller may create.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    generate_name: Option<Text<'a>>,
    #[serde(default, rename = "namespace")]
    _namespace: Presence,
    #[serde(default, rename = "uid")]
    _uid: Presence,
    #[serde(default, rename = "resourceVersion")]
    _resource_version: Presence,
    #[serde(default, rename = "generation")]
    _generation: Presence,
    #[serde(default, rename = "creationTimestamp")]
    _creation_timestamp: Presence,
    #[serde(default, rename = "selfLink")]
    _self_link: Presence,
    #[serde(borrow, default)]
    managed_fields: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) labels: Map<'a, Text<'a>>,
    #[serde(borrow, default)]
    pub(crate) annotations: Option<Map<'a, Text<'a>>>,
    #[serde(borrow, default, deserialize_with = "list")]
    pub(crate) owner_references: Vec<OwnerReference<'a>>,
    #[serde(default)]
    pub(crate) finalizers: Presence,
}

/// One owner of an object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference<'a> {
    /// Group and version.
    #[serde(borrow)]
    pub api_version: Text<'a>,
    /// Kind.
    #[serde(borrow)]
    pub kind: Text<'a>,
    /// Name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Uid: this decides.
    #[serde(borrow)]
    pub uid: Text<'a>,
    /// The one that manages it.
    #[serde(default)]
    pub controller: Option<bool>,
}

/// An object of which only a little matters; read without an allowlist.
#[derive(Debug, Deserialize)]
pub struct Loose<'a> {
    /// Annotations and owners.
    #[serde(borrow, default)]
    pub metadata: LooseMetadata<'a>,
    /// Compared, not read.
    #[serde(borrow, default)]
    pub spec: Option<&'a RawValue>,
    /// Compared, not read.
    #[serde(borrow, default)]
    pub status: Option<&'a RawValue>,
}

/// Its metadata.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LooseMetadata<'a> {
    #[serde(borrow, default)]
    labels: Map<'a, Text<'a>>,
    #[serde(borrow, default)]
    annotations: Option<Map<'a, Text<'a>>>,
    #[serde(borrow, default, deserialize_with = "list")]
    owner_references: Vec<OwnerReference<'a>>,
    #[serde(borrow, default)]
    managed_fields: Option<&'a RawValue>,
}

impl<'a> LooseMetadata<'a> {
    /// The stamp annotation as it stands.
    #[must_use]
    pub fn stamp(&self) -> Option<&str> {
        self.annotations
            .as_ref()?
            .get(STAMP_ANNOTATION)
            .map(|text| &**text)
    }

    /// Whether there is a map of annotations to add to.
    #[must_use]
    pub fn has_annotations(&self) -> bool {
        self.annotations
            .as_ref()
            .is_some_and(|annotations| !annotations.0.is_empty())
    }

    /// The owners.
    #[must_use]
    pub fn owner_references(&self) -> &[OwnerReference<'a>] {
        &self.owner_references
    }

    /// The one controlling owner, if it is of this Argo kind.
    #[must_use]
    pub fn controlling_owner(&self, kind: &str) -> Option<&OwnerReference<'a>> {
        let mut controlling = self
            .owner_references
            .iter()
            .filter(|owner| owner.controller == Some(true));
        match (controlling.next(), controlling.next()) {
            (Some(owner), None) if owner.api_version == "argoproj.io/v1alpha1" && owner.kind == kind => {
                Some(owner)
            }
            _ => None,
        }
    }
}

/// Characters of a prefix that the API server keeps: five of a name's 63 are its own.
const KEPT_OF_PREFIX: usize = 58;

/// Requires of a person's Workflow or CronWorkflow that the API server names it. Argo names a pod after its Workflow: one
/// that is called like another's notebook would keep that notebook from starting. Past the mutating stage the name is there,
/// made from the prefix.
pub(crate) fn check_name(metadata: &Metadata<'_>, stage: Stage) -> Result<(), Stop> {
    let name = metadata.name.as_deref().unwrap_or_default();
    let prefix = metadata.generate_name.as_deref().unwrap_or_default();
    let generated = match stage {
        Stage::Mutating => name.is_empty(),
        Stage::Validating => {
            name.is_empty() || name.starts_with(prefix.get(..KEPT_OF_PREFIX).unwrap_or(prefix))
        }
    };
    if prefix.is_empty() || !generated {
        return deny(
            Reason::FieldNotAllowed,
            format!(
                "the object asks for the name {name:?}, but pods are named after it; leave metadata.name out and set metadata.generateName"
            ),
        );
    }
    Ok(())
}

/// Requires of what a person creates that its metadata is small: watches of whole namespaces hold it in memory.
pub(crate) fn check_amount(metadata: &Metadata<'_>) -> Result<(), Stop> {
    let managed = metadata.managed_fields.map_or(0, |raw| raw.get().len());
    refuse_amount(amount(&metadata.labels, metadata.annotations.as_ref()), managed)
}

/// The same of a person's change. What was too large before, if need be by the controller's doing, may stay as it was.
pub(crate) fn check_change_of_amount(new: &LooseMetadata<'_>, old: &LooseMetadata<'_>) -> Result<(), Stop> {
    let managed = |metadata: &LooseMetadata<'_>| metadata.managed_fields.map_or(0, |raw| raw.get().len());
    let grown = managed(new) > managed(old) + GROWTH_OF_MANAGED_FIELDS;
    let same = new.labels == old.labels && new.annotations == old.annotations;
    refuse_amount(
        if same {
            Amount::default()
        } else {
            amount(&new.labels, new.annotations.as_ref())
        },
        if grown { managed(new) } else { 0 },
    )
}

#[derive(Debug, Default)]
struct Amount {
    labels: usize,
    annotations: usize,
    bytes: usize,
}

fn amount(labels: &Map<'_, Text<'_>>, annotations: Option<&Map<'_, Text<'_>>>) -> Amount {
    let annotations = annotations.map_or(&[][..], |map| &map.0);
    let both = labels.0.iter().chain(annotations);
    Amount {
        labels: labels.0.len(),
        annotations: annotations.len(),
        bytes: both.map(|(key, value)| key.len() + value.len()).sum(),
    }
}

fn refuse_amount(amount: Amount, managed_fields: usize) -> Result<(), Stop> {
    let Amount {
        labels,
        annotations,
        bytes,
    } = amount;
    if labels.max(annotations) > MOST_KEYS || bytes > MOST_BYTES || managed_fields > MOST_MANAGED_FIELDS {
        return deny(
            Reason::MetadataTooLarge,
            format!(
                "the object has {labels} labels and {annotations} annotations of {bytes} bytes in all, and {managed_fields} bytes of managedFields; {MOST_KEYS}, {MOST_KEYS}, {MOST_BYTES} and {MOST_MANAGED_FIELDS} are allowed, remove some"
            ),
        );
    }
    Ok(())
}

/// Who sent the metadata that is stamped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// A person: Argo's own labels and annotations are stripped, owners and finalizers refused.
    Person,
    /// The controller on behalf of a CronWorkflow: it sets them.
    Controller,
}

/// Writes the stamp over whatever was sent.
pub(crate) fn stamp(
    metadata: &Metadata<'_>,
    stamp: &Stamp,
    from: From,
    patch: &mut Patch,
) -> Result<(), Stop> {
    if from == From::Person {
        if !metadata.owner_references.is_empty() {
            return deny(
                Reason::OwnerReference,
                "ownerReferences are set by the controller only; remove them",
            );
        }
        if metadata.finalizers.0 {
            return deny(
                Reason::FieldNotAllowed,
                "finalizers are set by controllers only; remove them",
            );
        }
    }
    let strip = |key: &str| match from {
        From::Person => is_reserved(key),
        From::Controller => is_ours(key),
    };
    for (key, _) in metadata.labels.0.iter().filter(|(key, _)| strip(key)) {
        patch.remove(format_args!("/metadata/labels/{}", escape(key)));
    }
    let value = stamp.to_annotation();
    let Some(annotations) = metadata
        .annotations
        .as_ref()
        .filter(|annotations| !annotations.0.is_empty())
    else {
        patch.add(
            "/metadata/annotations",
            &serde_json::json!({ STAMP_ANNOTATION: value }),
        );
        return Ok(());
    };
    for (key, _) in annotations
        .0
        .iter()
        .filter(|(key, _)| strip(key) && *key != STAMP_ANNOTATION)
    {
        patch.remove(format_args!("/metadata/annotations/{}", escape(key)));
    }
    if annotations.get(STAMP_ANNOTATION).map(|text| &**text) != Some(&value) {
        patch.add(stamp_path(), &value);
    }
    Ok(())
}

/// Where the stamp is.
pub(crate) fn stamp_path() -> String {
    format!("/metadata/annotations/{}", escape(STAMP_ANNOTATION))
}

/// Whether both carry the same labels and annotations of Argo and Leasehold, the stamp aside (it is restored).
pub(crate) fn same_reserved(a: &LooseMetadata<'_>, b: &LooseMetadata<'_>) -> bool {
    fn reserved<'m>(metadata: &'m LooseMetadata<'_>) -> Vec<(bool, &'m str, &'m str)> {
        let annotations = metadata
            .annotations
            .iter()
            .flat_map(|map| &map.0)
            .map(|(k, v)| (true, &**k, &**v));
        let labels = metadata.labels.0.iter().map(|(k, v)| (false, &**k, &**v));
        let mut reserved: Vec<_> = annotations
            .chain(labels)
            .filter(|(_, k, _)| is_reserved(k) && *k != STAMP_ANNOTATION)
            .collect();
        reserved.sort_unstable();
        reserved
    }
    reserved(a) == reserved(b)
}

fn is_reserved(key: &str) -> bool {
    is_ours(key)
        || key
            .split_once('/')
            .is_some_and(|(domain, _)| domain == "argoproj.io" || domain.ends_with(".argoproj.io"))
}

fn is_ours(key: &str) -> bool {
    key.starts_with("leasehold.dev/")
}

//! Volumes and mounts: the kinds that may appear at all, and the rules that a Workflow and a pod share.

use leasehold_broker_wire::names::{CLAIM_PREFIX, DATASETS_DIRECTORY};
use serde::Deserialize;

use super::text::{Presence, Text, list};
use super::{Reason, Stop, deny};
use crate::leases::Home;

/// Where Kubernetes puts a ServiceAccount's token.
pub const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Name prefix of the volume with that token, as the API server's own plugin makes it.
pub const TOKEN_VOLUME_PREFIX: &str = "kube-api-access-";
/// The empty volume that takes the token's place in the user's container.
pub const NO_TOKEN_VOLUME: &str = "leasehold-no-token";

/// Volumes that Argo's controller adds to pods of jobs (`workflowpod.go`): the executor's control files, its `/tmp`, artifacts,
/// its environment.
const ARGOS_VOLUMES: &[&str] = &[
    "var-run-argo",
    "tmp-dir-argo",
    "argo-staging",
    "input-artifacts",
    "argo-env-config",
];

/// Whether a volume of this name is Argo's own.
pub(crate) fn is_argos(name: &str) -> bool {
    ARGOS_VOLUMES.contains(&name)
}

/// Paths that no mount of the user's may touch.
const RESERVED_PATHS: &[&str] = &[
    "/var/run/argo",
    "/run/argo",
    "/var/run/secrets",
    "/run/secrets",
    "/proc",
    "/sys",
    "/mainctrfs",
];

/// A volume. Kinds that aren't named here are refused by being unknown.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume<'a> {
    /// How mounts refer to it.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Scratch space of the pod.
    #[serde(default)]
    pub empty_dir: Option<EmptyDir>,
    /// A claim.
    #[serde(borrow, default)]
    pub persistent_volume_claim: Option<ClaimSource<'a>>,
    /// Token, CA certificate and namespace.
    #[serde(borrow, default)]
    pub projected: Option<Projected<'a>>,
    /// Argo's `argo-env-config`.
    #[serde(borrow, default)]
    pub config_map: Option<ConfigMapSource<'a>>,
}

/// An empty directory.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmptyDir {
    #[serde(default, rename = "medium")]
    _medium: Presence,
    #[serde(default, rename = "sizeLimit")]
    _size_limit: Presence,
}

/// A claim and whether it is mounted read-only by the volume itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimSource<'a> {
    /// Its name.
    #[serde(borrow)]
    pub claim_name: Text<'a>,
    /// Read-only for every mount.
    #[serde(default)]
    pub read_only: bool,
}

/// Several sources in one directory.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Projected<'a> {
    /// The sources.
    #[serde(borrow, default, deserialize_with = "list")]
    pub sources: Vec<Source<'a>>,
    #[serde(default, rename = "defaultMode")]
    _default_mode: Presence,
}

/// One source; a Secret is none.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source<'a> {
    /// A token of the pod's ServiceAccount.
    #[serde(borrow, default)]
    pub service_account_token: Option<TokenSource<'a>>,
    /// A ConfigMap.
    #[serde(borrow, default)]
    pub config_map: Option<ConfigMapSource<'a>>,
    #[serde(default, rename = "downwardAPI")]
    _downward_api: Presence,
}

/// A token of the pod's ServiceAccount.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenSource<'a> {
    /// For whom; absent is the API server.
    #[serde(borrow, default)]
    pub audience: Option<Text<'a>>,
    #[serde(default, rename = "expirationSeconds")]
    _expiration_seconds: Presence,
    #[serde(default, rename = "path")]
    _path: Presence,
}

/// A ConfigMap.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapSource<'a> {
    /// Its name.
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    #[serde(default, rename = "items")]
    _items: Presence,
    #[serde(default, rename = "defaultMode")]
    _default_mode: Presence,
    #[serde(default, rename = "optional")]
    _optional: Presence,
}

/// A mount of a volume in a container.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount<'a> {
    /// The volume.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Where.
    #[serde(borrow)]
    pub mount_path: Text<'a>,
    /// Read-only.
    #[serde(default)]
    pub read_only: bool,
    /// Directory within the volume.
    #[serde(borrow, default)]
    pub sub_path: Option<Text<'a>>,
}

impl Volume<'_> {
    /// A volume of the API server's own making or of ours, as a notebook pod has them. Workflows lose these.
    #[must_use]
    pub fn is_injected_into_notebooks(&self) -> bool {
        self.name.starts_with(TOKEN_VOLUME_PREFIX) || self.name.starts_with(CLAIM_PREFIX)
    }

    /// Carries a token of the pod's ServiceAccount.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.projected
            .as_ref()
            .is_some_and(|p| p.sources.iter().any(|s| s.service_account_token.is_some()))
    }
}

/// Refuses a claim that is neither the home nor injected.
pub(crate) fn foreign_claim<T>(claim: &str, home: &Home) -> Result<T, Stop> {
    if claim.starts_with(CLAIM_PREFIX) {
        return deny(
            Reason::PvcNotInjected,
            format!(
                "claim {claim} is mounted by naming it, but leased datasets are mounted by Leasehold alone; remove the volume: what you lease appears by itself"
            ),
        );
    }
    deny(
        Reason::PvcNotInjected,
        format!(
            "claim {claim} is not your home ({}); no other claim can be mounted",
            home.claim
        ),
    )
}

/// Requires that a mount of the home shows only what is the person's own. Where homes share one claim, no path below the
/// own directory will do either: the kubelet follows links on the way, and the person may have laid one to another's home.
pub(crate) fn check_home_mount(mount: &Mount<'_>, home: &Home) -> Result<(), Stop> {
    let sub_path = mount.sub_path.as_deref().unwrap_or_default();
    if sub_path == &*home.sub_path {
        return Ok(());
    }
    deny(
        Reason::PvcNotInjected,
        format!(
            "the home claim is mounted with subPath {sub_path:?}, but your own home is {:?}; mount your home as your notebook does",
            home.sub_path
        ),
    )
}

/// Requires that a mount of something of the user's stays clear of what is Argo's, Kubernetes' or ours.
pub(crate) fn check_user_path(mount_path: &str, home: &Home) -> Result<(), Stop> {
    let Some(path) = normal(mount_path) else {
        return deny(
            Reason::PathOverlap,
            format!(
                "mount path {mount_path} is not absolute and normalised; write it without '.', '..' and doubled slashes"
            ),
        );
    };
    let datasets = format!("{}/{DATASETS_DIRECTORY}", home.mount_path);
    let mut reserved = RESERVED_PATHS.iter().copied().chain([datasets.as_str()]);
    match reserved
        .find(|reserved| within(path, reserved) || (within(reserved, path) && path != &*home.mount_path))
    {
        // An ancestor of the datasets' directory other than the home hides nothing: it is mounted first.
        Some(reserved)
            if reserved == datasets && within(reserved, path) && path != reserved && path != "/" =>
        {
            Ok(())
        }
        Some(reserved) => deny(
            Reason::PathOverlap,
            format!(
                "mount path {mount_path} overlaps {reserved}, which is kept for Argo, Kubernetes or leased datasets; mount it elsewhere"
            ),
        ),
        None => Ok(()),
    }
}

/// The path without trailing slashes, if it is absolute and has no empty, `.` or `..` parts.
pub(crate) fn normal(path: &str) -> Option<&str> {
    let trimmed = path.trim_end_matches('/');
    let rest = path.strip_prefix('/')?;
    if trimmed.is_empty() {
        return Some("/");
    }
    let clean = !rest.contains('\0')
        && trimmed
            .strip_prefix('/')?
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..");
    clean.then_some(trimmed)
}

/// Whether a normalised path is `parent` or below it.
pub(crate) fn within(path: &str, parent: &str) -> bool {
    parent == "/"
        || path
            .strip_prefix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

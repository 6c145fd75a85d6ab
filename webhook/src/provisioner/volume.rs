//! The owner's volume details, parsed strictly: unknown fields and kinds are refused, and a path counts only below a root that
//! the operator allows to this very owner. A kind of storage is one arm of [`Volume`].

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::probe::{Code, Finding};

/// Directories of nodes below which owners' datasets may lie, by MSP id. One owner may have several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalRoots(BTreeMap<String, Vec<PathBuf>>);

/// `--local-roots` is not what it should be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("cannot read the local roots at {entry:?}: {why}; write OWNER=/absolute/path, separated by commas")]
pub struct InvalidRoots {
    entry: String,
    why: &'static str,
}

impl FromStr for LocalRoots {
    type Err = InvalidRoots;

    fn from_str(text: &str) -> Result<Self, InvalidRoots> {
        let mut roots: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let invalid = |why| InvalidRoots {
                entry: entry.to_owned(),
                why,
            };
            let (owner, path) = entry
                .split_once('=')
                .ok_or_else(|| invalid("there is no equals sign"))?;
            if owner.is_empty() {
                return Err(invalid("the owner is empty"));
            }
            if !is_normal(path) {
                return Err(invalid(
                    "the path is not absolute, is / itself, or has `.`, `..`, doubled or final slashes",
                ));
            }
            // One owner could register what is the other's.
            let theirs = roots
                .iter()
                .filter(|(other, _)| *other != owner)
                .flat_map(|(_, paths)| paths);
            if theirs
                .into_iter()
                .any(|other| other.starts_with(path) || Path::new(path).starts_with(other))
            {
                return Err(invalid("the path lies above, below or at another owner's"));
            }
            roots.entry(owner.to_owned()).or_default().push(path.into());
        }
        Ok(Self(roots))
    }
}

impl LocalRoots {
    /// Splits a path into the owner's root and what is below it; the longest root that fits.
    fn split<'p>(&self, owner: &str, path: &'p str) -> Option<(PathBuf, &'p str)> {
        let roots = self.0.get(owner)?;
        let below = |root: &PathBuf| {
            let rest = Path::new(path).strip_prefix(root).ok()?.to_str()?;
            (!rest.is_empty()).then(|| (root.clone(), rest))
        };
        roots.iter().filter_map(below).min_by_key(|(_, rest)| rest.len())
    }
}

/// Absolute, not the root directory, and written in its only normal form.
fn is_normal(path: &str) -> bool {
    let written = path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|part| !matches!(part, "" | "." | "..")) && !rest.chars().any(char::is_control)
    });
    written
        && Path::new(path)
            .components()
            .skip(1)
            .all(|part| matches!(part, Component::Normal(_)))
}

/// Names and values that open a volume. They end up in the lease's Secret and nowhere else; never printed.
#[derive(Clone, Default)]
pub struct Credential(BTreeMap<String, Zeroizing<String>>);

impl Credential {
    /// The entries, for the one place that writes the Secret.
    pub fn expose(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// Where a dataset is.
#[derive(Debug, Clone)]
pub enum Volume {
    /// A directory of one node.
    Local(LocalVolume),
}

/// A directory of one node, below a root that its owner may offer.
#[derive(Debug, Clone)]
pub struct LocalVolume {
    /// The node's name.
    pub node: String,
    /// The allowed root.
    pub root: PathBuf,
    /// What follows the root.
    pub below: String,
    /// What opens the volume.
    pub credential: Credential,
}

impl LocalVolume {
    /// The dataset's path on its node.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.root.join(&self.below)
    }

    /// The place as a digest: node, root and path, nothing of the credential.
    #[must_use]
    pub fn place_digest(&self) -> String {
        let mut digest = Sha256::new();
        for part in [
            self.node.as_bytes(),
            self.root.as_os_str().as_encoded_bytes(),
            self.below.as_bytes(),
        ] {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        hex::encode(digest.finalize())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalDetails {
    #[serde(rename = "kind")]
    _kind: String,
    path: String,
    node: String,
    #[serde(default)]
    credential: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
}

/// Reads an owner's details.
///
/// # Errors
/// A finding for the owner. It repeats nothing of the details, which are secret.
pub fn parse(details: &[u8], owner: &str, roots: &LocalRoots) -> Result<Volume, Finding> {
    let invalid = |why: &str| {
        Finding::new(
            Code::VolumeInvalid,
            format!("the dataset's volume details {why}; register the dataset again"),
        )
    };
    let Kind { kind } =
        serde_json::from_slice(details).map_err(|_| invalid("are not a JSON object that names its kind"))?;
    match kind.as_str() {
        "local" => local(details, owner, roots, invalid).map(Volume::Local),
        _ => Err(Finding::new(
            Code::KindNotAllowed,
            "this cluster does not serve the dataset's kind of storage; it serves: local",
        )),
    }
}

fn local(
    details: &[u8],
    owner: &str,
    roots: &LocalRoots,
    invalid: impl Fn(&str) -> Finding,
) -> Result<LocalVolume, Finding> {
    // serde's message may quote a value, so it is dropped.
    let LocalDetails {
        path,
        node,
        credential,
        ..
    } = serde_json::from_slice(details).map_err(|_| {
        invalid("of kind local must be path, node and optionally credential, and nothing else")
    })?;
    if !is_normal(&path) {
        return Err(invalid("have a path that is not absolute and in its normal form"));
    }
    if !is_subdomain(&node) {
        return Err(invalid("have a node that is not a node's name"));
    }
    if !credential.keys().all(|name| is_key(name)) {
        return Err(invalid(
            "have a credential whose name is not made of letters, digits, `-`, `_` and `.`",
        ));
    }
    let Some((root, below)) = roots.split(owner, &path) else {
        return Err(Finding::new(
            Code::RootNotAllowed,
            "the dataset's path is not below a directory that its owner may offer here; move it, or ask the operator",
        ));
    };
    let credential = Credential(
        credential
            .into_iter()
            .map(|(name, value)| (name, Zeroizing::new(value)))
            .collect(),
    );
    Ok(LocalVolume {
        node,
        root,
        below: below.to_owned(),
        credential,
    })
}

/// A DNS subdomain (RFC 1123), which is what nodes are named by.
fn is_subdomain(name: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Part of a key of a Secret.
fn is_key(name: &str) -> bool {
    (1..=200).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn roots() -> LocalRoots {
        "UiSMSP=/srv/uis, UiSMSP=/srv/uis/deep,UiOMSP=/srv/uio"
            .parse()
            .unwrap()
    }

    fn read(details: &Value) -> Result<LocalVolume, Code> {
        match parse(details.to_string().as_bytes(), "UiSMSP", &roots()) {
            Ok(Volume::Local(volume)) => Ok(volume),
            Err(finding) => {
                assert!(!finding.message.contains("hunter2"), "{}", finding.message);
                Err(finding.code)
            }
        }
    }

    #[test]
    fn a_path_below_the_owners_root_is_split_at_it() {
        let volume = read(&json!({"kind": "local", "path": "/srv/uis/a/b", "node": "n1"})).unwrap();
        assert_eq!(
            (volume.root.to_str().unwrap(), &*volume.below),
            ("/srv/uis", "a/b")
        );
        let volume = read(&json!({"kind": "local", "path": "/srv/uis/deep/b", "node": "n1"})).unwrap();
        assert_eq!(
            (volume.root.to_str().unwrap(), &*volume.below),
            ("/srv/uis/deep", "b")
        );
        assert_eq!(volume.path(), Path::new("/srv/uis/deep/b"));
    }

    #[test]
    fn anothers_root_a_look_alike_and_the_root_itself_are_not_allowed() {
        for path in ["/srv/uio/x", "/srv/uisx/a", "/srv/uis", "/srv", "/etc"] {
            let code = read(&json!({"kind": "local", "path": path, "node": "n1"})).unwrap_err();
            assert_eq!(code, Code::RootNotAllowed, "{path}");
        }
        let other = parse(
            br#"{"kind":"local","path":"/srv/uis/a","node":"n"}"#,
            "NobodyMSP",
            &roots(),
        );
        assert_eq!(other.unwrap_err().code, Code::RootNotAllowed);
    }

    #[test]
    fn what_is_malformed_is_refused_without_repeating_it() {
        for details in [
            json!({"kind": "local", "path": "/srv/uis/../uio/x", "node": "n1"}),
            json!({"kind": "local", "path": "/srv/uis/x/", "node": "n1"}),
            json!({"kind": "local", "path": "/srv/uis//x", "node": "n1"}),
            json!({"kind": "local", "path": "/srv/uis/./x", "node": "n1"}),
            json!({"kind": "local", "path": "srv/uis/x", "node": "n1"}),
            json!({"kind": "local", "path": "/srv/uis/x\0y", "node": "n1"}),
            json!({"kind": "local", "path": "/srv/uis/x", "node": "N1/../"}),
            json!({"kind": "local", "path": "/srv/uis/x", "node": ""}),
            json!({"kind": "local", "path": "/srv/uis/x"}),
            json!({"kind": "local", "path": 7, "node": "n1"}),
            json!({"kind": "local", "path": "/srv/uis/x", "node": "n1", "hunter2": true}),
            json!({"kind": "local", "path": "/srv/uis/x", "node": "n1", "credential": "hunter2"}),
            json!({"kind": "local", "path": "/srv/uis/x", "node": "n1", "credential": {"a b": "hunter2"}}),
            json!({"path": "/srv/uis/x", "node": "hunter2"}),
            json!("hunter2"),
        ] {
            assert_eq!(read(&details).unwrap_err(), Code::VolumeInvalid, "{details}");
        }
        assert_eq!(
            read(&json!({"kind": "nfs", "server": "hunter2"})).unwrap_err(),
            Code::KindNotAllowed
        );
    }

    #[test]
    fn a_credential_is_not_printed() {
        let details =
            json!({"kind": "local", "path": "/srv/uis/x", "node": "n1", "credential": {"key": "hunter2"}});
        let volume = read(&details).unwrap();
        assert!(!format!("{volume:?}").contains("hunter2"));
        assert_eq!(
            volume.credential.expose().collect::<Vec<_>>(),
            [("key", "hunter2")]
        );
    }

    #[test]
    fn roots_are_refused_where_they_are_not_directories_of_an_owner() {
        for bad in [
            "/srv/uis",
            "=/srv",
            "UiSMSP=",
            "UiSMSP=/",
            "UiSMSP=srv",
            "UiSMSP=/srv/../etc",
            "UiSMSP=/srv/",
            "UiSMSP=/srv/a,UiOMSP=/srv/a/b",
            "UiSMSP=/srv/a/b,UiOMSP=/srv/a",
            "UiSMSP=/srv/a,UiOMSP=/srv/a",
        ] {
            assert!(bad.parse::<LocalRoots>().is_err(), "{bad}");
        }
        assert_eq!("".parse::<LocalRoots>(), Ok(LocalRoots::default()));
        let good = "UiSMSP=/srv/a,UiSMSP=/srv/a/b,UiOMSP=/srv/ab";
        assert!(good.parse::<LocalRoots>().is_ok(), "one owner's may nest");
    }
}

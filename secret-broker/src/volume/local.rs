//! `local`: a directory of a node. Its path is checked as text here; what it really is, only the node can say.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};

use super::{InvalidVolume, credential, only, text};

pub(super) fn check(fields: &Map<String, Value>, roots: &[PathBuf]) -> Result<(), InvalidVolume> {
    only(fields, &["kind", "path", "node", "credential"])?;
    path(text(fields, "path")?, roots)?;
    node(text(fields, "node")?)?;
    credential(fields)
}

fn path(path: &str, roots: &[PathBuf]) -> Result<(), InvalidVolume> {
    let invalid = |reason: &str| Err(InvalidVolume::new("path", reason));
    if path.len() > 4096 || path.chars().any(char::is_control) {
        return invalid("expected a path of at most 4096 bytes without control characters");
    }
    if !path.starts_with('/') {
        return invalid("expected an absolute path");
    }
    // The text itself must be in its normal form: `components` would silently drop `.` and doubled slashes.
    if path
        .split('/')
        .skip(1)
        .any(|part| part.is_empty() || part == "." || part == "..")
    {
        return invalid("expected a path without `..`, `.`, doubled or final slashes");
    }
    let path = Path::new(path);
    let below = |root: &PathBuf| {
        path.strip_prefix(root)
            .is_ok_and(|rest| rest.components().any(|c| matches!(c, Component::Normal(_))))
    };
    if !roots.iter().any(below) {
        return invalid(
            "it is not below a directory that this organisation may offer; ask the operator for the allowed roots",
        );
    }
    Ok(())
}

/// A node's name is a DNS subdomain (RFC 1123).
fn node(name: &str) -> Result<(), InvalidVolume> {
    let label = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        Ok(())
    } else {
        Err(InvalidVolume::new(
            "node",
            "expected the name of a node: lower-case letters, digits, hyphens and dots",
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{LocalRoots, check};

    fn roots() -> LocalRoots {
        LocalRoots::from([("UiSMSP".to_owned(), vec!["/srv/leasehold/uis".into()])])
    }

    fn field_of(volume: &serde_json::Value) -> Option<String> {
        check(volume, "UiSMSP", &roots()).err().map(|e| e.field)
    }

    #[test]
    fn a_directory_below_the_owners_root_is_accepted() {
        assert_eq!(
            field_of(&json!({"kind":"local","path":"/srv/leasehold/uis/texts","node":"n1"})),
            None
        );
        assert_eq!(
            field_of(
                &json!({"kind":"local","path":"/srv/leasehold/uis/a/b","node":"n1.x","credential":{"user":"x"}})
            ),
            None
        );
    }

    #[test]
    fn a_path_outside_of_the_owners_roots_is_refused() {
        for path in [
            "/etc",
            "/srv/leasehold/uis",
            "/srv/leasehold/uis/",
            "/srv/leasehold/uis2/texts",
            "/srv/leasehold/uio/texts",
            "/srv/leasehold/uis/../uio/texts",
            "/srv/leasehold/uis/texts/..",
            "/srv/leasehold/uis/./texts",
            "/srv/leasehold/uis//texts",
            "/srv/leasehold/uis/texts/",
            "srv/leasehold/uis/texts",
            "/srv/leasehold/uis/te\0xts",
            "",
        ] {
            let volume = json!({"kind":"local","path":path,"node":"n1"});
            assert_eq!(field_of(&volume).as_deref(), Some("volume.path"), "{path}");
        }
        let volume = json!({"kind":"local","path":"/srv/leasehold/uis/texts","node":"n1"});
        assert!(check(&volume, "UiOMSP", &roots()).is_err());
    }

    #[test]
    fn what_is_not_asked_for_is_refused_without_repeating_it() {
        for (volume, field) in [
            (json!("hunter2"), "volume"),
            (json!({"path":"/srv/leasehold/uis/x","node":"n1"}), "volume.kind"),
            (json!({"kind":"hunter2"}), "volume.kind"),
            (
                json!({"kind":"local","path":"/srv/leasehold/uis/x","node":"n1","hunter2":1}),
                "volume",
            ),
            (
                json!({"kind":"local","path":"/srv/leasehold/uis/x"}),
                "volume.node",
            ),
            (
                json!({"kind":"local","path":"/srv/leasehold/uis/x","node":"HUNTER2!"}),
                "volume.node",
            ),
            (
                json!({"kind":"local","path":"/srv/leasehold/uis/x","node":"n1","credential":"hunter2"}),
                "volume.credential",
            ),
            (
                json!({"kind":"local","path":"/srv/leasehold/uis/x","node":"n1","credential":{"hunter2!":"x"}}),
                "volume.credential",
            ),
            (
                json!({"kind":"local","path":"/srv/leasehold/uis/x","node":"n1","credential":{"a":{"hunter2":1}}}),
                "volume.credential",
            ),
        ] {
            let error = check(&volume, "UiSMSP", &roots()).unwrap_err();
            assert_eq!(error.field, field);
            assert!(!error.to_string().to_lowercase().contains("hunter2"), "{error}");
        }
    }
}

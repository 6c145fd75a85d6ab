//! The names of a person's accounts and roles, computed from the hub's raw username alone.
//!
//! Promise: two usernames never give the same name. The readable part is for people; what tells names apart is the hash
//! (64 bits of SHA-256), and [`crate::spawn`] refuses a name whose annotation holds another username all the same.
//! KubeSpawner's own slugs end in 32 bits, which somebody who may choose a username can collide.

use leasehold_broker_wire::names::{EXECUTOR_PREFIX, NOTEBOOK_PREFIX};
use sha2::{Digest as _, Sha256};

/// Hexadecimal digits of the hash in an account's name.
const HASH_DIGITS: usize = 16;
/// So that `nb-<slug>-<hash>` is a DNS label.
const MAX_SLUG: usize = 63 - 3 - 1 - HASH_DIGITS;
/// The longest username that JupyterHub stores.
pub const MAX_USERNAME_BYTES: usize = 255;

/// A person's names; they are the same in every namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// 16 hexadecimal digits; the value of the person label.
    pub person: String,
    /// The notebook's ServiceAccount and Role.
    pub notebook: String,
    /// The executor's ServiceAccount and Role.
    pub executor: String,
}

impl Names {
    /// The names of the person whom the hub calls `username`.
    #[must_use]
    pub fn of(username: &str) -> Self {
        let person = hash(username, HASH_DIGITS);
        let slug = slug(username);
        let name = |prefix: &str| match slug.as_str() {
            "" => format!("{prefix}{person}"),
            slug => format!("{prefix}{slug}-{person}"),
        };
        Self {
            notebook: name(NOTEBOOK_PREFIX),
            executor: name(EXECUTOR_PREFIX),
            person,
        }
    }
}

/// The Role that lets one notebook read its own pod. One per pod, so that a person's named servers do not take the right
/// from each other, and nobody is given the right to a pod whose name already is somebody else's.
#[must_use]
pub fn pod_role(pod_name: &str) -> String {
    // Twice the digits of an account's name, so it can be none.
    format!("{NOTEBOOK_PREFIX}pod-{}", hash(pod_name, 2 * HASH_DIGITS))
}

fn hash(text: &str, digits: usize) -> String {
    let mut hash = hex::encode(Sha256::digest(text.as_bytes()));
    hash.truncate(digits);
    hash
}

/// What of a username can stand in a DNS label.
fn slug(username: &str) -> String {
    let mut slug = String::new();
    for char in username.chars() {
        if slug.len() == MAX_SLUG {
            break;
        }
        match char.to_ascii_lowercase() {
            char @ ('a'..='z' | '0'..='9') => slug.push(char),
            _ if slug.is_empty() || slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_dns_label(name: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&name.len())
            && name.bytes().all(allowed)
            && !name.starts_with('-')
            && !name.ends_with('-')
    }

    #[test]
    fn names_are_readable_and_fixed() {
        let alice = Names::of("alice@example.com");
        assert_eq!(alice.notebook, "nb-alice-example-com-ff8d9819fc0e12bf");
        assert_eq!(alice.executor, "wf-alice-example-com-ff8d9819fc0e12bf");
        assert_eq!(alice.person, "ff8d9819fc0e12bf");
        assert!(
            Names::of("李雷").notebook.starts_with("nb-"),
            "a name without a slug"
        );
        assert_eq!(Names::of(&"x".repeat(255)).notebook.len(), 63);
    }

    #[test]
    fn usernames_that_escape_alike_are_kept_apart() {
        let alike = [
            "alice@example.com",
            "alice-example-com",
            "Alice@example.com",
            "alice.example.com",
            "alice@example.com ",
        ];
        let names: std::collections::BTreeSet<_> =
            alike.iter().map(|name| Names::of(name).notebook).collect();
        assert_eq!(names.len(), alike.len());
    }

    /// Usernames that are likely to meet: cases, escapes, separators, unicode look-alikes, and anything at all.
    fn username() -> impl Strategy<Value = String> {
        prop_oneof![
            "[aA][lL]ice([-._@+ ]|---|-40|%40|\u{212a})?(example)?[-._]?(com)?",
            "nb-[a-c]{1,3}(-[0-9a-f]{16})?",
            "pod(-[0-9a-f]{0,16})?",
            "[a-b]{1,80}",
            any::<String>().prop_filter("JupyterHub has no empty names", |name| !name.is_empty()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn two_usernames_never_share_a_name(first in username(), second in username(), pod in "[a-z0-9-]{1,63}") {
            let (one, two) = (Names::of(&first), Names::of(&second));
            for name in [&one.notebook, &one.executor, &one.person, &pod_role(&pod)] {
                prop_assert!(is_dns_label(name), "{}", name);
            }
            prop_assert_eq!(first == second, one == two);
            prop_assert_eq!(first == second, one.notebook == two.notebook);
            prop_assert_eq!(first == second, one.executor == two.executor);
            prop_assert_ne!(&one.notebook, &two.executor);
            prop_assert_ne!(&one.notebook, &pod_role(&pod));
        }
    }
}

//! Which containers run the user's code, and which datasets a job asks for.

use std::borrow::Cow;
use std::collections::BTreeSet;

use leasehold_broker_wire::names::LEASE_DATASETS;

use super::spec::Container;
use crate::review::text::Text;

/// What a job asks to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked<'a> {
    /// Nothing said: everything that is leased.
    All,
    /// These, each once, in this order.
    Named(Vec<Cow<'a, str>>),
}

/// The argv of the user's code, if this container runs any: Argo wraps it in its emissary (`argoexec emissary … -- argv`).
/// Argo's own containers are told by the command that the controller gave them, since names can be chosen.
#[must_use]
pub fn user_argv<'c, 'a>(container: &'c Container<'a>) -> Option<Vec<&'c Text<'a>>> {
    let [program, emissary, rest @ ..] = container.command.as_slice() else {
        return None;
    };
    if !program.ends_with("argoexec") || *emissary != "emissary" {
        return None;
    }
    let end_of_flags = rest.iter().position(|word| *word == "--")?;
    Some(
        rest.iter()
            .skip(end_of_flags + 1)
            .chain(&container.args)
            .collect(),
    )
}

/// What the job in this container asks for: by `env LEASE_DATASETS=a,b …` in its own command line, else by its environment.
#[must_use]
pub fn asked<'c>(container: &'c Container<'_>, argv: &[&'c Text<'_>]) -> Asked<'c> {
    let named: Option<Cow<'c, str>> = by_argv(argv).map(Cow::Borrowed).or_else(|| {
        let last = container
            .env
            .iter()
            .rev()
            .find(|env| env.name == LEASE_DATASETS)?;
        // No value, or one that is no string, asks for nothing.
        Some(
            last.value
                .and_then(|raw| serde_json::from_str(raw.get()).ok())
                .map_or(Cow::Borrowed(""), Cow::Owned),
        )
    });
    let Some(named) = named else { return Asked::All };
    // A set, because a person may write a megabyte of names.
    let mut names: BTreeSet<Cow<'c, str>> = BTreeSet::new();
    let mut name_one = |name: Cow<'c, str>| {
        if !name.is_empty() {
            names.insert(name);
        }
    };
    match named {
        Cow::Borrowed(text) => text
            .split(',')
            .for_each(|name| name_one(Cow::Borrowed(name.trim()))),
        Cow::Owned(text) => text
            .split(',')
            .for_each(|name| name_one(Cow::Owned(name.trim().to_owned()))),
    }
    Asked::Named(names.into_iter().collect())
}

/// Reads `env [-i] [-u NAME] [-C DIR] NAME=VALUE… command` as env(1) of coreutils does, as far as needed.
fn by_argv<'c>(argv: &[&'c Text<'_>]) -> Option<&'c str> {
    let mut words = argv.iter().map(|word| &***word);
    if words.next()?.rsplit('/').next() != Some("env") {
        return None;
    }
    let mut found = None;
    let mut options = true;
    while let Some(word) = words.next() {
        if options && word.starts_with('-') {
            match word {
                "--" => options = false,
                "-u" | "--unset" | "-C" | "--chdir" => {
                    words.next();
                }
                _ => {}
            }
            continue;
        }
        let Some((name, value)) = word.split_once('=') else {
            break;
        };
        options = false;
        if name == LEASE_DATASETS {
            found = Some(value);
        }
    }
    found
}

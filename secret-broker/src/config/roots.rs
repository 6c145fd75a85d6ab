//! The directories that each owner's local volumes must be below, as they are said in a flag.

use std::path::Path;

use leasehold_chaincode::Msp;

use crate::volume::LocalRoots;

pub(super) fn parse(entries: &[String], errors: &mut Vec<String>) -> LocalRoots {
    let mut roots = LocalRoots::new();
    for entry in entries.iter().filter(|e| !e.is_empty()) {
        let parsed = entry.split_once('=').filter(|(owner, path)| {
            Msp::new(*owner).is_ok()
                && path.starts_with('/')
                && !path
                    .split('/')
                    .skip(1)
                    .any(|part| part.is_empty() || part == "." || part == "..")
        });
        match parsed {
            // One owner could register what is the other's.
            Some((owner, path))
                if roots.iter().any(|(other, paths)| {
                    other != owner
                        && paths
                            .iter()
                            .any(|p| p.starts_with(path) || Path::new(path).starts_with(p))
                }) =>
            {
                errors.push(format!(
                    "--local-roots `{entry}` lies above, below or at another organisation's; keep them apart"
                ));
            }
            Some((owner, path)) => roots.entry(owner.to_owned()).or_default().push(path.into()),
            None => errors.push(format!(
                "--local-roots `{entry}` is not <organisation>=<absolute path in normal form, not />"
            )),
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn roots_are_kept_per_owner() {
        let mut errors = Vec::new();
        let roots = parse(
            &["A=/srv/a".into(), "B=/srv/b".into(), "A=/srv/c".into()],
            &mut errors,
        );
        assert!(errors.is_empty());
        assert_eq!(roots["A"], [PathBuf::from("/srv/a"), PathBuf::from("/srv/c")]);
    }
}

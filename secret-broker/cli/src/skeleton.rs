//! Keeps the empty directories of leased datasets in a home: the mount points and the view that notebooks have of data
//! which only jobs see.
//!
//! Promises: nothing outside `<home>/datasets` is touched, whatever symbolic links are in the way, since each step is
//! opened below the one before and no link is followed; only directories are made; only empty directories of datasets
//! that an earlier run laid (it keeps their names in `datasets/.leasehold`) are removed.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use leasehold_broker_wire::names::DATASETS_DIRECTORY;
use leasehold_broker_wire::rest::Skeleton;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::failure::Failure;

/// Names of the datasets whose directories are ours to remove, a line each.
const LIST: &str = ".leasehold";
const NEW_LIST: &str = ".leasehold.new";
const MAX_LIST_BYTES: u64 = 1 << 20;
/// Deeper trees are laid and removed down to here.
const MAX_DEPTH: usize = 64;
/// That many problems are told in full.
const MAX_PROBLEMS: usize = 5;

/// What a run did.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) laid: usize,
    pub(crate) removed: usize,
    problems: Vec<String>,
    untold: usize,
}

impl Report {
    fn problem(&mut self, what: &str, why: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(format!("{what}: {why}"));
        } else {
            self.untold += 1;
        }
    }

    pub(crate) fn into_result(mut self, home: &Path) -> Result<(), Failure> {
        if self.problems.is_empty() {
            return Ok(());
        }
        if self.untold > 0 {
            self.problems.push(format!("and {} more", self.untold));
        }
        Err(Failure::Skeleton {
            root: home.join(DATASETS_DIRECTORY),
            problems: self.problems,
        })
    }
}

/// Makes the directories of `leased` and removes the empty ones of datasets laid before that are not among them.
pub(crate) fn sync(home: &Path, leased: &[Skeleton]) -> Result<Report, Failure> {
    let datasets = open_datasets(home)?;
    let mut report = Report::default();
    let mut ours: BTreeSet<String> = read_list(datasets.as_fd(), &mut report);
    let names: BTreeSet<&str> = leased.iter().map(|skeleton| skeleton.dataset.as_str()).collect();
    for skeleton in leased {
        lay(datasets.as_fd(), skeleton, &mut ours, &mut report);
    }
    let ended: Vec<String> = ours
        .iter()
        .filter(|name| !names.contains(name.as_str()))
        .cloned()
        .collect();
    for name in ended {
        match prune(datasets.as_fd(), &name, 0) {
            Ok(true) => {
                report.removed += 1;
                ours.remove(&name);
            }
            // Somebody keeps files there: theirs to remove.
            Ok(false) => {}
            Err(error) => report.problem(&name, error.desc()),
        }
    }
    write_list(datasets.as_fd(), &ours, &mut report);
    Ok(report)
}

/// Makes the directories of one more dataset.
pub(crate) fn add(home: &Path, skeleton: &Skeleton) -> Result<Report, Failure> {
    let datasets = open_datasets(home)?;
    let mut report = Report::default();
    let mut ours = read_list(datasets.as_fd(), &mut report);
    lay(datasets.as_fd(), skeleton, &mut ours, &mut report);
    write_list(datasets.as_fd(), &ours, &mut report);
    Ok(report)
}

fn open_datasets(home: &Path) -> Result<OwnedFd, Failure> {
    let unusable = |path: &Path, error: Errno| Failure::Skeleton {
        root: home.join(DATASETS_DIRECTORY),
        problems: vec![explain(path, error)],
    };
    // The home itself is the caller's word; what lies below is not.
    let home_directory = open(
        home,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| unusable(home, error))?;
    directory(home_directory.as_fd(), DATASETS_DIRECTORY)
        .map_err(|error| unusable(&home.join(DATASETS_DIRECTORY), error))
}

fn explain(path: &Path, error: Errno) -> String {
    let why = match error {
        Errno::ELOOP | Errno::ENOTDIR => "is a file or a symbolic link, not a directory",
        _ => error.desc(),
    };
    format!("{}: {why}", path.display())
}

fn lay(datasets: BorrowedFd<'_>, skeleton: &Skeleton, ours: &mut BTreeSet<String>, report: &mut Report) {
    let name = &skeleton.dataset;
    if !is_dataset_name(name) {
        return report.problem(&format!("{name:?}"), "not a dataset's name");
    }
    let existed = open_directory(datasets, name).is_ok();
    let root = match directory(datasets, name) {
        Ok(root) => root,
        Err(error) => return report.problem(name, &explain(Path::new(name), error)),
    };
    // A directory that was there before belongs to the person, who may have made it for this very dataset.
    if !existed {
        ours.insert(name.clone());
    }
    let mut way: Vec<(&str, OwnedFd)> = Vec::new();
    for path in &skeleton.directories {
        let Some(parts) = components(path) else {
            report.problem(
                &format!("{name}: {path:?}"),
                "not a relative path below the dataset",
            );
            continue;
        };
        let shared = way
            .iter()
            .zip(&parts)
            .take_while(|((open, _), part)| open == *part)
            .count();
        way.truncate(shared);
        for part in parts.into_iter().skip(shared) {
            let parent = way.last().map_or(root.as_fd(), |(_, open)| open.as_fd());
            match directory(parent, part) {
                Ok(open) => way.push((part, open)),
                Err(error) => {
                    report.problem(name, &explain(Path::new(path), error));
                    break;
                }
            }
        }
    }
    report.laid += 1;
}

/// The parts of a relative path that cannot lead anywhere but down.
fn components(path: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = path.split('/').collect();
    let is_name = |part: &&str| {
        !part.is_empty() && *part != "." && *part != ".." && part.len() <= 255 && !part.contains('\0')
    };
    (parts.len() <= MAX_DEPTH && parts.iter().all(is_name)).then_some(parts)
}

fn is_dataset_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=40).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn open_directory(parent: BorrowedFd<'_>, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Opens the directory `name` in `parent`, which is made with mode 0755 where it is missing.
fn directory(parent: BorrowedFd<'_>, name: &str) -> nix::Result<OwnedFd> {
    let mode = Mode::from_bits_truncate(0o755);
    match mkdirat(parent, name, mode) {
        Ok(()) => {
            let made = open_directory(parent, name)?;
            // Whatever the umask was.
            fchmod(&made, mode)?;
            Ok(made)
        }
        Err(Errno::EEXIST) => open_directory(parent, name),
        // A read-only home may hold the directory already.
        Err(error) => open_directory(parent, name).map_err(|_| error),
    }
}

/// Removes the empty directories of a tree; whether all of it went.
fn prune(parent: BorrowedFd<'_>, name: &str, depth: usize) -> nix::Result<bool> {
    let open = match open_directory(parent, name) {
        Ok(open) => open,
        Err(Errno::ENOENT) => return Ok(true),
        Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(false),
        Err(error) => return Err(error),
    };
    if depth >= MAX_DEPTH {
        return Ok(false);
    }
    let mut listing = Dir::from_fd(open.try_clone().map_err(|_| Errno::EMFILE)?)?;
    let mut below: Vec<CString> = Vec::new();
    for entry in listing.iter() {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        match entry.file_type() {
            Some(Type::Directory) | None => below.push(entry.file_name().to_owned()),
            Some(_) => return Ok(false),
        }
    }
    drop(listing);
    for child in below {
        // Skeleton names came as UTF-8; another name is not ours.
        let Ok(child) = child.to_str() else {
            return Ok(false);
        };
        if !prune(open.as_fd(), child, depth + 1)? {
            return Ok(false);
        }
    }
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::EBUSY) => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_list(datasets: BorrowedFd<'_>, report: &mut Report) -> BTreeSet<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(datasets, LIST, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::ENOENT) => return BTreeSet::new(),
        Err(error) => {
            report.problem(LIST, error.desc());
            return BTreeSet::new();
        }
    };
    let mut text = String::new();
    if let Err(error) = file.take(MAX_LIST_BYTES).read_to_string(&mut text) {
        report.problem(LIST, &error.to_string());
        return BTreeSet::new();
    }
    text.lines()
        .filter(|name| is_dataset_name(name))
        .map(str::to_owned)
        .collect()
}

fn write_list(datasets: BorrowedFd<'_>, names: &BTreeSet<String>, report: &mut Report) {
    let text = names.iter().fold(String::new(), |text, name| text + name + "\n");
    let written = (|| {
        match unlinkat(datasets, NEW_LIST, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(datasets, NEW_LIST, flags, Mode::from_bits_truncate(0o644))?;
        std::fs::File::from(file).write_all(text.as_bytes())?;
        renameat(datasets, NEW_LIST, datasets, LIST)?;
        Ok::<(), std::io::Error>(())
    })();
    if let Err(error) = written {
        report.problem(LIST, &error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn skeleton(dataset: &str, directories: &[&str]) -> Skeleton {
        Skeleton {
            lease: "00".to_owned(),
            dataset: dataset.to_owned(),
            directories: directories.iter().map(|&path| path.to_owned()).collect(),
        }
    }

    fn home() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn directories_appear_with_the_lease_and_go_with_it() {
        let home = home();
        let report = sync(home.path(), &[skeleton("uis", &["a", "a/b", "a/b/c", "d e/ü"])]).unwrap();
        assert_eq!((report.laid, report.removed, report.problems.len()), (1, 0, 0));
        for path in ["uis/a/b/c", "uis/d e/ü"] {
            let metadata = std::fs::metadata(home.path().join("datasets").join(path)).unwrap();
            assert!(metadata.is_dir());
            assert_eq!(metadata.permissions().mode() & 0o777, 0o755);
        }
        sync(home.path(), &[skeleton("uis", &["a", "a/b", "a/b/c", "d e/ü"])]).unwrap();
        let report = sync(home.path(), &[]).unwrap();
        assert_eq!(report.removed, 1);
        assert!(!home.path().join("datasets/uis").exists());
    }

    #[test]
    fn what_a_person_made_or_filled_stays() {
        let home = home();
        std::fs::create_dir_all(home.path().join("datasets/mine/empty")).unwrap();
        sync(
            home.path(),
            &[skeleton("uis", &["a", "b"]), skeleton("mine", &["x"])],
        )
        .unwrap();
        std::fs::write(home.path().join("datasets/uis/a/notes.txt"), "mine").unwrap();
        let report = sync(home.path(), &[]).unwrap();
        assert_eq!(report.removed, 0);
        assert!(home.path().join("datasets/uis/a/notes.txt").exists());
        assert!(home.path().join("datasets/mine/empty").is_dir());
        std::fs::remove_file(home.path().join("datasets/uis/a/notes.txt")).unwrap();
        assert_eq!(
            sync(home.path(), &[]).unwrap().removed,
            1,
            "the emptied tree is still ours to remove"
        );
    }

    #[test]
    fn no_link_leads_out_of_the_home() {
        let outside = home();
        let home = home();
        std::fs::create_dir(home.path().join("datasets")).unwrap();
        symlink(outside.path(), home.path().join("datasets/linked")).unwrap();
        std::fs::create_dir(home.path().join("datasets/inner")).unwrap();
        symlink(outside.path(), home.path().join("datasets/inner/a")).unwrap();
        std::fs::write(outside.path().join("list"), "kept\n").unwrap();
        let report = sync(
            home.path(),
            &[skeleton("linked", &["x"]), skeleton("inner", &["a", "a/x", "b"])],
        )
        .unwrap();
        assert_eq!(report.problems.len(), 3, "{:?}", report.problems);
        assert!(home.path().join("datasets/inner/b").is_dir());
        assert_eq!(
            std::fs::read_dir(outside.path()).unwrap().count(),
            1,
            "something was made outside"
        );

        std::fs::create_dir(outside.path().join("kept")).unwrap();
        std::fs::remove_file(home.path().join("datasets/.leasehold")).unwrap();
        symlink(
            outside.path().join("list"),
            home.path().join("datasets/.leasehold"),
        )
        .unwrap();
        assert_eq!(sync(home.path(), &[]).unwrap().problems.len(), 1);
        assert_eq!(
            std::fs::read_to_string(outside.path().join("list")).unwrap(),
            "kept\n"
        );

        let other = self::home();
        symlink(outside.path(), other.path().join("datasets")).unwrap();
        assert!(sync(other.path(), &[skeleton("uis", &["x"])]).is_err());
        assert!(!outside.path().join("uis").exists());
    }

    #[test]
    fn a_listed_link_is_not_pruned_through() {
        let outside = home();
        std::fs::create_dir(outside.path().join("empty")).unwrap();
        let home = home();
        sync(home.path(), &[skeleton("uis", &[])]).unwrap();
        std::fs::remove_dir(home.path().join("datasets/uis")).unwrap();
        symlink(outside.path(), home.path().join("datasets/uis")).unwrap();
        assert_eq!(sync(home.path(), &[]).unwrap().removed, 0);
        assert!(outside.path().join("empty").is_dir());
    }

    #[test]
    fn hostile_names_make_nothing() {
        let home = home();
        for name in ["", ".", "..", "a/b", "/etc", "-a", "A", "ü", ".leasehold"] {
            let report = sync(home.path(), &[skeleton(name, &["x"])]).unwrap();
            assert_eq!(report.problems.len(), 1, "{name}");
        }
        let long = format!("a/{}", "x".repeat(256));
        let deep = vec!["d"; MAX_DEPTH + 1].join("/");
        let hostile = [
            "..",
            "../x",
            "a/../../x",
            "/etc",
            "",
            "a//b",
            "a/.",
            "a\0b",
            &long,
            &deep,
        ];
        for path in hostile {
            let report = sync(home.path(), &[skeleton("uis", &[path])]).unwrap();
            assert_eq!(report.problems.len(), 1, "{path:?}");
        }
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
        assert_eq!(
            std::fs::read_dir(home.path().join("datasets/uis"))
                .unwrap()
                .count(),
            0
        );
        assert!(components(&vec!["d"; MAX_DEPTH].join("/")).is_some());
    }
}

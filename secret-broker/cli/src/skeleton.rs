//! Keeps the empty directories of leased datasets in a home: the mount points and the view that notebooks have of data
//! which only jobs see.
//!
//! Promises: nothing outside `<home>/datasets` is touched but that list, whatever symbolic links are in the way, since each step is
//! opened below the one before and no link is followed; only directories are made; only empty directories of datasets
//! that an earlier run laid (it keeps their names in `<home>/.leasehold-datasets`) are removed.

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
const LIST: &str = ".leasehold-datasets";
const NEW_LIST: &str = ".leasehold-datasets.new";
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
    let (home, datasets) = open_home(home)?;
    let mut report = Report::default();
    let mut ours: BTreeSet<String> = read_list(home.as_fd(), &mut report);
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
    write_list(home.as_fd(), &ours, &mut report);
    Ok(report)
}

/// Makes the directories of one more dataset.
pub(crate) fn add(home: &Path, skeleton: &Skeleton) -> Result<Report, Failure> {
    let (home, datasets) = open_home(home)?;
    let mut report = Report::default();
    let mut ours = read_list(home.as_fd(), &mut report);
    lay(datasets.as_fd(), skeleton, &mut ours, &mut report);
    write_list(home.as_fd(), &ours, &mut report);
    Ok(report)
}

/// The home, and `datasets` in it.
fn open_home(home: &Path) -> Result<(OwnedFd, OwnedFd), Failure> {
    let unusable = |path: &Path, error: Errno| Failure::Skeleton {
        root: home.join(DATASETS_DIRECTORY),
        problems: vec![explain(path, error)],
    };
    // The home itself is the caller's word; what lies below is not.
    let root = open(
        home,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| unusable(home, error))?;
    let datasets = directory(root.as_fd(), DATASETS_DIRECTORY)
        .map_err(|error| unusable(&home.join(DATASETS_DIRECTORY), error))?;
    Ok((root, datasets))
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

fn read_list(home: BorrowedFd<'_>, report: &mut Report) -> BTreeSet<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(home, LIST, flags, Mode::empty()) {
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

fn write_list(home: BorrowedFd<'_>, names: &BTreeSet<String>, report: &mut Report) {
    let text = names.iter().fold(String::new(), |text, name| text + name + "\n");
    let written = (|| {
        match unlinkat(home, NEW_LIST, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(home, NEW_LIST, flags, Mode::from_bits_truncate(0o644))?;
        std::fs::File::from(file).write_all(text.as_bytes())?;
        renameat(home, NEW_LIST, home, LIST)?;
        Ok::<(), std::io::Error>(())
    })();
    if let Err(error) = written {
        report.problem(LIST, &error.to_string());
    }
}

#[cfg(test)]
mod tests;

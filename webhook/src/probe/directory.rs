//! Opens a directory below a root without ever following a link: each component relative to the one before, by descriptor,
//! so that nothing can be exchanged between the look and the use.
//!
//! The kubelet mounts the path later, and follows links. So nobody but the operator may be able to exchange a part of it in
//! between: the root and every directory above the dataset belong to root, or to whom the root belongs, and to no other
//! writer. The dataset's own directory may be anybody's.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_path, openat};
use nix::libc::uid_t;
use nix::sys::stat::{Mode, SFlag, fstat};

use super::{Code, Finding};

/// Opens `path` below `root`. The descriptor serves to open others relative to it (`O_PATH`).
pub(super) fn open(root: &Path, path: &str) -> Result<OwnedFd, Finding> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut at = open_path(root, flags, Mode::empty()).map_err(|errno| {
        Finding::new(
            Code::ProbeFailed,
            format!("the allowed root cannot be opened on the node ({errno}); the operator has to see to it"),
        )
    })?;
    let parts: Vec<&str> = path.split('/').collect();
    if parts
        .iter()
        .any(|part| matches!(*part, "" | "." | "..") || part.contains('\0'))
    {
        return Err(Finding::new(
            Code::VolumeInvalid,
            "the dataset's path is not in its normal form; register it without `.`, `..` and doubled slashes",
        ));
    }
    let operator = fstat(&at)
        .map_err(|errno| Blocked::Failed(errno).finding(0, parts.len()))?
        .st_uid;
    for (position, part) in parts.iter().enumerate() {
        at = guarded(&at, operator)
            .and_then(|()| step(&at, part))
            .map_err(|blocked| blocked.finding(position + 1, parts.len()))?;
    }
    Ok(at)
}

/// Whether only the operator can exchange what is in this directory.
fn guarded(at: &impl AsFd, operator: uid_t) -> Result<(), Blocked> {
    let stat = fstat(at).map_err(Blocked::Failed)?;
    if is_exposed(Mode::from_bits_truncate(stat.st_mode), stat.st_uid, operator) {
        return Err(Blocked::Exposed);
    }
    Ok(())
}

pub(super) fn is_exposed(mode: Mode, owner: uid_t, operator: uid_t) -> bool {
    mode.intersects(Mode::S_IWGRP | Mode::S_IWOTH) || ![0, operator].contains(&owner)
}

/// Opens one directory in another.
pub(super) fn step(at: &impl AsFd, name: &str) -> Result<OwnedFd, Blocked> {
    // Without O_DIRECTORY: a link would then look like a file. With O_NOFOLLOW the descriptor is of the link itself.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = openat(at, name, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::ENOENT => Blocked::Missing,
        Errno::ENOTDIR => Blocked::NotADirectory,
        Errno::ELOOP => Blocked::Link,
        errno => Blocked::Failed(errno),
    })?;
    let mode = fstat(&opened).map_err(Blocked::Failed)?.st_mode;
    match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => Ok(opened),
        SFlag::S_IFLNK => Err(Blocked::Link),
        _ => Err(Blocked::NotADirectory),
    }
}

/// Why one step of a path could not be taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    Missing,
    Link,
    Exposed,
    NotADirectory,
    Failed(Errno),
}

impl Blocked {
    fn finding(self, position: usize, of: usize) -> Finding {
        let place = format!("part {position} of {of} of its path below the allowed root");
        match self {
            Self::Missing => Finding::new(
                Code::PathMissing,
                format!(
                    "the dataset's directory does not exist on its node: {place} is missing; create it, it is looked for again"
                ),
            ),
            Self::Link => Finding::new(
                Code::PathSymlink,
                format!(
                    "the dataset's directory is behind a symbolic link: {place} is one; use a real directory"
                ),
            ),
            Self::Exposed => Finding::new(
                Code::PathExposed,
                format!(
                    "others than the operator could exchange {place}: the directory that it is in is writable for its group or for others, or belongs to another user than the allowed root; make directories above the dataset root's alone"
                ),
            ),
            Self::NotADirectory => Finding::new(
                Code::NotADirectory,
                format!(
                    "the dataset is not a directory on its node: {place} is something else; use a directory"
                ),
            ),
            Self::Failed(errno) => Finding::new(
                Code::ProbeFailed,
                format!("the dataset's directory cannot be opened on its node: {place} failed with {errno}"),
            ),
        }
    }
}

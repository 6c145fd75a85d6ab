//! The directories of a dataset, level by level, so that what a bound cuts off is the deepest. Links are not followed and not
//! listed; names that are not UTF-8 or hold control characters are left out with everything below them.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::directory;

/// How much of a dataset is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Levels of directories.
    pub depth: usize,
    /// Directories in the skeleton.
    pub entries: usize,
    /// Bytes of all paths in the skeleton.
    pub bytes: usize,
    /// Entries of any kind that are looked at.
    pub visited: usize,
    /// Time.
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            depth: 16,
            entries: 10_000,
            bytes: 1 << 20,
            visited: 5_000_000,
            time: Duration::from_secs(20),
        }
    }
}

/// True for a relative path of at most `depth` plain names.
pub(super) fn is_sound(path: &str, depth: usize) -> bool {
    path.split('/').count() <= depth && path.split('/').all(is_sound_name)
}

fn is_sound_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.chars().any(|c| c.is_control() || c == '/')
}

/// Lists what is below `dataset`; true if something was cut off. A directory below it that can't be read counts as empty.
pub(super) fn read(dataset: &OwnedFd, bounds: Bounds) -> Result<(Vec<String>, bool), Errno> {
    let began = Instant::now();
    let mut found: Vec<String> = Vec::new();
    let mut bytes = 0;
    let mut visited = 0;
    let mut waiting: VecDeque<String> = VecDeque::from([String::new()]);
    let mut truncated = false;
    while let Some(parent) = waiting.pop_front() {
        let depth = if parent.is_empty() {
            0
        } else {
            parent.split('/').count()
        };
        let mut listing = match open_listing(dataset, &parent) {
            Ok(listing) => listing,
            Err(errno) if parent.is_empty() => return Err(errno),
            Err(_) => continue,
        };
        let mut children = Vec::new();
        for entry in listing.iter() {
            visited += 1;
            if visited > bounds.visited || began.elapsed() > bounds.time {
                truncated = true;
                break;
            }
            let Ok(entry) = entry else { break };
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            // Some file systems don't tell an entry's type; opening it does.
            let may_be_directory = matches!(entry.file_type(), Some(Type::Directory) | None);
            if !may_be_directory || !is_sound_name(name) {
                continue;
            }
            let path = if parent.is_empty() {
                name.to_owned()
            } else {
                format!("{parent}/{name}")
            };
            if entry.file_type().is_none() && descend(dataset, &path).is_err() {
                continue;
            }
            if depth >= bounds.depth {
                truncated = true;
                break;
            }
            children.push(path);
        }
        children.sort_unstable();
        for path in children {
            bytes += path.len();
            if found.len() >= bounds.entries || bytes > bounds.bytes {
                found.sort_unstable();
                return Ok((found, true));
            }
            found.push(path.clone());
            waiting.push_back(path);
        }
    }
    found.sort_unstable();
    Ok((found, truncated))
}

fn descend(dataset: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let mut at = dataset.try_clone().map_err(|_| Errno::EMFILE)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        at = directory::step(&at, name).map_err(|_| Errno::ENOTDIR)?;
    }
    Ok(at)
}

fn open_listing(dataset: &OwnedFd, path: &str) -> Result<Dir, Errno> {
    let at = descend(dataset, path)?;
    Dir::openat(
        &at,
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

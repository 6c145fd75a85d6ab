//! Makes files that hold secrets, or what must not get lost: whole or not at all, on the disk, readable by their owner alone.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Makes a file with mode 0600 that is on disk, name included, when this returns. Never over one that is there.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::AlreadyExists`] where there is such a file.
pub fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let partial = write_beside(path, content)?;
    let linked = fs::hard_link(&partial, path);
    fs::remove_file(&partial)?;
    linked?;
    sync_name(path)
}

/// The same, in the place of a file that may be there: after a crash there is the one or the other. It belongs to whom the other belonged to
/// where that is allowed: an operator who is root must not take a file away from the broker.
///
/// # Errors
/// What the operating system says.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let partial = write_beside(path, content)?;
    if let Ok(before) = fs::metadata(path)
        && let Err(error) = std::os::unix::fs::chown(&partial, Some(before.uid()), Some(before.gid()))
    {
        tracing::debug!(path = %path.display(), %error, "could not keep the file's owner");
    }
    let renamed = fs::rename(&partial, path);
    if renamed.is_err() {
        let _not_wanted = fs::remove_file(&partial);
    }
    renamed?;
    sync_name(path)
}

/// Under another name, since a crash must not leave half of it under the final one. Nobody else has that name, nor a file under it before.
fn write_beside(path: &Path, content: &[u8]) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let mut partial = OsString::from(path);
    partial.push(format!(".{}.partial", hex::encode(random)));
    let partial = PathBuf::from(partial);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        let _half_written = fs::remove_file(&partial);
    }
    written?;
    Ok(partial)
}

/// Makes a name durable that was made or taken away.
///
/// # Errors
/// What the operating system says.
pub fn sync_name(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

//! Makes files that hold secrets: whole or not at all, readable by their owner alone, never over one that is there.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Makes a file with mode 0600 that is on disk, name included, when this returns.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::AlreadyExists`] where there is such a file.
pub fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    // A crash must not leave half of it under the final name.
    let mut partial = OsString::from(path);
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)?;
    file.write_all(content).and_then(|()| file.sync_all())?;
    let linked = fs::hard_link(&partial, path);
    fs::remove_file(&partial)?;
    linked?;
    match path.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

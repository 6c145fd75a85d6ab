//! An operator's work on the ring's file: make it, add a version of the key-encryption key, take one away.
//!
//! The file is replaced whole. A running broker reads it again and wraps with what is new; it does not have to be stopped.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::Path;

use super::pkcs11::Pkcs11Settings;
use super::ring_file::{self, Place, PseudonymKey, RingFile};
use super::service::KeyError;
use super::{KeyRingError, check, endorsement, open_pseudonym_key, read, services, wrap_pseudonym_key};
use crate::private_file;

/// Makes a new ring file, readable by its owner alone, with one version: in the hardware module where there is one, else in the file.
/// Never overwrites one.
///
/// # Errors
/// [`KeyRingError`].
pub async fn create(path: &Path, pkcs11: Option<&Pkcs11Settings>) -> Result<(), KeyRingError> {
    let services = services(pkcs11);
    let write = |source| KeyRingError::Write {
        path: path.to_owned(),
        source,
    };
    if path.exists() {
        // Before a key is made that nothing would name.
        return Err(write(std::io::ErrorKind::AlreadyExists.into()));
    }
    let place = services.make(1).await.map_err(KeyRingError::Make)?;
    let made = async {
        let key = ring_file::new_pseudonym_key()?;
        let mut file = RingFile {
            keks: [(1, place)].into(),
            endorsements: BTreeMap::new(),
            pseudonym: PseudonymKey::Wrapped(Vec::new()),
        };
        wrap_pseudonym_key(&services, &mut file, &key).await?;
        Ok(file)
    };
    let file = made.await.inspect_err(|_: &KeyRingError| {
        tracing::warn!("a key was made in the module and is named by no ring");
    })?;
    private_file::create(path, file.render().as_bytes()).map_err(write)
}

/// Adds a version, which wraps from then on: in the hardware module where there is one, else in the file. The newest before vouches for it.
/// Yields its number.
///
/// # Errors
/// [`KeyRingError`]; the file stays what it was.
pub async fn rotate(path: &Path, pkcs11: Option<&Pkcs11Settings>) -> Result<u32, KeyRingError> {
    let _alone = alone(path)?;
    let services = services(pkcs11);
    let mut file = RingFile::parse(&read(path)?)?;
    check(&services, &file).await?;
    let pseudonym_key = open_pseudonym_key(&services, &file).await?;
    let version = file
        .current()
        .checked_add(1)
        .ok_or_else(|| KeyRingError::Refused("the key ring has no version left".to_owned()))?;
    let place = services.make(version).await.map_err(KeyRingError::Make)?;
    if let Some((by, older)) = file.keks.last_key_value() {
        let endorsed = endorsement::endorse(&services, (*by, older), (version, &place)).await;
        let endorsed = endorsed.map_err(|source| KeyRingError::Key { version, source })?;
        file.endorsements.insert(version, endorsed);
    }
    file.keks.insert(version, place);
    wrap_pseudonym_key(&services, &mut file, &pseudonym_key).await?;
    replace(path, &file)?;
    Ok(version)
}

/// Whether the file lets a version go: not the one that wraps, nor one that the pseudonym key is wrapped by. What data keys are wrapped by
/// is the key store's to say.
///
/// # Errors
/// [`KeyRingError::Refused`] with what to do.
pub fn may_go(path: &Path, version: u32) -> Result<(), KeyRingError> {
    let file = RingFile::parse(&read(path)?)?;
    let refused = |why: String| Err(KeyRingError::Refused(why));
    if version >= file.current() {
        return refused(format!(
            "version {version} is the newest, which wraps: `keys rotate` first"
        ));
    }
    if file.pseudonym_wrapped_by() == Some(version) {
        return refused(format!(
            "the pseudonym key is wrapped by version {version}: `keys rotate` first, which wraps it anew"
        ));
    }
    Ok(())
}

/// Takes a version away for good: from the file, and from the hardware module. One that the file does not name is no error; one that it
/// names and the module has not is, unless the operator knows that it `is_gone`.
///
/// # Errors
/// [`KeyRingError`].
pub async fn remove(
    path: &Path,
    version: u32,
    pkcs11: Option<&Pkcs11Settings>,
    is_gone: bool,
) -> Result<(), KeyRingError> {
    let _alone = alone(path)?;
    may_go(path, version)?;
    let services = services(pkcs11);
    let mut file = RingFile::parse(&read(path)?)?;
    // As it is: a ring that cannot be written must not lose a key that it goes on naming.
    replace(path, &file)?;
    let Some(place) = file.keks.remove(&version) else {
        return Ok(());
    };
    file.endorsements.remove(&version);
    if matches!(place, Place::Pkcs11(_)) && services.pkcs11.is_none() {
        let source = KeyError::NoModule;
        return Err(KeyRingError::Key { version, source });
    }
    // The line last: as long as it is there, this can be done again.
    let destroyed = services.destroy(&place).await;
    let is_found = destroyed.map_err(|source| KeyRingError::Key { version, source })?;
    if !is_found && !is_gone {
        return Err(KeyRingError::Refused(format!(
            "the token has nothing of version {version}, so that nothing was destroyed: it went before, or it is in another token; look there, and if it is gone take its line out with --key-is-gone"
        )));
    }
    replace(path, &file)
}

/// Which versions the file has.
///
/// # Errors
/// [`KeyRingError`].
pub fn versions(path: &Path) -> Result<Vec<u32>, KeyRingError> {
    let file = RingFile::parse(&read(path)?)?;
    Ok(file.keks.keys().copied().collect())
}

/// One command at a time changes the ring: two that read the same file would write over each other. Held by the directory, so that no file
/// is left behind; let go with what is yielded, or with the process.
fn alone(path: &Path) -> Result<File, KeyRingError> {
    let failed = |source| KeyRingError::Write {
        path: path.to_owned(),
        source,
    };
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let directory = File::open(directory).map_err(failed)?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::Error(error)) => Err(failed(error)),
        Err(TryLockError::WouldBlock) => Err(KeyRingError::Refused(
            "another command is changing the key ring; try again when it is done".to_owned(),
        )),
    }
}

fn replace(path: &Path, file: &RingFile) -> Result<(), KeyRingError> {
    private_file::replace(path, file.render().as_bytes()).map_err(|source| KeyRingError::Write {
        path: path.to_owned(),
        source,
    })
}

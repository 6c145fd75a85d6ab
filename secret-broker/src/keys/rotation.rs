//! An operator's work on the ring's file: make it, add a version of the key-encryption key, take one away.
//!
//! The file is replaced whole. A running broker reads it again and wraps with what is new; it does not have to be stopped.

use std::path::Path;

use super::pkcs11::Pkcs11Settings;
use super::ring_file::{self, Place, PseudonymKey, RingFile};
use super::service::KeyError;
use super::{KeyRingError, check, open_pseudonym_key, read, services, wrap_pseudonym_key};
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

/// Adds a version, which wraps from then on: in the hardware module where there is one, else in the file. Yields its number.
///
/// # Errors
/// [`KeyRingError`]; the file stays what it was.
pub async fn rotate(path: &Path, pkcs11: Option<&Pkcs11Settings>) -> Result<u32, KeyRingError> {
    let services = services(pkcs11);
    let mut file = RingFile::parse(&read(path)?)?;
    check(&services, &file).await?;
    let pseudonym_key = open_pseudonym_key(&services, &file).await?;
    let version = file
        .current()
        .checked_add(1)
        .ok_or_else(|| KeyRingError::Refused("the key ring has no version left".to_owned()))?;
    let place = services.make(version).await.map_err(KeyRingError::Make)?;
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

/// Takes a version away for good: from the file, and from the hardware module. One that is gone already is no error.
///
/// # Errors
/// [`KeyRingError`].
pub async fn remove(path: &Path, version: u32, pkcs11: Option<&Pkcs11Settings>) -> Result<(), KeyRingError> {
    may_go(path, version)?;
    let services = services(pkcs11);
    let mut file = RingFile::parse(&read(path)?)?;
    // As it is: a ring that cannot be written must not lose a key that it goes on naming.
    replace(path, &file)?;
    let Some(place) = file.keks.remove(&version) else {
        return Ok(());
    };
    if matches!(place, Place::Pkcs11(_)) && services.pkcs11.is_none() {
        let source = KeyError::NoModule;
        return Err(KeyRingError::Key { version, source });
    }
    // The line last: as long as it is there, this can be done again.
    let destroyed = services.destroy(&place).await;
    destroyed.map_err(|source| KeyRingError::Key { version, source })?;
    replace(path, &file)
}

fn replace(path: &Path, file: &RingFile) -> Result<(), KeyRingError> {
    private_file::replace(path, file.render().as_bytes()).map_err(|source| KeyRingError::Write {
        path: path.to_owned(),
        source,
    })
}

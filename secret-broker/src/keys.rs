//! The organisation's key ring: the key-encryption keys that wrap data keys, and the key that makes pseudonyms.
//!
//! The ring is a [file](ring_file) that says where each version of the key-encryption key is: in the file itself or in a hardware module.
//! The highest version wraps, the others unwrap what they wrapped. The file is read again while the broker runs, so that a version can be
//! added and taken away. Data keys never leave this process unwrapped, and a key in a hardware module never enters it.
//!
//! The key that makes pseudonyms is in memory, as every request needs it; where key-encryption keys are in a hardware module, it is wrapped
//! by one of them in the file.

pub mod endorsement;
pub mod pkcs11;
pub mod rewrap;
pub mod ring_file;
pub mod rotation;
pub mod service;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::audit::SealKey;
use crate::crypto::{self, Context, CryptoError, Key};
use crate::identity::Subject;
use crate::secret::Secret;
use crate::store::data_keys::DataKey;
use crate::store::receipts::ReceiptSeal;
use endorsement::KnownKek;
use pkcs11::Pkcs11Settings;
use ring_file::{PseudonymKey, RingFile, RingFileError};
use service::{KeyError, Services};

/// Why a key ring cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// The file cannot be read.
    #[error(
        "could not read the key ring {path}: {source}; make one with `leasehold-secret-broker keys init --kek-file {path}`"
    )]
    Read {
        /// The ring's file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error(
        "could not write the key ring {path}: {source}; check the directory, and for a new ring that none is there already"
    )]
    Write {
        /// The ring's file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// What it says is no ring.
    #[error(transparent)]
    File(#[from] RingFileError),
    /// A key of it cannot be used.
    #[error("could not use version {version} of the key-encryption key: {source}")]
    Key {
        /// Which one.
        version: u32,
        /// Why.
        source: KeyError,
    },
    /// A new key cannot be made.
    #[error("could not make a key-encryption key: {0}")]
    Make(KeyError),
    /// There would be no way back.
    #[error("{0}")]
    Refused(String),
}

impl From<CryptoError> for KeyRingError {
    fn from(error: CryptoError) -> Self {
        Self::Make(error.into())
    }
}

/// The keys of the organisation.
pub struct KeyRing {
    path: PathBuf,
    services: Services,
    loaded: ArcSwap<Loaded>,
}

struct Loaded {
    file: RingFile,
    pseudonym_key: Secret<Vec<u8>>,
    sha256: [u8; 32],
}

impl KeyRing {
    /// Reads the ring and tries each of its keys.
    ///
    /// # Errors
    /// [`KeyRingError`].
    pub async fn load(path: &Path, pkcs11: Option<&Pkcs11Settings>) -> Result<Self, KeyRingError> {
        let services = services(pkcs11);
        let text = read(path)?;
        let loaded = load(&services, &text).await?;
        Ok(Self {
            path: path.to_owned(),
            services,
            loaded: ArcSwap::from_pointee(loaded),
        })
    }

    /// Whether the file is another one than was read last.
    ///
    /// # Errors
    /// [`KeyRingError`].
    pub fn has_changed(&self) -> Result<bool, KeyRingError> {
        Ok(digest(&read(&self.path)?) != self.loaded.load().sha256)
    }

    /// Reads the file again. Yields which of its versions are not `known` yet, or nothing where it is the same file; a broken one, one with
    /// another pseudonym key, one that does not open the data keys that are `held`, one with a version that nobody vouches for, or one
    /// into which a retired version was put back, is not taken.
    ///
    /// # Errors
    /// [`KeyRingError`]; the ring stays what it was.
    pub async fn reload(
        &self,
        organisation: &str,
        held: &[DataKey],
        known: &[KnownKek],
    ) -> Result<Option<Vec<KnownKek>>, KeyRingError> {
        let text = read(&self.path)?;
        let before = self.loaded.load_full();
        if digest(&text) == before.sha256 {
            return Ok(None);
        }
        let loaded = load(&self.services, &text).await?;
        if loaded.pseudonym_key.expose() != before.pseudonym_key.expose() {
            let why = "the key ring has another pseudonym key than before, which would make other people of everybody; restore its line";
            return Err(KeyRingError::Refused(why.to_owned()));
        }
        let retired = endorsement::retired(&loaded.file, known).into_iter();
        let mut put_back = retired.filter(|version| !before.file.keks.contains_key(version));
        if let Some(version) = put_back.next() {
            return Err(KeyRingError::Refused(format!(
                "version {version} was retired and is in the key ring again: take its line out"
            )));
        }
        let new = accept(&self.services, &loaded, known).await?;
        opens(&self.services, &loaded, organisation, held).await?;
        self.loaded.store(Arc::new(loaded));
        Ok(Some(new))
    }

    /// Accepts every version: one that is known, or that a known one vouches for. Yields those that are not known yet, to be noted. Where
    /// none is known, all are taken as they are.
    ///
    /// # Errors
    /// [`KeyRingError::Refused`] with the version and what to do.
    pub async fn accept(&self, known: &[KnownKek]) -> Result<Vec<KnownKek>, KeyRingError> {
        accept(&self.services, &self.loaded.load_full(), known).await
    }

    /// Whether the ring opens some of what is wrapped by each version. Another key may have taken the place of one: what it wrapped would be
    /// lost, and nothing would tell before somebody needs it.
    ///
    /// # Errors
    /// [`KeyRingError::Refused`] with the version and what to do.
    pub async fn opens(&self, organisation: &str, held: &[DataKey]) -> Result<(), KeyRingError> {
        opens(&self.services, &self.loaded.load_full(), organisation, held).await
    }

    /// Whether every key can be used now.
    ///
    /// # Errors
    /// [`KeyRingError::Key`].
    pub async fn check(&self) -> Result<(), KeyRingError> {
        check(&self.services, &self.loaded.load().file).await
    }

    /// The version that wraps.
    #[must_use]
    pub fn current(&self) -> u32 {
        self.loaded.load().file.current()
    }

    /// All versions, and where each is.
    #[must_use]
    pub fn versions(&self) -> Vec<(u32, &'static str)> {
        let loaded = self.loaded.load();
        let keks = loaded.file.keks.iter();
        keks.map(|(version, place)| (*version, place.name())).collect()
    }

    /// Wraps a data key of a dataset with the newest key-encryption key. Yields the wrapping key's version too.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn wrap(&self, of: DataKeyOf<'_>, data_key: &Key) -> Result<(u32, Vec<u8>), KeyError> {
        let loaded = self.loaded.load_full();
        let current = loaded.file.current();
        let purpose = of.purpose();
        let context = of.context(&purpose, current);
        let place = place(&loaded, current)?;
        let wrapped = self.services.wrap(place, &context, data_key.expose()).await?;
        // A module may encrypt what it will not decrypt. Opened once, it is known before anything relies on it.
        let opened = self.services.unwrap(place, &context, &wrapped).await?;
        if opened.expose().iter().ne(data_key.expose().iter()) {
            return Err(CryptoError::NotAuthentic.into());
        }
        Ok((current, wrapped))
    }

    /// Unwraps a data key of a dataset.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn unwrap(&self, of: DataKeyOf<'_>, wrapped: &[u8]) -> Result<Key, KeyError> {
        unwrap(&self.services, &self.loaded.load_full(), of, wrapped).await
    }

    /// The name under which a person appears on the ledger: 64 hexadecimal digits that only this organisation can make.
    #[must_use]
    pub fn pseudonym(&self, subject: &Subject) -> String {
        hex::encode(crypto::keyed_hash(
            self.loaded.load().pseudonym_key.expose(),
            &[b"pseudonym", subject.issuer.as_bytes(), subject.sub.as_bytes()],
        ))
    }

    /// What seals receipts of destroyed data keys.
    #[must_use]
    pub fn receipt_seal(&self) -> ReceiptSeal {
        receipt_seal(&self.loaded.load().pseudonym_key)
    }

    /// What seals the audit's records.
    #[must_use]
    pub fn audit_seal(&self) -> SealKey {
        audit_seal(&self.loaded.load().pseudonym_key)
    }

    /// A keyed fingerprint of a request, so that a stored one cannot be searched for a credential by guessing.
    #[must_use]
    pub fn fingerprint(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut all: Vec<&[u8]> = vec![b"request"];
        all.extend_from_slice(parts);
        crypto::keyed_hash(self.loaded.load().pseudonym_key.expose(), &all)
    }
}

fn audit_seal(pseudonym_key: &Secret<Vec<u8>>) -> SealKey {
    let key = crypto::keyed_hash(pseudonym_key.expose(), &[b"audit seal"]);
    SealKey::new(Secret::new(key))
}

fn receipt_seal(pseudonym_key: &Secret<Vec<u8>>) -> ReceiptSeal {
    let key = crypto::keyed_hash(pseudonym_key.expose(), &[b"key receipts"]);
    ReceiptSeal::new(Secret::new(key))
}

/// What seals the audit's records, of a ring that cannot be used as it is too: a key of it may be gone.
///
/// # Errors
/// [`KeyRingError`] where the ring cannot be read or the key that makes pseudonyms cannot be opened.
pub async fn audit_seal_of(path: &Path, pkcs11: Option<&Pkcs11Settings>) -> Result<SealKey, KeyRingError> {
    let file = RingFile::parse(&read(path)?)?;
    Ok(audit_seal(&open_pseudonym_key(&services(pkcs11), &file).await?))
}

/// A keyed hash that only this ring makes, of a ring that cannot be used as it is too.
///
/// # Errors
/// [`KeyRingError`] where the ring cannot be read or the key that makes pseudonyms cannot be opened.
pub async fn sealed_by(
    path: &Path,
    pkcs11: Option<&Pkcs11Settings>,
    parts: &[&[u8]],
) -> Result<[u8; 32], KeyRingError> {
    let file = RingFile::parse(&read(path)?)?;
    let key = open_pseudonym_key(&services(pkcs11), &file).await?;
    Ok(crypto::keyed_hash(key.expose(), parts))
}

async fn unwrap(
    services: &Services,
    loaded: &Loaded,
    of: DataKeyOf<'_>,
    wrapped: &[u8],
) -> Result<Key, KeyError> {
    let version = crypto::key_version(wrapped)?;
    let purpose = of.purpose();
    let context = of.context(&purpose, version);
    let place = place(loaded, version)?;
    let bytes = services.unwrap(place, &context, wrapped).await?;
    Ok(Key::from_bytes(bytes.expose()).ok_or(CryptoError::Malformed)?)
}

async fn accept(
    services: &Services,
    loaded: &Loaded,
    known: &[KnownKek],
) -> Result<Vec<KnownKek>, KeyRingError> {
    endorsement::accept(services, &loaded.file, known, |version, check| {
        let parts: [&[u8]; 3] = [b"known key", &version.to_be_bytes(), check];
        crypto::keyed_hash(loaded.pseudonym_key.expose(), &parts).to_vec()
    })
    .await
}

/// One that opens is enough for a version: a single damaged row is no reason to stop.
async fn opens(
    services: &Services,
    loaded: &Loaded,
    organisation: &str,
    held: &[DataKey],
) -> Result<(), KeyRingError> {
    let mut unopened: BTreeMap<u32, bool> = BTreeMap::new();
    for key in held {
        let of = DataKeyOf {
            organisation,
            dataset: &key.dataset_id,
            version: key.version,
        };
        let is_open = match unwrap(services, loaded, of, &key.wrapped).await {
            Ok(_) => true,
            // No envelope at all: that says something about the row, not about the key.
            Err(KeyError::Crypto(CryptoError::Malformed)) => continue,
            // What may pass says nothing about the key either.
            Err(error) => error.may_pass(),
        };
        let opened = unopened.entry(key.kek_version).or_default();
        *opened |= is_open;
    }
    match unopened.into_iter().find(|(_, is_open)| !is_open) {
        None => Ok(()),
        Some((version, _)) => Err(KeyRingError::Refused(format!(
            "version {version} of the key ring does not open what the key store has wrapped by it: the line is missing, or another key has taken its place; restore the key ring that wrapped it"
        ))),
    }
}

/// Which data key: a wrapped one opens as no other.
#[derive(Debug, Clone, Copy)]
pub struct DataKeyOf<'a> {
    /// Whose dataset.
    pub organisation: &'a str,
    /// Its id.
    pub dataset: &'a str,
    /// The data key's version, from 1.
    pub version: u32,
}

impl<'a> DataKeyOf<'a> {
    /// Data keys were wrapped before they could have a second version, so that the first one's is not said.
    fn purpose(self) -> String {
        match self.version {
            1 => "data-key".to_owned(),
            version => format!("data-key {version}"),
        }
    }

    fn context(self, purpose: &'a str, kek_version: u32) -> Context<'a> {
        Context {
            purpose,
            organisation: self.organisation,
            dataset: self.dataset,
            key_version: kek_version,
        }
    }
}

fn services(pkcs11: Option<&Pkcs11Settings>) -> Services {
    Services {
        pkcs11: pkcs11.cloned().map(pkcs11::Token::new),
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyRingError> {
    let failed = |source| KeyRingError::Read {
        path: path.to_owned(),
        source,
    };
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(failed)?);
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o007 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "the key ring is open to everybody on this host; take away the rights of others");
    }
    Ok(text)
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

async fn load(services: &Services, text: &str) -> Result<Loaded, KeyRingError> {
    let file = RingFile::parse(text)?;
    check(services, &file).await?;
    let pseudonym_key = open_pseudonym_key(services, &file).await?;
    Ok(Loaded {
        file,
        pseudonym_key,
        sha256: digest(text),
    })
}

async fn check(services: &Services, file: &RingFile) -> Result<(), KeyRingError> {
    for (version, place) in &file.keks {
        let checked = services.check(place).await;
        checked.map_err(|source| KeyRingError::Key {
            version: *version,
            source,
        })?;
    }
    Ok(())
}

const fn pseudonym_context(kek_version: u32) -> Context<'static> {
    Context {
        purpose: "pseudonym-key",
        organisation: "",
        dataset: "",
        key_version: kek_version,
    }
}

async fn open_pseudonym_key(services: &Services, file: &RingFile) -> Result<Secret<Vec<u8>>, KeyRingError> {
    let envelope = match &file.pseudonym {
        PseudonymKey::Ring(key) => return Ok(Secret::new(key.expose().clone())),
        PseudonymKey::Wrapped(envelope) => envelope,
    };
    let version = file.pseudonym_wrapped_by().unwrap_or_default();
    let failed = |source| KeyRingError::Key { version, source };
    let place = file
        .keks
        .get(&version)
        .ok_or(KeyError::NoSuchVersion(version))
        .map_err(failed)?;
    let opened = services
        .unwrap(place, &pseudonym_context(version), envelope)
        .await;
    opened.map_err(failed)
}

async fn wrap_pseudonym_key(
    services: &Services,
    file: &mut RingFile,
    key: &Secret<Vec<u8>>,
) -> Result<(), KeyRingError> {
    let version = file.current();
    let failed = |source| KeyRingError::Key { version, source };
    let place = file
        .keks
        .get(&version)
        .ok_or(KeyError::NoSuchVersion(version))
        .map_err(failed)?;
    file.pseudonym = match place {
        // Beside the key that would open it, wrapping protects nothing.
        ring_file::Place::Ring(_) => PseudonymKey::Ring(Secret::new(key.expose().clone())),
        ring_file::Place::Pkcs11(_) => {
            let context = pseudonym_context(version);
            let wrapped = services.wrap(place, &context, key.expose()).await;
            PseudonymKey::Wrapped(wrapped.map_err(failed)?)
        }
    };
    Ok(())
}

fn place(loaded: &Loaded, version: u32) -> Result<&ring_file::Place, KeyError> {
    loaded
        .file
        .keks
        .get(&version)
        .ok_or(KeyError::NoSuchVersion(version))
}

#[cfg(test)]
mod tests;

//! The organisation's key ring: the key-encryption keys that wrap data keys, and the key that makes pseudonyms.
//!
//! The ring is a file, one key per line as `use:version:base64`, where the use is `kek` (64 bytes, any number of versions, the
//! highest wraps) or `pseudonym` (32 bytes, exactly one: another key would make other people of everybody). It comes from a Kubernetes
//! Secret or is made once by `keys init`. Data keys never leave this process unwrapped.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::audit::SealKey;
use crate::crypto::{self, Context, CryptoError, KEY_LENGTH, Key};
use crate::identity::Subject;
use crate::private_file;
use crate::secret::Secret;

const PSEUDONYM_KEY_LENGTH: usize = 32;

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
        "could not write the key ring {path}: {source}; check the directory, and that no ring is there already"
    )]
    Write {
        /// The ring's file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A line is not a key.
    #[error("line {line} of the key ring is not a key: {reason}; write it as `use:version:base64`")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it; never its content.
        reason: &'static str,
    },
    /// A key is missing.
    #[error("the key ring has no {0} key; add a line `{0}:1:<base64>`")]
    Missing(&'static str),
    /// No random bytes.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Why a data key cannot be unwrapped.
#[derive(Debug, thiserror::Error)]
pub enum UnwrapError {
    /// The ring has lost a key.
    #[error("the key ring has no key-encryption key of version {0}; restore that line of the key file")]
    NoSuchVersion(u32),
    /// The wrapped key is not authentic.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// The keys of the organisation.
#[derive(Debug)]
pub struct KeyRing {
    key_encryption_keys: BTreeMap<u32, Key>,
    current: u32,
    pseudonym_key: Secret<Vec<u8>>,
}

impl KeyRing {
    /// Reads the ring.
    ///
    /// # Errors
    /// [`KeyRingError`].
    pub fn load(path: &Path) -> Result<Self, KeyRingError> {
        let read = |source| KeyRingError::Read {
            path: path.to_owned(),
            source,
        };
        let text = Zeroizing::new(fs::read_to_string(path).map_err(read)?);
        let mode = fs::metadata(path).map_err(read)?.permissions().mode();
        if mode & 0o007 != 0 {
            tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "the key ring is open to everybody on this host; take away the rights of others");
        }
        Self::parse(&text)
    }

    /// Makes a new ring file, readable by its owner alone. Never overwrites one.
    ///
    /// # Errors
    /// [`KeyRingError`].
    pub fn create(path: &Path) -> Result<(), KeyRingError> {
        let write = |source| KeyRingError::Write {
            path: path.to_owned(),
            source,
        };
        let key = Key::generate()?;
        let mut pseudonym = Zeroizing::new([0; PSEUDONYM_KEY_LENGTH]);
        getrandom::fill(pseudonym.as_mut_slice()).map_err(|_| CryptoError::NoRandomness)?;
        let text = Zeroizing::new(format!(
            "# Keys of this organisation. Losing this file loses every registered volume.\nkek:1:{}\npseudonym:1:{}\n",
            Zeroizing::new(STANDARD.encode(key.expose())).as_str(),
            Zeroizing::new(STANDARD.encode(pseudonym.as_slice())).as_str(),
        ));
        private_file::create(path, text.as_bytes()).map_err(write)
    }

    /// Reads the lines of a ring.
    ///
    /// # Errors
    /// [`KeyRingError`], which names lines and never their content.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        let mut key_encryption_keys = BTreeMap::new();
        let mut pseudonym_key = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason| KeyRingError::Line {
                line: index + 1,
                reason,
            };
            let mut parts = line.splitn(3, ':');
            let (Some(usage), Some(version), Some(encoded)) = (parts.next(), parts.next(), parts.next())
            else {
                return Err(wrong("it has fewer than three parts"));
            };
            let version: u32 = version
                .parse()
                .map_err(|_| wrong("its version is not a number"))?;
            let bytes = Zeroizing::new(
                STANDARD
                    .decode(encoded)
                    .map_err(|_| wrong("its key is not base64"))?,
            );
            match usage {
                "kek" => {
                    let key = Key::from_bytes(&bytes).ok_or_else(|| wrong("a kek has 64 bytes"))?;
                    if key_encryption_keys.insert(version, key).is_some() {
                        return Err(wrong("its version is there twice"));
                    }
                }
                "pseudonym" if bytes.len() != PSEUDONYM_KEY_LENGTH => {
                    return Err(wrong("a pseudonym key has 32 bytes"));
                }
                "pseudonym" => {
                    if pseudonym_key.replace(Secret::new(bytes.to_vec())).is_some() {
                        return Err(wrong("there can be only one pseudonym key"));
                    }
                }
                _ => return Err(wrong("its use is neither kek nor pseudonym")),
            }
        }
        let current = key_encryption_keys
            .last_key_value()
            .map(|(v, _)| *v)
            .ok_or(KeyRingError::Missing("kek"))?;
        let pseudonym_key = pseudonym_key.ok_or(KeyRingError::Missing("pseudonym"))?;
        Ok(Self {
            key_encryption_keys,
            current,
            pseudonym_key,
        })
    }

    /// Wraps a data key of a dataset with the newest key-encryption key. Yields the wrapping key's version too.
    ///
    /// # Errors
    /// [`UnwrapError`].
    pub fn wrap(
        &self,
        organisation: &str,
        dataset: &str,
        data_key: &Key,
    ) -> Result<(u32, Vec<u8>), UnwrapError> {
        let context = Context {
            purpose: "data-key",
            organisation,
            dataset,
            key_version: self.current,
        };
        let key = self.key(self.current)?;
        Ok((self.current, crypto::encrypt(key, &context, data_key.expose())?))
    }

    /// Unwraps a data key of a dataset.
    ///
    /// # Errors
    /// [`UnwrapError`].
    pub fn unwrap(&self, organisation: &str, dataset: &str, wrapped: &[u8]) -> Result<Key, UnwrapError> {
        let version = crypto::key_version(wrapped)?;
        let context = Context {
            purpose: "data-key",
            organisation,
            dataset,
            key_version: version,
        };
        let bytes = crypto::decrypt(self.key(version)?, &context, wrapped)?;
        Ok(Key::from_bytes(bytes.expose()).ok_or(CryptoError::Malformed)?)
    }

    fn key(&self, version: u32) -> Result<&Key, UnwrapError> {
        self.key_encryption_keys
            .get(&version)
            .ok_or(UnwrapError::NoSuchVersion(version))
    }

    /// The name under which a person appears on the ledger: 64 hexadecimal digits that only this organisation can make.
    #[must_use]
    pub fn pseudonym(&self, subject: &Subject) -> String {
        hex::encode(crypto::keyed_hash(
            self.pseudonym_key.expose(),
            &[b"pseudonym", subject.issuer.as_bytes(), subject.sub.as_bytes()],
        ))
    }

    /// What seals the audit's records.
    #[must_use]
    pub fn audit_seal(&self) -> SealKey {
        SealKey::new(Secret::new(crypto::keyed_hash(
            self.pseudonym_key.expose(),
            &[b"audit seal"],
        )))
    }

    /// A keyed fingerprint of a request, so that a stored one cannot be searched for a credential by guessing.
    #[must_use]
    pub fn fingerprint(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut all: Vec<&[u8]> = vec![b"request"];
        all.extend_from_slice(parts);
        crypto::keyed_hash(self.pseudonym_key.expose(), &all)
    }
}

/// The length of a key-encryption key, for messages and tests.
pub const KEK_LENGTH: usize = KEY_LENGTH;

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> (tempfile::TempDir, KeyRing) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ring");
        KeyRing::create(&path).unwrap();
        let ring = KeyRing::load(&path).unwrap();
        (directory, ring)
    }

    fn subject(issuer: &str, sub: &str) -> Subject {
        Subject {
            issuer: issuer.to_owned(),
            sub: sub.to_owned(),
        }
    }

    #[test]
    fn a_new_ring_is_its_owners_alone_and_is_never_overwritten() {
        let (directory, _) = ring();
        let path = directory.path().join("ring");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&path).unwrap();
        assert!(matches!(KeyRing::create(&path), Err(KeyRingError::Write { .. })));
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_wrapped_data_key_unwraps_for_its_own_dataset_only() {
        let (_directory, ring) = ring();
        let key = Key::generate().unwrap();
        let (version, wrapped) = ring.wrap("UiSMSP", "d1", &key).unwrap();
        assert_eq!(version, 1);
        assert_eq!(
            ring.unwrap("UiSMSP", "d1", &wrapped).unwrap().expose(),
            key.expose()
        );
        assert!(ring.unwrap("UiSMSP", "d2", &wrapped).is_err());
        assert!(ring.unwrap("UiOMSP", "d1", &wrapped).is_err());
    }

    #[test]
    fn an_older_key_still_unwraps_after_a_newer_one_was_added() {
        let kek = STANDARD.encode([1; 64]);
        let newer = STANDARD.encode([2; 64]);
        let pseudonym = STANDARD.encode([3; 32]);
        let old = KeyRing::parse(&format!("kek:1:{kek}\npseudonym:1:{pseudonym}")).unwrap();
        let new = KeyRing::parse(&format!("kek:1:{kek}\nkek:2:{newer}\npseudonym:1:{pseudonym}")).unwrap();
        let key = Key::generate().unwrap();
        let (_, wrapped) = old.wrap("o", "d", &key).unwrap();
        assert_eq!(new.unwrap("o", "d", &wrapped).unwrap().expose(), key.expose());
        let (version, wrapped) = new.wrap("o", "d", &key).unwrap();
        assert_eq!(version, 2);
        assert!(matches!(
            old.unwrap("o", "d", &wrapped),
            Err(UnwrapError::NoSuchVersion(2))
        ));
    }

    #[test]
    fn a_broken_ring_is_refused_without_showing_a_key() {
        let good = STANDARD.encode([1; 64]);
        let short = STANDARD.encode([1; 32]);
        for text in [
            String::new(),
            format!("kek:1:{good}"),
            format!("pseudonym:1:{short}"),
            format!("kek:1:{short}\npseudonym:1:{short}"),
            format!("kek:x:{good}\npseudonym:1:{short}"),
            format!("kek:1:{good}\nkek:1:{good}\npseudonym:1:{short}"),
            format!("kek:1:{good}\npseudonym:1:{short}\npseudonym:2:{short}"),
            format!("kek:1:{good}\nother:1:{good}\npseudonym:1:{short}"),
            "kek:1:***\n".to_owned(),
            "kek".to_owned(),
        ] {
            let error = KeyRing::parse(&text).unwrap_err().to_string();
            assert!(!error.contains(&good[..10]), "{error}");
        }
    }

    #[test]
    fn pseudonyms_tell_issuers_and_boundaries_apart() {
        let (_directory, ring) = ring();
        let all = [
            subject("a", "bc"),
            subject("ab", "c"),
            subject("hub", "alice"),
            subject("idp", "alice"),
        ]
        .map(|s| ring.pseudonym(&s));
        for (i, one) in all.iter().enumerate() {
            assert_eq!(one.len(), 64);
            assert!(all.iter().skip(i + 1).all(|other| other != one));
        }
        assert_eq!(ring.pseudonym(&subject("a", "bc")), all[0]);
    }
}

//! The ring's file: which versions of the key-encryption key there are and where each one is, one per line.
//!
//! | line | what |
//! |---|---|
//! | `kek:VERSION:BASE64` | a key-encryption key of 64 bytes |
//! | `kek:VERSION:pkcs11:LABEL` | one that is in a hardware module, under this label |
//! | `endorsed:VERSION:BASE64` | that an older version vouches for it ([`super::endorsement`]) |
//! | `pseudonym:1:BASE64` | the key of 32 bytes that makes pseudonyms |
//! | `pseudonym:1:wrapped:BASE64` | the same, wrapped by a key-encryption key above |
//!
//! Reading and writing it is all that happens here. It is replaced whole, so that nobody reads half of it and a kill leaves the old one or
//! the new.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::crypto::{self, CryptoError, Key};
use crate::secret::Secret;

/// Bytes of the key that makes pseudonyms.
pub const PSEUDONYM_KEY_LENGTH: usize = 32;
const LONGEST_LABEL: usize = 64;

/// Where a key-encryption key is. A key service is one arm here and one in [`super::service`].
#[derive(Debug)]
pub enum Place {
    /// In the ring itself.
    Ring(Key),
    /// In a hardware module, under this label.
    Pkcs11(String),
}

impl Place {
    /// What to call it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ring(_) => "ring",
            Self::Pkcs11(_) => "pkcs11",
        }
    }
}

/// The key that makes pseudonyms.
#[derive(Debug)]
pub enum PseudonymKey {
    /// In the ring itself.
    Ring(Secret<Vec<u8>>),
    /// An envelope that names the version which opens it.
    Wrapped(Vec<u8>),
}

/// What the file says.
#[derive(Debug)]
pub struct RingFile {
    /// By version. Not empty.
    pub keks: BTreeMap<u32, Place>,
    /// What vouches for a version, by version.
    pub endorsements: BTreeMap<u32, Vec<u8>>,
    /// Exactly one: another key would make other people of everybody.
    pub pseudonym: PseudonymKey,
}

/// What is wrong with a ring; never its content.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RingFileError {
    /// A line is not a key.
    #[error("line {line} of the key ring is not a key: {reason}; write it as `use:version:base64`")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A key is missing.
    #[error("the key ring has no {0} key; add a line `{0}:1:<base64>`")]
    Missing(&'static str),
}

impl RingFile {
    /// Reads the lines of a ring.
    ///
    /// # Errors
    /// [`RingFileError`], which names lines and never their content.
    pub fn parse(text: &str) -> Result<Self, RingFileError> {
        let mut keks = BTreeMap::new();
        let mut endorsements = BTreeMap::new();
        let mut pseudonym = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason| RingFileError::Line {
                line: index + 1,
                reason,
            };
            let mut parts = line.splitn(3, ':');
            let (Some(usage), Some(version), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(wrong("it has fewer than three parts"));
            };
            let version: u32 = version
                .parse()
                .map_err(|_| wrong("its version is not a number"))?;
            match usage {
                "kek" => {
                    let place = place(rest).map_err(wrong)?;
                    if keks.insert(version, place).is_some() {
                        return Err(wrong("its version is there twice"));
                    }
                }
                "endorsed" => {
                    let envelope = decoded(rest).map_err(wrong)?.to_vec();
                    crypto::key_version(&envelope)
                        .map_err(|_| wrong("its envelope has an unknown format"))?;
                    if endorsements.insert(version, envelope).is_some() {
                        return Err(wrong("its version is endorsed twice"));
                    }
                }
                "pseudonym" => {
                    if pseudonym.replace(pseudonym_key(rest).map_err(wrong)?).is_some() {
                        return Err(wrong("there can be only one pseudonym key"));
                    }
                }
                _ => return Err(wrong("its use is none of kek, endorsed and pseudonym")),
            }
        }
        if keks.is_empty() {
            return Err(RingFileError::Missing("kek"));
        }
        let pseudonym = pseudonym.ok_or(RingFileError::Missing("pseudonym"))?;
        Ok(Self {
            keks,
            endorsements,
            pseudonym,
        })
    }

    /// The version that wraps: the highest.
    #[must_use]
    pub fn current(&self) -> u32 {
        self.keks.last_key_value().map_or(0, |(version, _)| *version)
    }

    /// The version that the pseudonym key needs to be opened with; none where it is in the ring itself.
    #[must_use]
    pub fn pseudonym_wrapped_by(&self) -> Option<u32> {
        match &self.pseudonym {
            PseudonymKey::Ring(_) => None,
            PseudonymKey::Wrapped(envelope) => crypto::key_version(envelope).ok(),
        }
    }

    /// Writes the lines.
    #[must_use]
    pub fn render(&self) -> Zeroizing<String> {
        // Its full size from the start, so that growing leaves no copy behind.
        let mut text = Zeroizing::new(String::with_capacity(512 + 640 * self.keks.len()));
        text.push_str("# Keys of this organisation. Losing this file loses every registered volume.\n");
        for (version, place) in &self.keks {
            let _infallible = match place {
                Place::Ring(key) => {
                    let encoded = Zeroizing::new(STANDARD.encode(key.expose()));
                    writeln!(text, "kek:{version}:{}", encoded.as_str())
                }
                Place::Pkcs11(label) => writeln!(text, "kek:{version}:pkcs11:{label}"),
            };
        }
        for (version, envelope) in &self.endorsements {
            let _infallible = writeln!(text, "endorsed:{version}:{}", STANDARD.encode(envelope));
        }
        let _infallible = match &self.pseudonym {
            PseudonymKey::Ring(key) => {
                let encoded = Zeroizing::new(STANDARD.encode(key.expose()));
                writeln!(text, "pseudonym:1:{}", encoded.as_str())
            }
            PseudonymKey::Wrapped(envelope) => {
                writeln!(text, "pseudonym:1:wrapped:{}", STANDARD.encode(envelope))
            }
        };
        text
    }
}

fn place(rest: &str) -> Result<Place, &'static str> {
    if let Some(label) = rest.strip_prefix("pkcs11:") {
        let is_label = (1..=LONGEST_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        return match is_label {
            true => Ok(Place::Pkcs11(label.to_owned())),
            false => Err("its label is not 1 to 64 letters, digits, hyphens, underscores and dots"),
        };
    }
    let bytes = decoded(rest)?;
    Key::from_bytes(&bytes)
        .map(Place::Ring)
        .ok_or("a kek has 64 bytes")
}

fn pseudonym_key(rest: &str) -> Result<PseudonymKey, &'static str> {
    if let Some(encoded) = rest.strip_prefix("wrapped:") {
        let envelope = decoded(encoded)?.to_vec();
        return match crypto::key_version(&envelope) {
            Ok(_) => Ok(PseudonymKey::Wrapped(envelope)),
            Err(_) => Err("its envelope has an unknown format"),
        };
    }
    let bytes = decoded(rest)?;
    if bytes.len() != PSEUDONYM_KEY_LENGTH {
        return Err("a pseudonym key has 32 bytes");
    }
    Ok(PseudonymKey::Ring(Secret::new(bytes.to_vec())))
}

fn decoded(encoded: &str) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    STANDARD
        .decode(encoded)
        .map(Zeroizing::new)
        .map_err(|_| "its key is not base64")
}

/// A fresh key that makes pseudonyms.
///
/// # Errors
/// [`CryptoError::NoRandomness`].
pub fn new_pseudonym_key() -> Result<Secret<Vec<u8>>, CryptoError> {
    let mut bytes = vec![0; PSEUDONYM_KEY_LENGTH];
    getrandom::fill(&mut bytes).map_err(|_| CryptoError::NoRandomness)?;
    Ok(Secret::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_reads_as_it_was_written() {
        let text = format!(
            "kek:1:{}\nkek:3:pkcs11:leasehold-kek-3.a_b\nendorsed:3:{}\npseudonym:1:wrapped:{}\n",
            STANDARD.encode([1; 64]),
            STANDARD.encode([1, 0, 0, 0, 1, 9, 9]),
            STANDARD.encode([1, 0, 0, 0, 3, 9, 9]),
        );
        let ring = RingFile::parse(&text).unwrap();
        assert_eq!((ring.current(), ring.pseudonym_wrapped_by()), (3, Some(3)));
        let written = ring.render();
        let (comment, lines) = written.split_once('\n').unwrap();
        assert!(comment.starts_with('#'));
        assert_eq!(lines, text);
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
            format!("kek:1:{good}\npseudonym:1:wrapped:{}", STANDARD.encode([2; 32])),
            format!("kek:1:{good}\npseudonym:1:{good}"),
            format!("kek:1:pkcs11:\npseudonym:1:{short}"),
            format!("kek:1:pkcs11:a label\npseudonym:1:{short}"),
            format!(
                "kek:1:{good}\nendorsed:1:{}\npseudonym:1:{short}",
                STANDARD.encode([2; 9])
            ),
            format!("kek:1:{good}\nother:1:{good}\npseudonym:1:{short}"),
            "kek:1:***\n".to_owned(),
            "kek".to_owned(),
        ] {
            let error = RingFile::parse(&text).unwrap_err().to_string();
            assert!(!error.contains(&good[..10]), "{error}");
        }
    }
}

//! Authenticated encryption of volume details and of data keys: AES-256-CBC with HMAC-SHA-256, encrypt-then-MAC.
//!
//! The composition is that of RFC 7518 §5.2 (key = MAC key ‖ encryption key; the MAC covers AAD ‖ IV ‖ ciphertext ‖ bit length of
//! the AAD), with a 32 + 32 byte key and the whole 32 byte tag. The tag is checked, in constant time, before a single block is
//! decrypted. What the associated data must bind (organisation, dataset, key version) is the caller's to say through [`Context`].

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::Secret;

pub mod composition;

use composition::{IV_LENGTH, open, seal};

/// Bytes of a key: 32 for the MAC, then 32 for AES-256.
pub const KEY_LENGTH: usize = 64;
const TAG_LENGTH: usize = 32;
const FORMAT: u8 = 1;
const HEADER_LENGTH: usize = 5;

/// Why something could not be encrypted or decrypted. Says nothing about the content.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CryptoError {
    /// The envelope is too short or of a format that this version does not know.
    #[error("the envelope has an unknown format")]
    Malformed,
    /// The tag does not match: wrong key, wrong associated data, or changed bytes.
    #[error("the envelope is not authentic under this key and associated data")]
    NotAuthentic,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

/// A 64-byte key of this composition. On the heap, so that moving it leaves no copy behind.
#[derive(Debug)]
pub struct Key(Secret<Vec<u8>>);

impl Key {
    /// A fresh random key.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn generate() -> Result<Self, CryptoError> {
        let mut bytes = vec![0; KEY_LENGTH];
        getrandom::fill(&mut bytes).map_err(|_| CryptoError::NoRandomness)?;
        Ok(Self(Secret::new(bytes)))
    }

    /// A key from its 64 bytes; `None` for any other length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == KEY_LENGTH).then(|| Self(Secret::new(bytes.to_vec())))
    }

    /// The raw bytes, for wrapping them with another key or for writing the key file.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    fn halves(&self) -> (&[u8], &[u8]) {
        self.0.expose().split_at(KEY_LENGTH / 2)
    }
}

/// What a ciphertext is bound to: it opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What is encrypted, such as `volume` or `data-key`.
    pub purpose: &'a str,
    /// MSP id of the organisation that holds the key.
    pub organisation: &'a str,
    /// Id of the dataset.
    pub dataset: &'a str,
    /// Version of the key that encrypts.
    pub key_version: u32,
}

impl Context<'_> {
    /// Unambiguous encoding: each part is preceded by its length.
    pub(crate) fn associated_data(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        for part in ["leasehold", self.purpose, self.organisation, self.dataset] {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(&self.key_version.to_be_bytes());
        out
    }
}

/// Encrypts under a fresh random IV. The result is format ‖ key version ‖ IV ‖ ciphertext ‖ tag.
///
/// # Errors
/// [`CryptoError::NoRandomness`].
pub fn encrypt(key: &Key, context: &Context<'_>, plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let iv = random_iv()?;
    let (mac_key, encryption_key) = key.halves();
    let (ciphertext, tag) = seal::<aes::Aes256, Hmac<Sha256>>(
        mac_key,
        encryption_key,
        &iv,
        &context.associated_data(),
        plaintext,
    )?;
    Ok(join(context, &iv, &ciphertext, &tag))
}

/// A fresh initialisation vector.
pub(crate) fn random_iv() -> Result<[u8; IV_LENGTH], CryptoError> {
    let mut iv = [0; IV_LENGTH];
    getrandom::fill(&mut iv).map_err(|_| CryptoError::NoRandomness)?;
    Ok(iv)
}

/// The version of the key that an envelope was encrypted with, as it claims itself.
///
/// # Errors
/// [`CryptoError::Malformed`].
pub fn key_version(envelope: &[u8]) -> Result<u32, CryptoError> {
    match envelope {
        [FORMAT, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err(CryptoError::Malformed),
    }
}

/// Authenticates, then decrypts.
///
/// # Errors
/// [`CryptoError::Malformed`] or [`CryptoError::NotAuthentic`].
pub fn decrypt(key: &Key, context: &Context<'_>, envelope: &[u8]) -> Result<Secret<Vec<u8>>, CryptoError> {
    let Parts { iv, ciphertext, tag } = parts(context, envelope)?;
    let (mac_key, encryption_key) = key.halves();
    open::<aes::Aes256, Hmac<Sha256>>(
        mac_key,
        encryption_key,
        iv,
        &context.associated_data(),
        ciphertext,
        tag,
    )
    .map(Secret::new)
}

/// An envelope taken apart, for keys that are not in this process.
pub(crate) struct Parts<'a> {
    pub(crate) iv: &'a [u8; IV_LENGTH],
    pub(crate) ciphertext: &'a [u8],
    pub(crate) tag: &'a [u8; TAG_LENGTH],
}

/// Takes an envelope apart that claims the key version of its context.
pub(crate) fn parts<'a>(context: &Context<'_>, envelope: &'a [u8]) -> Result<Parts<'a>, CryptoError> {
    if key_version(envelope)? != context.key_version {
        return Err(CryptoError::NotAuthentic);
    }
    let (_, body) = envelope
        .split_at_checked(HEADER_LENGTH)
        .ok_or(CryptoError::Malformed)?;
    let (iv, body) = body
        .split_first_chunk::<IV_LENGTH>()
        .ok_or(CryptoError::Malformed)?;
    let (ciphertext, tag) = body
        .split_last_chunk::<TAG_LENGTH>()
        .ok_or(CryptoError::Malformed)?;
    Ok(Parts { iv, ciphertext, tag })
}

/// Puts an envelope together.
pub(crate) fn join(context: &Context<'_>, iv: &[u8], ciphertext: &[u8], tag: &[u8]) -> Vec<u8> {
    let mut envelope = Vec::with_capacity(HEADER_LENGTH + iv.len() + ciphertext.len() + tag.len());
    envelope.push(FORMAT);
    envelope.extend_from_slice(&context.key_version.to_be_bytes());
    for part in [iv, ciphertext, tag] {
        envelope.extend_from_slice(part);
    }
    envelope
}

/// HMAC-SHA-256 of length-prefixed parts: what pseudonyms and request fingerprints are made of.
#[must_use]
pub fn keyed_hash(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length, so that this constructor has no way to fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod wycheproof;

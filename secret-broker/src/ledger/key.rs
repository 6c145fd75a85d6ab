//! The key that signs the ledger's blocks: Ed25519 (RFC 8032), PKCS#8 in PEM, made at the first start or given.
//!
//! Who has it can write a past that verifies. Receipts that are kept elsewhere still tell it from the one that was signed before.

use super::bytes::{Bytes, KeyId};
use crate::private_file;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum LedgerKeyError {
    /// The file cannot be read.
    #[error("cannot read the ledger's key {path}: {source}; check --ledger-key and the file's rights")]
    Read {
        /// The key's file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error(
        "cannot write the ledger's key {path}: {source}; check that its directory exists and is writable"
    )]
    Write {
        /// The key's file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{0} holds no Ed25519 key in PKCS#8 PEM; restore it, or for a new ledger make one with `openssl genpkey -algorithm ed25519`"
    )]
    Form(PathBuf),
    /// No random bytes.
    #[error("the system gave no random bytes for a ledger key")]
    NoRandomness,
}

/// A key that signs. Debug shows its public half.
#[derive(Debug)]
pub struct LedgerKey(Ed25519KeyPair);

impl LedgerKey {
    /// Reads a key.
    ///
    /// # Errors
    /// [`LedgerKeyError`] when there is none.
    pub fn load(path: &Path) -> Result<Self, LedgerKeyError> {
        let read = |source| LedgerKeyError::Read {
            path: path.to_owned(),
            source,
        };
        let text = Zeroizing::new(std::fs::read(path).map_err(read)?);
        let mode = std::fs::metadata(path).map_err(read)?.permissions().mode();
        if mode & 0o007 != 0 {
            tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "the ledger's key is open to everybody on this host; take away the rights of others");
        }
        let form = || LedgerKeyError::Form(path.to_owned());
        let der = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| form())?;
        // OpenSSL leaves the public half out; where it is there, it is checked.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map_err(|_| form())?;
        Ok(Self(pair))
    }

    /// Reads a key, or makes it where there is no such file.
    ///
    /// # Errors
    /// [`LedgerKeyError`].
    pub fn load_or_create(path: &Path) -> Result<Self, LedgerKeyError> {
        match Self::load(path) {
            Err(LedgerKeyError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let document = document.map_err(|_| LedgerKeyError::NoRandomness)?;
        let encoded = Zeroizing::new(STANDARD.encode(document.as_ref()));
        let mut text = Zeroizing::new(String::with_capacity(256));
        text.push_str("-----BEGIN PRIVATE KEY-----\n");
        for (position, character) in encoded.char_indices() {
            if position > 0 && position % 64 == 0 {
                text.push('\n');
            }
            text.push(character);
        }
        text.push_str("\n-----END PRIVATE KEY-----\n");
        private_file::create(path, text.as_bytes()).map_err(|source| LedgerKeyError::Write {
            path: path.to_owned(),
            source,
        })?;
        tracing::info!(path = %path.display(), "made a new ledger key; keep a copy of it");
        Self::load(path)
    }

    /// Its public half.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut id = [0; 32];
        for (to, from) in id.iter_mut().zip(self.0.public_key().as_ref()) {
            *to = *from;
        }
        Bytes(id)
    }

    /// Signs, the same message always alike.
    pub(super) fn sign(&self, message: &[u8]) -> Bytes<64> {
        let signature = self.0.sign(message);
        let mut bytes = [0; 64];
        for (to, from) in bytes.iter_mut().zip(signature.as_ref()) {
            *to = *from;
        }
        Bytes(bytes)
    }
}

/// Whether a key signed a message.
pub(super) fn signed(by: &KeyId, message: &[u8], signature: &Bytes<64>) -> bool {
    UnparsedPublicKey::new(&ED25519, &by.0)
        .verify(message, &signature.0)
        .is_ok()
}

//! Bytes of a fixed number, in lower-case hexadecimal wherever people or files see them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `N` bytes: a hash, a key's public half, a signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes<const N: usize>(pub [u8; N]);

/// Which key signs a ledger: the public half of an Ed25519 key.
pub type KeyId = Bytes<32>;

/// A text that is not so many bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {0} lower-case hexadecimal digits")]
pub struct NotBytes(usize);

impl<const N: usize> FromStr for Bytes<N> {
    type Err = NotBytes;

    fn from_str(text: &str) -> Result<Self, NotBytes> {
        let mut bytes = [0; N];
        let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if lower => Ok(Self(bytes)),
            _ => Err(NotBytes(N.saturating_mul(2))),
        }
    }
}

impl<const N: usize> TryFrom<String> for Bytes<N> {
    type Error = NotBytes;

    fn try_from(text: String) -> Result<Self, NotBytes> {
        text.parse()
    }
}

impl<const N: usize> From<Bytes<N>> for String {
    fn from(bytes: Bytes<N>) -> Self {
        hex::encode(bytes.0)
    }
}

impl<const N: usize> fmt::Display for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

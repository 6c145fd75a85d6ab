//! The seam to whatever holds key-encryption keys: wrap, unwrap, make, check and destroy, by the key's [`Place`].
//!
//! Another key service (a transit engine, a cloud's key management) is one file beside `pkcs11.rs`, one field of [`Services`] and one arm
//! in each `match` here and in [`super::ring_file`]; the compiler shows where one is missing. What it must promise: an envelope opens in
//! the context that it was made in and in no other, nothing is decrypted before it is known to be authentic, and each call ends by itself.

use super::pkcs11::{Pkcs11Error, Token};
use super::ring_file::Place;
use crate::crypto::{self, Context, CryptoError, Key};
use crate::secret::Secret;

/// Why a key-encryption key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The ring has lost a key.
    #[error("the key ring has no key-encryption key of version {0}; restore that line of the key file")]
    NoSuchVersion(u32),
    /// The envelope is not authentic.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The ring names a hardware module and none is configured.
    #[error(
        "a key of the ring is in a hardware module and none is configured; give --pkcs11-module, --pkcs11-token and --pkcs11-pin-file"
    )]
    NoModule,
    /// The hardware module failed.
    #[error(transparent)]
    Pkcs11(#[from] Pkcs11Error),
}

impl KeyError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Pkcs11(error) => error.may_pass(),
            Self::NoSuchVersion(_) | Self::Crypto(_) | Self::NoModule => false,
        }
    }
}

/// The key services that are configured.
#[derive(Debug, Default)]
pub struct Services {
    /// A hardware module.
    pub pkcs11: Option<Token>,
}

impl Services {
    fn module(&self) -> Result<&Token, KeyError> {
        self.pkcs11.as_ref().ok_or(KeyError::NoModule)
    }

    /// Encrypts under the key at this place.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn wrap(
        &self,
        place: &Place,
        context: &Context<'_>,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        match place {
            Place::Ring(key) => Ok(crypto::encrypt(key, context, plaintext)?),
            Place::Pkcs11(label) => Ok(self.module()?.encrypt(label, context, plaintext).await?),
        }
    }

    /// Authenticates and decrypts with the key at this place.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn unwrap(
        &self,
        place: &Place,
        context: &Context<'_>,
        envelope: &[u8],
    ) -> Result<Secret<Vec<u8>>, KeyError> {
        match place {
            Place::Ring(key) => Ok(crypto::decrypt(key, context, envelope)?),
            Place::Pkcs11(label) => Ok(self.module()?.decrypt(label, context, envelope).await?),
        }
    }

    /// A new key: in the hardware module where there is one, else in the ring.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn make(&self, version: u32) -> Result<Place, KeyError> {
        let Some(module) = &self.pkcs11 else {
            return Ok(Place::Ring(Key::generate()?));
        };
        let mut tail = [0; 6];
        getrandom::fill(&mut tail).map_err(|_| CryptoError::NoRandomness)?;
        // Rings that share a token do not meet.
        let label = format!("leasehold-kek-{version}-{}", hex::encode(tail));
        module.make(&label).await?;
        Ok(Place::Pkcs11(label))
    }

    /// Refuses a key that is not there, or that could leave the place where it is.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn check(&self, place: &Place) -> Result<(), KeyError> {
        match place {
            Place::Ring(_) => Ok(()),
            Place::Pkcs11(label) => Ok(self.module()?.check(label).await?),
        }
    }

    /// Destroys a key that nothing is wrapped by. Yields whether it was there. What is in the ring goes with its line.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn destroy(&self, place: &Place) -> Result<bool, KeyError> {
        match place {
            Place::Ring(_) => Ok(true),
            Place::Pkcs11(label) => Ok(self.module()?.destroy(label).await?),
        }
    }
}

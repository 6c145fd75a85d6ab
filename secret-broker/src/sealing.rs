//! Volume details under a data key of their dataset: the one place where they are encrypted and decrypted.
//!
//! They are decrypted for two purposes, and whoever asks says so by checking for one first: for a provisioner while the ledger shows the lease
//! active ([`crate::machines`]), and to encrypt them anew under another data key ([`crate::api::rotation`]).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leasehold_chaincode::{Ciphertext, DatasetId, Volume};

use crate::broker::Broker;
use crate::crypto::{self, Context, CryptoError, Key};
use crate::keys::DataKeyOf;
use crate::keys::service::KeyError;
use crate::ledger::ReadError;
use crate::secret::Secret;
use crate::store::StoreError;
use crate::store::data_keys::DataKey;

/// Why a volume stays closed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// It is retired, or never was.
    #[error("the ledger has no volume of this dataset")]
    NoVolume,
    /// The key store lacks it.
    #[error("the key store has no data key for this dataset; restore it from a backup")]
    NoKey,
    /// The volume that was read is not the newest.
    #[error("the data key has just been replaced; try again in a moment")]
    Replaced,
    /// Somebody changed it, or it is another dataset's.
    #[error("the volume is not authentic: {0}")]
    Crypto(#[from] CryptoError),
    /// The data key stays wrapped.
    #[error("the data key cannot be unwrapped: {0}")]
    Unwrap(#[from] KeyError),
    /// It is not what a broker wrote.
    #[error("the volume on the ledger is no base64")]
    Encoding(#[from] base64::DecodeError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] ReadError),
    /// The key store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn context(of: DataKeyOf<'_>) -> Context<'_> {
    Context {
        purpose: "volume",
        organisation: of.organisation,
        dataset: of.dataset,
        key_version: of.version,
    }
}

/// A fresh data key of this version, wrapped, and the volume encrypted under it.
///
/// # Errors
/// [`KeyError`].
pub async fn seal(
    broker: &Broker,
    dataset: &DatasetId,
    version: u32,
    plaintext: &[u8],
) -> Result<(DataKey, Ciphertext), KeyError> {
    let of = DataKeyOf {
        organisation: broker.config.organisation.as_str(),
        dataset: dataset.as_str(),
        version,
    };
    let key = Key::generate()?;
    let (kek_version, wrapped) = broker.ring.wrap(of, &key).await?;
    let envelope = crypto::encrypt(&key, &context(of), plaintext)?;
    let data_key = DataKey {
        dataset_id: dataset.to_string(),
        version,
        kek_version,
        wrapped,
    };
    Ok((data_key, Ciphertext(STANDARD.encode(envelope))))
}

/// A dataset's volume as the ledger has it, decrypted, and the version of its data key.
///
/// # Errors
/// [`UnsealError`].
pub async fn unseal(broker: &Broker, dataset: &DatasetId) -> Result<(Secret<Vec<u8>>, u32), UnsealError> {
    let volume = broker.ledger.volume(dataset).await?;
    let volume = volume.ok_or(UnsealError::NoVolume)?;
    Ok((open(broker, dataset, &volume).await?, volume.key_version))
}

/// A volume, decrypted.
///
/// # Errors
/// [`UnsealError`].
pub async fn open(
    broker: &Broker,
    dataset: &DatasetId,
    volume: &Volume,
) -> Result<Secret<Vec<u8>>, UnsealError> {
    let version = volume.key_version;
    let Some(wrapped) = broker.store.data_key(dataset.as_str(), version).await? else {
        // Whoever read the ledger before the new volume was there, or asked a peer that is behind, finds the key destroyed.
        return Err(match broker.store.newest_version(dataset.as_str()).await? {
            Some(newest) if newest > version => UnsealError::Replaced,
            _ => UnsealError::NoKey,
        });
    };
    let of = DataKeyOf {
        organisation: broker.config.organisation.as_str(),
        dataset: dataset.as_str(),
        version,
    };
    let key = broker.ring.unwrap(of, &wrapped).await?;
    let envelope = STANDARD.decode(volume.ciphertext.0.as_bytes())?;
    Ok(crypto::decrypt(&key, &context(of), &envelope)?)
}

//! Opening a volume: the one place where volume details are decrypted, and only while the ledger shows the lease active.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leasehold_chaincode::{Lease, LeaseState};
use tonic::Status;

use super::now_ms;
use crate::broker::Broker;
use crate::crypto::{self, Context, CryptoError};
use crate::keys::UnwrapError;
use crate::ledger::ReadError;
use crate::secret::Secret;
use crate::store::StoreError;

/// Why a volume stays closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("the lease is not active")]
    NotActive,
    #[error("the dataset belongs to another organisation; only that organisation's broker can open it")]
    NotOwner,
    #[error("the ledger has no volume of this dataset")]
    NoVolume,
    #[error("the key store has no data key for this dataset; restore it from a backup")]
    NoKey,
    #[error("the volume is not authentic: {0}")]
    Crypto(#[from] CryptoError),
    #[error("the data key cannot be unwrapped: {0}")]
    Unwrap(#[from] UnwrapError),
    #[error("the volume on the ledger is no base64")]
    Encoding(#[from] base64::DecodeError),
    #[error(transparent)]
    Ledger(#[from] ReadError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OpenError {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NotActive => "lease_not_active",
            Self::NotOwner => "not_owner",
            Self::NoVolume => "no_volume",
            Self::NoKey => "no_data_key",
            Self::Crypto(_) | Self::Encoding(_) => "not_authentic",
            Self::Unwrap(_) => "data_key_unusable",
            Self::Ledger(_) => "ledger_unavailable",
            Self::Store(_) => "store_unavailable",
        }
    }
}

impl From<OpenError> for Status {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotActive | OpenError::NotOwner | OpenError::NoVolume => {
                Self::failed_precondition(error.to_string())
            }
            OpenError::Ledger(_) | OpenError::Store(_) => {
                tracing::error!(%error, "could not open a volume");
                Self::unavailable("the broker cannot reach its storage; try again in a moment")
            }
            _ => {
                tracing::error!(%error, "could not open a volume");
                Self::data_loss("the volume cannot be decrypted; the broker's log says why")
            }
        }
    }
}

pub(super) async fn volume(broker: &Broker, lease: &Lease) -> Result<Secret<Vec<u8>>, OpenError> {
    if lease.state != LeaseState::Active || lease.due_at_ms() <= now_ms() {
        return Err(OpenError::NotActive);
    }
    let organisation = broker.config.organisation.as_str();
    if lease.owner.as_str() != organisation {
        return Err(OpenError::NotOwner);
    }
    let volume = broker
        .ledger
        .volume(&lease.dataset)
        .await?
        .ok_or(OpenError::NoVolume)?;
    let dataset = lease.dataset.as_str();
    let wrapped = broker
        .store
        .data_key(dataset, volume.key_version)
        .await?
        .ok_or(OpenError::NoKey)?;
    let key = broker.ring.unwrap(organisation, dataset, &wrapped)?;
    let envelope = STANDARD.decode(volume.ciphertext.0.as_bytes())?;
    let context = Context {
        purpose: "volume",
        organisation,
        dataset,
        key_version: volume.key_version,
    };
    Ok(crypto::decrypt(&key, &context, &envelope)?)
}

//! Opening a volume for a provisioner: only while the ledger shows the lease active.

use leasehold_chaincode::{DatasetEntry, DatasetRef, Lease, LeaseState};
use tonic::Status;

use super::now_ms;
use crate::broker::Broker;
use crate::sealing::{self, UnsealError};
use crate::secret::Secret;

/// Why a volume stays closed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("the lease is not active")]
    NotActive,
    #[error("the dataset belongs to another organisation; only that organisation's broker can open it")]
    NotOwner,
    #[error(transparent)]
    Sealed(#[from] UnsealError),
}

impl OpenError {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NotActive => "lease_not_active",
            Self::NotOwner => "not_owner",
            Self::Sealed(error) => match error {
                UnsealError::NoVolume => "no_volume",
                UnsealError::NoKey => "no_data_key",
                UnsealError::Replaced => "data_key_replaced",
                UnsealError::Crypto(_) | UnsealError::Encoding(_) => "not_authentic",
                UnsealError::Unwrap(error) if error.may_pass() => "key_service_unavailable",
                UnsealError::Unwrap(_) => "data_key_unusable",
                UnsealError::Ledger(_) => "ledger_unavailable",
                UnsealError::Store(_) => "store_unavailable",
            },
        }
    }
}

impl From<OpenError> for Status {
    fn from(error: OpenError) -> Self {
        let sealed = match &error {
            OpenError::NotActive | OpenError::NotOwner => {
                return Self::failed_precondition(error.to_string());
            }
            OpenError::Sealed(sealed) => sealed,
        };
        match sealed {
            UnsealError::NoVolume => Self::failed_precondition(error.to_string()),
            UnsealError::Replaced => Self::unavailable(error.to_string()),
            UnsealError::Ledger(_) | UnsealError::Store(_) => {
                tracing::error!(%error, "could not open a volume");
                Self::unavailable("the broker cannot reach its storage; try again in a moment")
            }
            UnsealError::Unwrap(why) if why.may_pass() => {
                tracing::error!(%error, "could not open a volume");
                Self::unavailable("the broker cannot reach its keys; try again in a moment")
            }
            UnsealError::NoKey
            | UnsealError::Crypto(_)
            | UnsealError::Unwrap(_)
            | UnsealError::Encoding(_) => {
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
    if lease.owner != broker.config.organisation {
        return Err(OpenError::NotOwner);
    }
    // The lease says so of itself. Its dataset, of whom it is and who holds it.
    let dataset = DatasetRef::Id(lease.dataset.clone());
    let entry = broker
        .ledger
        .dataset(&dataset)
        .await
        .map_err(UnsealError::Ledger)?;
    let Some(DatasetEntry { dataset, status }) = entry else {
        return Err(OpenError::NotActive);
    };
    if dataset.owner != broker.config.organisation {
        return Err(OpenError::NotOwner);
    }
    if !status.holders.contains(&lease.id) {
        return Err(OpenError::NotActive);
    }
    let (volume, _) = sealing::unseal(broker, &lease.dataset).await?;
    Ok(volume)
}

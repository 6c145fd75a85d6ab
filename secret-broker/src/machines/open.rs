//! Opening a volume for a provisioner: only while the ledger shows the lease active.

use leasehold_chaincode::{DatasetEntry, DatasetRef, Lease, LeaseState, Msp};
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
    let dataset = DatasetRef::Id(lease.dataset.clone());
    let entry = broker
        .ledger
        .dataset(&dataset)
        .await
        .map_err(UnsealError::Ledger)?;
    check(lease, entry.as_ref(), &broker.config.organisation, now_ms())?;
    let (volume, _) = sealing::unseal(broker, &lease.dataset).await?;
    Ok(volume)
}

/// A lease says of itself what it is; its dataset, whose that is and who holds it. Both have to say so.
fn check(
    lease: &Lease,
    entry: Option<&DatasetEntry>,
    organisation: &Msp,
    now_ms: i64,
) -> Result<(), OpenError> {
    if lease.state != LeaseState::Active || lease.due_at_ms() <= now_ms {
        return Err(OpenError::NotActive);
    }
    if lease.owner != *organisation {
        return Err(OpenError::NotOwner);
    }
    match entry {
        Some(entry) if entry.dataset.owner != *organisation => Err(OpenError::NotOwner),
        Some(entry) if entry.status.holders.contains(&lease.id) => Ok(()),
        Some(_) | None => Err(OpenError::NotActive),
    }
}

#[cfg(test)]
mod tests {
    use leasehold_chaincode::{Dataset, DatasetStatus, Grant, Metadata, Policy};

    use super::*;

    #[test]
    fn a_volume_is_opened_only_where_its_dataset_names_the_lease() {
        let owner = Msp::new("UiSMSP").unwrap();
        let mut lease = crate::expiry::tests::lease();
        lease.state = LeaseState::Active;
        lease.grant = Some(Grant {
            fencing_token: 1,
            at_ms: 0,
            expires_at_ms: 1_000,
            renewals: 0,
        });
        let entry = DatasetEntry {
            dataset: Dataset {
                id: lease.dataset.clone(),
                name: lease.dataset_name.clone(),
                owner: owner.clone(),
                metadata: Metadata::default(),
                policy: Policy::exclusive(60),
                registered_at_ms: 0,
                retired_at_ms: None,
            },
            status: DatasetStatus {
                holders: vec![lease.id.clone()],
                ..DatasetStatus::default()
            },
        };
        let checked = |lease: &Lease, entry: Option<&DatasetEntry>, now_ms| {
            check(lease, entry, &owner, now_ms).map_err(|error| error.code())
        };
        assert_eq!(checked(&lease, Some(&entry), 999), Ok(()));
        assert_eq!(checked(&lease, Some(&entry), 1_000), Err("lease_not_active"));
        assert_eq!(checked(&lease, None, 999), Err("lease_not_active"));
        let mut unheld = entry.clone();
        unheld.status.holders.clear();
        assert_eq!(checked(&lease, Some(&unheld), 999), Err("lease_not_active"));
        let mut others = entry.clone();
        others.dataset.owner = Msp::new("UiOMSP").unwrap();
        assert_eq!(checked(&lease, Some(&others), 999), Err("not_owner"));
        lease.owner = Msp::new("UiOMSP").unwrap();
        assert_eq!(checked(&lease, Some(&entry), 999), Err("not_owner"));
    }
}

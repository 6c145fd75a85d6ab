//! The broker's organisation on the ledger: joined, with the address where its broker answers, and with the cluster that it serves.
//!
//! What is there already is left as it is, so that this runs at every start; only an address that has changed is amended. A cluster that an
//! administrator has retired stays retired.

use leasehold_chaincode::{Command, Refusal, TxId};

use crate::audit::{Audit, Event};
use crate::config::Config;
use crate::ledger::{ReadError, Submission, SubmitError};
use crate::ledgers::BrokerLedger;

/// Why the organisation is not on the ledger as the configuration has it.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// The ledger could not be read.
    #[error("could not look for the organisation on the ledger: {0}")]
    Read(#[from] ReadError),
    /// The ledger did not take a command.
    #[error("could not {verb} on the ledger: {source}")]
    Submit {
        /// Which command.
        verb: &'static str,
        /// Why.
        source: SubmitError,
    },
}

/// Does what is missing.
///
/// # Errors
/// [`EnrolmentError`]; the next start goes on from there.
pub async fn enrol(ledger: &BrokerLedger, config: &Config, audit: &Audit) -> Result<(), EnrolmentError> {
    let broker = config.address.clone();
    let command = match ledger.organisation(&config.organisation).await? {
        None => Some(Command::JoinConsortium {
            broker,
            keys: Vec::new(),
        }),
        Some(organisation) if organisation.broker != broker => Some(Command::AmendOrganisation {
            broker: Some(broker),
            keys: None,
        }),
        Some(_) => None,
    };
    if let Some(command) = command {
        submit(ledger, config, audit, command).await?;
    }
    let cluster = ledger.cluster(&config.organisation, &config.cluster).await?;
    match cluster {
        None => {
            let (name, keys) = (config.cluster.to_string(), Vec::new());
            submit(ledger, config, audit, Command::RegisterCluster { name, keys }).await?;
        }
        Some(cluster) if cluster.retired_at_ms.is_some() => {
            tracing::warn!(cluster = %cluster.name, "this broker's cluster is retired: it takes no new leases");
        }
        Some(_) => {}
    }
    Ok(())
}

async fn submit(
    ledger: &BrokerLedger,
    config: &Config,
    audit: &Audit,
    command: Command,
) -> Result<(), EnrolmentError> {
    let verb = command.name();
    let failed = |source| EnrolmentError::Submit { verb, source };
    let tx_id = TxId::new(uuid::Uuid::new_v4().to_string())
        .map_err(|error| failed(SubmitError::Storage(error.to_string())))?;
    match ledger.submit(Submission { tx_id, command }).await {
        Ok(_) => {
            audit
                .tell(Event::own(verb, config.organisation.as_str(), "committed"))
                .await;
            Ok(())
        }
        // Another replica of this broker was faster.
        Err(SubmitError::Refused(Refusal::AlreadyJoined { .. } | Refusal::Unchanged {})) => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

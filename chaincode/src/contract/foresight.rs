//! What a command will read first, as far as the command itself says. It only spares rounds of fetching: what is decided never
//! depends on it.

use super::TxContext;
use crate::command::Command;
use crate::id::{ClusterName, DatasetId, DatasetName, DatasetRef, LeaseId, Msp, TraceId};
use crate::key;

/// Keys that a command reads before, or without, depending on what another one holds.
pub(super) fn first_reads(version: u32, context: &TxContext, command: &Command) -> Vec<String> {
    let mut keys = Vec::new();
    if version >= 2 {
        keys.push(key::CONSORTIUM.to_owned());
    }
    match command {
        Command::RegisterDataset { name, .. } => {
            keys.extend(DatasetName::new(name).ok().map(|name| key::dataset_name(&name)));
            keys.push(key::dataset(&DatasetId::derive(&context.tx_id)));
        }
        Command::Lease { dataset, cluster, .. } => {
            named(&mut keys, dataset);
            keys.push(key::lease(&LeaseId::derive(&context.tx_id)));
            if version >= 2 {
                match cluster.as_deref().map(ClusterName::new) {
                    None => keys.push(key::organisation(&context.caller)),
                    Some(Ok(name)) => keys.push(key::cluster(&context.caller, &name)),
                    Some(Err(_)) => {}
                }
            }
        }
        Command::AmendDataset { dataset, .. }
        | Command::ReplaceVolume { dataset, .. }
        | Command::OfferDataset { dataset, .. }
        | Command::TakeDataset { dataset, .. }
        | Command::RemoveDataset { dataset, .. }
        | Command::ApproveCode { dataset, .. }
        | Command::WithdrawCode { dataset, .. } => named(&mut keys, dataset),
        Command::ApproveLease { lease }
        | Command::DenyLease { lease, .. }
        | Command::Renew { lease, .. }
        | Command::Release { lease, .. }
        | Command::Revoke { lease, .. }
        | Command::Expire { lease }
        | Command::ConfirmEnd { lease }
        | Command::DeclareEnded { lease, .. }
        | Command::ReportMount { lease, .. } => {
            keys.extend(LeaseId::new(lease.as_str()).ok().map(|id| key::lease(&id)));
        }
        Command::RecordTrace { key, .. } => {
            keys.push(key::trace(&TraceId::derive(&context.caller, key)));
        }
        Command::JoinConsortium { .. }
        | Command::AmendOrganisation { .. }
        | Command::SuspendOrganisation { .. }
        | Command::ResumeOrganisation {}
        | Command::RetireCluster { .. }
        | Command::RegisterCluster { .. } => keys.push(key::organisation(&context.caller)),
        Command::VoteOnSuspension { organisation, .. } => {
            keys.extend(
                Msp::new(organisation.as_str())
                    .ok()
                    .map(|msp| key::organisation(&msp)),
            );
        }
    }
    keys
}

/// How a dataset is found.
fn named(keys: &mut Vec<String>, reference: &str) {
    match DatasetRef::parse(reference) {
        Ok(DatasetRef::Id(id)) => keys.extend([key::dataset(&id), key::dataset_status(&id)]),
        Ok(DatasetRef::Name(name)) => keys.push(key::dataset_name(&name)),
        Err(_) => {}
    }
}

//! What a command will read first, as far as the command itself says. It only spares rounds of fetching: what is decided never
//! depends on it.

use super::TxContext;
use super::draft::lease_id;
use super::lease::held_by;
use crate::command::Command;
use crate::id::{ClusterName, DatasetId, DatasetName, DatasetRef, LeaseId, Msp, Subject, TraceId};
use crate::state::StateReader;
use crate::{key, query};

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
            keys.push(key::lease(&lease_id(version, context)));
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

/// Keys that a command reads once those are known, as far as they are.
pub(super) fn next_reads<S: StateReader + ?Sized>(
    state: &S,
    context: &TxContext,
    command: &Command,
) -> Vec<String> {
    let Command::Lease { dataset, subject, .. } = command else {
        return Vec::new();
    };
    let reference = DatasetRef::parse(dataset).ok();
    let dataset = reference.and_then(|reference| query::dataset_id(state, &reference).ok()?);
    let (Some(dataset), Ok(subject)) = (dataset, Subject::new(subject.as_str())) else {
        return Vec::new();
    };
    let mut keys = vec![key::dataset(&dataset), key::dataset_status(&dataset)];
    keys.extend(held_by(&dataset, &context.caller, &subject));
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

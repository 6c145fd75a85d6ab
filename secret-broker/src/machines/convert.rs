//! From the ledger's and the key store's records to what machines read.

use leasehold_broker_wire::machines as wire;
use leasehold_chaincode::{Lease, LeaseState, Mount};

use crate::store::people;

pub(super) fn lease(lease: &Lease) -> wire::Lease {
    let state = match lease.state {
        LeaseState::Requested | LeaseState::Waiting => wire::LeaseState::Unspecified,
        LeaseState::Active => wire::LeaseState::Active,
        LeaseState::Ending => wire::LeaseState::Ending,
        LeaseState::Ended => wire::LeaseState::Ended,
    };
    let (mount, mount_message) = match &lease.mount {
        Mount::Pending {} => (wire::MountState::Pending, String::new()),
        Mount::Ready {} => (wire::MountState::Ready, String::new()),
        Mount::Failed { finding } => (wire::MountState::Failed, finding.message.clone()),
    };
    wire::Lease {
        lease_id: lease.id.to_string(),
        dataset_id: lease.dataset.to_string(),
        dataset_name: lease.dataset_name.to_string(),
        owner: lease.owner.to_string(),
        subject: lease.subject.to_string(),
        state: state.into(),
        granted_at_ms: lease.granted_at_ms(),
        expires_at_ms: lease.due_at_ms(),
        max_ttl_seconds: i64::try_from(lease.max_ttl_seconds).unwrap_or(i64::MAX),
        fencing_token: lease.fencing_token(),
        mount: mount.into(),
        mount_message,
        end_cause: lease
            .end
            .as_ref()
            .map(|end| end.cause.as_str().to_owned())
            .unwrap_or_default(),
    }
}

pub(super) fn binding(binding: &people::Binding) -> wire::Binding {
    let account = |account: &people::Account| wire::ServiceAccount {
        namespace: binding.namespace.clone(),
        name: account.name.clone(),
        uid: account.uid.clone(),
    };
    wire::Binding {
        subject: binding.pseudonym.clone(),
        notebook: Some(account(&binding.notebook)),
        executor: Some(account(&binding.executor)),
        home: Some(wire::Home {
            claim: binding.home.claim.clone(),
            sub_path: binding.home.sub_path.clone(),
            mount_path: binding.home.mount_path.clone(),
        }),
    }
}

//! The state after one block, held still while questions are asked.

use super::storage::{Readers, Session, blocks};
use super::witness::Witness;
use super::{Bytes, Ledger, ReadError, loaded};
use leasehold_chaincode::{
    ActionKind, Cluster, ClusterName, Code, CodeApproval, DatasetEntry, DatasetId, DatasetRef, HistoryEntry,
    Lease, LeaseId, LeaseState, Msp, Organisation, Page, PageRequest, Subject, Trace, TraceId, Volume, query,
};

/// The state as it was after the block at [`Snapshot::height`]. Keep it short: the database keeps what it sees until it is
/// dropped.
pub struct Snapshot {
    read: Session<'static>,
    height: u64,
    timestamp_ms: i64,
}

impl Snapshot {
    pub(super) async fn begin(reads: &Readers, witness: &Witness) -> Result<Self, ReadError> {
        let mut read = reads.read().await?;
        // Both databases fix what a transaction sees with its first read.
        let head = witness.catch_up(&mut read).await?.head;
        Ok(Self {
            read,
            height: head.height,
            timestamp_ms: head.timestamp_ms,
        })
    }

    /// Height of the last block in it. [`Ledger::follow`] goes on from here.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Time of that block, milliseconds since the Unix epoch.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// The hash of a block; none where there is no such block.
    ///
    /// # Errors
    /// [`ReadError`] when the database fails.
    pub async fn block_hash(&mut self, height: u64) -> Result<Option<Bytes<32>>, ReadError> {
        let head = blocks::head_at(&mut self.read, height).await?;
        Ok(head.map(|head| Bytes(head.hash)))
    }
}

/// Each question once on a snapshot, for several that belong together, and once on the ledger, for a single one.
macro_rules! questions {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Snapshot {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`ReadError`] when the database fails or the state is damaged.
                pub async fn $name(&mut self, $($argument: $type),*) -> Result<$answer, ReadError> {
                    loaded::answer(&mut self.read, |state| query::$name(state, $($argument),*)).await
                }
            )*
        }

        impl Ledger {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`ReadError`] when the database fails or the state is damaged.
                pub async fn $name(&self, $($argument: $type),*) -> Result<$answer, ReadError> {
                    self.snapshot().await?.$name($($argument),*).await
                }
            )*
        }
    };
}

questions! {
    /// A dataset; by id also a retired one.
    fn dataset(reference: &DatasetRef) -> Option<DatasetEntry>;
    /// The catalogue: datasets that are not retired, by name.
    fn datasets(page: &PageRequest) -> Page<DatasetEntry>;
    /// An owner's datasets that are not retired, by name.
    fn datasets_of(owner: &Msp, page: &PageRequest) -> Page<DatasetEntry>;
    /// The encrypted volume of a dataset that is not retired.
    fn volume(dataset: &DatasetId) -> Option<Volume>;
    /// A lease, whatever its state.
    fn lease(id: &LeaseId) -> Option<Lease>;
    /// The leases of those who have a dataset: active or ending.
    fn holders(dataset: &DatasetId) -> Vec<Lease>;
    /// Whether its owner lets this code run on a dataset.
    fn code_approval(dataset: &DatasetId, code: &Code) -> Option<CodeApproval>;
    /// Codes that may run on a dataset, by digest.
    fn code_approvals(dataset: &DatasetId, page: &PageRequest) -> Page<CodeApproval>;
    /// A person's leases: those in a state, or all.
    fn leases_of(subject: &Subject, in_state: Option<LeaseState>, page: &PageRequest) -> Page<Lease>;
    /// Everybody's leases in a state, the first to expire first.
    fn leases_in(in_state: LeaseState, page: &PageRequest) -> Page<Lease>;
    /// Leases in a state whose time is over at `now_ms` or before.
    fn leases_due(in_state: LeaseState, now_ms: i64, page: &PageRequest) -> Page<Lease>;
    /// All leases that a dataset ever had, in the order of granting.
    fn leases_on(dataset: &DatasetId, page: &PageRequest) -> Page<Lease>;
    /// What happened to a dataset and its leases, the oldest first.
    fn history(dataset: &DatasetId, page: &PageRequest) -> Page<HistoryEntry>;
    /// An organisation that has joined.
    fn organisation(msp: &Msp) -> Option<Organisation>;
    /// All organisations that have joined, by MSP id.
    fn organisations(page: &PageRequest) -> Page<Organisation>;
    /// A cluster, retired or not.
    fn cluster(msp: &Msp, name: &ClusterName) -> Option<Cluster>;
    /// An organisation's clusters, retired or not, by name.
    fn clusters(msp: &Msp, page: &PageRequest) -> Page<Cluster>;
    /// What happened to an organisation and its clusters, the oldest first.
    fn organisation_history(msp: &Msp, page: &PageRequest) -> Page<HistoryEntry>;
    /// A trace.
    fn trace(id: &TraceId) -> Option<Trace>;
    /// All traces, the oldest first.
    fn traces(page: &PageRequest) -> Page<Trace>;
    /// Traces about a dataset, the oldest first.
    fn traces_on(dataset: &DatasetId, page: &PageRequest) -> Page<Trace>;
    /// Traces of a person, the oldest first.
    fn traces_of(subject: &Subject, page: &PageRequest) -> Page<Trace>;
    /// Traces that an organisation recorded, the oldest first.
    fn traces_by(organisation: &Msp, page: &PageRequest) -> Page<Trace>;
    /// Traces of an action, the oldest first.
    fn traces_with(action: ActionKind, page: &PageRequest) -> Page<Trace>;
    /// What ran under a lease, the oldest first.
    fn traces_under(lease: &LeaseId, page: &PageRequest) -> Page<Trace>;
    /// What happened to a lease, the oldest first.
    fn lease_history(lease: &LeaseId, page: &PageRequest) -> Page<HistoryEntry>;
}

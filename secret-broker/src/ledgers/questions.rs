//! The questions that the broker asks, once on the ledger for a single one and once for several that belong together.

use leasehold_chaincode::{
    Cluster, ClusterName, DatasetEntry, DatasetId, DatasetRef, HistoryEntry, Lease, LeaseId, LeaseState, Msp,
    Organisation, Page, PageRequest, Question, Subject, Volume,
};

use super::{BrokerLedger, Reading};
use crate::ledger::ReadError;

macro_rules! questions {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty = $question:expr;)*) => {
        impl Reading {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`ReadError`] when the ledger cannot be read.
                pub async fn $name(&mut self, $($argument: $type),*) -> Result<$answer, ReadError> {
                    match self {
                        Self::Embedded(snapshot) => snapshot.$name($($argument),*).await,
                        Self::Fabric(channel) => channel.ask(&$question).await,
                        Self::OwnPeer(peer) => peer.ask(&$question).await,
                    }
                }
            )*
        }

        impl BrokerLedger {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`ReadError`] when the ledger cannot be read.
                pub async fn $name(&self, $($argument: $type),*) -> Result<$answer, ReadError> {
                    match self {
                        Self::Embedded(ledger) => ledger.$name($($argument),*).await,
                        Self::Fabric(channel) => channel.ask(&$question).await,
                    }
                }
            )*
        }
    };
}

questions! {
    /// A dataset; by id also a retired one.
    fn dataset(reference: &DatasetRef) -> Option<DatasetEntry> = Question::Dataset { dataset: reference.clone() };
    /// The catalogue: datasets that are not retired, by name.
    fn datasets(page: &PageRequest) -> Page<DatasetEntry> = Question::Datasets { page: page.clone() };
    /// The encrypted volume of a dataset that is not retired.
    fn volume(dataset: &DatasetId) -> Option<Volume> = Question::Volume { dataset: dataset.clone() };
    /// A lease, whatever its state.
    fn lease(id: &LeaseId) -> Option<Lease> = Question::Lease { lease: id.clone() };
    /// The leases of those who have a dataset: active or ending.
    fn holders(dataset: &DatasetId) -> Vec<Lease> = Question::Holders { dataset: dataset.clone() };
    /// A person's leases: those in a state, or all.
    fn leases_of(subject: &Subject, in_state: Option<LeaseState>, page: &PageRequest) -> Page<Lease> =
        Question::LeasesOf { subject: subject.clone(), state: in_state, page: page.clone() };
    /// Everybody's leases in a state, the first to expire first.
    fn leases_in(in_state: LeaseState, page: &PageRequest) -> Page<Lease> =
        Question::LeasesIn { state: in_state, page: page.clone() };
    /// Leases in a state whose time is over at `now_ms` or before.
    fn leases_due(in_state: LeaseState, now_ms: i64, page: &PageRequest) -> Page<Lease> =
        Question::LeasesDue { state: in_state, now_ms, page: page.clone() };
    /// All leases that a dataset ever had, in the order of asking.
    fn leases_on(dataset: &DatasetId, page: &PageRequest) -> Page<Lease> =
        Question::LeasesOn { dataset: dataset.clone(), page: page.clone() };
    /// What happened to a dataset and its leases, the oldest first.
    fn history(dataset: &DatasetId, page: &PageRequest) -> Page<HistoryEntry> =
        Question::History { dataset: dataset.clone(), page: page.clone() };
    /// An organisation that has joined.
    fn organisation(msp: &Msp) -> Option<Organisation> = Question::Organisation { msp: msp.clone() };
    /// A cluster, retired or not.
    fn cluster(msp: &Msp, name: &ClusterName) -> Option<Cluster> =
        Question::Cluster { msp: msp.clone(), name: name.clone() };
}

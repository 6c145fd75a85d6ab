//! What the ledger's state holds. Each record is stored as `{"schema": n, "record": {…}}`, so that a later contract can tell an
//! old one and bring it up to date ([`Record::upgrade`]). A contract that decides by the rules of an older one writes what that
//! one wrote, to the byte: a ledger that is older than its contract is verified and rebuilt like any other.

mod dataset;
mod lease;
mod organisation;
mod trace;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use dataset::{
    Admission, Code, CodeApproval, Creator, Dataset, DatasetStatus, Digest, Finding, HashType, Metadata,
    Mode, Offer, Outputs, Place, Policy, ResourceType, Volume,
};
pub use lease::{End, EndCause, Grant, Lease, LeaseState, Mount};
pub use organisation::{By, Cluster, Consortium, KeyAlgorithm, Organisation, PublicKey, Suspension, Vote};
pub use trace::{Action, ActionKind, Pod, Resource, Tool, Trace};

/// Something that the state holds.
pub trait Record: Serialize + DeserializeOwned + Clone + Send + 'static {
    /// For each version of its shape, from 1 on, the version of the contract that began to write it.
    const SINCE: &'static [u32] = &[1];

    /// Brings a record of an older version to the next one; `None` where there never was such a version.
    #[must_use]
    fn upgrade(_from: u32, _record: Value) -> Option<Value> {
        None
    }

    /// Version of its shape that a version of the contract writes.
    #[must_use]
    fn schema(contract: u32) -> u32 {
        (1_u32..)
            .zip(Self::SINCE)
            .take_while(|(_, since)| **since <= contract)
            .last()
            .map_or(0, |(schema, _)| schema)
    }
}

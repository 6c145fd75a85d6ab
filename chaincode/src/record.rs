//! What the ledger's state holds. Each record is stored as `{"schema": n, "record": {…}}`, so that a later contract can tell an
//! old one and bring it up to date ([`Record::upgrade`]).

mod dataset;
mod lease;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use dataset::{
    Admission, Code, CodeApproval, Dataset, DatasetStatus, Digest, Finding, HashType, Metadata, Mode, Offer,
    Outputs, Place, Policy, Volume,
};
pub use lease::{End, EndCause, Grant, Lease, LeaseState, Mount};

/// Something that the state holds.
pub trait Record: Serialize + DeserializeOwned {
    /// Version that this contract writes.
    const SCHEMA: u32 = 1;

    /// Brings a record of an older version to the next one; `None` where there never was such a version.
    #[must_use]
    fn upgrade(_from: u32, _record: Value) -> Option<Value> {
        None
    }
}

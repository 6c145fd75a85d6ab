//! The contract of the consortium: who registered which dataset, who leases it, when that ended, and what happened before.
//!
//! It promises to be a function of its input: [`Contract::execute`] takes what a transaction may know (the ledger's state, the
//! transaction's id, time and caller, and the command) and gives the writes, the event and the result, or a [`Refusal`] and no
//! writes. There is no clock, I/O, randomness, thread or async in here, so that every ledger, and every peer of one, comes to the
//! same bytes.
//!
//! What it leaves to others: storing the writes atomically, ordering the transactions, and knowing that the caller is who the
//! ledger says it is.

pub mod command;
pub mod contract;
pub mod event;
pub mod id;
mod kept;
pub mod key;
pub mod limit;
pub mod loaded;
pub mod query;
pub mod question;
pub mod record;
pub mod refusal;
pub mod state;

pub use command::{Ciphertext, Command, MountReport, Role, Standing};
pub use contract::{CONTRACT_VERSION, CommandResult, Contract, Endorsement, Failure, Outcome, TxContext};
pub use event::{Event, EventKind, HistoryEntry};
pub use id::{
    ClusterName, DatasetId, DatasetName, DatasetRef, InvalidId, LeaseId, Msp, Subject, TraceId, TxId,
};
pub use kept::Kept;
pub use loaded::Loaded;
pub use query::{DatasetEntry, MAX_PAGE, Page, PageRequest};
pub use question::{Answer, Question};
pub use record::{
    Action, ActionKind, Admission, By, Cluster, Code, CodeApproval, Consortium, Creator, Dataset,
    DatasetStatus, Digest, End, EndCause, Finding, Grant, HashType, KeyAlgorithm, Lease, LeaseState,
    Metadata, Mode, Mount, Offer, Organisation, Outputs, Place, Pod, Policy, PublicKey, Record, Resource,
    ResourceType, Suspension, Tool, Trace, Volume, Vote,
};
pub use refusal::Refusal;
pub use state::{MemoryState, StateError, StateReader, Write};

//! What may be asked of the state, as data: for ledgers that are asked over a wire. Each is a function of [`crate::query`], with its
//! arguments as fields.

use crate::event::HistoryEntry;
use crate::id::{ClusterName, DatasetId, DatasetRef, LeaseId, Msp, Subject, TraceId};
use crate::query::{self, DatasetEntry, Page, PageRequest};
use crate::record::{
    ActionKind, Cluster, Code, CodeApproval, Consortium, Lease, LeaseState, Organisation, Trace, Volume,
};
use crate::state::{StateError, StateReader};
use serde::{Deserialize, Serialize};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// [`query::dataset`]
    Dataset {
        /// Id or name.
        dataset: DatasetRef,
    },
    /// [`query::datasets`]
    Datasets {
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::datasets_of`]
    DatasetsOf {
        /// The organisation.
        owner: Msp,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::volume`]
    Volume {
        /// The dataset.
        dataset: DatasetId,
    },
    /// [`query::lease`]
    Lease {
        /// The lease.
        lease: LeaseId,
    },
    /// [`query::holders`]
    Holders {
        /// The dataset.
        dataset: DatasetId,
    },
    /// [`query::code_approval`]
    CodeApproval {
        /// The dataset.
        dataset: DatasetId,
        /// By digest.
        code: Code,
    },
    /// [`query::code_approvals`]
    CodeApprovals {
        /// The dataset.
        dataset: DatasetId,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::leases_of`]
    LeasesOf {
        /// The person's pseudonym.
        subject: Subject,
        /// Those in a state; else all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<LeaseState>,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::leases_in`]
    LeasesIn {
        /// The state.
        state: LeaseState,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::leases_due`]
    LeasesDue {
        /// The state.
        state: LeaseState,
        /// Milliseconds since the Unix epoch.
        now_ms: i64,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::leases_on`]
    LeasesOn {
        /// The dataset.
        dataset: DatasetId,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::history`]
    History {
        /// The dataset.
        dataset: DatasetId,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::lease_history`]
    LeaseHistory {
        /// The lease.
        lease: LeaseId,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::consortium`]
    Consortium {},
    /// [`query::organisation`]
    Organisation {
        /// Which.
        msp: Msp,
    },
    /// [`query::organisations`]
    Organisations {
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::cluster`]
    Cluster {
        /// Whose.
        msp: Msp,
        /// Which.
        name: ClusterName,
    },
    /// [`query::clusters`]
    Clusters {
        /// Whose.
        msp: Msp,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::organisation_history`]
    OrganisationHistory {
        /// Whose.
        msp: Msp,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::trace`]
    Trace {
        /// Which.
        trace: TraceId,
    },
    /// [`query::traces`]
    Traces {
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::traces_on`]
    TracesOn {
        /// The dataset.
        dataset: DatasetId,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::traces_of`]
    TracesOf {
        /// The person's pseudonym.
        subject: Subject,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::traces_by`]
    TracesBy {
        /// Who recorded them.
        organisation: Msp,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::traces_with`]
    TracesWith {
        /// What was done.
        action: ActionKind,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
    /// [`query::traces_under`]
    TracesUnder {
        /// The lease.
        lease: LeaseId,
        /// Which page.
        #[serde(default)]
        page: PageRequest,
    },
}

/// An answer. In JSON it is what the question's function gives: a record or null, or `{"items": […], "next": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "each is what it is called")]
pub enum Answer {
    Dataset(Box<Option<DatasetEntry>>),
    Datasets(Page<DatasetEntry>),
    Volume(Option<Volume>),
    Lease(Box<Option<Lease>>),
    Leases(Page<Lease>),
    Holders(Vec<Lease>),
    CodeApproval(Option<CodeApproval>),
    CodeApprovals(Page<CodeApproval>),
    History(Page<HistoryEntry>),
    Consortium(Consortium),
    Organisation(Box<Option<Organisation>>),
    Organisations(Page<Organisation>),
    Cluster(Option<Cluster>),
    Clusters(Page<Cluster>),
    Trace(Box<Option<Trace>>),
    Traces(Page<Trace>),
}

impl Question {
    /// Answers it from a state.
    ///
    /// # Errors
    /// [`StateError`] when the state cannot be read.
    pub fn answer<S: StateReader + ?Sized>(&self, state: &S) -> Result<Answer, StateError> {
        Ok(match self {
            Self::Dataset { dataset } => Answer::Dataset(Box::new(query::dataset(state, dataset)?)),
            Self::Datasets { page } => Answer::Datasets(query::datasets(state, page)?),
            Self::DatasetsOf { owner, page } => Answer::Datasets(query::datasets_of(state, owner, page)?),
            Self::Volume { dataset } => Answer::Volume(query::volume(state, dataset)?),
            Self::Lease { lease } => Answer::Lease(Box::new(query::lease(state, lease)?)),
            Self::Holders { dataset } => Answer::Holders(query::holders(state, dataset)?),
            Self::CodeApproval { dataset, code } => {
                Answer::CodeApproval(query::code_approval(state, dataset, code)?)
            }
            Self::CodeApprovals { dataset, page } => {
                Answer::CodeApprovals(query::code_approvals(state, dataset, page)?)
            }
            Self::LeasesOf {
                subject,
                state: in_state,
                page,
            } => Answer::Leases(query::leases_of(state, subject, *in_state, page)?),
            Self::LeasesIn {
                state: in_state,
                page,
            } => Answer::Leases(query::leases_in(state, *in_state, page)?),
            Self::LeasesDue {
                state: in_state,
                now_ms,
                page,
            } => Answer::Leases(query::leases_due(state, *in_state, *now_ms, page)?),
            Self::LeasesOn { dataset, page } => Answer::Leases(query::leases_on(state, dataset, page)?),
            Self::History { dataset, page } => Answer::History(query::history(state, dataset, page)?),
            Self::LeaseHistory { lease, page } => Answer::History(query::lease_history(state, lease, page)?),
            Self::Consortium {} => Answer::Consortium(query::consortium(state)?),
            Self::Organisation { msp } => Answer::Organisation(Box::new(query::organisation(state, msp)?)),
            Self::Organisations { page } => Answer::Organisations(query::organisations(state, page)?),
            Self::Cluster { msp, name } => Answer::Cluster(query::cluster(state, msp, name)?),
            Self::Clusters { msp, page } => Answer::Clusters(query::clusters(state, msp, page)?),
            Self::Trace { trace } => Answer::Trace(Box::new(query::trace(state, trace)?)),
            Self::Traces { page } => Answer::Traces(query::traces(state, page)?),
            Self::TracesOn { dataset, page } => Answer::Traces(query::traces_on(state, dataset, page)?),
            Self::TracesOf { subject, page } => Answer::Traces(query::traces_of(state, subject, page)?),
            Self::TracesBy { organisation, page } => {
                Answer::Traces(query::traces_by(state, organisation, page)?)
            }
            Self::TracesWith { action, page } => Answer::Traces(query::traces_with(state, *action, page)?),
            Self::TracesUnder { lease, page } => Answer::Traces(query::traces_under(state, lease, page)?),
            Self::OrganisationHistory { msp, page } => {
                Answer::History(query::organisation_history(state, msp, page)?)
            }
        })
    }
}

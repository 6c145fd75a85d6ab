//! Traces: who made, changed or used which data or model, and what came of it. By digest, so that anybody who has the thing can check it.

use crate::id::{Msp, Subject, TraceId, TxId};
use crate::record::{Code, Digest, Record};
use serde::{Deserialize, Serialize};

/// Something that was done, for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// For ever.
    pub id: TraceId,
    /// Who recorded it: the organisation of the person.
    pub organisation: Msp,
    /// The person's pseudonym.
    pub subject: Subject,
    /// The transaction's time, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The transaction.
    pub tx_id: TxId,
    /// What was done.
    pub action: Action,
}

impl Record for Trace {}

impl Trace {
    /// Ids of the datasets that the action names. What ran under a lease is about the lease's dataset besides.
    pub fn datasets(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match &self.action {
            Action::CreateDataset { dataset, .. } | Action::UpdateDataset { dataset, .. } => {
                (Some(dataset), &[][..])
            }
            Action::UseDatasets { datasets, .. } | Action::CreateModel { datasets, .. } => {
                (None, datasets.as_slice())
            }
            Action::Run { .. } | Action::UseModels { .. } => (None, &[][..]),
        };
        one.into_iter().chain(many).map(String::as_str)
    }
}

/// What was done. Texts come as they were sent; the contract has checked them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// A dataset was made of these.
    CreateDataset {
        /// Its id; the caller's own.
        dataset: String,
        /// What it is made of.
        resources: Vec<Resource>,
    },
    /// A dataset's content or description has changed.
    UpdateDataset {
        /// Its id; the caller's own.
        dataset: String,
        /// What has changed, in one line.
        details: String,
        /// What is new in it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        resources: Vec<Resource>,
    },
    /// Datasets were used.
    UseDatasets {
        /// Their ids.
        datasets: Vec<String>,
        /// With what.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tool: Option<Tool>,
    },
    /// Something ran under a lease, and this came of it.
    Run {
        /// The person's lease, active or over.
        lease: String,
        /// What ran.
        pods: Vec<Pod>,
        /// What came of it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        results: Vec<Resource>,
    },
    /// A model was trained.
    CreateModel {
        /// By which application.
        application: String,
        /// The model, in its maker's words.
        model: String,
        /// Of its file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        /// Ids of the datasets that it was trained on.
        datasets: Vec<String>,
    },
    /// Models were used.
    UseModels {
        /// By which application.
        application: String,
        /// The models, in their makers' words.
        models: Vec<String>,
    },
}

impl Action {
    /// Of which kind it is.
    #[must_use]
    pub fn kind(&self) -> ActionKind {
        match self {
            Self::CreateDataset { .. } => ActionKind::CreateDataset,
            Self::UpdateDataset { .. } => ActionKind::UpdateDataset,
            Self::UseDatasets { .. } => ActionKind::UseDatasets,
            Self::Run { .. } => ActionKind::Run,
            Self::CreateModel { .. } => ActionKind::CreateModel,
            Self::UseModels { .. } => ActionKind::UseModels,
        }
    }
}

/// Kinds of action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is what it is called; see Action")]
pub enum ActionKind {
    CreateDataset,
    UpdateDataset,
    UseDatasets,
    Run,
    CreateModel,
    UseModels,
}

impl ActionKind {
    /// The word for it, as in records and keys.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateDataset => "create_dataset",
            Self::UpdateDataset => "update_dataset",
            Self::UseDatasets => "use_datasets",
            Self::Run => "run",
            Self::CreateModel => "create_model",
            Self::UseModels => "use_models",
        }
    }
}

/// A file or other content, by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Its id within the trace, such as a number: no name of a file that says something of a person.
    pub id: String,
    /// Of its content.
    pub digest: Digest,
}

/// A program that people use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A pod that had leased data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// Its UID in the cluster.
    pub uid: String,
    /// What ran in it.
    pub code: Code,
}

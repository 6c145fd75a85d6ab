//! Why a command failed, and the exit code that says so to scripts.

use std::path::PathBuf;
use std::process::ExitCode;

use leasehold_broker_client::people::PeopleError;
use leasehold_broker_client::{EndpointError, FileError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something was typed, set or written that cannot be right.
    #[error("{0}")]
    Usage(String),
    /// The broker's URL cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The broker refused, is away, or is not done.
    #[error("{}", with_field(.0))]
    Broker(#[from] PeopleError),
    /// A lease was granted, but its data can't be mounted.
    #[error(
        "dataset {dataset} is leased (lease {lease}) but cannot be mounted: {finding}; the owner has to mend it"
    )]
    Unmountable {
        /// Name of the dataset.
        dataset: String,
        /// Id of the lease.
        lease: String,
        /// What the node said.
        finding: String,
    },
    /// A lease that is asked for, or waited for.
    #[error("{0}")]
    NotYet(String),
    /// A lease ended while its mount was waited for.
    #[error("lease {lease} of dataset {dataset} ended before it could be mounted")]
    Ended {
        /// Name of the dataset.
        dataset: String,
        /// Id of the lease.
        lease: String,
    },
    /// Directories that could not be made or removed.
    #[error("{} of the directories below {} could not be kept in step: {}", .problems.len(), .root.display(), .problems.join("; "))]
    Skeleton {
        /// `<home>/datasets`.
        root: PathBuf,
        /// One sentence each.
        problems: Vec<String>,
    },
    /// Standard output or error.
    #[error("cannot write the answer: {0}")]
    Output(#[from] std::io::Error),
}

impl Failure {
    /// Whether only the reader of our output has gone, as `head` does.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The documented code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Broker(PeopleError::Refused(_) | PeopleError::Unintelligible { .. })
            | Self::Unmountable { .. }
            | Self::Ended { .. }
            | Self::Skeleton { .. }
            | Self::Output(_) => 1,
            Self::Usage(_)
            | Self::Endpoint(_)
            | Self::Broker(PeopleError::File(FileError::Unreadable { .. } | FileError::Malformed { .. })) => {
                2
            }
            Self::Broker(PeopleError::Unreachable { .. } | PeopleError::Tls { .. }) => 3,
            Self::Broker(PeopleError::TimedOut { .. }) | Self::NotYet(_) => 4,
        })
    }
}

fn with_field(error: &PeopleError) -> String {
    match error {
        PeopleError::Refused(problem) => match &problem.field {
            Some(field) => format!("{error}\nfield: {field}"),
            None => error.to_string(),
        },
        _ => error.to_string(),
    }
}

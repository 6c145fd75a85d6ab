//! The probe: looks at a dataset's directory on the node that holds it, since only the node can.
//!
//! It runs in a pod that the provisioner makes, sees the allowed root of the dataset's owner read-only, opens the dataset
//! below it component by component without following any link, and answers one line of JSON on stdout. It reads names of
//! directories, never a file. Its sentences name no path: leaseholders read them too.

mod directory;
mod skeleton;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};

pub use skeleton::Bounds;

/// Where the probe pod sees the allowed root.
pub const ROOT_MOUNT: &str = "/root-under-test";

/// Longest sentence of a finding, characters: the ledger takes no longer one.
const LONGEST_MESSAGE: usize = 500;

/// Command line of the probe.
#[derive(Debug, Parser)]
#[command(
    name = "leasehold-probe",
    version,
    about = "Looks at a dataset's directory on its node"
)]
pub struct ProbeArguments {
    /// The allowed root.
    #[arg(long, default_value = ROOT_MOUNT)]
    pub root: PathBuf,
    /// Path of the dataset below the root.
    #[arg(long)]
    pub path: String,
    /// Seconds after which the skeleton is cut short.
    #[arg(long, default_value_t = 20)]
    pub deadline_seconds: u64,
}

/// Why a dataset can't be mounted; each is a stable code of the broker's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// There is nothing at the path.
    PathMissing,
    /// A symbolic link is on the path.
    PathSymlink,
    /// Others than the operator could exchange a directory on the path.
    PathExposed,
    /// Something else than a directory is at the path.
    NotADirectory,
    /// The path is not below a root that its owner may offer.
    RootNotAllowed,
    /// The cluster has no such node.
    NodeUnknown,
    /// The node could not be asked, or could not look.
    ProbeFailed,
    /// This kind of storage is not served here.
    KindNotAllowed,
    /// The owner's details are malformed.
    VolumeInvalid,
}

impl Code {
    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PathMissing => "path_missing",
            Self::PathSymlink => "path_symlink",
            Self::PathExposed => "path_exposed",
            Self::NotADirectory => "not_a_directory",
            Self::RootNotAllowed => "root_not_allowed",
            Self::NodeUnknown => "node_unknown",
            Self::ProbeFailed => "probe_failed",
            Self::KindNotAllowed => "kind_not_allowed",
            Self::VolumeInvalid => "volume_invalid",
        }
    }
}

/// Why a dataset can't be mounted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Finding {
    /// Stable.
    pub code: Code,
    /// A sentence for the dataset's owner; names no path and no secret.
    pub message: String,
}

impl Finding {
    /// A finding in words.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// The probe's answer, as it stands on its stdout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The dataset can be mounted.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Directories below the dataset's root: relative, sorted, parents before children.
    #[serde(default)]
    pub skeleton: Vec<String>,
    /// Some directories were left out.
    #[serde(default)]
    pub truncated: bool,
}

impl Report {
    /// Reads what a probe printed.
    ///
    /// # Errors
    /// A finding that says so, whatever was wrong with it; or what the probe found.
    pub fn parse(stdout: &str) -> Result<Vec<String>, Finding> {
        let failed = |message: &str| Finding::new(Code::ProbeFailed, message);
        // The API server may append a line of its own where a log was cut.
        let line = stdout.lines().find(|line| line.starts_with('{'));
        let report: Self = line
            .and_then(|line| serde_json::from_str(line).ok())
            .ok_or_else(|| {
                failed("the probe on the node gave no answer that can be read; it will be tried again")
            })?;
        if !report.ok {
            let code = report.code.unwrap_or(Code::ProbeFailed);
            let message = report.message.chars().take(LONGEST_MESSAGE).collect();
            return Err(Finding { code, message });
        }
        let bounds = Bounds::default();
        let bytes: usize = report.skeleton.iter().map(String::len).sum();
        let sound = report.skeleton.len() <= bounds.entries
            && bytes <= bounds.bytes
            && report
                .skeleton
                .iter()
                .all(|path| skeleton::is_sound(path, bounds.depth));
        if sound {
            Ok(report.skeleton)
        } else {
            Err(failed("the probe on the node answered with an unsound skeleton"))
        }
    }
}

/// Looks at `path` below the root and lists its directories.
#[must_use]
pub fn look(arguments: &ProbeArguments) -> Report {
    let bounds = Bounds {
        time: Duration::from_secs(arguments.deadline_seconds),
        ..Bounds::default()
    };
    match directory::open(&arguments.root, &arguments.path) {
        Ok(dataset) => match skeleton::read(&dataset, bounds) {
            Ok((skeleton, truncated)) => Report {
                ok: true,
                code: None,
                message: String::new(),
                skeleton,
                truncated,
            },
            Err(errno) => refuse(Finding::new(
                Code::ProbeFailed,
                format!(
                    "the dataset's directory cannot be listed on its node ({errno}); check its permissions and its disk"
                ),
            )),
        },
        Err(finding) => refuse(finding),
    }
}

fn refuse(finding: Finding) -> Report {
    Report {
        ok: false,
        code: Some(finding.code),
        message: finding.message,
        skeleton: Vec::new(),
        truncated: false,
    }
}

/// Looks and prints. Succeeds whenever there is an answer, a bad one too: the pod's phase says whether the probe worked, its
/// output what it found.
pub fn run(arguments: &ProbeArguments) -> ExitCode {
    let report = look(arguments);
    let written = serde_json::to_string(&report)
        .map_err(io::Error::from)
        .and_then(|line| io::Write::write_all(&mut io::stdout().lock(), format!("{line}\n").as_bytes()));
    if written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests;

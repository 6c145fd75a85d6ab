//! What runs inside the pods, as `argoexec`: a stand-in for Argo's executor, for tests. It is not Argo.
//!
//! `init` copies this program and the template into the volume that all containers share, `emissary` runs the
//! user's command in the user's image, `wait` reports the outcome, `kill` sends a signal. The emissary runs in an
//! image of which nothing is known, so this program is linked statically and starts nothing but the user's
//! command. Containers talk through files:
//!
//! ```text
//! /var/run/argo/argoexec            this program
//! /var/run/argo/template            the template as JSON
//! /var/run/argo/ctr/<name>/alive    locked for as long as the emissary of <name> lives
//! /var/run/argo/ctr/<name>/signal   a number that the emissary is to pass on
//! /var/run/argo/ctr/<name>/exitcode how it ended
//! ```

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod api;
mod emissary;
mod files;
#[cfg(test)]
mod tests;
mod wait;

pub use emissary::emissary;
pub use files::{Files, Template};
pub use wait::{Ending, wait_for_end};

/// Exit code of the executor itself where it, not the user's command, failed.
pub const EXECUTOR_FAILED: u8 = 64;

/// A stand-in for Argo's argoexec, for tests. It is not Argo.
#[derive(Debug, Parser)]
#[command(name = "argo-standin-exec", version)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare the shared volume.
    Init(Ignored),
    /// Run the user's command.
    Emissary {
        #[command(flatten)]
        ignored: Ignored,
        /// The command.
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// Wait for the user's command and report its end.
    Wait(Ignored),
    /// Send a signal to a process.
    Kill {
        /// Its number.
        signal: i32,
        /// The process.
        pid: i32,
    },
}

/// Options that Argo's controller passes and that mean nothing here.
#[derive(Debug, Args)]
struct Ignored {
    #[arg(long)]
    loglevel: Option<String>,
    #[arg(long)]
    log_format: Option<String>,
    #[arg(long)]
    gloglevel: Option<String>,
}

/// Why the executor, not the user's command, failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file.
    #[error("{what} {} failed: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The template.
    #[error("the template cannot be read: {0}")]
    Template(#[from] serde_json::Error),
    /// The environment that the controller sets.
    #[error("the environment variable {0} is missing: this program runs in pods of the stand-in for argo")]
    Environment(&'static str),
    /// The command.
    #[error("the command `{command}` cannot be started: {source}")]
    Command {
        /// Its first word.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// A member of the container set that had to succeed first.
    #[error("the container `{name}`, on which this one depends, ended with {code}")]
    Dependency {
        /// Its name.
        name: String,
        /// Its exit code.
        code: i32,
    },
    /// The API server.
    #[error(
        "reporting the outcome failed: {0}; may the pod's service account create and patch workflowtaskresults?"
    )]
    Report(String),
    /// A signal.
    #[error("signal {signal} cannot be sent to {pid}: {source}")]
    Signal {
        /// Its number.
        signal: i32,
        /// To whom.
        pid: i32,
        /// Why.
        source: nix::Error,
    },
}

fn variable(name: &'static str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| Failure::Environment(name))
}

/// Does what the command line says; gives the exit code.
///
/// # Errors
/// [`Failure`] if it cannot.
pub fn run(options: Options) -> Result<u8, Failure> {
    let files = Files::at("/var/run/argo");
    match options.command {
        Command::Init(_) => files.prepare(&variable("ARGO_TEMPLATE")?).map(|()| 0),
        Command::Emissary { argv, .. } => emissary(&files, &variable("ARGO_CONTAINER_NAME")?, &argv),
        Command::Wait(_) => wait::wait(&files).map(|()| 0),
        Command::Kill { signal, pid } => {
            let sent = nix::sys::signal::Signal::try_from(signal)
                .and_then(|it| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), it));
            sent.map(|()| 0)
                .map_err(|source| Failure::Signal { signal, pid, source })
        }
    }
}

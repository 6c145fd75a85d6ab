//! What can go wrong with the fixture itself, as opposed to what is under test.

use std::path::PathBuf;

/// An operation of the fixture that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program could not be started.
    #[error("cannot run {program}: {source}")]
    Spawn {
        /// The program's path.
        program: String,
        /// Why the operating system refused.
        source: std::io::Error,
    },
    /// A program ended with a failure.
    #[error("{command} failed with {code}: {output}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// Its exit code, or -1 if a signal ended it.
        code: i32,
        /// What it said, standard error last.
        output: String,
    },
    /// A file of the cluster could not be used.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The cluster's network namespace cannot be entered.
    #[error("cannot enter the cluster's network namespace (this needs root): {0}")]
    Namespace(nix::Error),
    /// The runtime for asynchronous tests did not start.
    #[error("cannot start a runtime: {0}")]
    Runtime(std::io::Error),
    /// The kubeconfig cannot be read.
    #[error("cannot use the kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: kube::config::KubeconfigError,
    },
    /// The API server refused or did not answer.
    #[error("{action}: {source}")]
    Kubernetes {
        /// What was tried, on what.
        action: String,
        /// The API server's answer.
        source: Box<kube::Error>,
    },
    /// YAML that is no Kubernetes object.
    #[error("cannot read the objects to apply: {0}")]
    Yaml(String),
    /// A condition did not come true in time.
    #[error("waited {seconds} s in vain for {what}; last seen: {last}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
        /// The last error, or that nothing was there yet.
        last: String,
    },
    /// What was asked for needs the node, and only a cluster of our own has one in reach.
    #[error("cannot {0} on an existing cluster: unset LEASEHOLD_TEST_KUBECONFIG to run this test")]
    NeedsNode(&'static str),
}

impl Error {
    /// For `map_err`: adds what was tried to the API server's answer.
    pub fn kubernetes(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Kubernetes {
            action,
            source: Box::new(source),
        }
    }
}

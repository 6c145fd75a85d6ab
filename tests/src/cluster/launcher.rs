//! The scripts in `tests/cluster`, called as a person would call them.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::Cluster;
use crate::Error;

/// Where a cluster's state is and how its scripts are called.
pub(super) struct Launcher {
    /// None: an existing cluster, which is only used.
    directory: Option<PathBuf>,
}

/// A started node.
pub(super) struct Node {
    pub(super) init_pid: u32,
    pub(super) kubeconfig: PathBuf,
}

/// What a program printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// The exit code, -1 if a signal ended it.
    pub code: i32,
}

impl Output {
    /// Gives standard output if the program succeeded.
    ///
    /// # Errors
    /// [`Error::Command`] with all that the program said.
    pub fn success(self, command: &str) -> Result<String, Error> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        Err(Error::Command {
            command: command.to_owned(),
            code: self.code,
            output: format!("{}{}", self.stdout, self.stderr).trim().to_owned(),
        })
    }
}

/// The repository's root.
#[must_use]
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// Runs a command to its end.
pub(super) fn run(command: &mut Command) -> Result<Output, Error> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Spawn {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })?;
    Ok(Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    })
}

impl Launcher {
    pub(super) fn own(directory: PathBuf) -> Self {
        Self {
            directory: Some(directory),
        }
    }

    pub(super) fn existing() -> Self {
        Self { directory: None }
    }

    /// The state directory, or why there is none for `purpose`.
    pub(super) fn directory(&self, purpose: &'static str) -> Result<&Path, Error> {
        self.directory.as_deref().ok_or(Error::NeedsNode(purpose))
    }

    /// A script of `tests`, to be called for this cluster.
    pub(super) fn script(&self, path: &str) -> Command {
        let mut command = Command::new(repository().join("tests").join(path));
        command.current_dir(repository());
        if let Some(directory) = &self.directory {
            command
                .env("LEASEHOLD_CLUSTER_DIR", directory)
                .env_remove("LEASEHOLD_TEST_KUBECONFIG");
        }
        command
    }

    pub(super) fn up(&self, ends_with_us: bool) -> Result<Node, Error> {
        let directory = self.directory("start a node")?;
        let mut command = self.script("cluster/up");
        if ends_with_us {
            command.env("LEASEHOLD_CLUSTER_OWNER", std::process::id().to_string());
        } else {
            command.env_remove("LEASEHOLD_CLUSTER_OWNER");
        }
        run(&mut command)?.success("tests/cluster/up")?;
        let path = directory.join("init.pid");
        let file = |source| Error::File {
            path: path.clone(),
            source,
        };
        let content = std::fs::read_to_string(&path).map_err(file)?;
        let init_pid = content
            .split(' ')
            .next()
            .and_then(|pid| pid.parse().ok())
            .ok_or_else(|| file(std::io::ErrorKind::InvalidData.into()))?;
        Ok(Node {
            init_pid,
            kubeconfig: directory.join("kubeconfig/admin"),
        })
    }

    pub(super) fn down(&self) -> Result<(), Error> {
        if self.directory.is_some() {
            run(&mut self.script("cluster/down"))?.success("tests/cluster/down")?;
        }
        Ok(())
    }

    /// A command inside the node's namespaces, with kubectl, helm and ctr on its path.
    pub(super) fn enter<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.script("cluster/enter");
        command.args(argv);
        command
    }
}

impl Cluster {
    /// Runs a program on the node: in its network, mount and PID namespaces, as root, with kubectl,
    /// helm and ctr on its path and Service names resolving.
    ///
    /// # Errors
    /// If it cannot be started, or the cluster's node is out of reach. A failing program is no error.
    pub fn node_exec<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Result<Output, Error> {
        run(&mut self.node_command(argv)?)
    }

    /// The command that [`Cluster::node_exec`] would run, for a program that is to be started, fed,
    /// watched or killed by the test itself. Killing it kills `nsenter`, and its child with it only if
    /// that child reads its standard input to the end; the node's end takes the child in any case.
    ///
    /// # Errors
    /// [`Error::NeedsNode`] on an existing cluster.
    pub fn node_command<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Result<Command, Error> {
        self.launcher.directory("run a program on the node")?;
        Ok(self.launcher.enter(argv))
    }

    /// Runs helm against the cluster, in the repository's root directory; gives what it printed.
    ///
    /// # Errors
    /// [`Error::Command`] with helm's words if it fails.
    pub fn helm<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<String, Error> {
        self.tool("helm", arguments)
    }

    /// Runs kubectl against the cluster; gives what it printed.
    ///
    /// # Errors
    /// [`Error::Command`] with kubectl's words if it fails.
    pub fn kubectl<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<String, Error> {
        self.tool("kubectl", arguments)
    }

    fn tool<A: AsRef<OsStr>>(&self, name: &str, arguments: &[A]) -> Result<String, Error> {
        if self.launcher.directory.is_none() {
            run(self.launcher.script("cluster/binaries.sh").arg(name))?.success("binaries.sh")?;
        }
        let argv = std::iter::once(OsStr::new(name)).chain(arguments.iter().map(AsRef::as_ref));
        let shown: Vec<_> = argv.clone().map(OsStr::to_string_lossy).collect();
        run(&mut self.launcher.enter(argv))?.success(&shown.join(" "))
    }
}

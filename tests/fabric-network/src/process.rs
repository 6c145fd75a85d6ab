//! Running Fabric's programs: tools to their end, servers until they are killed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

/// How long a tool may take.
const TOOL: Duration = Duration::from_secs(60);
/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How much of a log a failure carries, in bytes.
const LOG_END: usize = 3000;

/// Why a part of the network failed.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// A file could not be read or written, or a program not be started.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// From the operating system.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("{program} {arguments} failed: {output}")]
    Tool {
        /// Which.
        program: String,
        /// Its first arguments.
        arguments: String,
        /// What it wrote.
        output: String,
    },
    /// A server or member that the network does not have, or that does not run.
    #[error("the network has no {0} that runs")]
    Unknown(String),
    /// Something did not come about in time.
    #[error("after {after:?} still waiting for {what}; last: {last}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// What was seen last.
        last: String,
    },
}

pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> FabricError {
    let what = what.into();
    move |source| FabricError::Io { what, source }
}

/// What a tool wrote.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Runs a tool to its end.
pub(crate) async fn tool(command: &mut Command) -> Result<Output, FabricError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let arguments: Vec<_> = command
        .as_std()
        .get_args()
        .take(3)
        .map(|part| part.to_string_lossy())
        .collect();
    let arguments = arguments.join(" ");
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(TOOL, output)
        .await
        .map_err(|_| FabricError::Late {
            what: format!("{program} {arguments} to end"),
            after: TOOL,
            last: "it runs".to_owned(),
        })?;
    let output = output.map_err(io(format!("cannot run {program}")))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(Output {
            stdout: output.stdout,
            stderr,
        });
    }
    let output = format!("{}{stderr}", String::from_utf8_lossy(&output.stdout));
    Err(FabricError::Tool {
        program,
        arguments,
        output,
    })
}

/// A server. Killed by its id when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> Result<Self, FabricError> {
        // One that is started again goes on with the log that it had.
        let file = std::fs::File::options().create(true).append(true).open(log);
        let file = file.map_err(io(format!("cannot open {}", log.display())))?;
        let errors = file
            .try_clone()
            .map_err(io(format!("cannot share {}", log.display())))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn();
        let child = child.map_err(io(format!(
            "cannot start {}",
            command.as_std().get_program().to_string_lossy()
        )))?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// The end of its log.
    pub(crate) fn log_end(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(log.get(log.len().saturating_sub(LOG_END)..).unwrap_or_default()).into_owned()
    }

    /// Kills it and waits until it is gone.
    pub(crate) async fn kill(mut self) -> Result<(), FabricError> {
        self.child.kill().await.map_err(io("cannot kill a server"))
    }
}

/// Tries again until it succeeds, and gives the last failure when the time is over.
pub(crate) async fn until<T, F: Future<Output = Result<T, FabricError>>>(
    what: &str,
    patience: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T, FabricError> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if start.elapsed() > patience => {
                return Err(FabricError::Late {
                    what: what.to_owned(),
                    after: patience,
                    last: error.to_string(),
                });
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Waits until somebody listens on a port of loopback, and gives up at once where the server has ended.
pub(crate) async fn listening(daemon: &mut Daemon, port: u16, what: &str) -> Result<(), FabricError> {
    let patience = Duration::from_secs(30);
    let start = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        let ended = daemon
            .child
            .try_wait()
            .map_err(io("cannot ask for a server's state"))?;
        if ended.is_some() || start.elapsed() > patience {
            return Err(FabricError::Late {
                what: format!("{what} to listen ({ended:?})"),
                after: start.elapsed(),
                last: daemon.log_end(),
            });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

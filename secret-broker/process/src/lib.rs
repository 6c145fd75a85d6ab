//! How each of Leasehold's services is a process: the flags of its log, the signals that end it, its exit code, that its memory stays in it,
//! and how much of what it does at the same time is for whom ([`places`]).

mod confinement;
pub mod places;

pub use confinement::confine;

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Flags of the log, flattened into each service's own.
#[derive(Debug, Clone, Args)]
pub struct Logging {
    /// What is logged, as a filter such as `info` or `info,leasehold_webhook=debug`.
    #[arg(long, env = "LEASEHOLD_LOG", default_value = "info")]
    pub log: String,
    /// How it is written.
    #[arg(long, env = "LEASEHOLD_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

impl Logging {
    /// Sends events to standard error from now on. A filter that cannot be read falls back to `info`, and that is the first
    /// thing logged. Where events are collected already, it stays so.
    pub fn start(&self) {
        let parsed = EnvFilter::try_new(&self.log);
        let problem = parsed.as_ref().err().map(ToString::to_string);
        let builder = tracing_subscriber::fmt()
            .with_env_filter(parsed.unwrap_or_else(|_| EnvFilter::new("info")))
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        let started = match self.log_format {
            LogFormat::Text => builder.try_init(),
            LogFormat::Json => builder.json().flatten_event(true).try_init(),
        };
        if started.is_err() {
            tracing::debug!("events are collected already");
        }
        if let Some(problem) = problem {
            tracing::warn!(
                filter = self.log,
                problem,
                "the log filter is not valid; using info"
            );
        }
    }
}

/// Runs a service until it ends or SIGTERM or SIGINT asks it to: then its token is cancelled, and it drains.
pub async fn run<E: Display, F: Future<Output = Result<(), E>>>(
    what: &str,
    service: impl FnOnce(CancellationToken) -> F,
) -> ExitCode {
    confine();
    let shutdown = CancellationToken::new();
    let mut running = std::pin::pin!(service(shutdown.clone()));
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = terminated() => {
            tracing::info!("asked to stop; draining");
            shutdown.cancel();
            running.await
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "{what} ends");
            ExitCode::FAILURE
        }
    }
}

/// Returns at SIGTERM or SIGINT.
async fn terminated() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen for signals; only SIGKILL will end this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    #[tokio::test]
    async fn a_service_that_is_asked_to_stop_drains_and_its_end_is_the_exit_code() {
        let failed = run("the service", |_| async { Err("no configuration") }).await;
        assert_eq!(failed, ExitCode::FAILURE);

        let drained = AtomicBool::new(false);
        let stopped = run("the service", async |shutdown: CancellationToken| {
            // By the second turn the signals are listened for.
            tokio::task::yield_now().await;
            kill(Pid::this(), Signal::SIGTERM).map_err(|errno| errno.to_string())?;
            shutdown.cancelled().await;
            drained.store(true, Ordering::Relaxed);
            Ok::<(), String>(())
        })
        .await;
        assert_eq!(stopped, ExitCode::SUCCESS);
        assert!(drained.into_inner());
    }
}

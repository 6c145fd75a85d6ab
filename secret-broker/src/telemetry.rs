//! Logs to standard error, as text or JSON, and the signal that ends the broker.

use std::io::IsTerminal as _;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts logging. A filter that cannot be read falls back to `info`, and that is the first thing logged.
pub fn init(format: LogFormat, filter: &str) {
    let parsed = EnvFilter::try_new(filter);
    let problem = parsed.as_ref().err().map(ToString::to_string);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parsed.unwrap_or_else(|_| EnvFilter::new("info")))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.init(),
    }
    if let Some(problem) = problem {
        tracing::warn!(filter, problem, "the log filter is not valid; using info");
    }
}

/// A token that SIGTERM or SIGINT cancels, and the task that listens for them.
///
/// # Errors
/// What the operating system says when signals cannot be caught.
pub fn signals() -> std::io::Result<(CancellationToken, tokio::task::JoinHandle<()>)> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let cancel = shutdown.clone();
    let task = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = cancel.cancelled() => return,
        }
        tracing::info!("asked to stop; draining");
        cancel.cancel();
    });
    Ok((shutdown, task))
}

//! The spawner-hook's process. See [`leasehold_spawner_hook`].

use std::process::ExitCode;

use clap::Parser as _;
use leasehold_spawner_hook::{Arguments, run, start_logging, terminated};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_logging(&arguments);
    let shutdown = CancellationToken::new();
    let mut running = std::pin::pin!(run(arguments, shutdown.clone()));
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = terminated() => {
            shutdown.cancel();
            running.await
        }
    };
    if let Err(error) = ended {
        tracing::error!(%error, "the spawner-hook ends");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

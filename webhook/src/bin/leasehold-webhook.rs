//! The webhook's process. See [`leasehold_webhook::admission`].

use std::process::ExitCode;

use clap::Parser;
use leasehold_webhook::admission::{AdmissionArguments, run, terminated};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = AdmissionArguments::parse();
    arguments.start_logging();
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
        tracing::error!(%error, "the webhook ends");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

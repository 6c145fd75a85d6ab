//! The webhook's process. See [`leasehold_webhook::admission`].

use std::process::ExitCode;

use clap::Parser;
use leasehold_webhook::admission::{AdmissionArguments, run};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = AdmissionArguments::parse();
    arguments.logging.start();
    leasehold_process::run("the webhook", |shutdown| run(arguments, shutdown)).await
}

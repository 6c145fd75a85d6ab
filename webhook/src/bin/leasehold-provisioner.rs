//! The provisioner's process. See [`leasehold_webhook::provisioner`].

use std::process::ExitCode;

use clap::Parser;
use leasehold_webhook::provisioner::{ProvisionerArguments, run};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = ProvisionerArguments::parse();
    arguments.logging.start();
    leasehold_process::run("the provisioner", |shutdown| run(arguments, shutdown)).await
}

//! The secret broker's process: reads its arguments and runs the library.

use std::process::ExitCode;

use clap::Parser as _;
use leasehold_secret_broker::{command_line, config::Cli};

#[tokio::main]
async fn main() -> ExitCode {
    command_line::run(Cli::parse()).await
}

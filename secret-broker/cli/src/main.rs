//! `leasehold`: the command line of owners and researchers.

use std::io::{stderr, stdout};
use std::process::ExitCode;

use clap::Parser as _;
use leasehold_cli::{Args, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run(Args::parse(), &mut stdout().lock(), &mut stderr().lock()).await
}

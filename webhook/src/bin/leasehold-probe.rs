//! The probe's process. See [`leasehold_webhook::probe`].

use std::process::ExitCode;

use clap::Parser;
use leasehold_webhook::probe::{ProbeArguments, run};

fn main() -> ExitCode {
    run(&ProbeArguments::parse())
}

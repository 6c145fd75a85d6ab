//! The command line of owners and researchers: parses, asks the broker through `leasehold-broker-client`, prints like
//! kubectl. It decides nothing; what it may do is the broker's to say.
//!
//! Exit codes: 0 done; 1 refused by the broker, or a dataset that cannot be mounted; 2 wrong usage; 3 broker unreachable;
//! 4 not finished within `--timeout`.

mod args;
mod commands;
mod failure;
mod output;
mod progress;
mod skeleton;

use std::io::Write;
use std::process::ExitCode;

pub use args::Args;
pub use failure::Failure;

/// Runs one command: answers go to `out`, everything else to `err`.
pub async fn run(args: Args, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let best_effort = args.is_best_effort();
    let failure = match commands::run(args, out, err).await {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    if failure.is_closed_pipe() {
        return ExitCode::SUCCESS;
    }
    // Nobody is left to tell where standard error is closed too.
    let _ = if best_effort {
        writeln!(err, "warning: {}", output::one_line(&failure.to_string()))
    } else {
        writeln!(err, "error: {}", output::printable(&failure.to_string()))
    };
    if best_effort {
        ExitCode::SUCCESS
    } else {
        failure.exit_code()
    }
}

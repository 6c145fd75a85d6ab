//! What the binary does: serve, check the configuration, look after the keys, the ledger's file or the audit's.

pub mod audit;
pub mod keys;
pub mod ledger;

use std::process::ExitCode;

use crate::broker;
use crate::config::{Cli, Config, Flags, Work};

/// Does what the arguments say. Errors go to the log, all of them.
pub async fn run(cli: Cli) -> ExitCode {
    cli.flags.logging.start();
    // Before a key is read, also by the commands.
    leasehold_process::confine();
    match cli.command {
        Some(Work::Keys(args)) => keys::run(args).await,
        Some(Work::Ledger(args)) => ledger::run(args).await,
        Some(Work::Audit(args)) => audit::run(args).await,
        None => serve(cli.flags).await,
    }
}

async fn serve(flags: Flags) -> ExitCode {
    let check = flags.check;
    match Config::from_flags(flags) {
        Ok(_) if check => {
            tracing::info!("the configuration is valid");
            ExitCode::SUCCESS
        }
        Ok(config) => leasehold_process::run("the broker", |shutdown| broker::run(config, shutdown)).await,
        Err(errors) => done(Err(errors)),
    }
}

fn done(done: Result<(), Vec<String>>) -> ExitCode {
    let Err(errors) = done else {
        return ExitCode::SUCCESS;
    };
    for error in errors {
        tracing::error!("{error}");
    }
    ExitCode::FAILURE
}

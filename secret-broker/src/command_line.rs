//! What the binary does: serve, check the configuration, or make a key ring.

use std::process::ExitCode;

use crate::broker;
use crate::config::{Cli, Config, Flags, KeysWork, Work};
use crate::keys::KeyRing;
use crate::telemetry;

/// Does what the arguments say. Errors go to the log, all of them.
pub async fn run(cli: Cli) -> ExitCode {
    telemetry::init(cli.flags.log_format, &cli.flags.log);
    let done = match cli.command {
        Some(Work::Keys {
            command: KeysWork::Init { kek_file },
        }) => KeyRing::create(&kek_file).map_err(|error| vec![error.to_string()]),
        None => serve(cli.flags).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(errors) => {
            for error in errors {
                tracing::error!("{error}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn serve(flags: Flags) -> Result<(), Vec<String>> {
    let check = flags.check;
    let config = Config::from_flags(flags)?;
    if check {
        tracing::info!("the configuration is valid");
        return Ok(());
    }
    let (shutdown, signals) = telemetry::signals().map_err(|error| vec![error.to_string()])?;
    let outcome = broker::run(config, shutdown.clone()).await;
    shutdown.cancel();
    if signals.await.is_err() {
        tracing::debug!("the signal task had ended");
    }
    outcome.map_err(|error| vec![error.to_string()])
}
